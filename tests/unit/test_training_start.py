"""Training that starts from an adapter, and the same training by several seeds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from llmops import pipeline
from llmops.core.errors import LlmopsError, RequestError
from llmops.core.method import DoRA, LoRA, Training
from llmops.core.plan import Plan
from llmops.core.recipe import Recipe
from llmops.lm.adapters import WEIGHTS
from llmops.store.workspace import Workspace
from tests.unit.tiny_life import made_up_rows, tiny_recipe, write_csv


@pytest.fixture
def recipe(tiny_base: Path, tmp_path: Path) -> Recipe:
    return tiny_recipe(tiny_base, write_csv(tmp_path / "rows.csv", made_up_rows(120)), epochs=1)


def planned(recipe: Recipe, workspace: Workspace) -> Plan:
    return pipeline.plan(recipe, pipeline.prepare(recipe, workspace), workspace)


def starting(recipe: Recipe, start: str, tmp_path: Path, **changes: object) -> Recipe:
    """The recipe on new rows, from an adapter, its method left to that."""
    new = tiny_recipe(tmp_path, write_csv(tmp_path / "new.csv", made_up_rows(120, seed=1)), epochs=1)
    training = Training.model_validate({**dict(recipe.training), "start_from": start, "learning_rate": 1e-5})
    return new.replace(base=recipe.base, method=LoRA(), training=training).replace(**changes)


@pytest.fixture
def first(recipe: Recipe, workspace: Workspace) -> str:
    return pipeline.train(planned(recipe, workspace), workspace).id


def test_training_goes_on_from_a_run_on_new_rows(
    recipe: Recipe, workspace: Workspace, first: str, tmp_path: Path
) -> None:
    before = workspace.steps(first)
    plan = planned(starting(recipe, first, tmp_path), workspace)
    assert plan.start is not None and plan.start.name == first
    assert isinstance(plan.knobs.method, LoRA) and plan.knobs.method.rank == 4
    assert next(d for d in plan.decisions if d.field == "method.rank").because.startswith(f"as {first} has it")
    run = pipeline.train(plan, workspace)
    assert workspace.steps(run.id)[0].loss_nats == pytest.approx(before[-1].loss_nats, abs=0.3)
    assert before[-1].loss_nats < before[0].loss_nats - 1
    # With next to no learning rate the weights are still those of the start; and the run keeps its own copy of them.
    old = load_file(workspace.run_folder(first) / "adapter" / WEIGHTS)
    new = load_file(workspace.run_folder(run.id) / "adapter" / WEIGHTS)
    assert all(tensor.allclose(new[name], atol=1e-3) for name, tensor in old.items())
    assert pipeline.train(plan, workspace).adapter_sha256 == run.adapter_sha256
    assert load_file(workspace.run_folder(run.id) / "start" / WEIGHTS).keys() == old.keys()


def test_production_is_named_for_good_when_it_is_planned(
    recipe: Recipe, workspace: Workspace, first: str, tmp_path: Path
) -> None:
    version = pipeline.register(pipeline.evaluate(first, workspace).id, workspace)
    plan = planned(starting(recipe, version.name, tmp_path), workspace)
    assert plan.start is not None and plan.start.name == version.ref == "tiny:1"
    assert plan.recipe.training.start_from == version.name


def spoiled(workspace: Workspace, run: str, out: Path, fault: str) -> str:
    shutil.copytree(workspace.run_folder(run) / "adapter", out)
    config = json.loads((out / "adapter_config.json").read_text())
    tensors = load_file(out / WEIGHTS)
    name = next(iter(tensors))
    if fault == "another base":
        config["base_model_name_or_path"] = "smollm2-135m-q4"
    if fault == "a kind we do not train":
        config["peft_type"] = "VERA"
    if fault == "a renamed key":
        tensors["base_model.model.surprise"] = tensors.pop(name)
    if fault == "another shape":
        tensors[name] = tensors[name][:2].clone()
    if fault == "nan":
        tensors[name].view(-1)[0] = float("nan")
    (out / "adapter_config.json").write_text(json.dumps(config))
    save_file(tensors, out / WEIGHTS)
    if fault == "no weights":
        (out / WEIGHTS).unlink()
    return f"path:{out}"


@pytest.mark.parametrize("fault", ["another base", "a kind we do not train", "no weights"])
def test_what_cannot_be_started_from_is_refused_when_it_is_planned(
    recipe: Recipe, workspace: Workspace, first: str, tmp_path: Path, fault: str
) -> None:
    start = spoiled(workspace, first, tmp_path / "spoiled", fault)
    with pytest.raises(RequestError) as refused:
        planned(starting(recipe, start, tmp_path), workspace)
    assert refused.value.fix


@pytest.mark.parametrize("fault", ["a renamed key", "another shape", "nan", "changed since"])
def test_an_adapter_whose_tensors_do_not_fit_is_refused_before_a_step(
    recipe: Recipe, workspace: Workspace, first: str, tmp_path: Path, fault: str
) -> None:
    start = spoiled(workspace, first, tmp_path / "spoiled", fault)
    plan = planned(starting(recipe, start, tmp_path), workspace)
    if fault == "changed since":
        path = tmp_path / "spoiled" / WEIGHTS
        data = bytearray(path.read_bytes())
        data[-7] ^= 1
        path.write_bytes(bytes(data))
    with pytest.raises(LlmopsError, match=r"differ in|NaN|not the adapter"):
        pipeline.train(plan, workspace)


def test_a_method_that_the_adapter_has_not_is_refused(
    recipe: Recipe, workspace: Workspace, first: str, tmp_path: Path
) -> None:
    for method in (LoRA(rank=16), DoRA()):
        with pytest.raises(RequestError, match="the recipe asks for method"):
            planned(starting(recipe, first, tmp_path, method=method), workspace)
    planned(starting(recipe, first, tmp_path, method=LoRA(rank=4)), workspace)


def test_seeds_are_runs_of_their_own_side_by_side(recipe: Recipe, workspace: Workspace) -> None:
    plan = planned(recipe, workspace)
    found = pipeline.train_seeds(plan, 3, workspace)
    assert [one.seed for one in found.runs] == [0, 1, 2]
    assert found.low is not None and found.high is not None and found.low <= found.mean <= found.high
    runs = [workspace.run(one.run) for one in found.runs]
    assert len({run.adapter_sha256 for run in runs}) == 3 and runs[0].plan == plan.id
    values = [one.score.value for one in found.runs]
    assert found.mean == pytest.approx(sum(values) / 3) and found.deviation >= 0
    assert all(one.heldout_loss_nats == workspace.steps(one.run)[-1].heldout_loss_nats for one in found.runs)
