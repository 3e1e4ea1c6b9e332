"""The verbs that move weights in and out of the registry."""

from __future__ import annotations

import tempfile
from pathlib import Path

from llmops.core.dataset import DatasetManifest
from llmops.core.errors import LlmopsError
from llmops.core.export import Export, ExportForm, known_form
from llmops.core.plan import Plan
from llmops.core.recipe import Recipe
from llmops.core.report import Subject
from llmops.core.version import ModelVersion
from llmops.store.files import copy_files, sha256_folder
from llmops.store.workspace import Workspace

PROMPTS = 32  # held-out ones that an exported template renders
LEAST_EFFECT_NATS = 1e-4  # a token: what float32 rounding does is a thousandth of it


def export(ref: str, out: Path, form: ExportForm, at: Workspace) -> Export:
    """Write a version as another program reads it. Raises `RequestError` for a form that cannot be written."""
    from llmops.data.mapping import ask
    from llmops.planning.bases import open_base
    from llmops.registry.export import Source
    from llmops.registry.export import export as write
    from llmops.registry.names import resolve

    form, version = known_form(form), resolve(at, ref)
    recipe = at.get(Plan, version.plan).recipe
    base, opening = open_base(recipe.base, at.world), ask(recipe.task, "")[:-1]
    prompts = tuple(row.prompt for row in at.rows(version.dataset, "heldout")[:PROMPTS] if row.messages)
    return write(at, Source(version, at.version_folder(version.ref), base.folder, opening, prompts), form, out)


def adopt(folder: Path, recipe: Recipe, at: Workspace) -> ModelVersion:
    """Keep an adapter that another tool wrote as the next version of a recipe's name, measured on its held-out rows.

    Of the folder only the two files of an adapter are taken, and what is in them is checked: safetensors, no code,
    every tensor fits the recipe's base, and together they change what it says. Raises `LlmopsError` where one does not,
    or where the tokenizer beside them has other tokens than the base.
    """
    from llmops.pipeline.make import plan, prepare
    from llmops.pipeline.subjects import measure
    from llmops.registry.adopt import take
    from llmops.registry.card import write_card
    from llmops.registry.register import Origin, register

    with tempfile.TemporaryDirectory(prefix="llmops-adopt-") as scratch:
        taken = take(folder, Path(scratch) / "taken")
        manifest: DatasetManifest = prepare(recipe, at)
        planned = plan(recipe, manifest, at)
        at.world.say(f"{taken.says}; here it is put on {planned.recipe.base}")
        if taken.tokenizer is not None:
            _check_tokens(planned, taken.tokenizer, at)
        effect = _effect(planned, taken.adapter, at)
        if effect < LEAST_EFFECT_NATS:
            what = f"the adapter in {folder} changes nothing: {effect:.2g} nats a token on held-out rows"
            raise LlmopsError(what, "was it saved before training, or is it on its own base already?")
        at.world.say(f"it changes what the base says by {effect:.3g} nats a token")
        name = "-".join(sha256_folder(taken.adapter).values())[:12]
        report = measure(Subject(kind="tuned", ref=f"adopted-{name}"), planned, taken.adapter, at, planned)
        origin = Origin(adopted=folder.resolve().name)
        version = register(at, planned, report, lambda out: copy_files(taken.adapter, out), origin)
        write_card(at, version)
        return version


def _check_tokens(planned: Plan, tokenizer: Path, at: Workspace) -> None:
    """Was a prompt the same tokens in training? Another template is said, other tokens are an error."""
    from llmops.lm.base import load_tokenizer, template_of
    from llmops.lm.render import Renderer
    from llmops.planning.bases import open_base

    own = load_tokenizer(tokenizer)
    there = Renderer(own, template_of(own))
    here = Renderer(load_tokenizer(open_base(planned.recipe.base, at.world).folder), planned.knobs.template)
    rows = [row for row in at.rows(planned.dataset, "heldout") if row.messages][:8]
    for row in rows:
        if there.content_ids(row.text) != here.content_ids(row.text):
            what = f"the tokenizer beside the adapter makes other tokens of a text than {planned.recipe.base} does"
            raise LlmopsError(what, "name a recipe whose base is the one that the adapter was trained on")
    different = [row for row in rows if there.prompt_ids(row.prompt) != here.prompt_ids(row.prompt)]
    if different:
        said, now = (str(side.tokenizer.decode(side.prompt_ids(different[0].prompt))) for side in (there, here))
        at.world.say(f"its chat template is another: {said!r} there is {now!r} here, and so it is measured and served")


def _effect(planned: Plan, adapter: Path, at: Workspace) -> float:
    """Mean change of the log-probability of held-out replies, nats a token, either way."""
    from llmops.planning.bases import open_model

    rows = [row for row in at.rows(planned.dataset, "heldout") if row.messages][:32]
    pairs = [(row.prompt, row.reply) for row in rows]
    sides = [
        open_model(planned, tuned, at.world, "float32").reply_logprobs(pairs, at.world.track)
        for tuned in (None, adapter)
    ]
    changes = [abs(after[0] - before[0]) / before[1] for before, after in zip(*sides, strict=True)]
    return float(sum(changes) / max(1, len(changes)))
