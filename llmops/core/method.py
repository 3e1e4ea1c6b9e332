"""How a model is trained: the method, the objective, and the knobs. A choice is a type; an open knob is None."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llmops.core.value import Value


class LoRA(Value):
    """Low-rank adapters on every linear layer of the blocks (Hu et al. 2021, arXiv:2106.09685)."""

    kind: Literal["lora"] = "lora"
    rank: int | None = Field(None, ge=1, le=1024, description="rank of the update")
    alpha: float | None = Field(None, gt=0, description="scale of the update is alpha / rank")
    dropout: float | None = Field(None, ge=0, lt=1, description="dropout before the adapter")


class SFT(Value):
    """Cross-entropy on the reply and its end token, prompts masked."""

    kind: Literal["sft"] = "sft"


Precision = Literal["float32", "bfloat16"]
Shard = Literal["none", "full"]


class Training(Value):
    """Knobs of training; every one may stay open, and `plan` then decides it with a reason."""

    learning_rate: float | None = Field(None, gt=0, le=1, description="peak learning rate of AdamW")
    epochs: float | None = Field(None, gt=0, le=1000, description="passes over the training rows")
    batch_rows: int | None = Field(None, ge=1, le=4096, description="rows in one optimiser step")
    max_tokens: int | None = Field(None, ge=16, le=131072, description="longer rows are dropped, not cut")
    precision: Precision | None = Field(None, description="of the frozen weights; adapters stay in float32")
    shard: Shard | None = Field(None, description="full: the frozen base lies in parts over the processes (FSDP)")
    seed: int = Field(0, ge=0, description="of initial weights and order of rows")
    look_every: int | None = Field(None, ge=0, description="steps between looks at the watched rows; 0: never")
    patience: int | None = Field(
        None, ge=0, description="looks without a better loss before training stops and keeps the best; 0: keep the last"
    )
