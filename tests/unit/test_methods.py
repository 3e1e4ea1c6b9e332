"""Methods: what each one trains is what plain PEFT opens, and what does not belong together is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from llmops import pipeline
from llmops.core.dataset import Message
from llmops.core.errors import LlmopsError, RequestError
from llmops.core.method import IA3, DoRA, FullTuning, LoRA, Method, PromptTuning, QLoRA, Training
from llmops.core.plan import Knobs, Plan, Wishes
from llmops.lm.adapters import CONFIG, WEIGHTS, load_adapter, load_tuned, merge, save_tuned
from llmops.lm.base import load_tokenizer, load_weights
from llmops.lm.lessons import lessons
from llmops.lm.model import LocalModel
from llmops.lm.pack import hidden_states, logits_of, pack_rows
from llmops.lm.render import Renderer
from llmops.planning.decide import Decisions
from llmops.planning.method import decide_method
from llmops.store.workspace import Workspace
from llmops.training import loop
from llmops.training.losses import Batch
from tests.unit import sample_values
from tests.unit.test_planning import MACHINE, MANIFEST, RECIPE, looked
from tests.unit.tiny_life import made_up_rows, tiny_recipe, write_csv
from tests.unit.tiny_model import tiny_llama

LINEAR = ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")
METHODS: dict[str, Method] = {
    "lora": LoRA(rank=4),
    "rank stabilised": LoRA(rank=4, rank_stabilised=True),
    "gaussian": LoRA(rank=4, initialisation="gaussian"),
    "pissa": LoRA(rank=4, initialisation="pissa"),
    "pissa, rank stabilised": LoRA(rank=4, initialisation="pissa", rank_stabilised=True),
    "olora": LoRA(rank=4, initialisation="olora"),
    "orthogonal": LoRA(rank=4, initialisation="orthogonal"),
    "dora": DoRA(rank=4),
    "ia3": IA3(),
    "prompt tuning": PromptTuning(virtual_tokens=5),
}
IDS = torch.tensor([[1, 5, 9, 30, 77, 12]])


def knobs_of(method: Method) -> Knobs:
    """A plan's knobs for a method on the tiny base, in float32."""
    decide = Decisions()
    closed = decide_method(decide, RECIPE.replace(method=method), "cpu", LINEAR)
    plain = sample_values.plan().knobs
    return plain.replace(method=closed, targets=decide.made["targets"].value, learning_rate=0.01, steps=6)


def trained(base: Path, method: Method) -> loop.Loop:
    """A few real steps, so that every part of what is trained has moved."""
    knobs = knobs_of(method)
    made = loop.build(base, knobs)
    rows = [
        sample_values.row(number, f"the cat {number} sat on", "good" if number % 2 else "bad") for number in range(8)
    ]
    taught = Batch(lessons(Renderer(load_tokenizer(base)), rows, knobs.objective))
    losses = [record.loss_nats for record in loop.run_steps(made, taught, knobs)]
    assert losses[-1] < losses[0]
    made.model.eval()
    return made


def logits(model: object) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=IDS).logits  # type: ignore[operator]


@pytest.mark.parametrize("name", METHODS)
def test_the_folder_of_every_method_opens_in_plain_peft_with_the_same_logits(
    name: str, tiny_base: Path, tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    made = trained(tiny_base, METHODS[name])
    save_tuned(made.model, tiny_base, "tiny", made.start, tmp_path / "adapter")
    assert {path.name for path in (tmp_path / "adapter").iterdir()} == {CONFIG, WEIGHTS}
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_base), tmp_path / "adapter").eval()
    ours = load_tuned(tiny_base, tmp_path / "adapter")
    assert torch.allclose(logits(plain), logits(made.model), atol=1e-5)
    assert torch.allclose(logits(plain), logits(ours), atol=1e-5)
    assert not torch.allclose(logits(plain)[:, -6:], logits(load_weights(tiny_base)), atol=1e-3)


@pytest.mark.parametrize("name", METHODS)
def test_packs_give_the_logits_of_plain_rows_whatever_the_method(name: str, tiny_base: Path) -> None:
    made = trained(tiny_base, METHODS[name])
    rows = [[1, 5, 9, 30], [1, 5, 9, 31, 40], [1, 7]]
    with torch.inference_mode():
        (pack,) = pack_rows(rows, 512)
        logits_TV = logits_of(made.model, hidden_states(made.model, pack, "cpu"))
        for index, path in zip(pack.rows, pack.paths, strict=True):
            alone_TV = made.model(input_ids=torch.tensor([rows[index]])).logits[0][-len(rows[index]) :]
            assert torch.allclose(logits_TV[path], alone_TV, atol=1e-4)


@pytest.mark.parametrize("name", ["lora", "pissa, rank stabilised", "dora", "ia3"])
def test_a_merged_model_answers_as_its_adapter_did(name: str, tiny_base: Path, tmp_path: Path) -> None:
    made = trained(tiny_base, METHODS[name])
    save_tuned(made.model, tiny_base, "tiny", made.start, tmp_path / "adapter")
    merge(tiny_base, tmp_path / "adapter", tmp_path / "merged")
    assert torch.allclose(logits(load_weights(tmp_path / "merged")), logits(made.model), atol=1e-4)


def test_full_tuning_leaves_a_plain_model_folder_that_is_loaded_and_merged_as_it_is(
    tiny_base: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    made = trained(tiny_base, FullTuning())
    save_tuned(made.model, tiny_base, "tiny", made.start, tmp_path / "tuned")
    merge(tiny_base, tmp_path / "tuned", tmp_path / "merged")
    for model in (
        AutoModelForCausalLM.from_pretrained(tmp_path / "tuned"),
        load_tuned(tiny_base, tmp_path / "tuned"),
        load_weights(tmp_path / "merged"),
    ):
        assert torch.allclose(logits(model), logits(made.model), atol=1e-5)
    assert load_tokenizer(tmp_path / "tuned").chat_template


def test_a_tuned_prompt_is_not_merged_but_answers_and_scores(tiny_base: Path, tmp_path: Path) -> None:
    made = trained(tiny_base, PromptTuning(virtual_tokens=5))
    save_tuned(made.model, tiny_base, "tiny", made.start, tmp_path / "adapter")
    with pytest.raises(LlmopsError, match="cannot be merged"):
        merge(tiny_base, tmp_path / "adapter", tmp_path / "merged")
    model = LocalModel.open(tiny_base, tmp_path / "adapter", "float32", "cpu", "base", 1)
    prompt = (Message(role="user", content="the cat 1 sat on"),)
    assert model.probe([prompt], ("bad", "good")).logprobs_NK.shape == (1, 2)
    before = model.base_logprobs([(prompt, "good")])
    assert before is not None and model.reply_logprobs([(prompt, "good")])[0] > before[0]


@pytest.mark.parametrize("name", ["lora", "dora", "ia3", "prompt tuning"])
def test_a_renamed_key_and_a_wrong_base_are_refused_whatever_the_method(
    name: str, tiny_base: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    made = trained(tiny_base, METHODS[name])
    folder = tmp_path / "adapter"
    save_tuned(made.model, tiny_base, "tiny", made.start, folder)
    load_adapter(load_weights(tiny_base), folder)
    wider = load_weights(tiny_llama(tmp_path / "wider", hidden=96))
    with pytest.raises(LlmopsError, match="does not fit its base"):
        load_adapter(wider, folder)
    tensors = load_file(folder / WEIGHTS)
    key = sorted(tensors)[0]
    tensors[key.replace("layers.0", "layers.7") if "layers.0" in key else f"{key}s"] = tensors.pop(key)
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(LlmopsError, match=r"missing or unexpected|does not fit"):
        load_adapter(load_weights(tiny_base), folder)


@pytest.mark.parametrize("method", [FullTuning(), PromptTuning(virtual_tokens=4), IA3()], ids=lambda one: one.kind)
def test_the_whole_life_of_a_model_by_other_methods(
    method: Method, workspace: Workspace, tiny_base: Path, tmp_path: Path
) -> None:
    csv = write_csv(tmp_path / "rows.csv", made_up_rows(60))
    recipe = tiny_recipe(tiny_base, csv).replace(
        method=method, training=Training(epochs=3, batch_rows=8, learning_rate=0.005)
    )
    found = pipeline.run(recipe, workspace, Wishes(threads=1))
    assert (found.endpoint is None) == (method.kind == "prompt_tuning")
    kept = workspace.version_folder(found.tuned_version)
    assert (kept / CONFIG).is_file() == (method.kind != "full")
    assert (
        pipeline.train(workspace.get(Plan, found.plan), workspace).adapter_sha256
        == workspace.run(found.run).adapter_sha256
    )


def test_the_start_of_every_method_is_the_base_itself(tiny_base: Path) -> None:
    bare = logits(load_weights(tiny_base))
    for name, method in METHODS.items():
        made = loop.build(tiny_base, knobs_of(method))
        made.model.eval()
        # A fresh tuned prompt is words before the text, so it is not without effect.
        assert torch.allclose(logits(made.model)[:, -6:], bare, atol=1e-4) == (name != "prompt tuning"), name


def test_qlora_is_refused_where_there_is_no_gpu() -> None:
    from llmops.planning.plan import plan

    with pytest.raises(RequestError, match="takes a GPU") as refused:
        plan(RECIPE.replace(method=QLoRA()), MANIFEST, looked([50] * 100), Wishes())
    assert "method.kind to lora" in refused.value.fix


def test_qlora_without_bitsandbytes_is_refused_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from llmops.planning import method

    def decided(found: object) -> object:
        monkeypatch.setattr(method, "find_spec", lambda name: found)
        return method.decide_method(Decisions(), RECIPE.replace(method=QLoRA()), "cuda", ("q_proj",))

    assert isinstance(decided(object()), QLoRA)
    with pytest.raises(RequestError, match="needs bitsandbytes") as refused:
        decided(None)
    assert "llmops[quantised]" in refused.value.fix


def test_every_part_of_a_method_is_a_decision_with_a_reason() -> None:
    from llmops.planning.plan import plan

    recipe = RECIPE.replace(method=LoRA(rank=64, rank_stabilised=True), training=Training(schedule="cosine"))
    made = plan(recipe, MANIFEST, looked([50] * 100), Wishes())
    decided = {decision.field: decision for decision in made.decisions}
    assert (decided["method"].value, decided["method.rank"].value, decided["method.alpha"].value) == ("lora", 64, 16.0)
    assert decided["method.rank"].because == decided["schedule"].because == "asked for"
    assert "root of the rank" in decided["method.alpha"].because
    full = plan(RECIPE.replace(method=FullTuning()), MANIFEST, looked([50] * 100, MACHINE), Wishes())
    assert (full.knobs.precision, full.knobs.targets) == ("float32", ())
    assert full.knobs.learning_rate < made.knobs.learning_rate


def test_gradient_checkpointing_changes_no_gradient(tiny_base: Path) -> None:
    found = []
    for again in (False, True):
        knobs = knobs_of(LoRA(rank=4)).replace(gradient_checkpointing=again)
        made = loop.build(tiny_base, knobs)
        made.model.train()
        rows = [sample_values.row(number, f"the cat {number}", "good") for number in range(4)]
        batch = Batch(lessons(Renderer(load_tokenizer(tiny_base)), rows, knobs.objective))
        loss, _ = loop.learn(made, batch, knobs)
        found.append(
            [loss, *(weight.grad.sum().item() for weight in made.model.parameters() if weight.grad is not None)]
        )
    assert found[0] == pytest.approx(found[1], abs=1e-6) and len(found[0]) > 20


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_the_rate_follows_its_schedule(schedule: str) -> None:
    knobs = sample_values.plan().knobs.replace(steps=100, warmup_share=0.1, schedule=schedule)
    rates = [loop.learning_rate(knobs, step) / knobs.learning_rate for step in range(100)]
    assert rates[4] == pytest.approx(0.5) and rates[10] == pytest.approx(1.0)
    middle = {"linear": 0.5, "cosine": 0.5, "constant": 1.0}[schedule]
    assert rates[55] == pytest.approx(middle, abs=0.01)
    assert rates[32] == pytest.approx({"linear": 0.756, "cosine": 0.860, "constant": 1.0}[schedule], abs=0.01)
    assert rates[99] == pytest.approx({"linear": 0.011, "cosine": 0.0003, "constant": 1.0}[schedule], abs=0.001)
