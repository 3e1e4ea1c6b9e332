"""Base models by the name in a recipe: fetched, converted once into the user's cache, and measured."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmops.core.context import Surroundings
from llmops.core.errors import LlmopsError
from llmops.core.export import Weights
from llmops.core.plan import BaseModelRecord, Plan
from llmops.core.value import digest
from llmops.planning.cost import BaseShape
from llmops.store.catalogue import BASES
from llmops.store.files import building, read_json, sha256_file
from llmops.store.sources import cache_folder, fetch

if TYPE_CHECKING:
    from llmops.lm.model import LocalModel


@dataclass(frozen=True)
class Base:
    """A base on this machine: its folder, what is recorded of it, and the sizes that decide its cost."""

    folder: Path
    record: BaseModelRecord
    shape: BaseShape


def open_base(name: str, world: Surroundings) -> Base:
    """The base that a recipe names: from the catalogue, `path:FOLDER` or `hub:ORG/NAME`. Converts a GGUF once.

    Raises `RequestError` where the name is wrong, or where the folder could run code.
    """
    from llmops.lm.base import CONVERT_STEPS, check_folder, convert_gguf, count_parameters

    entry = BASES.get(name)
    fetched = fetch(entry.address if entry else name, entry.sha256 if entry else None, world, entry)
    folder, pin = fetched.path, fetched.sha256
    if fetched.path.is_file():
        folder = cache_folder() / "bases" / pin[:16]
        if not folder.exists():
            if entry is not None:
                world.say(f"{name}: {entry.licence}")
            with building(folder) as draft:
                steps = convert_gguf(fetched.path, draft)
                for _ in world.track(steps, f"converting {name} to safetensors, once", CONVERT_STEPS):
                    pass
    check_folder(folder)
    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        raise LlmopsError(f"{folder} holds no config.json and safetensors", "name a model folder or a GGUF file")
    family, parameters = count_parameters(folder)
    record = BaseModelRecord(
        name=name if entry else fetched.address,
        sha256=pin or folder_pin(folder),
        family=family,
        parameters=parameters,
        licence=entry.licence if entry else None,
    )
    return Base(folder, record, shape_of(folder, parameters))


def is_here(name: str) -> bool:
    """Whether a base of the catalogue was fetched and converted on this machine before."""
    return (cache_folder() / "bases" / BASES[name].sha256[:16]).exists()


def open_model(plan: Plan, adapter: Path | None, world: Surroundings, precision: str | None = None) -> LocalModel:
    """The plan's base, with an adapter on it where one is given, in the plan's precision, ready to score and speak."""
    from llmops.lm.model import LocalModel

    base = open_base(plan.recipe.base, world)
    if base.record.sha256 != plan.base.sha256:
        raise LlmopsError(
            f"base {plan.recipe.base} is {base.record.sha256[:12]} here, but the plan is for {plan.base.sha256[:12]}",
            "take the base that the plan was made with, or make a new plan",
        )
    knobs = plan.knobs
    precision = precision or knobs.precision
    return LocalModel.open(base.folder, adapter, precision, knobs.device, knobs.template, knobs.threads)


def open_bare(name: str, world: Surroundings) -> LocalModel:
    """A base by itself, outside any plan, in float32 on the CPU."""
    from llmops.lm.base import load_tokenizer, template_of
    from llmops.lm.model import LocalModel

    folder = open_base(name, world).folder
    template = template_of(load_tokenizer(folder))
    return LocalModel.open(folder, None, "float32", "cpu", template, len(os.sched_getaffinity(0)))


def folder_pin(folder: Path) -> str:
    """One sha256 for a model folder: of the sha256 of its weights, config and tokenizer."""
    names = [*folder.glob("*.safetensors"), *folder.glob("*.json"), *folder.glob("*.jinja")]
    return digest({path.name: sha256_file(path) for path in names})


def base_gguf(base: Base, world: Surroundings, weights: Weights) -> Path:
    """The base as GGUF for llama.cpp, written once into the user's cache."""
    from llmops.lm.gguf import write_gguf

    path = cache_folder() / "gguf" / f"{base.record.sha256[:16]}-{weights}.gguf"
    if not path.exists():
        world.say(f"writing {base.record.name} as GGUF {weights}, once")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_gguf(base.folder, path, weights)
    return path


def shape_of(folder: Path, parameters: int) -> BaseShape:
    """The sizes in a folder's `config.json`."""
    config = read_json(folder / "config.json")
    try:
        embedding = config["vocab_size"] * config["hidden_size"]
        tied = config.get("tie_word_embeddings", True)
        return BaseShape(
            layers=config["num_hidden_layers"],
            hidden=config["hidden_size"],
            inner=config["intermediate_size"],
            heads=config["num_attention_heads"],
            vocabulary=config["vocab_size"],
            positions=config["max_position_embeddings"],
            block_parameters=parameters - embedding * (1 if tied else 2),
            parameters=parameters,
            head_size=config.get("head_dim") or 0,
            key_heads=config.get("num_key_value_heads") or 0,
            sandwiched=str(config.get("model_type", "")).startswith("gemma3"),
        )
    except KeyError as error:
        known = json.dumps(sorted(config))
        raise LlmopsError(f"{folder}/config.json lacks {error}", f"use a decoder model; it has {known}") from error
