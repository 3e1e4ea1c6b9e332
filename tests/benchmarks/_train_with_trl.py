"""The other side of `train.py`: the same job with TRL's `SFTTrainer`, run in the peers' environment. Prints JSON."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

# What is set of each kind. TRL chooses bfloat16 by itself since its pull request 3515 (2025); `float32` is as before.
SETTINGS: dict[str, dict[str, Any]] = {
    "tuned": {"gradient_checkpointing": False},
    "default": {},
    "float32": {"gradient_checkpointing": False, "bf16": False},
}


class InOrder(SFTTrainer):
    """Takes the rows as they come, and our learning rates: up at once, then down in a straight line."""

    def _get_train_sampler(self, *given: Any, **named: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> LambdaLR:
        """Down to zero after the last of all the steps of the job."""
        steps = self.steps_in_all
        self.lr_scheduler = LambdaLR(optimizer or self.optimizer, lambda step: min(1.0, (steps - step) / (steps - 1)))
        return self.lr_scheduler


class Clock(TrainerCallback):
    """Seconds of each step."""

    def __init__(self) -> None:
        self.began, self.step_s = 0.0, []

    def on_step_begin(self, *given: Any, **named: Any) -> None:
        """Before the forward pass."""
        self.began = time.perf_counter()

    def on_step_end(self, *given: Any, **named: Any) -> None:
        """After the optimiser."""
        self.step_s.append(time.perf_counter() - self.began)


def main(job: dict[str, Any]) -> None:
    """Train, and print what was found."""
    torch.set_num_threads(job["threads"])
    chosen = [(job["rows"][index], job["starts"][index]) for batch in job["batches"] for index in batch]
    data = Dataset.from_list(
        [{"input_ids": row, "completion_mask": [int(at >= start) for at in range(len(row))]} for row, start in chosen]
    )
    tuned = job["kind"] == "tuned"
    model = job["base"]
    if tuned:
        model = AutoModelForCausalLM.from_pretrained(job["base"], dtype=job["precision"])
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=job["batch"],
            max_steps=len(job["batches"]),
            learning_rate=job["rate"],
            logging_steps=1,
            report_to="none",
            save_strategy="no",
            seed=0,
            disable_tqdm=True,
            use_cpu=True,
            completion_only_loss=True,
            **SETTINGS[job["kind"]],
        )
        torch.manual_seed(0)
        trainer = InOrder(
            model=model,
            args=arguments,
            train_dataset=data,
            processing_class=AutoTokenizer.from_pretrained(job["base"]),
            peft_config=LoraConfig(
                task_type="CAUSAL_LM", r=job["rank"], lora_alpha=2 * job["rank"], target_modules="all-linear"
            ),
            callbacks=[clock := Clock()],
        )
        trainer.steps_in_all = job["steps"] if tuned else 9
        trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    sizes = [sum(len(job["rows"][index]) for index in batch) for batch in job["batches"]]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"losses": losses, "step_s": clock.step_s, "tokens": sizes, "peak_bytes": peak}))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
