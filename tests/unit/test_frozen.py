"""Products with frozen weights in pairs, their adapters, gates and the head: what plain sums make of them."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from llmops.lm.fast import equip, head, kernels
from llmops.lm.fast.adapt import Factors
from llmops.lm.fast.fused import Fused
from llmops.lm.fast.head import Head, Vocabulary, shared_logprobs
from llmops.lm.fast.plain import Plain
from llmops.lm.fast.products import LEAST_ROWS, Together
from llmops.lm.fast.room import Room
from llmops.lm.pack import Pack, hidden_states, states_at
from llmops.lm.render import Example
from tests.unit.test_fast import adapted, bare, pack, short_blocks
from tests.unit.test_products import able

__all__ = ["pack", "short_blocks"]

ROUNDING = 2.0**-8  # of bfloat16, to the nearest


@pytest.fixture(scope="module")
def compiled() -> kernels.Compiled:
    return able(torch.bfloat16, "in_pairs", "this processor does not multiply bfloat16 in pairs")


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).bfloat16()


def group_of(passes: Plain, inputs: int, outputs: tuple[int, ...], ranks: tuple[int, ...]) -> tuple[Fused, Any]:
    """A group of layers with drawn weights and adapters, and the whole weight of them, in float64."""
    layers = [torch.nn.Linear(inputs, width, bias=False).bfloat16().requires_grad_(False) for width in outputs]
    factors = []
    for layer, width, rank in zip(layers, outputs, ranks, strict=True):
        layer.weight.copy_(drawn(width, inputs))
        factors.append(Factors(drawn(rank, inputs).float(), drawn(width, rank).float(), 0.5) if rank else None)
    fused = Fused(layers, ranks, passes)
    fused.refresh(factors)
    return fused, factors


def close(found: Tensor, right: Tensor, between: float = 0.0) -> bool:
    """Whether every number is the right one, rounded; what is `between` was rounded before and adds to that."""
    off = (found.double() - right).abs()
    return bool((off <= ROUNDING * right.abs() + between * ROUNDING * right.abs().mean() + 1e-6).all())


GROUPS = {
    "q, k and v": (64, (96, 32, 32), (8, 0, 3)),
    "panels that are not full": (48, (144, 16), (0, 12)),
    "deeper than a panel": (1616, (1600, 16), (8, 8)),
    "no adapter": (80, (176,), (0,)),
}


@pytest.mark.parametrize("rows", [96, 101, 900])
@pytest.mark.parametrize("name", GROUPS)
def test_sums_are_those_of_plain_products_rounded_once(compiled: kernels.Compiled, name: str, rows: int) -> None:
    inputs, outputs, ranks = GROUPS[name]
    fused, factors = group_of(compiled, inputs, outputs, ranks)
    assert fused.together is not None
    x, dy, onto = drawn(rows, inputs), drawn(rows, sum(outputs)), drawn(rows, sum(outputs))
    y, dx, room = torch.empty_like(dy), torch.empty_like(x), Room(10**6, torch.bfloat16)
    fused.forward(x, y, room, onto)
    fused.backward(dy, dx, room)
    weights, parts = fused.frozen.parts[0][0].double(), dy.double().split(outputs, 1)
    right_y, right_dx = x.double() @ weights.T + onto.double(), dy.double() @ weights
    places = itertools.accumulate((0, *outputs))
    for factor, part, place in zip(factors, parts, places, strict=False):
        if factor is not None:  # what is between A and B is rounded to bfloat16
            a, b = factor.a_RI.double(), (factor.b_OR * factor.scale).bfloat16().double()
            right_y[:, place : place + len(b)] += (x.double() @ a.T).bfloat16().double() @ b.T
            right_dx += (part @ b).bfloat16().double() @ a
    assert close(y, right_y, 4.0) and close(dx, right_dx, 4.0)


@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("half", [48, 208])
def test_gates_that_follow_their_sums_are_the_passes_over_them(
    compiled: kernels.Compiled, gelu: bool, half: int
) -> None:
    rows, x, dy = 133, drawn(133, 64) / 8, drawn(133, 64) / 8
    found = []
    for passes in (compiled, Plain()):
        (gate_up, _), (down, _) = group_of(passes, 64, (half, half), (8, 8)), group_of(passes, half, (64,), (8,))
        gu, inner, again = (torch.empty(rows, width).bfloat16() for width in (2 * half, half, half))
        room = Room(10**6, torch.bfloat16)
        gate_up.gate(x, gu, inner, gelu, room)
        kept = gu.clone()
        down.gate_backward(dy, gu, again, gelu, room)
        found.append((kept, inner, gu, again))
    for ours, plain in zip(*found, strict=True):
        off = (ours.float() - plain.float()).norm() / plain.float().norm()
        assert off < 3 * ROUNDING
        assert (ours.float() - plain.float()).abs().max() < 32 * ROUNDING * plain.float().std() + 0.1


@pytest.mark.parametrize(("rows", "together"), [(LEAST_ROWS - 1, False), (LEAST_ROWS, True)])
def test_few_rows_go_the_plain_way(
    compiled: kernels.Compiled, rows: int, together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fused, _ = group_of(compiled, 64, (32,), (8,))
    ways: list[str] = []
    real = Together.forward
    monkeypatch.setattr(Together, "forward", lambda self, *given: ways.append("together") or real(self, *given))
    x, y = drawn(rows, 64), torch.empty(rows, 32).bfloat16()
    fused.forward(x, y, Room(10**4, torch.bfloat16))
    assert bool(ways) == together and y.isfinite().all()


def test_the_same_bits_on_one_thread_and_on_two(compiled: kernels.Compiled, threads: Callable[[int], None]) -> None:
    fused, _ = group_of(compiled, 64, (96, 32), (8, 8))
    x, found = drawn(400, 64), []
    for count in (1, 2, 2):
        threads(count)
        y = torch.empty(400, 128).bfloat16()
        fused.forward(x, y, Room(10**5, torch.bfloat16))
        found.append(y)
    assert all(torch.equal(one, other) for one, other in itertools.pairwise(found))


def right_words(hidden: Tensor, words: Tensor, cap: float, targets: Tensor) -> tuple[Tensor, Tensor]:
    leaf = hidden.double().requires_grad_()
    logits = leaf @ words.double().T
    found = (cap * (logits / cap).tanh() if cap else logits).log_softmax(-1).gather(1, targets[:, None])[:, 0]
    (slopes,) = torch.autograd.grad(found.sum(), leaf)
    return found.detach(), slopes


@pytest.mark.parametrize("cap", [0.0, 4.0])
@pytest.mark.parametrize(("states", "inputs", "words"), [(1, 16, 5), (7, 48, 193), (50, 64, 1001), (13, 160, 384)])
def test_words_and_their_slopes_are_those_of_all_logits(
    compiled: kernels.Compiled, states: int, inputs: int, words: int, cap: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "STATES", 20)
    hidden, weight = drawn(states, inputs) / 2, drawn(words, inputs)
    targets = torch.arange(states) * 7 % words
    right, right_slopes = right_words(hidden, weight, cap, targets)
    leaf = hidden.clone().requires_grad_()
    found = Head.apply(Vocabulary(compiled, weight, cap), leaf, targets, True)
    found.sum().backward()
    assert (found.detach() - right).abs().max() < 2e-5 * (1 + right.abs().max())
    assert leaf.grad is not None
    off = (leaf.grad.double() - right_slopes).norm(dim=1) / right_slopes.norm(dim=1).clamp(min=1e-2)
    assert off.max() < 2 * ROUNDING
    shared = shared_logprobs(Vocabulary(compiled, weight, cap), hidden, torch.arange(states), targets)
    assert (shared - right).abs().max() < 2e-5 * (1 + right.abs().max())


@pytest.mark.skipif(not hasattr(mmap, "MAP_PRIVATE"), reason="pages are guarded by a call that this system lacks")
def test_nothing_is_read_behind_the_last_word(compiled: kernels.Compiled) -> None:
    words, inputs, page = 30, 32, mmap.PAGESIZE
    pages = mmap.mmap(-1, 2 * page)
    place = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    assert not ctypes.CDLL(None).mprotect(ctypes.c_void_p(place + page), ctypes.c_size_t(page), 0)  # none may be read
    behind = page - words * inputs * 2
    weight = torch.frombuffer(pages, dtype=torch.bfloat16, count=words * inputs, offset=behind).view(words, inputs)
    weight.copy_(drawn(words, inputs))
    hidden, targets = drawn(8, inputs), torch.arange(8)
    assert compiled.words is not None
    found = compiled.words.slopes(hidden, weight, 0.0, targets, torch.empty_like(hidden))
    assert (found - right_words(hidden, weight, 0.0, targets)[0]).abs().max() < 1e-3


def test_a_state_that_is_not_finite_spoils_itself_alone(compiled: kernels.Compiled) -> None:
    hidden, weight = drawn(20, 32), drawn(500, 32)
    hidden[3, 5] = torch.nan
    slopes = torch.empty_like(hidden)
    assert compiled.words is not None
    found = compiled.words.slopes(hidden, weight, 0.0, torch.arange(20), slopes)
    spoiled = torch.arange(20) == 3
    assert torch.equal(found.isnan(), spoiled) and torch.equal(slopes.isnan().any(1), spoiled)


def test_words_give_the_same_bits_every_time(compiled: kernels.Compiled) -> None:
    hidden, weight, targets = drawn(50, 32), drawn(3000, 32), torch.arange(50)
    runs = [torch.empty_like(hidden) for _ in range(4)]
    assert compiled.words is not None
    for slopes in runs:
        compiled.words.slopes(hidden, weight, 0.0, targets, slopes)
    assert all(torch.equal(one, other) for one, other in itertools.pairwise(runs))


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", ["llama", "gemma3"])
@pytest.mark.parametrize("kind", ["plain", "compiled", "transformers"])
def test_states_of_some_places_and_their_gradients_are_those_of_all(
    kind: str, family: str, checkpointing: bool, pack: Pack
) -> None:
    if kind == "compiled" and not kernels.working_compiler():
        pytest.skip("no C compiler here")
    model = equip(adapted(family), kind)
    model.get_base_model().get_decoder().gradient_checkpointing = checkpointing and kind != "transformers"
    places = [3, 40, 17, 40, len(pack.ids) - 1]
    pull = torch.randn(len(places), 32, generator=torch.Generator().manual_seed(0))
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    few, every = states_at(model, pack, places, "cpu"), hidden_states(model, pack, "cpu")[places]
    assert torch.allclose(few, every, atol=1e-5)
    ours, theirs = (torch.autograd.grad((states * pull).sum(), trained) for states in (few, every))
    assert all(torch.allclose(one, other, atol=2e-5) for one, other in zip(ours, theirs, strict=True))
    assert states_at(model, pack, [], "cpu").shape == (0, 32)


def test_states_of_some_places_stand_behind_a_tuned_prompt(pack: Pack) -> None:
    from peft import PromptTuningConfig, get_peft_model

    model = get_peft_model(
        equip(bare("llama"), "plain"), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    )
    few, every = states_at(model, pack, [3, 17], "cpu"), hidden_states(model, pack, "cpu")[[3, 17]]
    assert torch.equal(few, every)


def test_what_follows_the_last_learned_token_is_not_read() -> None:
    assert Example([5, 6, 7, 8, 9], [False, False, True, True, False]).read == [5, 6, 7]
    assert Example([5, 6], [False, True]).read == [5]
    assert Example([5, 6], [False, False]).read == [5]


@pytest.mark.parametrize("dtype", kernels.DEFINES)
def test_the_kernels_build_without_a_warning_where_anything_does(dtype: torch.dtype, tmp_path: Path) -> None:
    program, empty = kernels.compiler(), tmp_path / "empty.c"
    empty.write_text("int nothing(void) { return 0; }\n")
    if not program or not shutil.which(program):
        pytest.skip("no C compiler here")
    flags = [program, *kernels.FLAGS, kernels.WIDE, *kernels.DEFINES[dtype], "-Wall", "-Werror"]
    if subprocess.run([*flags, str(empty), "-o", str(tmp_path / "empty.so")], check=False).returncode:
        pytest.skip("this compiler builds nothing with these flags")
    out = tmp_path / "kernels.so"
    done = subprocess.run([*flags, *map(str, kernels.SOURCES), "-o", str(out), "-lm"], check=False, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[:2000]
