"""Where training starts instead of at the bare base: an adapter that was trained before, as its folder describes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.core.errors import RequestError
from llmops.core.method import IA3, DoRA, LoRA, Method, PromptTuning
from llmops.core.plan import AdapterRecord, BaseModelRecord
from llmops.store.files import read_json, sha256_file

if TYPE_CHECKING:
    from llmops.core.recipe import Recipe
    from llmops.planning.decide import Decisions

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True)
class Start:
    """An adapter to go on from: its name and pin, its folder, and the method that made it."""

    record: AdapterRecord
    folder: Path
    method: Method
    targets: tuple[str, ...]


def read_start(name: str, folder: Path, base: BaseModelRecord) -> Start:
    """The adapter in `folder`, called `name`. `RequestError` where it is none, or belongs on another base."""
    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        raise RequestError(
            f"{name} is no adapter: {folder} lacks {CONFIG} or {WEIGHTS}",
            "name a tuned version or an adapter folder in training.start_from; a whole model is a base: base: path:...",
        )
    config = read_json(folder / CONFIG)
    said = str(config.get("base_model_name_or_path"))
    if said != base.name:
        raise RequestError(
            f"{name} was trained on {said}, and the recipe's base is {base.name}", "start on the base it belongs to"
        )
    targets = config.get("target_modules") or ()
    if isinstance(targets, str):
        raise RequestError(
            f"{name} names its layers by a pattern, {targets!r}", "start from an adapter that lists them"
        )
    record = AdapterRecord(name=name, sha256=sha256_file(folder / WEIGHTS))
    return Start(record, folder, method_of(name, config), tuple(sorted(targets)))


def method_of(name: str, config: dict[str, Any]) -> Method:
    """The method in an `adapter_config.json`, nothing open."""
    kind = config.get("peft_type")
    if kind == "LORA":
        low = {"rank": config["r"], "alpha": float(config["lora_alpha"]), "dropout": float(config["lora_dropout"])}
        if config.get("use_dora"):
            return DoRA(**low)
        return LoRA(**low, rank_stabilised=bool(config.get("use_rslora")), initialisation="default")
    if kind == "IA3":
        return IA3()
    if kind == "PROMPT_TUNING":
        return PromptTuning(virtual_tokens=config["num_virtual_tokens"])
    raise RequestError(f"{name} is an adapter of kind {kind}", "start from one of LoRA, DoRA, IA3 or prompt tuning")


def decide_start(decide: Decisions, recipe: Recipe, start: Start) -> Method:
    """The method and its layers as the adapter has them. `RequestError` where the recipe asks for another one."""
    because = f"as {start.record.name} has it, from which training starts"
    if recipe.method != LoRA():  # nothing was asked for
        has = dict(start.method)
        odd = [field for field, value in recipe.method if value is not None and has.get(field) != value]
        if odd:
            asked = f"method.{odd[0]} {getattr(recipe.method, odd[0])}"
            raise RequestError(
                f"the recipe asks for {asked}, and {start.record.name} has {has.get(odd[0])}",
                "leave the method out: it is the adapter's own",
            )
    decide.take("targets", None, start.targets, because)
    for field, value in start.method:
        decide.take("method" if field == "kind" else f"method.{field}", None, value, because)
    return start.method
