"""The verbs that look: at tokens, and at what the workspace holds."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from llmops.core.dataset import DatasetManifest, DroppedRow, Message
from llmops.core.errors import RequestError
from llmops.core.outcome import Outcome
from llmops.core.plan import Plan
from llmops.core.recipe import Recipe
from llmops.core.serving import Sampling
from llmops.core.value import Value
from llmops.core.views import RowView, SetView, TokenView
from llmops.pipeline.subjects import subject_of
from llmops.store.files import read_json, stored
from llmops.store.workspace import Workspace

if TYPE_CHECKING:
    from llmops.lm.render import Renderer


ROUND_TRIPS = 1000  # rows compared with the base's own template: 0.5 ms each


def inspect_row(dataset: str, number: int, base: str | None, at: Workspace) -> RowView:
    """Training row `number` (from 0) under the microscope: its tokens with the mask, exactly as training sees them.

    `base` None takes the base of the newest plan for the data set.
    """
    from llmops.lm.check import fault, never_ends, round_trip

    rows = at.rows(dataset, "train")
    if not 0 <= number < len(rows):
        raise RequestError(f"there is no training row {number}", f"rows are numbered 0 to {len(rows) - 1}")
    name, renderer, left_out = _reader_of(dataset, base, at)
    row = rows[number]
    example = renderer.row(row)
    at.world.say(f"row {number} of {len(rows)}, as {name} reads it")
    return RowView(
        number=number,
        id=row.id,
        source=row.source,
        line=row.line,
        tokens=tuple(renderer.view(example)),
        left_out=row.id in left_out,
        end_trained=not never_ends(row, example, renderer),
        fault=fault(row, example, renderer),
        round_trip=round_trip(row, example, renderer),
        rejected=row.rejected,
    )


def inspect_dropped(dataset: str, step: str, at: Workspace) -> list[DroppedRow]:
    """The rows that were read for a data set and dropped by a step (by any, for `all`), each with its reason."""
    from llmops.data.ledger import dropped_rows

    rows = dropped_rows(dataset, at)
    steps = dict.fromkeys(row.step for row in rows)
    if step != "all" and step not in steps:
        raise RequestError(f"no row was dropped by {step!r}", f"steps that dropped some: {', '.join(steps) or 'none'}")
    return [row for row in rows if step in ("all", row.step)]


def inspect_set(dataset: str, base: str | None, at: Workspace) -> SetView:
    """All training rows under the microscope: how much of them is trained, and whether every row is as it should be."""
    from llmops.lm.check import fault, never_ends, round_trip

    rows = at.rows(dataset, "train")
    name, renderer, left_out = _reader_of(dataset, base, at)
    examples = [renderer.row(row) for row in at.world.track(rows, "reading rows", len(rows))]
    kept = [example for row, example in zip(rows, examples, strict=True) if row.id not in left_out]
    pairs = list(zip(rows, examples, strict=True))
    trips = [round_trip(row, example, renderer) for row, example in pairs[:ROUND_TRIPS]]
    wrong = Counter(found for row, example in pairs if (found := fault(row, example, renderer)))
    return SetView(
        dataset=at.get(DatasetManifest, dataset).id,
        base=name,
        rows=len(rows),
        tokens=sum(len(example.ids) for example in kept),
        trained=sum(sum(example.trained) for example in kept),
        shortest=min(len(example.ids) for example in examples),
        longest=max(len(example.ids) for example in examples),
        left_out=len(rows) - len(kept),
        end_trained=sum(not never_ends(row, example, renderer) for row, example in pairs),
        round_trips=sum(trip is not None for trip in trips),
        same=sum(trip is not None and trip.same for trip in trips),
        first_other=next((place for place, trip in enumerate(trips) if trip is not None and not trip.same), None),
        faults=dict(wrong),
    )


def _reader_of(dataset: str, base: str | None, at: Workspace) -> tuple[str, Renderer, frozenset[str]]:
    """(base, how it reads rows, ids of the rows that the newest plan leaves out) for a data set."""
    from llmops.lm.base import load_tokenizer, template_of
    from llmops.lm.render import Renderer
    from llmops.planning.bases import open_base

    manifest = at.get(DatasetManifest, dataset)
    plans = [plan for plan in at.all(Plan) if plan.dataset == manifest.id and base in (None, plan.recipe.base)]
    name = base or (plans[-1].recipe.base if plans else str(Recipe.model_fields["base"].default))
    tokenizer = load_tokenizer(open_base(name, at.world).folder)
    return name, Renderer(tokenizer, template_of(tokenizer)), frozenset(plans[-1].left_out if plans else ())


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
    return stored(Outcome, read_json(path), path)


def show(ref: str, at: Workspace) -> Value:
    """One stored thing, by name, id, prefix or `last`."""
    from llmops.registry.names import resolve
    from llmops.store.shelf import find

    return resolve(at, ref) if "@" in ref else find(ref, at)


def listing(kind: str, at: Workspace) -> list[Value]:
    """What is kept of one kind, oldest first."""
    from llmops.store.shelf import listing as look

    return look(kind, at)
