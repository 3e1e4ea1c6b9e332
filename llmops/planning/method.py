"""What `plan` decides of the method, the objective and the optimiser, each with its reason."""

from __future__ import annotations

from importlib.util import find_spec

from llmops.core.errors import RequestError
from llmops.core.method import SFT, LoRA, LowRank, Method, Objective
from llmops.core.recipe import Recipe
from llmops.planning.decide import Decisions, Proposal

# The linear layers that IA3 scales: keys, values, and what goes into the way down (section 3.3 of its paper).
IA3_LAYERS = ("k_proj", "v_proj", "down_proj")

REASONS = {
    "lora": "adapters of low rank learn nearly as well as all weights, at a fraction of the memory",
    "dora": "asked for: learns the length of each weight apart from its direction",
    "qlora": "asked for: the base in 4 bits, adapters on top",
    "ia3": "asked for: one factor for each key, value and inner activation",
    "prompt_tuning": "asked for: learned vectors before every row",
    "full": "asked for: every weight is trained",
    "sft": "the rows say what to answer",
    "dpo": "asked for: chosen over rejected",
    "kto": "asked for: liked over disliked",
    "orpo": "asked for: chosen over rejected, without a starting point to compare with",
}
RATE_REASON = {
    "lora": "what low-rank adapters on a model of this size bear",
    "ia3": "factors that begin at 1 bear large steps",
    "prompt_tuning": "vectors before the text bear large steps",
    "full": "all weights at once: small steps, or what the base knew is lost",
    "preference": "comparisons push until something gives: small steps, or the voice breaks",
}


def decide_method(decide: Decisions, recipe: Recipe, device: str, linear: tuple[str, ...]) -> Method:
    """The method with nothing open, and the layers it touches. `RequestError` where this machine cannot do it."""
    method = recipe.method
    if method.kind == "qlora":
        _check_four_bits(device)
    proposals: dict[str, Proposal] = {}
    if isinstance(method, LowRank):
        label = recipe.task.kind == "classify"
        because = "a label needs few directions" if label else "a voice needs more directions than a label"
        rank = method.rank or (8 if label else 16)
        scale = "twice the rank, so that the update's scale is 2 at any rank"
        proposals = {
            "rank": (8 if label else 16, because),
            "alpha": (2.0 * rank, scale),
            "dropout": (0.0, "one or two passes over the rows do not need it"),
            "rank_stabilised": (False, "it matters at high ranks, and this one is low"),
            "initialisation": ("default", "no effect at first, so training begins at the base itself"),
        }
        if isinstance(method, LoRA) and method.rank_stabilised:
            proposals["alpha"] = (2.0 * rank**0.5, "twice the root of the rank, so that the update's scale is 2")
    elif method.kind == "prompt_tuning":
        proposals = {"virtual_tokens": (20, "what its paper found enough for models of any size")}
    targets, why = layers_of(method, linear)
    decide.take("targets", None, targets, why)
    return decide.close("method", method, REASONS[method.kind], proposals)


def _check_four_bits(device: str) -> None:
    """Raise `RequestError` where this machine cannot hold a base in 4 bits. Loads nothing."""
    if not device.startswith("cuda"):
        raise RequestError(
            "qlora holds the base in 4 bits, which takes a GPU", "plan with --device cuda, or set method.kind to lora"
        )
    if find_spec("bitsandbytes") is None:
        raise RequestError(
            "qlora needs bitsandbytes, which is not installed",
            "pip install 'llmops[quantised]', or set method.kind to lora",
        )


def layers_of(method: Method, linear: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """The linear layers that a method touches, and why."""
    if isinstance(method, LowRank):
        return linear, "every linear layer of the blocks: fewer rows are wasted on a blind spot"
    if method.kind != "ia3":
        return (), "no layer gets an adapter"
    found = tuple(name for name in IA3_LAYERS if name in linear)
    if found != IA3_LAYERS:
        raise RequestError(
            f"ia3 scales {', '.join(IA3_LAYERS)}, and this base has {', '.join(linear)}", "set method.kind to lora"
        )
    return found, "keys, values and inner activations, as in its paper"


def decide_objective(decide: Decisions, recipe: Recipe) -> Objective:
    """The objective with nothing open."""
    objective = recipe.objective
    proposals: dict[str, Proposal] = {
        "roles": ((), "the last reply alone: what stands before it is context"),
        "beta": (0.1, "the papers' own value"),
        "label_smoothing": (0.0, "pairs are taken at their word"),
        "liked_weight": (1.0, "liked and disliked replies weigh the same"),
        "disliked_weight": (1.0, "liked and disliked replies weigh the same"),
    }
    return decide.close("objective", objective, REASONS[objective.kind], proposals)


def decide_optimiser(decide: Decisions, recipe: Recipe) -> None:
    """The learning rate and how it goes; decay; clipping."""
    training = recipe.training
    rate, why = _rate(recipe)
    decide.take("learning_rate", training.learning_rate, rate, why)
    decide.take(
        "schedule", training.schedule, "linear", "to zero at the last step: the last rows move the weights least"
    )
    decide.take(
        "warmup_share", training.warmup_share, 0.06, "a few small steps first, while AdamW learns the gradients' scale"
    )
    decide.take(
        "weight_decay", training.weight_decay, 0.0, "what is trained starts small, or at the base, and stays near"
    )
    decide.take("clip_norm", training.clip_norm, 1.0, "one odd batch must not throw the weights")
    decide.take(
        "gradient_checkpointing",
        training.gradient_checkpointing,
        False,
        "the activations of one pack fit; keeping them is a quarter faster than computing them again",
    )


def _rate(recipe: Recipe) -> tuple[float, str]:
    kind = "lora" if isinstance(recipe.method, LowRank) else recipe.method.kind
    if not isinstance(recipe.objective, SFT):
        return {"lora": 1e-4, "ia3": 1e-3, "prompt_tuning": 1e-3, "full": 5e-6}[kind], RATE_REASON["preference"]
    label = recipe.task.kind == "classify"
    rates = {"lora": 1e-3 if label else 5e-4, "ia3": 1e-2, "prompt_tuning": 1e-2, "full": 5e-5}
    return rates[kind], RATE_REASON[kind]


def work_of(method: Method, objective: Objective) -> float:
    """The work of a step, as a multiple of that of SFT with an adapter: 4 operations a weight and token."""
    steps = 6.0 if method.kind == "full" else 4.0
    # DPO and KTO read each row once before step 0, and KTO reads a stranger's reply (half its tokens) without learning.
    return (
        steps + (2.0 if objective.kind in ("dpo", "kto") else 0.0) - (1.0 if objective.kind == "kto" else 0.0)
    ) / 4.0
