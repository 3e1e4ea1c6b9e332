"""The door: `plan` resolves every open knob, once, in sight, each with a sentence that says why."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmops.core.dataset import DatasetManifest
from llmops.core.errors import RequestError
from llmops.core.plan import BaseModelRecord, Knobs, Machine, Plan, Wishes
from llmops.core.recipe import Recipe
from llmops.lm.check import refuse_losses
from llmops.lm.lessons import window_sizes
from llmops.lm.pack import pack_tokens
from llmops.planning.cost import BaseShape, seconds_of
from llmops.planning.decide import Decisions
from llmops.planning.decoder import decide_decoder
from llmops.planning.memory import memory_bytes
from llmops.planning.method import decide_method, decide_objective, decide_optimiser, work_of
from llmops.planning.start import Start, decide_start
from llmops.planning.watching import set_aside, watch

CPU_BUDGET_S = 140.0
FAST_BFLOAT16 = 1.3
WINDOW_TOKENS = 512
EPOCHS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.5, 2.0, 3.0, 4.0)


@dataclass(frozen=True)
class Looked:
    """What planning looks at besides the recipe: the machine, the base, and how long the training rows are."""

    machine: Machine
    base: BaseModelRecord
    shape: BaseShape
    template: str
    targets: tuple[str, ...]
    row_ids: Sequence[str]
    row_tokens: Sequence[int]
    row_groups: Sequence[str] = ()
    heldout_ids: Sequence[str] = ()
    start: Start | None = None
    learned_share: float = 1.0  # of the tokens of a row, as a rule: what goes through the head
    shared_tokens: int = 0  # with which every row begins: a pack reads them once


def plan(recipe: Recipe, manifest: DatasetManifest, looked: Looked, wishes: Wishes) -> Plan:
    """A `Plan` for this machine. Raises `RequestError` where the rows cannot be trained on, or cannot fit."""
    decide = Decisions()
    machine = looked.machine
    device = decide.take("device", wishes.device, machine.device, f"this machine offers {machine.processor}")
    on_cpu = str(device).startswith("cpu")
    _processes(decide, recipe, machine, wishes)
    precision = _precision(decide, recipe, machine)
    max_tokens, left_out = _length(decide, recipe, looked)
    refuse_losses(left_out, looked.row_tokens, max_tokens)
    short = [place for place, row in enumerate(looked.row_ids) if row not in left_out]
    aside = set_aside(recipe, looked, short)
    unlearned = {*left_out, *aside}
    lengths = [tokens for row, tokens in zip(looked.row_ids, looked.row_tokens, strict=True) if row not in unlearned]
    kept = [size for tokens in lengths for size in window_sizes(tokens, max_tokens)]
    if not kept:
        raise RequestError("no training row is short enough", "raise training.max_tokens, or leave it open")
    _template(decide, looked)
    start = looked.start
    method = (
        decide_start(decide, recipe, start) if start else decide_method(decide, recipe, str(device), looked.targets)
    )
    decide_decoder(decide, method, machine, looked.base.family, max_tokens)
    objective = decide_objective(decide, recipe)
    decide_optimiser(decide, recipe)
    batch = _batch(decide, recipe, len(kept))
    rate = machine.bfloat16_flops if precision == "bfloat16" else machine.float32_flops
    epoch_s = seconds_of(looked.shape, sum(kept), rate) * work_of(method, objective)
    epochs = _epochs(decide, recipe, epoch_s, wishes.budget_s or (CPU_BUDGET_S if on_cpu else math.inf), len(kept))
    steps = max(1, round(epochs * math.ceil(len(kept) / batch)))
    decide.take("steps", None, steps, f"{epochs:g} passes over {len(kept):,} rows, {batch} rows a step")
    decide.take(
        "checkpoint_every", None, max(5, math.ceil(steps / 10)), "ten checkpoints: a crash costs a tenth of the run"
    )
    watched = watch(decide, recipe, looked, aside, steps, min(len(kept), batch) * steps)
    decide.take("tracker", wishes.tracker, "none", "metrics.jsonl holds every number, and nothing leaves this machine")
    decide.take("seed", recipe.training.seed, 0, "")
    choices = {"method": method, "objective": objective}
    *shorter, longest = sorted(kept)[-batch:]
    longest_rows = [*(max(0, tokens - looked.shared_tokens) for tokens in shorter), longest]
    knobs, memory = _fit_memory(decide, choices, looked, wishes, longest_rows)
    return Plan(
        recipe=recipe,
        dataset=manifest.id,
        base=looked.base,
        knobs=knobs,
        decisions=tuple(decide.made.values()),
        train_tokens=sum(kept),
        start=start.record if start else None,
        left_out=left_out,
        watched=watched,
        seconds_expected=float(f"{epochs * epoch_s:.2g}"),
        memory_bytes_expected=memory,
    )


def _template(decide: Decisions, looked: Looked) -> None:
    because = "the base's own chat template"
    if looked.template == "plain":
        because = "this base has no chat template, so turns begin with the lines '### User' and '### Assistant'"
    decide.take("template", None, looked.template, because)


def _processes(decide: Decisions, recipe: Recipe, machine: Machine, wishes: Wishes) -> None:
    """How many processes, and what each gets of this machine."""
    processes = decide.take("processes", wishes.processes, 1, "one process has all threads of this machine to itself")
    threads = max(1, machine.cores // processes)
    shared = f", shared by {processes} processes" if processes > 1 else ""
    decide.take("threads", wishes.threads, threads, f"one for each of the {machine.cores} cores{shared}")
    decide.take("shard", recipe.training.shard, "none", "each process holds the whole base, so none waits for a part")
    if decide.made["shard"].value == "full" and processes == 1:
        raise RequestError("training.shard full shares the base among processes, and there is one", "add --processes N")


def _fit_memory(
    decide: Decisions, choices: dict[str, Any], looked: Looked, wishes: Wishes, longest_rows: Sequence[int]
) -> tuple[Knobs, int]:
    """The knobs with the largest pack that fits, and the bytes that are expected. `RequestError` where none fits."""
    machine = looked.machine
    asked = int(wishes.max_memory_gb * 1e9) if wishes.max_memory_gb else None
    decide.take("max_memory_bytes", asked, machine.memory_bytes, "all that this machine has")
    usual = pack_tokens(machine.device)
    tokens, because = usual, "more would hold more in memory and save little time"
    while True:
        decide.take("pack_tokens", None, tokens, because)
        plain = {field: decision.value for field, decision in decide.made.items() if "." not in field}
        knobs = Knobs.model_validate({**plain, **choices})
        needed = memory_bytes(looked.shape, knobs, machine, longest_rows, looked.learned_share)
        allowed = min(machine.free_bytes, asked or machine.free_bytes) // knobs.processes
        if needed <= allowed:
            return knobs, needed
        tokens //= 2
        if tokens < max(longest_rows) // 2:
            raise RequestError(
                f"training would need about {needed / 1e9:.1f} GB and {allowed / 1e9:.1f} GB are free",
                f"lower training.max_tokens (now {knobs.max_tokens}), or free some memory",
            )
        because = f"{usual} at once would not fit into {allowed / 1e9:.1f} GB"


def _precision(decide: Decisions, recipe: Recipe, machine: Machine) -> Any:
    ratio = machine.bfloat16_flops / machine.float32_flops
    because = f"bfloat16 products run at {ratio:.1f} times the rate of float32 here; adapters stay in float32"
    if recipe.method.kind == "full":
        because = "bfloat16 weights would swallow small steps"
        return decide.take("precision", recipe.training.precision, "float32", because)
    if not machine.bfloat16_flops:
        because = "this processor has no instructions for bfloat16 products"
    return decide.take(
        "precision", recipe.training.precision, "bfloat16" if ratio >= FAST_BFLOAT16 else "float32", because
    )


def _length(decide: Decisions, recipe: Recipe, looked: Looked) -> tuple[int, tuple[str, ...]]:
    """max_tokens, and the ids of the rows that are longer: left out whole, never cut.

    Only running text, which has no answer to lose, is cut, into windows.
    """
    ordered = sorted(looked.row_tokens)
    longest = ordered[-1] if ordered else 0
    if recipe.task.kind == "continue":
        window = max(16, min(longest, WINDOW_TOKENS, looked.shape.positions))
        because = f"the longest text has {longest:,} tokens; longer ones are cut into windows, each token learned once"
        return decide.take("max_tokens", recipe.training.max_tokens, window, because), ()
    usual = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] if ordered else 0
    proposed = max(16, longest if longest <= 2 * usual else 2 * usual)
    proposed = min(proposed, looked.shape.positions)
    value = decide.take(
        "max_tokens",
        recipe.training.max_tokens,
        proposed,
        f"99 % of the rows have at most {usual} tokens, the longest {longest}",
    )
    pairs = zip(looked.row_ids, looked.row_tokens, strict=True)
    return value, tuple(row for row, tokens in pairs if tokens > value)


def _batch(decide: Decisions, recipe: Recipe, rows: int) -> int:
    proposed = min(16, max(2, rows // 20))
    value = decide.take(
        "batch_rows", recipe.training.batch_rows, proposed, "at least 20 steps a pass, at most 16 rows a step"
    )
    return int(value)


def _epochs(decide: Decisions, recipe: Recipe, epoch_s: float, budget_s: float, rows: int) -> float:
    wanted = 1.0 if rows >= 1000 else 2.0 if rows >= 400 else 4.0
    affordable = [epochs for epochs in EPOCHS if epochs * epoch_s <= budget_s and epochs <= wanted]
    value = affordable[-1] if affordable else EPOCHS[0]
    because = f"{rows:,} rows deserve {wanted:g}; a pass takes about {epoch_s:.0f} s"
    if math.isfinite(budget_s):
        because += f" and training may take {budget_s:.0f} s"
    return float(decide.take("epochs", recipe.training.epochs, value, because))
