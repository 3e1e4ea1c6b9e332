"""What training holds in memory at its peak, term by term, from the shape of the base and the knobs.

Every term is read off the code that keeps it; a number that stands here was measured, and `tests/benchmarks/memory.py`
measures the sum against fresh processes. Axes: T tokens of a pack, N of them learned, H hidden size, I inner size,
A width of all heads, K of all key heads, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llmops.core.method import IA3, DoRA, FullTuning, LowRank, PromptTuning
from llmops.core.plan import Knobs, Machine
from llmops.planning.cost import BaseShape

# Python with its libraries: by the first step, and before, while weights are read.
PROCESS_BYTES = 582_000_000
READING_BYTES = 447_000_000
TOKENIZER_BYTES = 1_180  # a word of the vocabulary: 58 MB of SmolLM2's 49,152, 309 MB of Gemma's 262,144
# A weight that is trained: itself, its gradient and two moments, in float32.
TRAINED_BYTES = 16
# Of what comes and goes, the share that the allocator keeps in pieces too small to use again (recipes/LOG.md).
HELD_BACK = 0.1
CHUNKED_HEAD_BYTES = 150_000_000  # of a head that goes through in chunks


def by_autograd(shape: BaseShape, knobs: Knobs, tokens: int, machine: Machine) -> int:
    """Bytes that one layer keeps for the backward pass where transformers and PEFT compute it.

    The linear layers are frozen and keep nothing, but each LoRA keeps its input, lifted to float32: a copy of its own
    where the base is bfloat16 (q, k, v, gate, up: H each; out: A; down: I), else what the norm gave. A norm keeps its
    input in float32. Attention keeps q and the repeated k and v; the gate keeps itself, its activation and what it
    multiplies. Plain attention keeps its probabilities in float32, and in bfloat16 once more. IA3 lifts what goes into
    the way down, and keeps the keys and values that it scales; DoRA also keeps what the frozen layer gives and what the
    adapter gives, the latter in float32. Full tuning keeps the inputs of its layers as they are.
    """
    h, i, a, k = shape.hidden, shape.inner, shape.wide, shape.narrow
    half = knobs.precision == "bfloat16"
    width = 2 if half else 4
    lifted = 4 * (5 * h + a + i) if half else 4 * (2 * h + a + i)
    flowing = width * (3 * a + 3 * i) + 4 * shape.norms
    if isinstance(knobs.method, IA3):
        lifted = 4 * i + 2 * width * k
    if isinstance(knobs.method, DoRA):
        lifted += (width + 4) * (a + 2 * k + 2 * h + 2 * i)
    scores = shape.heads * tokens * (4 + 2 * half) if knobs.attention == "eager" else width * a
    return tokens * (lifted + flowing + scores)


def by_hand(shape: BaseShape, knobs: Knobs, tokens: int, machine: Machine) -> int:
    """The same where our decoder computes it (`Kept` in `lm/fast/block.py`).

    The stream before each half, what attention mixed, gate and up, q, k and v, and, where a norm follows a product, the
    product. Attention in C (`lm/fast/attend.py`), where the machine has it, keeps one float32 a head more; by matrix
    products it keeps q, k and v as it spread them, and the shares over a row's own tokens.
    """
    width = 2 if knobs.precision == "bfloat16" else 4
    streams = 2 * shape.hidden + shape.wide + 2 * shape.inner + shape.wide + 2 * shape.narrow
    sandwiched = 2 * shape.hidden + shape.wide + 2 * shape.narrow if shape.sandwiched else 0
    spread = shape.wide + 2 * shape.narrow + shape.heads * min(tokens, knobs.max_tokens)
    in_c = machine.pairs and knobs.decoder == "compiled" and knobs.precision == "bfloat16"
    return tokens * (width * (streams + sandwiched) + (4 * shape.heads if in_c else width * spread))


KEPT: dict[str, Callable[[BaseShape, Knobs, int, Machine], int]] = {
    "transformers": by_autograd,
    "compiled": by_hand,
    "plain": by_hand,
}


def memory_terms(
    shape: BaseShape, knobs: Knobs, machine: Machine, longest_rows: Sequence[int], learned_share: float
) -> dict[str, int]:
    """The terms of the peak, in bytes. `learned_share` of a row's tokens go through the head.

    While weights are read from disk, the file's own pages count too; that is over before anything else grows. On a GPU
    neither they nor the process count.
    """
    on_gpu = knobs.device.startswith("cuda")
    width = 2 if knobs.precision == "bfloat16" else 4
    tokens = max(*longest_rows, min(sum(longest_rows), knobs.pack_tokens))
    decoder = getattr(knobs, "decoder", "transformers")
    kept = KEPT[decoder](shape, knobs, tokens, machine)
    layers = 1 if knobs.gradient_checkpointing else shape.layers
    terms = {
        "process": 0 if on_gpu else PROCESS_BYTES,
        "tokenizer": 0 if on_gpu else TOKENIZER_BYTES * shape.vocabulary,
        "weights": shape.parameters * width,
        "trained": trained_weights(shape, knobs) * TRAINED_BYTES - (shape.parameters * width if is_full(knobs) else 0),
        # The embedding is the head too: its gradient comes from both ends, and lies there twice until they are added.
        "second gradient": 4 * shape.vocabulary * shape.hidden if is_full(knobs) else 0,
        "activations": kept * layers,
        "checkpoints": tokens * shape.hidden * width * shape.layers if knobs.gradient_checkpointing else 0,
        "one layer again": 2 * kept if decoder == "transformers" else kept,
        "head": head_bytes(shape, knobs, max(1, round(tokens * learned_share)), decoder),
    }
    grown = sum(terms[name] for name in ("trained", "activations", "one layer again", "head"))
    held_back = round(HELD_BACK * (grown - terms["trained"]))
    grown += terms["second gradient"]
    reading = READING_BYTES + shape.parameters * 4 - PROCESS_BYTES - grown - held_back
    return {**terms, "held back": held_back, "reading": 0 if on_gpu else max(0, reading)}


def head_bytes(shape: BaseShape, knobs: Knobs, learned: int, decoder: str) -> int:
    """Logits in the precision of the weights, in float32, their logarithms, and the gradients of both."""
    if decoder != "transformers":
        return CHUNKED_HEAD_BYTES
    width = 2 if knobs.precision == "bfloat16" else 0
    return learned * shape.vocabulary * (2 * width + 3 * 4)


def is_full(knobs: Knobs) -> bool:
    """Whether every weight is trained."""
    return isinstance(knobs.method, FullTuning)


def trained_weights(shape: BaseShape, knobs: Knobs) -> int:
    """How many numbers are trained."""
    h, i, a, k = shape.hidden, shape.inner, shape.wide, shape.narrow
    method = knobs.method
    if isinstance(method, LowRank):
        sides = {"q_proj": h + a, "k_proj": h + k, "v_proj": h + k, "o_proj": a + h}
        sides |= {"gate_proj": h + i, "up_proj": h + i, "down_proj": i + h}
        return (method.rank or 0) * shape.layers * sum(sides.get(name, h + i) for name in knobs.targets)
    if isinstance(method, PromptTuning):
        return (method.virtual_tokens or 0) * h
    return shape.parameters if is_full(knobs) else shape.layers * (2 * k + i)


def memory_bytes(
    shape: BaseShape, knobs: Knobs, machine: Machine, longest_rows: Sequence[int], learned_share: float = 1.0
) -> int:
    """Peak bytes of the process in the largest pack of the longest batch."""
    return sum(memory_terms(shape, knobs, machine, longest_rows, learned_share).values())
