"""On a GPU: the same plan trains there, and its adapter scores the same on the CPU."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from llmops import pipeline
from llmops.core.method import Method, QLoRA
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
    records = workspace.steps(run.id)
    assert records[-1].loss_nats < 0.8 * records[0].loss_nats
    assert any(record.heldout_loss_nats is not None for record in records)
    adapter = workspace.run_folder(run.id) / "adapter"
    prompts = [row.prompt for row in workspace.rows(plan.dataset, "heldout")]
    sides = [
        LocalModel.open(tiny_base, adapter, "float32", device, "base", 2).probe(prompts, ("bad", "good"))
        for device in ("cuda", "cpu")
    ]
    assert abs(sides[0].logprobs_NK - sides[1].logprobs_NK).max() < 1e-2


def test_the_same_plan_gives_the_same_adapter_twice_on_the_gpu(
    workspace: Workspace, tiny_base: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe(tiny_base, write_csv(tmp_path / "rows.csv", made_up_rows(120)))
    plan = pipeline.plan(recipe, pipeline.prepare(recipe, workspace), workspace, Wishes(device="cuda"))
    assert pipeline.train(plan, workspace).adapter_sha256 == pipeline.train(plan, workspace).adapter_sha256


def test_padded_rows_have_the_states_of_a_pack_on_the_gpu(tiny_base: Path) -> None:
    import torch

    from llmops.lm.base import load_weights
    from llmops.lm.pack import hidden_states, pack_rows

    (pack,) = pack_rows([[1, 5, 6, 7], [1, 5, 6, 8, 9], [1, 5], [3, 4, *range(10, 60)]], 1000)
    with torch.inference_mode():
        here = hidden_states(load_weights(tiny_base), pack, "cpu")
        there = hidden_states(load_weights(tiny_base, device="cuda"), pack, "cuda").cpu()
    assert torch.allclose(here, there, atol=1e-4)


def test_qlora_trains_in_four_bits_and_its_adapter_opens_on_the_plain_base(
    workspace: Workspace, tiny_base: Path, tmp_path: Path
) -> None:
    if find_spec("bitsandbytes") is None:
        pytest.skip("bitsandbytes is not installed")
    method: Method = QLoRA(rank=4)
    recipe = tiny_recipe(tiny_base, write_csv(tmp_path / "rows.csv", made_up_rows(120))).replace(method=method)
    plan = pipeline.plan(recipe, pipeline.prepare(recipe, workspace), workspace, Wishes(device="cuda"))
    run = pipeline.train(plan, workspace)
    records = workspace.steps(run.id)
    assert run.status == "finished" and records[-1].loss_nats < 0.8 * records[0].loss_nats
    prompts = [row.prompt for row in workspace.rows(plan.dataset, "heldout")[:4]]
    adapter = workspace.run_folder(run.id) / "adapter"
    LocalModel.open(tiny_base, adapter, "float32", "cpu", "base", 2).probe(prompts, ("bad", "good"))
