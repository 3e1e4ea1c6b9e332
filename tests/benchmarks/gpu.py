"""Training on a GPU: tokens a second, share of the measured rate, peak memory, and the loss curve against float32.

`python -m tests.benchmarks.gpu` prints one JSON line a figure, and a line that says why where there is no GPU. Weights
are drawn at random in the shapes of real models, because the machine that is lent reaches no model; speed, memory and
the agreement of two precisions do not depend on what the weights have learned. TRL is asked too where it is installed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from llmops.core.method import SFT, LoRA, Method, QLoRA
from llmops.core.plan import Knobs
from llmops.lm.adapters import linear_names
from llmops.lm.lessons import Lesson
from llmops.lm.machine import measure_flops
from llmops.lm.render import Example
from llmops.training.loop import Loop, build, run_steps
from llmops.training.losses import Batch

# Layers, hidden size, inner size, heads, key heads. SmolLM2-135M, and a Llama of a billion.
SHAPES = {"135m": (30, 576, 1536, 9, 3), "1b": (16, 2048, 8192, 32, 8)}
VOCABULARY = 49152
ROWS, SHORTEST, LONGEST = 64, 50, 300
SHARE_LEARNED = 0.3
WARM = 3


def model_folder(shape: str, out: Path) -> Path:
    """A random Llama in float32 of one of the `SHAPES`, as a model folder."""
    from transformers import LlamaConfig, LlamaForCausalLM

    layers, hidden, inner, heads, key_heads = SHAPES[shape]
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = LlamaForCausalLM(config)
    model.to("cpu").save_pretrained(out)
    return out


def rows(number: int, seed: int = 0) -> list[Lesson]:
    """Made-up rows of `SHORTEST` to `LONGEST` tokens with a pattern to learn; the last 30 % of each is trained."""
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(SHORTEST, LONGEST + 1, (number,), generator=draw).tolist()
    lessons = []
    for index, length in enumerate(lengths):
        first = torch.randint(3, 200, (1,), generator=draw).item()
        ids = [(int(first) + 7 * place) % 997 + 3 for place in range(length)]
        learned = [place >= length * (1 - SHARE_LEARNED) for place in range(length)]
        lessons.append(Lesson(f"r{index}", (Example(ids, learned, learned.index(True)),)))
    return lessons


def knobs(base: Path, device: str, precision: str, steps: int, **changes: Any) -> Knobs:
    """A plan's knobs for these rows."""
    method: Method = LoRA(rank=16, alpha=32.0, dropout=0.0, rank_stabilised=False, initialisation="default")
    fixed: dict[str, Any] = {
        "method": method, "objective": SFT(roles=()), "targets": linear_names(base), "learning_rate": 1e-3,
        "schedule": "linear", "warmup_share": 0.06, "weight_decay": 0.0, "clip_norm": 1.0, "epochs": 1.0,
        "batch_rows": ROWS, "steps": steps, "max_tokens": 512, "precision": precision,
        "gradient_checkpointing": False, "attention": "sdpa", "decoder": "transformers", "template": "plain",
        "device": device, "threads": torch.get_num_threads(), "processes": 1, "shard": "none", "pack_tokens": 16384,
        "max_memory_bytes": 10**11, "checkpoint_every": 1000, "look_every": 0, "patience": 0, "tracker": "none",
        "seed": 0,
    }  # fmt: skip
    known = set(Knobs.model_fields)
    return Knobs.model_validate({name: value for name, value in {**fixed, **changes}.items() if name in known})


def block_parameters(loop: Loop) -> int:
    """Frozen weights of the blocks: what a token goes through."""
    decoder = loop.model.get_base_model().get_decoder()
    return sum(weight.numel() for name, weight in decoder.layers.named_parameters() if "lora_" not in name)


def tokens_per_s(loop: Loop, batch: Batch, plan: Knobs) -> tuple[float, list[float]]:
    """(real tokens a second after `WARM` steps, the losses)."""
    losses: list[float] = []
    spent = tokens = 0.0
    for record in run_steps(loop, batch, plan):
        losses.append(record.loss_nats)
        if record.step > WARM:
            spent, tokens = spent + record.seconds, tokens + record.tokens
    return tokens / spent, losses


def speed(shape: str, base: Path, rate: float, steps: int, compiled: bool) -> Iterator[dict[str, Any]]:
    """Ours in bfloat16, as planned, in 4 bits, and compiled where asked; then TRL."""
    batch = Batch(rows(ROWS * steps))
    found = {}
    for name, change in variants(compiled).items():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        try:
            loop = build(base, knobs(base, "cuda", "bfloat16", steps, **change))
            if name == "compiled":
                loop.model.get_base_model().get_decoder().compile(dynamic=True)
            began = time.perf_counter()
            found[name], _ = tokens_per_s(loop, batch, knobs(base, "cuda", "bfloat16", steps, **change))
        except Exception as error:  # what one variant cannot do must not cost the others their figures
            yield {"benchmark": f"gpu {shape} {name}", "skipped": f"{type(error).__name__}: {str(error)[:300]}"}
            continue
        work = 4 * block_parameters(loop) * found[name] if name != "qlora" else 0.0
        yield {
            "benchmark": f"gpu {shape} {name}", "unit": "tokens/s", "ours": round(found[name]),
            "share_of_peak": round(work / rate, 3) or None,
            "peak_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2), "seconds": round(time.perf_counter() - began),
        }  # fmt: skip
        del loop
    try:
        yield from against_trl(shape, base, batch, found.get("plain", 0.0), steps)
    except Exception as error:  # another release of TRL than the one this was written for
        yield {"benchmark": f"gpu {shape} against trl", "skipped": f"{type(error).__name__}: {str(error)[:300]}"}


def variants(compiled: bool) -> dict[str, dict[str, Any]]:
    """What is tried: the plan as it is, in 4 bits where bitsandbytes is there, and compiled where asked."""
    from importlib.util import find_spec

    tried: dict[str, dict[str, Any]] = {"plain": {}}
    if find_spec("bitsandbytes"):
        tried["qlora"] = {"method": QLoRA(rank=16, alpha=32.0, dropout=0.0)}
    return {**tried, "compiled": {}} if compiled else tried


def against_trl(shape: str, base: Path, batch: Batch, ours: float, steps: int) -> Iterator[dict[str, Any]]:
    """TRL's trainer with bfloat16 weights and rows grouped by length, on the same rows."""
    try:
        from datasets import Dataset
        from peft import LoraConfig
        from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
        from trl import SFTConfig, SFTTrainer
    except ImportError as error:
        yield {"benchmark": f"gpu {shape} against trl", "skipped": f"TRL is not installed: {error}"}
        return
    from tokenizers import Tokenizer, models

    held = [
        {"input_ids": row.ids, "completion_mask": [int(learned) for learned in row.trained]}
        for lesson in batch.lessons
        for row in lesson.examples
    ]
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).to("cuda")
    words = {f"t{number}": number for number in range(VOCABULARY)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, "t0")), eos_token="t1", pad_token="t2", unk_token="t0"
    )
    with tempfile.TemporaryDirectory() as out:
        settings = SFTConfig(
            out, max_steps=steps, per_device_train_batch_size=ROWS, learning_rate=1e-3, bf16=True, report_to="none",
            logging_steps=1000, save_strategy="no", gradient_checkpointing=False, completion_only_loss=True,
            disable_tqdm=True,
        )  # fmt: skip
        adapter = LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules=list(linear_names(base)))
        trainer = SFTTrainer(model, settings, train_dataset=Dataset.from_list(held), processing_class=tokenizer,
                             peft_config=adapter)  # fmt: skip
        torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        trainer.train()
        theirs = sum(len(row["input_ids"]) for row in held) / (time.perf_counter() - began)
    yield {
        "benchmark": f"gpu {shape} against trl", "unit": "tokens/s", "ours": round(ours), "peer": "trl, bf16",
        "theirs": round(theirs), "ratio": round(ours / theirs, 2),
        "their_peak_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2),
    }  # fmt: skip


def curves(base: Path, steps: int = 8) -> Iterator[dict[str, Any]]:
    """The same steps in float32 on the CPU, and in float32 and bfloat16 on the GPU: how far apart the losses run."""
    batch = Batch(rows(8 * steps, seed=1))
    found = {}
    for device, precision in (("cpu", "float32"), ("cuda", "float32"), ("cuda", "bfloat16")):
        plan = knobs(base, device, precision, steps, batch_rows=8, pack_tokens=2048, attention="sdpa")
        found[f"{device} {precision}"] = tokens_per_s(build(base, plan), batch, plan)[1]
    reference = found["cpu float32"]
    for name in ("cuda float32", "cuda bfloat16"):
        apart = max(abs(one - other) for one, other in zip(found[name], reference, strict=True))
        yield {
            "benchmark": f"gpu loss curve, {name}", "unit": "nats apart at most", "ours": round(apart, 5),
            "peer": "cpu float32", "goal": 0.01 if "float32" in name else 0.1, "from": round(reference[0], 4),
            "to": round(reference[-1], 4),
        }  # fmt: skip


def main() -> None:
    """Print every figure, as each is there."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--steps", type=int, default=20)
    asked.add_argument("--shapes", nargs="*", default=list(SHAPES))
    asked.add_argument("--compiled", action="store_true", help="try torch.compile too: it takes minutes to begin")
    given = asked.parse_args()
    if not torch.cuda.is_available():
        print(json.dumps({"benchmark": "gpu", "skipped": "no CUDA device here"}))
        return
    machine = f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    rate = measure_flops("bfloat16", "cuda")
    print(json.dumps({"benchmark": "gpu bf16 product", "unit": "TFLOP/s", "ours": rate / 1e12, "machine": machine}))
    with tempfile.TemporaryDirectory() as scratch:
        for shape in given.shapes:
            folder = model_folder(shape, Path(scratch) / shape)
            figures = [speed(shape, folder, rate, given.steps, given.compiled)]
            if shape == given.shapes[0]:
                figures.append(curves(folder))
            for line in chain.from_iterable(figures):
                print(json.dumps({**line, "machine": machine}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
