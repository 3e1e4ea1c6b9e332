"""The other side of `adopt.py`: adapters by TRL, by PEFT alone and as LLaMA-Factory makes them, in the peers' place.

LLaMA-Factory itself pins older libraries than TRL's. What its workflow of supervised tuning calls is done here in its
order: a Trainer of transformers with LoRA on every linear layer, `save_model`, `save_metrics`, `save_state`, and the
lines of its own log.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from trl import SFTConfig, SFTTrainer

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
Job = dict[str, Any]


def arguments(job: Job) -> dict[str, Any]:
    """What TRL and a plain Trainer are told alike."""
    return {
        "output_dir": job["out"],
        "max_steps": job["steps"],
        "learning_rate": job["rate"],
        "per_device_train_batch_size": job["batch"],
        "save_steps": job["steps"],
        "logging_steps": 1,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "seed": 0,
    }


def lora(targets: str | list[str]) -> LoraConfig:
    """An adapter as all three make it."""
    return LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules=targets)


def by_trl(job: Job) -> None:
    """As its documentation shows it."""
    trainer = SFTTrainer(
        model=job["base"],
        args=SFTConfig(**arguments(job), bf16=False, gradient_checkpointing=False),
        train_dataset=Dataset.from_list(job["rows"]),
        peft_config=lora("all-linear"),
    )
    trainer.train()
    trainer.save_model()


def by_peft(job: Job) -> None:
    """A loop by hand, and `save_pretrained`."""
    tokenizer = AutoTokenizer.from_pretrained(job["base"])
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(job["base"], dtype=torch.float32), lora(LINEAR))
    optimiser = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], job["rate"])
    collate = DataCollatorForSeq2Seq(tokenizer, padding=True)
    examples = [example(row, tokenizer) for row in job["rows"]]
    for step in range(job["steps"]):
        some = [examples[(step * job["batch"] + place) % len(examples)] for place in range(job["batch"])]
        model(**collate(some)).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    model.save_pretrained(job["out"])


class Log(TrainerCallback):
    """Its `trainer_log.jsonl`."""

    def on_log(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        """A line for each step."""
        line = {"current_steps": state.global_step, "total_steps": state.max_steps, **state.log_history[-1]}
        with (Path(args.output_dir) / "trainer_log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def as_llamafactory(job: Job) -> None:
    """Its folder: adapter, tokenizer, checkpoints, results, state, log and arguments, the last of them a pickle."""
    tokenizer = AutoTokenizer.from_pretrained(job["base"], padding_side="right")
    model = AutoModelForCausalLM.from_pretrained(job["base"], dtype=torch.float32)
    trainer = Trainer(
        model=get_peft_model(model, lora(LINEAR)),
        args=TrainingArguments(**arguments(job), remove_unused_columns=False),
        train_dataset=[example(row, tokenizer) for row in job["rows"]],
        data_collator=DataCollatorForSeq2Seq(tokenizer, pad_to_multiple_of=8, label_pad_token_id=-100),
        processing_class=tokenizer,
        callbacks=[Log()],
    )
    result = trainer.train()
    trainer.save_model()
    trainer.log_metrics("train", result.metrics)
    trainer.save_metrics("train", result.metrics)
    trainer.save_state()
    trainer.create_model_card()


def example(row: Job, tokenizer: Any) -> Job:
    """A row in tokens; only the reply is learned."""
    asked = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False)
    whole = tokenizer.apply_chat_template([*row["prompt"], *row["completion"]], tokenize=False)
    prompt = tokenizer(asked, add_special_tokens=False)["input_ids"]
    ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
    return {
        "input_ids": ids,
        "attention_mask": [1] * len(ids),
        "labels": [-100] * len(prompt) + ids[len(prompt) :],
    }


MAKERS: dict[str, Callable[[Job], None]] = {"trl": by_trl, "peft": by_peft, "llamafactory": as_llamafactory}

if __name__ == "__main__":
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(given["threads"])
    torch.manual_seed(0)
    MAKERS[given["maker"]](given)
