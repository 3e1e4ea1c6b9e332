"""Training: right twice, stopped anywhere, and never silently wrong."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmops import pipeline
from llmops.core.errors import LlmopsError, RequestError
from llmops.core.plan import Plan
from llmops.core.run import RunEvent, StepRecord, fold_run
from llmops.lm.adapters import WEIGHTS, load_adapter
from llmops.lm.base import load_tokenizer, load_weights
from llmops.lm.lessons import lessons
from llmops.lm.render import Renderer
from llmops.store.files import sha256_file
from llmops.store.workspace import Workspace
from llmops.training import checkpoint, loop
from llmops.training.losses import Batch
from llmops.training.train import train as carry_out
from tests.unit.tiny_life import made_up_rows, tiny_recipe, write_csv


@pytest.fixture
def plan(workspace: Workspace, tiny_base: Path, tmp_path: Path) -> Plan:
    csv = write_csv(tmp_path / "rows.csv", made_up_rows(120))
    recipe = tiny_recipe(tiny_base, csv)
    return pipeline.plan(recipe, pipeline.prepare(recipe, workspace), workspace)


def test_the_same_plan_gives_the_same_adapter_twice_and_it_learns(workspace: Workspace, plan: Plan) -> None:
    first, second = pipeline.train(plan, workspace), pipeline.train(plan, workspace)
    assert first.status == second.status == "finished"
    assert first.id != second.id and first.adapter_sha256 == second.adapter_sha256
    losses = [record.loss_nats for record in workspace.steps(first.id)]
    assert len(losses) == plan.knobs.steps
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])


def test_the_loss_is_that_of_plain_rows_one_by_one(plan: Plan, workspace: Workspace, tiny_base: Path) -> None:
    import torch

    # In float32 whatever this processor is fast at: bfloat16 differs by more than the packing may.
    knobs = plan.knobs.replace(precision="float32")
    made = loop.build(tiny_base, knobs)
    renderer = Renderer(load_tokenizer(tiny_base))
    batch = Batch(lessons(renderer, workspace.rows(plan.dataset, "train")[:8], knobs.objective))
    found, _ = loop.learn(made, batch, knobs)
    total = 0.0
    examples = [lesson.examples[0] for lesson in batch.lessons]
    for example in examples:
        with torch.inference_mode():
            logits_TV = made.model(input_ids=torch.tensor([example.ids])).logits[0].log_softmax(-1)
        total -= sum(
            float(logits_TV[place - 1, token])
            for place, (token, trained) in enumerate(zip(example.ids, example.trained, strict=True))
            if trained
        )
    assert batch.learned_tokens == sum(sum(example.trained) for example in examples)
    assert found == pytest.approx(total / batch.learned_tokens, abs=1e-4)


def test_a_stopped_run_is_valid_and_resumes_to_the_hash_of_the_uninterrupted_one(
    workspace: Workspace, plan: Plan
) -> None:
    whole = pipeline.train(plan, workspace)

    def stopping(items, what, total=None):  # type: ignore[no-untyped-def]
        for number, item in enumerate(items):
            if what == "training" and number == 6:
                pipeline.stop("last", workspace)
            yield item

    time.sleep(1.1)  # run ids begin with the second they were made in
    halting = dataclasses.replace(workspace, world=dataclasses.replace(workspace.world, track=stopping))
    stopped = pipeline.train(plan, halting)
    assert (stopped.status, stopped.note) == ("interrupted", "stopped by 'llmops stop'")
    assert 0 < stopped.step < stopped.steps
    resumed = pipeline.train(plan, workspace, stopped.id)
    assert resumed.status == "finished"
    assert resumed.adapter_sha256 == whole.adapter_sha256


KILLED = """
import os, signal, sys
from pathlib import Path
from llmops import pipeline
from llmops.core.context import Surroundings
from llmops.core.plan import Plan
from llmops.store.workspace import Workspace

def dying(items, what, total=None):
    for number, item in enumerate(items):
        if what == "training" and number == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
        yield item

at = Workspace.find(Path(sys.argv[1]), Surroundings(track=dying), environ={})
pipeline.train(at.get(Plan, sys.argv[2]), at)
"""


def test_a_run_killed_in_the_middle_resumes_to_the_hash_of_the_uninterrupted_one(
    workspace: Workspace, plan: Plan
) -> None:
    whole = pipeline.train(plan, workspace)
    command = [sys.executable, "-c", KILLED, str(workspace.root), plan.id, "8"]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    killed = next(run for run in (workspace.run(ref) for ref in workspace.run_ids()) if run.id != whole.id)
    assert killed.status == "interrupted" and "process" in killed.note
    resumed = pipeline.train(plan, workspace, killed.id)
    assert resumed.adapter_sha256 == whole.adapter_sha256
    assert len(workspace.steps(killed.id)) == plan.knobs.steps


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    plan: Plan, workspace: Workspace, tiny_base: Path, tmp_path: Path
) -> None:
    renderer = Renderer(load_tokenizer(tiny_base))
    taught = Batch(lessons(renderer, workspace.rows(plan.dataset, "train"), plan.knobs.objective))
    made = loop.build(tiny_base, plan.knobs)
    for record in loop.run_steps(made, taught, plan.knobs):
        if record.step in (2, 4, 6):
            checkpoint.save(made, tmp_path, plan.id)
        if record.step == 6:
            break
    assert [folder.name for folder in checkpoint.found(tmp_path)] == ["step-00000004", "step-00000006"]
    newest = checkpoint.found(tmp_path)[-1] / "adapter.safetensors"
    data = bytearray(newest.read_bytes())
    data[-7] ^= 1  # one flipped bit: safetensors itself does not see it
    newest.write_bytes(bytes(data))
    remarks: list[str] = []
    fresh = loop.build(tiny_base, plan.knobs)
    checkpoint.restore(fresh, tmp_path, frozenset((plan.id,)), remarks.append)
    assert fresh.step == 4
    assert "step-00000006 is damaged" in remarks[0]


@pytest.mark.parametrize("where", ["weight", "gradient"])
def test_a_nan_stops_training_within_the_step_and_names_it(
    plan: Plan, workspace: Workspace, tiny_base: Path, where: str
) -> None:
    import torch

    renderer = Renderer(load_tokenizer(tiny_base))
    taught = Batch(lessons(renderer, workspace.rows(plan.dataset, "train"), plan.knobs.objective))
    made = loop.build(tiny_base, plan.knobs)
    steps = loop.run_steps(made, taught, plan.knobs)
    next(steps)
    weight = next(iter(checkpoint.trained_weights(made.model).values()))
    if where == "weight":
        with torch.no_grad():
            weight[0, 0] = float("nan")
    else:
        weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(LlmopsError, match="step 2: loss"):
        next(steps)


def test_a_failed_run_says_so(workspace: Workspace, plan: Plan, tiny_base: Path) -> None:
    workspace.add_event(
        "20261123-tiny-x",
        RunEvent(
            kind="created",
            at=workspace.world.clock(),
            data={"name": "tiny", "plan": plan.id, "dataset": plan.dataset, "steps": 3},
        ),
    )
    with pytest.raises(RequestError):
        carry_out(plan, workspace.rows(plan.dataset, "train"), tiny_base / "nowhere", workspace, "20261123-tiny-x")
    assert workspace.run("20261123-tiny-x").status == "failed"


def test_the_adapter_opens_in_plain_peft_with_the_same_logits(
    workspace: Workspace, plan: Plan, tiny_base: Path
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    run = pipeline.train(plan, workspace)
    folder = workspace.run_folder(run.id) / "adapter"
    ids = torch.tensor([[1, 5, 9, 30]])
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_base), folder).eval()
    ours = load_adapter(load_weights(tiny_base), folder)
    bare = load_weights(tiny_base)
    with torch.inference_mode():
        assert torch.allclose(theirs(input_ids=ids).logits, ours(input_ids=ids).logits, atol=1e-5)
        assert not torch.allclose(bare(input_ids=ids).logits, ours(input_ids=ids).logits, atol=1e-3)
    assert sha256_file(folder / WEIGHTS) == run.adapter_sha256


@pytest.mark.parametrize("fault", ["renamed", "nan"])
def test_an_adapter_that_does_not_fit_is_refused(workspace: Workspace, plan: Plan, tiny_base: Path, fault: str) -> None:
    from safetensors.torch import load_file, save_file

    folder = workspace.run_folder(pipeline.train(plan, workspace).id) / "adapter"
    tensors = load_file(folder / WEIGHTS)
    name = next(iter(tensors))
    if fault == "renamed":
        tensors[name.replace("q_proj", "x_proj").replace("down_proj", "x_proj")] = tensors.pop(name)
    else:
        tensors[name].view(-1)[0] = float("nan")
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(LlmopsError, match=r"missing or unexpected|NaN"):
        load_adapter(load_weights(tiny_base), folder)


def test_a_runs_status_is_a_fold_of_its_events(workspace: Workspace) -> None:
    moment = workspace.world.clock()
    data = {"name": "tiny", "plan": "pl-1", "dataset": "ds-1", "steps": 9}
    events = [RunEvent(kind="created", at=moment, data=data)]
    assert fold_run("r", events).status == "created"
    events += [RunEvent(kind="started", at=moment), RunEvent(kind="checkpoint", at=moment, step=5, data={"seconds": 4})]
    assert (fold_run("r", events).status, fold_run("r", events).step, fold_run("r", events).seconds) == (
        "running",
        5,
        4,
    )
    with pytest.raises(ValueError, match="created"):
        fold_run("r", events[1:])


def test_the_learning_rate_rises_then_falls_to_zero(plan: Plan) -> None:
    knobs = plan.knobs.replace(steps=100, warmup_share=0.1)
    rates = [loop.learning_rate(knobs, step) for step in range(100)]
    assert rates[0] == pytest.approx(knobs.learning_rate / 10) and max(rates) == pytest.approx(knobs.learning_rate)
    assert rates[10:] == sorted(rates[10:], reverse=True) and rates[-1] < knobs.learning_rate / 50


def test_records_carry_what_a_step_read(workspace: Workspace, plan: Plan) -> None:
    records: list[StepRecord] = workspace.steps(pipeline.train(plan, workspace).id)
    per_pass = -(-len(workspace.rows(plan.dataset, "train")) // plan.knobs.batch_rows)
    assert sum(record.tokens for record in records[:per_pass]) == plan.train_tokens
    assert records[0].samples and records[-1].samples
