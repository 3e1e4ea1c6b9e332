"""The verbs that look: at tokens, and at what the workspace holds."""

from __future__ import annotations

from llmops.core.dataset import DatasetManifest, Message
from llmops.core.errors import RequestError
from llmops.core.outcome import Outcome
from llmops.core.plan import Plan
from llmops.core.recipe import Recipe
from llmops.core.serving import Sampling
from llmops.core.value import Value
from llmops.core.views import TokenView
from llmops.pipeline.subjects import subject_of
from llmops.store.files import read_json
from llmops.store.workspace import Workspace


def inspect_row(dataset: str, number: int, base: str | None, at: Workspace) -> list[TokenView]:
    """The tokens of training row `number` (from 0) with the mask, exactly as training sees them.

    `base` None takes the base of the newest plan for the data set.
    """
    from llmops.lm.base import load_tokenizer, template_of
    from llmops.lm.render import Renderer
    from llmops.planning.bases import open_base

    rows = at.rows(dataset, "train")
    if not 0 <= number < len(rows):
        raise RequestError(f"there is no training row {number}", f"rows are numbered 0 to {len(rows) - 1}")
    if base is None:
        manifest = at.get(DatasetManifest, dataset)
        plans = [plan for plan in at.all(Plan) if plan.dataset == manifest.id]
        base = plans[-1].recipe.base if plans else str(Recipe.model_fields["base"].default)
    tokenizer = load_tokenizer(open_base(base, at.world).folder)
    at.world.say(f"row {number} of {len(rows)}, as {base} reads it")
    renderer = Renderer(tokenizer, template_of(tokenizer))
    return renderer.view(renderer.row(rows[number]))


def inspect_reply(ref: str, prompt: str, reply: str | None, at: Workspace) -> list[TokenView]:
    """The tokens of a reply by a version or a base (or of `reply`, as it sees it), each with its probability."""
    from llmops.data.mapping import ask
    from llmops.planning.bases import open_bare, open_model
    from llmops.store.catalogue import BASES

    messages: tuple[Message, ...] = (Message(role="user", content=prompt),)
    if ref in BASES:
        model = open_bare(ref, at.world)
    else:
        subject, plan, folder = subject_of(ref, at)
        if subject.kind not in ("tuned", "base"):
            raise RequestError(f"{ref} is a {subject.kind} row, which has no tokens", "inspect a tuned version")
        model = open_model(plan, folder if subject.kind == "tuned" else None, at.world, "float32")
        messages = ask(plan.recipe.task, prompt)
    return model.inspect_reply(messages, reply or model.reply([messages], Sampling(max_tokens=64))[0])


def outcome(run_ref: str, at: Workspace) -> Outcome:
    """What a whole run of a recipe came to."""
    path = at.run_folder(at.run(run_ref).id) / "outcome.json"
    if not path.exists():
        raise RequestError(f"run {run_ref} has no outcome yet", "it is written at the end of 'llmops run'")
    return Outcome.model_validate(read_json(path))


def show(ref: str, at: Workspace) -> Value:
    """One stored thing, by name, id, prefix or `last`."""
    from llmops.registry.names import resolve
    from llmops.store.shelf import find

    return resolve(at, ref) if "@" in ref else find(ref, at)


def listing(kind: str, at: Workspace) -> list[Value]:
    """What is kept of one kind, oldest first."""
    from llmops.store.shelf import listing as look

    return look(kind, at)
