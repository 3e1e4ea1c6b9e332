"""Adapters that other tools wrote, in the folders that they write: adopted, certified, served and asked."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmops import pipeline
from llmops.core.context import Surroundings
from llmops.core.errors import LlmopsError, RequestError
from llmops.core.recipe import Recipe
from llmops.lm.base import load_weights, quiet_libraries
from llmops.lm.toy import toy_tokenizer
from llmops.lm.toy_models import write_toy
from llmops.registry.adopt import take
from llmops.store.workspace import Workspace
from tests.unit.tiny_life import made_up_rows, tiny_recipe, write_csv

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Bomb:
    """A pickle that leaves a file where it is opened."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.file,)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recipe, Path]:
    """(a base, a recipe on it, a folder as TRL's and LLaMA-Factory's trainers leave it: both are this Trainer)."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainingArguments

    folder = tmp_path_factory.mktemp("others")
    base, out = write_toy(folder / "base", "llama"), folder / "outputs"
    quiet_libraries()
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.pad_token = "<bos>"
    rows = []
    for text, label, _ in made_up_rows(16):
        ids = tokenizer(f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n{label}<|im_end|>")["input_ids"]
        rows.append({"input_ids": ids, "labels": ids, "attention_mask": [1] * len(ids)})
    trainer = Trainer(
        model=get_peft_model(load_weights(base), LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=LINEAR)),
        args=TrainingArguments(
            output_dir=str(out),
            max_steps=4,
            save_steps=2,
            learning_rate=0.02,
            per_device_train_batch_size=8,
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
        ),
        train_dataset=rows,  # type: ignore[arg-type]
        data_collator=DataCollatorForSeq2Seq(tokenizer),
        processing_class=tokenizer,
    )
    result = trainer.train()
    trainer.save_model()
    trainer.save_metrics("train", result.metrics)
    trainer.save_state()
    trainer.create_model_card()
    return base, tiny_recipe(base, write_csv(folder / "rows.csv", made_up_rows(60)), name="others"), out


def in_a_workspace(folder: Path) -> tuple[Workspace, list[str]]:
    """A workspace, and what it says."""
    said: list[str] = []
    return Workspace.find(folder, Surroundings(say=said.append), environ={}), said


def test_a_trainers_folder_is_adopted_certified_served_and_asked_and_no_pickle_is_opened(
    home: tuple[Path, Recipe, Path], tmp_path: Path
) -> None:
    _, recipe, outputs = home
    at, said = in_a_workspace(tmp_path / "work")
    folder = shutil.copytree(outputs, tmp_path / "outputs")
    assert {"training_args.bin", "trainer_state.json", "all_results.json", "README.md"} <= set(names(folder))
    trap = tmp_path / "opened"
    for file in folder.rglob("*"):
        if file.suffix in (".bin", ".pt", ".pth"):
            file.write_bytes(pickle.dumps(Bomb(trap)))
    version = pipeline.adopt(folder, recipe, at)
    assert names(at.version_folder(version.ref)) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "card.md",
        "version.json",
    ]
    assert any("the pickles training_args.bin among them" in line for line in said)
    assert not any("template" in line for line in said)
    assert pipeline.certify(version.ref, at).broken is None
    asked = pipeline.ask_held_out(version.ref, at, door="classify")
    assert asked.differ == 0 and asked.n > 15
    assert not trap.exists()
    pickle.loads((folder / "training_args.bin").read_bytes())
    assert trap.exists()  # the trap would have told


def test_a_checkpoint_is_an_adapter_too_and_its_pickles_are_named(
    home: tuple[Path, Recipe, Path], tmp_path: Path
) -> None:
    taken = take(home[2] / "checkpoint-2", tmp_path / "taken")
    assert "the pickles optimizer.pt, rng_state.pth, scheduler.pt, training_args.bin among them" in taken.says
    assert names(taken.adapter) == ["adapter_config.json", "adapter_model.safetensors"]
    assert taken.tokenizer is not None and names(taken.tokenizer) == [
        "chat_template.jinja",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def test_another_chat_template_is_said_and_other_tokens_are_refused(
    home: tuple[Path, Recipe, Path], tmp_path: Path
) -> None:
    _, recipe, outputs = home
    at, said = in_a_workspace(tmp_path / "work")
    folder = shutil.copytree(outputs, tmp_path / "templated")
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text().replace("assistant\n", "model\n"))
    pipeline.adopt(folder, recipe, at)
    told = next(line for line in said if "chat template is another" in line)
    assert "<|im_start|>model\\n" in told and "<|im_start|>assistant\\n" in told
    other = shutil.copytree(outputs, tmp_path / "tokens")
    toy_tokenizer().save_pretrained(other)
    with pytest.raises(LlmopsError, match="other tokens of a text"):
        pipeline.adopt(other, recipe, at)


def test_a_tokenizer_that_names_code_is_not_opened(home: tuple[Path, Recipe, Path], tmp_path: Path) -> None:
    _, recipe, outputs = home
    folder = shutil.copytree(outputs, tmp_path / "coded")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["auto_map"] = {"AutoTokenizer": ["tokenization_own.Own", None]}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(RequestError, match="names code to run"):
        pipeline.adopt(folder, recipe, in_a_workspace(tmp_path / "work")[0])
