"""TRL's losses of the batches in a folder: `python trl_losses.py FOLDER`, in the environment of the peers.

The folder holds `start` and `now` (two model folders) and `batch.json` (token ids of prompts and replies). Prints one
JSON object: the losses by the names of `tests/benchmarks/objectives.py`, and the versions that made them.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch
import transformers
import trl
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

COMMON = {"report_to": "none", "use_cpu": True, "bf16": False, "gradient_checkpointing": False, "logging_steps": 10**6}


def main(folder: Path) -> None:
    batch = json.loads((folder / "batch.json").read_text())
    with tempfile.TemporaryDirectory() as out:
        losses = {
            **sft(folder, batch, out),
            **dpo(folder, batch, out),
            **kto(folder, batch, out),
            **orpo(folder, batch, out),
        }
    print(json.dumps({"losses": losses, "versions": {m.__name__: m.__version__ for m in (trl, torch, transformers)}}))


def load(folder: Path, name: str) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder / name, dtype=torch.float32, attn_implementation="eager")


def made(trainer: Any, model: Any, inputs: Any) -> float:
    """The loss that a trainer computes, dropout off."""
    model.eval()
    with torch.no_grad():
        return float(trainer.compute_loss(model, inputs))


def sft(folder: Path, batch: dict[str, Any], out: str) -> dict[str, float]:
    model, tokenizer = load(folder, "now"), AutoTokenizer.from_pretrained(folder / "start")
    rows = Dataset.from_list([{"prompt": "the cat", "completion": " sat"}] * 4)
    args = trl.SFTConfig(output_dir=out, per_device_train_batch_size=4, **COMMON)
    trainer = trl.SFTTrainer(model, args=args, train_dataset=rows, processing_class=tokenizer)
    examples = [
        {
            "input_ids": row["prompt"] + row["chosen"],
            "labels": [-100] * len(row["prompt"]) + row["chosen"],
        }
        for row in batch["pairs"]
    ]
    whole = [{"input_ids": example["input_ids"], "labels": example["input_ids"]} for example in examples]
    return {
        "sft": made(trainer, model, trainer.data_collator(examples)),
        "continued pretraining": made(trainer, model, trainer.data_collator(whole)),
    }


def dpo(folder: Path, batch: dict[str, Any], out: str) -> dict[str, float]:
    found = {}
    kinds = {"dpo": ("sigmoid", 0.0), "dpo, a tenth flipped": ("robust", 0.1)}
    for name, (kind, smoothing) in kinds.items():
        model, start = load(folder, "now"), load(folder, "start")
        tokenizer = AutoTokenizer.from_pretrained(folder / "start")
        rows = Dataset.from_list([{"prompt": "the cat", "chosen": " sat", "rejected": " dog"}] * 4)
        args = trl.DPOConfig(
            output_dir=out, per_device_train_batch_size=4, beta=batch["beta"], loss_type=[kind],
            label_smoothing=smoothing, **COMMON,
        )  # fmt: skip
        trainer = trl.DPOTrainer(model, ref_model=start, args=args, train_dataset=rows, processing_class=tokenizer)
        examples = [{f"{part}_ids": row[part] for part in ("prompt", "chosen", "rejected")} for row in batch["pairs"]]
        found[name] = made(trainer, model, DataCollatorForPreference(pad_token_id=0)(examples))
    return found


def kto(folder: Path, batch: dict[str, Any], out: str) -> dict[str, float]:
    found = {}
    for name, (liked, disliked) in {"kto": (1.0, 1.0), "kto, weighted": (0.75, 1.25)}.items():
        model, start = load(folder, "now"), load(folder, "start")
        tokenizer = AutoTokenizer.from_pretrained(folder / "start")
        rows = Dataset.from_list(
            [{"prompt": "the cat", "completion": " sat", "label": bool(place % 2)} for place in range(8)]
        )
        args = trl.KTOConfig(
            output_dir=out, per_device_train_batch_size=8, beta=batch["beta"], desirable_weight=liked,
            undesirable_weight=disliked, train_sampling_strategy="sequential", **COMMON,
        )  # fmt: skip
        trainer = trl.KTOTrainer(model, ref_model=start, args=args, train_dataset=rows, processing_class=tokenizer)
        thumbs = batch["thumbs"]
        examples = [
            {
                "prompt_ids": row["prompt"],
                "completion_ids": row["reply"],
                "KL_completion_ids": thumbs[place - 1]["reply"],
                "label": row["liked"],
            }
            for place, row in enumerate(thumbs)
        ]
        found[name] = made(trainer, model, trainer.data_collator(examples))
    return found


def orpo(folder: Path, batch: dict[str, Any], out: str) -> dict[str, float]:
    model, tokenizer = load(folder, "now"), AutoTokenizer.from_pretrained(folder / "start")
    rows = Dataset.from_list([{"prompt": "the cat", "chosen": " sat", "rejected": " dog"}] * 4)
    args = ORPOConfig(output_dir=out, per_device_train_batch_size=4, beta=batch["beta"], **COMMON)
    trainer = ORPOTrainer(model, args=args, train_dataset=rows, processing_class=tokenizer)
    examples = []
    for row in batch["pairs"]:
        example: dict[str, Any] = {}
        for part in ("chosen", "rejected"):
            ids = row["prompt"] + row[part]
            example |= {
                f"{part}_input_ids": ids,
                f"{part}_attention_mask": [1] * len(ids),
                f"{part}_labels": [-100] * len(row["prompt"]) + row[part],
            }
        examples.append(example)
    return {"orpo": made(trainer, model, trainer.data_collator(examples))}


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main(Path(sys.argv[1]))
