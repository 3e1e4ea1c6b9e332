"""Training as it is seen: the held-out curve, early stopping, the best weights, and trackers."""

from __future__ import annotations

import dataclasses
import sqlite3
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from llmops import pipeline
from llmops.core.errors import LlmopsError, RequestError
from llmops.core.method import Training
from llmops.core.plan import Plan, Wishes
from llmops.core.run import StepRecord
from llmops.lm.base import load_tokenizer
from llmops.lm.lessons import lessons
from llmops.lm.render import Renderer
from llmops.store.workspace import Workspace
from llmops.training import loop, watch
from llmops.training.losses import Batch
from llmops.training.trackers import TRACKERS, Tracking, check_tracker
from tests.unit.tiny_life import made_up_rows, tiny_recipe, write_csv


def planned(workspace: Workspace, base: Path, tmp_path: Path, wishes: Wishes = Wishes(), **training: object) -> Plan:
    recipe = tiny_recipe(base, write_csv(tmp_path / "rows.csv", made_up_rows(120)))
    recipe = recipe.replace(training=Training.model_validate({**dict(recipe.training), **training}))
    return pipeline.plan(recipe, pipeline.prepare(recipe, workspace), workspace, wishes)


def losses(workspace: Workspace, run_id: str) -> dict[int, float]:
    return {
        record.step: record.heldout_loss_nats
        for record in workspace.steps(run_id)
        if record.heldout_loss_nats is not None
    }


@pytest.fixture
def plan(workspace: Workspace, tiny_base: Path, tmp_path: Path) -> Plan:
    return planned(workspace, tiny_base, tmp_path)


@pytest.fixture
def patient(workspace: Workspace, tiny_base: Path, tmp_path: Path) -> Plan:
    """A rate so high that the loss soon rises again."""
    return planned(workspace, tiny_base, tmp_path, patience=2, look_every=1, learning_rate=0.3, epochs=6)


def test_held_out_rows_are_looked_at_and_nothing_is_chosen_by_them(workspace: Workspace, plan: Plan) -> None:
    held_out = {row.id for row in workspace.rows(plan.dataset, "heldout")}
    assert plan.watched and set(plan.watched) <= held_out and plan.knobs.patience == 0
    run = pipeline.train(plan, workspace)
    seen = losses(workspace, run.id)
    assert sorted(seen) == sorted({*range(plan.knobs.look_every, run.steps + 1, plan.knobs.look_every), run.steps})
    assert seen[run.steps] < seen[min(seen)]
    # Looking leaves no trace: the same plan without a look gives the same adapter.
    blind = [d.replace(value=0) if d.field == "look_every" else d for d in plan.decisions]
    other = plan.replace(knobs=plan.knobs.replace(look_every=0), decisions=tuple(blind), watched=())
    workspace.put(other)
    assert pipeline.train(other, workspace).adapter_sha256 == run.adapter_sha256


def test_the_held_out_loss_is_that_of_plain_rows_one_by_one(workspace: Workspace, plan: Plan, tiny_base: Path) -> None:
    import torch

    knobs = plan.knobs.replace(precision="float32")
    made = loop.build(tiny_base, knobs)
    renderer = Renderer(load_tokenizer(tiny_base))
    rows = workspace.rows(plan.dataset, "heldout")[:6]
    examples = [renderer.example(row.messages) for row in rows]
    total = learned = 0.0
    for example in examples:
        with torch.inference_mode():
            logits_TV = made.model(input_ids=torch.tensor([example.ids])).logits[0].log_softmax(-1)
        places = [place for place in range(1, len(example.ids)) if example.trained[place]]
        total -= sum(float(logits_TV[place - 1, example.ids[place]]) for place in places)
        learned += len(places)
    batch = Batch(lessons(renderer, rows, knobs.objective))
    assert watch.heldout_loss(made, batch, knobs) == pytest.approx(total / learned, abs=1e-4)


def test_rows_that_choose_the_best_weights_are_set_aside_from_training(workspace: Workspace, patient: Plan) -> None:
    rows = {row.id: row for row in workspace.rows(patient.dataset, "train")}
    assert patient.watched and set(patient.watched) <= set(rows)
    groups = {rows[row].group for row in patient.watched}
    assert not groups & {row.group for row in rows.values() if row.id not in patient.watched}
    per_pass = -(-(len(rows) - len(patient.watched)) // patient.knobs.batch_rows)
    records = workspace.steps(pipeline.train(patient, workspace).id)[:per_pass]
    if len(records) == per_pass:
        assert sum(record.tokens for record in records) == patient.train_tokens


def test_training_stops_early_and_keeps_the_best_weights(workspace: Workspace, patient: Plan, tiny_base: Path) -> None:
    run = pipeline.train(patient, workspace)
    seen = losses(workspace, run.id)
    best = min(seen, key=lambda step: seen[step])
    assert run.status == "finished" and run.step == best + patient.knobs.patience < run.steps
    assert run.note.startswith(f"stopped early at step {run.step} of {run.steps}; kept the weights of step {best}")
    adapter = load_file(workspace.run_folder(run.id) / "adapter" / "adapter_model.safetensors")
    made = loop.build(tiny_base, patient.knobs)
    renderer = Renderer(load_tokenizer(tiny_base))
    rows = workspace.rows(patient.dataset, "train")
    learned = lessons(renderer, [row for row in rows if row.id not in patient.watched], patient.knobs.objective)
    for record in loop.run_steps(made, Batch(learned), patient.knobs):
        if record.step == best:
            break
    state = {name: weight for name, weight in made.model.named_parameters() if weight.requires_grad}
    assert all(tensor.equal(state[name.replace(".weight", ".default.weight")]) for name, tensor in adapter.items())


@pytest.mark.parametrize("back", [1, 2])
def test_a_run_stopped_between_looks_resumes_to_the_same_best(workspace: Workspace, patient: Plan, back: int) -> None:
    whole = pipeline.train(patient, workspace)

    def stopping(items, what, total=None):  # type: ignore[no-untyped-def]
        for item in items:
            if isinstance(item, StepRecord) and item.step == whole.step - back:
                pipeline.stop("last", workspace)
            yield item

    time.sleep(1.1)  # run ids begin with the second they were made in
    halting = dataclasses.replace(workspace, world=dataclasses.replace(workspace.world, track=stopping))
    stopped = pipeline.train(patient, halting)
    assert (stopped.status, stopped.step) == ("interrupted", whole.step - back)
    resumed = pipeline.train(patient, workspace, stopped.id)
    assert (resumed.step, resumed.note) == (whole.step, whole.note)
    assert resumed.adapter_sha256 == whole.adapter_sha256
    assert losses(workspace, resumed.id) == losses(workspace, whole.id)


def test_a_watched_loss_that_is_no_number_stops_training(
    workspace: Workspace, patient: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "heldout_loss", lambda *_: float("nan"))
    with pytest.raises(LlmopsError, match="watched rows is nan"):
        pipeline.train(patient, workspace)


def test_a_recipe_may_switch_looking_off(workspace: Workspace, tiny_base: Path, tmp_path: Path) -> None:
    blind = planned(workspace, tiny_base, tmp_path, look_every=0)
    assert blind.watched == ()
    assert losses(workspace, pipeline.train(blind, workspace).id) == {}


# Trackers.


def test_a_tracker_that_is_not_there_is_refused_before_anything_is_planned(
    workspace: Workspace, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RequestError, match="no tracker 'excel'"):
        planned(workspace, tiny_base, tmp_path, Wishes(tracker="excel"))
    monkeypatch.setattr("llmops.training.trackers.find_spec", lambda name: None)
    for name in TRACKERS:
        with pytest.raises(RequestError, match=f"{name} is not installed") as refused:
            check_tracker(f"{name}=somewhere")
        assert f"llmops[{name}]" in refused.value.fix


def test_mlflow_on_sqlite_holds_every_step_of_a_run(workspace: Workspace, tiny_base: Path, tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    pytest.importorskip("alembic")
    plan = planned(workspace, tiny_base, tmp_path, Wishes(tracker="mlflow"))
    assert next(d for d in plan.decisions if d.field == "tracker").because == "asked for"
    run = pipeline.train(plan, workspace)
    with sqlite3.connect(workspace.root / "trackers" / "mlflow" / "mlflow.db") as database:
        stored = database.execute("select key, step, value from metrics").fetchall()
        names = [name for (name,) in database.execute("select name from runs")]
        parameters = dict(database.execute("select key, value from params").fetchall())
    records = workspace.steps(run.id)
    found = {step: value for key, step, value in stored if key == "loss_nats"}
    assert found == {record.step: record.loss_nats for record in records}
    assert {step for key, step, _ in stored if key == "heldout_loss_nats"} == set(losses(workspace, run.id))
    assert names == [run.id] and parameters["batch_rows"] == "8"


def test_tensorboard_holds_every_step_of_a_run(workspace: Workspace, tiny_base: Path, tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    plan = planned(workspace, tiny_base, tmp_path, Wishes(tracker="tensorboard"))
    run = pipeline.train(plan, workspace)
    read = events.EventAccumulator(str(workspace.root / "trackers" / "tensorboard" / run.id)).Reload()
    shown = {event.step: event.value for event in read.Scalars("loss_nats")}
    assert shown == pytest.approx({record.step: record.loss_nats for record in workspace.steps(run.id)}, rel=1e-6)


def test_a_tracker_that_fails_is_left_out_and_the_training_goes_on() -> None:
    class Broken:
        def log(self, values: dict[str, float], step: int) -> None:
            raise ConnectionError("gone")

    said: list[str] = []
    shown = Tracking(Broken(), said.append)
    record = StepRecord(
        step=1, of=2, loss_nats=1.0, learning_rate=0.1, gradient_norm=1.0, tokens=5, trained_tokens=1, seconds=0.1,
        memory_bytes=1,
    )  # fmt: skip
    shown.log(record)
    shown.log(record)
    assert said == ["the tracker failed (ConnectionError: gone); the run goes on without it"]
