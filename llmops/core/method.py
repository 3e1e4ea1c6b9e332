"""How a model is trained: the method, the objective, and the knobs. A choice is a type; an open knob is None.

A plan holds the same types with nothing open, so that what was asked and what was decided read alike.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from llmops.core.value import Value

Initialisation = Literal["default", "gaussian", "pissa", "olora", "orthogonal"]


class LowRank(Value):
    """What the low-rank methods share: an update of `rank` directions, times `alpha / rank`."""

    kind: str
    rank: int | None = Field(None, ge=1, le=1024, description="rank of the update")
    alpha: float | None = Field(None, gt=0, description="scale of the update is alpha / rank")
    dropout: float | None = Field(None, ge=0, lt=1, description="dropout before the adapter")


class LoRA(LowRank):
    """Low-rank adapters on every linear layer of the blocks (Hu et al. 2021, arXiv:2106.09685)."""

    kind: Literal["lora"] = "lora"
    rank_stabilised: bool | None = Field(
        None, description="scale is alpha / sqrt(rank), for high ranks (Kalajdzievski 2023, arXiv:2312.03732)"
    )
    initialisation: Initialisation | None = Field(
        None,
        description="default: A random, B zero; gaussian: A normal; pissa: main singular directions of the weights "
        "(Meng et al. 2024, arXiv:2404.02948); olora: their QR factors (Büyükakyüz 2024, arXiv:2406.01775); "
        "orthogonal: A and B with orthogonal rows, their product zero",
    )


class DoRA(LowRank):
    """LoRA on the direction of each weight, its length learned apart (Liu et al. 2024, arXiv:2402.09353)."""

    kind: Literal["dora"] = "dora"


class QLoRA(LowRank):
    """LoRA on a base held in 4 bits, NF4 (Dettmers et al. 2023, arXiv:2305.14314). On a GPU only."""

    kind: Literal["qlora"] = "qlora"


class IA3(Value):
    """One factor for each key, value and inner activation (Liu et al. 2022, arXiv:2205.05638). Nothing to set."""

    kind: Literal["ia3"] = "ia3"


class PromptTuning(Value):
    """Learned vectors put before every row; no weight changes (Lester et al. 2021, arXiv:2104.08691)."""

    kind: Literal["prompt_tuning"] = "prompt_tuning"
    virtual_tokens: int | None = Field(None, ge=1, le=1024, description="number of learned vectors")


class FullTuning(Value):
    """Every weight of the model is trained. The result is a whole model, not an adapter."""

    kind: Literal["full"] = "full"


Method = Annotated[LoRA | DoRA | QLoRA | IA3 | PromptTuning | FullTuning, Field(discriminator="kind")]

Learner = Literal["user", "assistant"]


class SFT(Value):
    """Cross-entropy on what is learned of a row: its reply and end token, or, of running text, everything."""

    kind: Literal["sft"] = "sft"
    roles: tuple[Learner, ...] | None = Field(
        None, description="learn every turn of these roles with its end token; (): the last reply alone"
    )


class DPO(Value):
    """The chosen reply over the rejected one, measured from where training began (Rafailov et al. 2023,
    arXiv:2305.18290)."""

    kind: Literal["dpo"] = "dpo"
    beta: float | None = Field(None, gt=0, le=100, description="how strongly the policy is held to its start")
    label_smoothing: float | None = Field(
        None, ge=0, lt=0.5, description="share of pairs that may be the wrong way round (conservative DPO)"
    )


class KTO(Value):
    """Replies that people liked over those they did not, one by one (Ethayarajh et al. 2024, arXiv:2402.01306)."""

    kind: Literal["kto"] = "kto"
    beta: float | None = Field(None, gt=0, le=100, description="how strongly the policy is held to its start")
    liked_weight: float | None = Field(None, gt=0, le=100, description="weight of a reply that was liked")
    disliked_weight: float | None = Field(None, gt=0, le=100, description="weight of a reply that was not")


class ORPO(Value):
    """Cross-entropy on the chosen reply, and odds against the rejected one (Hong et al. 2024, arXiv:2403.07691)."""

    kind: Literal["orpo"] = "orpo"
    beta: float | None = Field(None, gt=0, le=100, description="weight of the odds-ratio term")


Objective = Annotated[SFT | DPO | KTO | ORPO, Field(discriminator="kind")]

# The shapes of rows that an objective can learn from: what it compares must be there, and sft learns no bad reply.
SHAPES_FOR: dict[str, frozenset[str]] = {
    "sft": frozenset(("labelled", "rated", "prompt_reply", "alpaca", "conversation", "sharegpt", "preference", "text")),
    "dpo": frozenset(("preference",)),
    "orpo": frozenset(("preference",)),
    "kto": frozenset(("thumbs",)),
}

Precision = Literal["float32", "bfloat16"]
Schedule = Literal["linear", "cosine", "constant"]
Shard = Literal["none", "full"]


class Training(Value):
    """Knobs of training; every one may stay open, and `plan` then decides it with a reason."""

    learning_rate: float | None = Field(None, gt=0, le=1, description="peak learning rate of AdamW")
    schedule: Schedule | None = Field(None, description="how the rate goes on after the warm-up: to zero, or constant")
    warmup_share: float | None = Field(None, ge=0, le=1, description="share of the steps in which the rate rises")
    weight_decay: float | None = Field(None, ge=0, le=1, description="of AdamW, on the trained weights")
    clip_norm: float | None = Field(None, gt=0, description="largest norm of a step's gradient")
    epochs: float | None = Field(None, gt=0, le=1000, description="passes over the training rows")
    batch_rows: int | None = Field(
        None, ge=1, le=4096, description="rows in one optimiser step; gradients add up over packs that fit the memory"
    )
    max_tokens: int | None = Field(
        None, ge=16, le=131072, description="longer rows are left out whole; running text is cut into windows"
    )
    precision: Precision | None = Field(None, description="of the frozen weights; adapters stay in float32")
    gradient_checkpointing: bool | None = Field(
        None, description="compute activations again in the backward pass instead of keeping them"
    )
    shard: Shard | None = Field(None, description="full: the frozen base lies in parts over the processes (FSDP)")
    seed: int = Field(0, ge=0, description="of initial weights and order of rows")
    start_from: str | None = Field(
        None, min_length=1, description="a version (tone@production, tone:2), a run, or path:FOLDER of an adapter"
    )
    look_every: int | None = Field(None, ge=0, description="steps between looks at the watched rows; 0: never")
    patience: int | None = Field(
        None, ge=0, description="looks without a better loss before training stops and keeps the best; 0: keep the last"
    )
