"""Proofs that training stops before it does harm, refuses what does not fit, and does the same thing twice."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmops.core.errors import LlmopsError
from llmops.core.plan import Knobs, Plan
from llmops.core.proof import CheckResult, Size, caught
from llmops.lm.adapters import WEIGHTS, load_adapter
from llmops.lm.base import load_tokenizer, load_weights
from llmops.lm.lessons import lessons
from llmops.lm.render import Renderer
from llmops.training import checkpoint, loop
from llmops.training.guard import NotFinite
from llmops.training.losses import Batch
from llmops.training.prove_crashes import reference
from llmops.training.prove_sample import RUN, Sample, sample, write_base
from llmops.training.train import train, write_tuned

NAN = float("nan")


def nans(size: Size, folder: Path) -> CheckResult:
    """NaN in the loss, a gradient or a weight, at the first, a middle and the last step: stopped within one step."""
    made = sample(folder / "nans", steps=9)
    steps = (1, 5, 9)
    harms: tuple[Callable[[Any], None], ...] = (in_loss, in_gradient, in_weight)
    missed = [f"{harm.__name__} at step {step}" for harm in harms for step in steps if not stops(made, harm, step)]
    alarms = int(not trains(made, folder))
    cases = len(harms) * len(steps)
    return caught("NaN stops training within one step", cases - len(missed), cases, alarms, 1, "; ".join(missed))


def in_loss(model: Any) -> None:
    """The loss: a frozen weight before the head."""
    with _changing():
        model.get_base_model().get_decoder().norm.weight[0] = NAN


def in_gradient(model: Any) -> None:
    """A gradient, the loss being as it should."""
    next(iter(checkpoint.trained_weights(model).values())).register_hook(lambda gradient: gradient * NAN)


def in_weight(model: Any) -> None:
    """A weight that is trained."""
    with _changing():
        list(checkpoint.trained_weights(model).values())[-1].view(-1)[0] = NAN


def _changing() -> Any:
    import torch

    return torch.no_grad()


def stops(made: Sample, harm: Callable[[Any], None], step: int) -> bool:
    """Whether harm done before step `step` is told in that step, with its rows, and nothing of it is saved."""
    doing, examples = opened(made)
    records = loop.run_steps(doing, examples, made.plan.knobs)
    for _ in range(step - 1):
        next(records)
    harm(doing.model)
    try:
        next(records)
    except NotFinite as error:
        named = error.step == step and error.batch and f"step {step}" in error.what
        return bool(named) and doing.step == step - 1
    return False


def trains(made: Sample, folder: Path) -> bool:
    """The clean case: every step is done, and the adapter is saved."""
    doing, examples = opened(made)
    done = len(list(loop.run_steps(doing, examples, made.plan.knobs)))
    write_tuned(doing, made.plan, made.base, folder / "clean-adapter")
    return done == made.plan.knobs.steps


def opened(made: Sample) -> tuple[loop.Loop, Batch]:
    """A fresh loop on the sample's base, and what it is to learn."""
    knobs = made.plan.knobs
    renderer = Renderer(load_tokenizer(made.base), knobs.template)
    return loop.build(made.base, knobs), Batch(lessons(renderer, made.rows(), knobs.objective, knobs.max_tokens))


def nothing_bad_is_saved(size: Size, folder: Path) -> CheckResult:
    """A NaN that came into the weights or the moments after the last step is not written, by no way of writing."""
    made = sample(folder / "saved", steps=3)
    doing, examples = opened(made)
    list(loop.run_steps(doing, examples, made.plan.knobs))
    state, adapter = folder / "saved-state", folder / "saved-adapter"
    weight = next(iter(checkpoint.trained_weights(doing.model).values()))
    writers: list[Callable[[], object]] = [
        lambda: checkpoint.save(doing, state, made.plan.id),
        lambda: write_tuned(doing, made.plan, made.base, adapter),
    ]
    alarms = sum(refuses(write) for write in writers)
    shutil.rmtree(state)
    shutil.rmtree(adapter)
    with _changing():
        weight.view(-1)[0] = NAN
    refused = sum(refuses(write) for write in writers)
    with _changing():
        weight.view(-1)[0] = 0.0
        doing.optimiser.state[weight]["exp_avg"].view(-1)[0] = NAN
    refused += refuses(writers[0])
    left = sum(path.exists() for path in (adapter, *checkpoint.found(state)))
    return caught("NaN is never saved", max(0, refused - left), 3, alarms, len(writers))


def refuses(act: Callable[[], object]) -> bool:
    """Whether `act` ends in an error with a way out."""
    try:
        act()
    except LlmopsError:
        return True
    return False


def wrong_adapters(size: Size, folder: Path) -> CheckResult:
    """An adapter with a renamed, missing, extra or misshapen tensor, a NaN, or on another base, is refused."""
    from safetensors.torch import load_file, save_file

    made, _ = reference(folder / "adapters")
    made.train()
    good, bad = made.run_folder / "adapter", folder / "bad-adapter"

    def changed(change: Callable[[dict[str, Any], str], None]) -> Callable[[], object]:
        def act() -> object:
            shutil.rmtree(bad, ignore_errors=True)
            shutil.copytree(good, bad)
            tensors = load_file(good / WEIGHTS)
            change(tensors, sorted(tensors)[0])
            save_file(tensors, bad / WEIGHTS)
            return load_adapter(load_weights(made.base), bad)

        return act

    def renamed(tensors: dict[str, Any], name: str) -> None:
        tensors[name.replace("layers.0", "layers.9")] = tensors.pop(name)

    def missing(tensors: dict[str, Any], name: str) -> None:
        del tensors[name]

    def extra(tensors: dict[str, Any], name: str) -> None:
        tensors[name + ".more"] = tensors[name].clone()

    def misshapen(tensors: dict[str, Any], name: str) -> None:
        tensors[name] = tensors[name][:, :-1].contiguous()

    def not_a_number(tensors: dict[str, Any], name: str) -> None:
        tensors[name].view(-1)[0] = NAN

    write_base(folder / "other-base", hidden=48)
    faults = [changed(change) for change in (renamed, missing, extra, misshapen, not_a_number)]
    faults.append(lambda: load_adapter(load_weights(folder / "other-base"), good))
    alarms = int(refuses(lambda: load_adapter(load_weights(made.base), good)))
    return caught("adapters that do not fit are refused", sum(map(refuses, faults)), len(faults), alarms, 1)


def foreign_checkpoints(size: Size, folder: Path) -> CheckResult:
    """A checkpoint of another plan, of another shape, of another step, or resealed by hand is not taken."""
    made, whole = reference(folder / "foreign")
    made.train(made.stopped_at(12))
    newest = checkpoint.found(made.run_folder / "state")[-1]

    def of_another_plan(one: Sample, path: Path) -> None:
        doing, _ = opened(one)
        checkpoint.restore(doing, path.parent, frozenset((one.plan.id,)), print_nothing)
        shutil.rmtree(path)
        checkpoint.save(doing, path.parent, "pl-of-another")

    def of_another_shape(one: Sample, path: Path) -> None:
        wide = Sample(one.folder, one.plan.replace(**other_rank(one.plan)))
        doing, examples = opened(wide)
        steps = loop.run_steps(doing, examples, wide.plan.knobs)
        for _ in range(12):
            next(steps)
        shutil.rmtree(path)
        checkpoint.save(doing, path.parent, one.plan.id)

    def of_another_step(one: Sample, path: Path) -> None:
        path.rename(path.with_name("step-00000020"))

    harms = (of_another_plan, of_another_shape, of_another_step)
    right = 0
    for harm in harms:
        one = made.copy(folder / "foreign-copy")
        harm(one, checkpoint.found(one.run_folder / "state")[-1])
        run = one.train()
        note = [event.note for event in one.at.events(RUN) if event.kind == "started"][-1]
        right += run.adapter_sha256 == whole and "is damaged" in note
    clean = made.copy(folder / "foreign-copy")
    alarms = int(clean.train().adapter_sha256 != whole or newest.name != "step-00000012")
    return caught("checkpoints of another run are not taken", right, len(harms), alarms, 1)


def print_nothing(line: str) -> None:
    """Drop a remark."""


def other_rank(plan: Plan) -> dict[str, Any]:
    """The changes that give the plan another rank."""
    knobs = plan.knobs.replace(method=plan.knobs.method.replace(rank=4))
    decisions = tuple(one.replace(value=4) if one.field == "method.rank" else one for one in plan.decisions)
    return {"knobs": knobs, "decisions": decisions}


def same_twice(size: Size, folder: Path) -> CheckResult:
    """The same plan gives the same hash again; another seed gives another one."""
    made, whole = reference(folder / "twice")
    again = {"ci": 2, "soak": 10}[size]
    same = 0
    for _ in range(again):
        made.begin()
        same += made.train().adapter_sha256 == whole
    seeded = made.plan.replace(
        knobs=made.plan.knobs.replace(seed=1),
        decisions=tuple(one.replace(value=1) if one.field == "seed" else one for one in made.plan.decisions),
    )
    other = Sample(made.folder, seeded)
    other.begin()
    alarms = int(other.train().adapter_sha256 == whole)
    return caught("the same plan gives the same hash", same, again, alarms, 1)


def memory_shrinks(size: Size, folder: Path) -> CheckResult:
    """Memory that runs short before or within a step: the run goes on by a second plan, to the same losses."""
    made = sample(folder / "memory", steps=12, dropout=0.0)
    plain = [record.loss_nats for record in made.at.steps(made.train().id)]
    alarms = sum(event.kind == "shrunk" for event in made.at.events(RUN))
    cases: list[set[int]] = [{3}, {7}, {3, 7}]
    if size == "soak":
        cases = [{first, second} for first in range(1, 12) for second in range(first, 12)]
    right = sum(goes_on(made, short, plain) for short in cases)
    return caught("memory that runs short shrinks the pack", right, len(cases), alarms, 1)


def goes_on(made: Sample, short: set[int], plain: list[float]) -> bool:
    """Whether a run whose room runs out at the looks numbered `short` ends as it should, and says what it did."""
    looks = 0

    def room_of(knobs: Knobs) -> Callable[[], int]:
        def room() -> int:
            nonlocal looks
            looks += 1
            return -1 if looks in short else 2**40

        return room

    made.begin()
    at = made.at
    run = train(made.plan, made.rows(), made.base, at, RUN, room_of)
    losses = [record.loss_nats for record in at.steps(RUN)]
    events = [event for event in at.events(RUN) if event.kind == "shrunk"]
    plans = [at.get(Plan, event.data["plan"]) for event in events]
    chain = [made.plan, *plans]
    named = all(later.replaces == earlier.id for earlier, later in zip(chain, plans, strict=False))
    smaller = all(
        later.knobs.replace(pack_tokens=0) == earlier.knobs.replace(pack_tokens=0)
        and later.knobs.pack_tokens < earlier.knobs.pack_tokens
        for earlier, later in zip(chain, plans, strict=False)
    )
    close = len(losses) == len(plain) and max(abs(a - b) for a, b in zip(losses, plain, strict=True)) < 1e-4
    return run.status == "finished" and run.plan == chain[-1].id and bool(plans) and named and smaller and close
