"""On a GPU: the same plan trains there, and its adapter scores the same on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmops import pipeline
from llmops.core.plan import Wishes
from llmops.lm.model import LocalModel
from llmops.store.workspace import Workspace
from tests.unit.tiny_life import made_up_rows, tiny_recipe, write_csv


@pytest.fixture(autouse=True)
def gpu() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_plan_trains_on_the_gpu_and_its_adapter_scores_alike_on_the_cpu(
    workspace: Workspace, tiny_base: Path, tmp_path: Path, precision: str
) -> None:
    recipe = tiny_recipe(tiny_base, write_csv(tmp_path / "rows.csv", made_up_rows(120)))
    recipe = recipe.replace(training=recipe.training.replace(precision=precision))
    plan = pipeline.plan(recipe, pipeline.prepare(recipe, workspace), workspace, Wishes(device="cuda"))
    assert (plan.knobs.device, plan.knobs.attention) == ("cuda", "sdpa")
    run = pipeline.train(plan, workspace)
    assert run.status == "finished"
    adapter = workspace.run_folder(run.id) / "adapter"
    prompts = [row.prompt for row in workspace.rows(plan.dataset, "heldout")]
    sides = [
        LocalModel.open(tiny_base, adapter, "float32", device, "base", 2).probe(prompts, ("bad", "good"))
        for device in ("cuda", "cpu")
    ]
    assert abs(sides[0].logprobs_NK - sides[1].logprobs_NK).max() < 1e-2
