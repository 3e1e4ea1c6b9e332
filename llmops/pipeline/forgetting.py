"""The ledger of forgetting: the base and the tuned model are asked the same, about what was not trained."""

from __future__ import annotations

from typing import NamedTuple

from llmops.core.errors import RequestError
from llmops.core.forgetting import Forgetting
from llmops.core.plan import Plan
from llmops.core.report import EvalReport
from llmops.core.sources import PlainText, Source
from llmops.core.tasks import Continue
from llmops.core.value import digest
from llmops.pipeline.examined import FORGETTING
from llmops.pipeline.judge import report_of
from llmops.pipeline.pages import renew_pages
from llmops.pipeline.subjects import subject_of
from llmops.pipeline.suites import suite_named
from llmops.store.files import write_json
from llmops.store.workspace import Workspace

TEXTS = 40
EXAM, QUESTIONS = "openbookqa", 100
FEWEST = 8


class GeneralText(NamedTuple):
    """Text of the catalogue that stands for English at large: its source, and the column that holds it."""

    source: str
    column: str


# The first that the recipe does not learn from is read.
GENERAL = (GeneralText("boolq", "passage"), GeneralText("vader/nyt", "text"), GeneralText("instructions", "output"))


def forgotten(ref: str, at: Workspace, rows: int | None = None) -> Forgetting:
    """What a run or version lost of what its base could do. Kept beside its report, and its pages are written anew.

    At most `rows` general texts are read, and as many questions and prompts of each kind asked. Raises `RequestError`
    where there is no tuned model, or too few rows to say anything.
    """
    from llmops.evals.forgetting import Material, suggest, try_all
    from llmops.evals.forgetting import forgotten as compare
    from llmops.planning.bases import open_model

    subject, plan, folder = subject_of(ref, at)
    if subject.kind != "tuned":
        raise RequestError(f"{subject.ref} is a {subject.kind} row, which had nothing to forget", "name a tuned one")
    if rows is not None and rows < FEWEST:
        raise RequestError(f"{rows} rows of each kind show nothing", f"ask for {FEWEST} at least")
    source, read = general_text(plan, at, rows or TEXTS)
    _, questions = suite_named(EXAM, at, rows=rows or QUESTIONS)
    material = Material(read, questions, rows)
    at.world.say(
        f"what was forgotten: {len(read):,} texts of {source}, {len(questions):,} questions of {EXAM}, and what to do"
    )
    before = try_all(open_model(plan, None, at.world), material, at.world.track)
    after = try_all(open_model(plan, folder, at.world), material, at.world.track)
    abilities = compare(before, after)
    made = Forgetting(
        subject=subject,
        base=plan.base.name,
        plan=plan.id,
        general_text=source,
        abilities=abilities,
        suggestions=suggest(abilities, plan),
    )
    write_json(at.folder(EvalReport, report_of(ref, at).id) / FORGETTING, made.to_json())
    renew_pages(subject, at)
    return made


def general_text(plan: Plan, at: Workspace, most: int) -> tuple[str, list[str]]:
    """(source, texts) that the plan's recipe does not learn from, drawn by their hashes."""
    from llmops.data.mapping import Example, map_records
    from llmops.data.origin import find_origin
    from llmops.data.readers import read_records

    data = plan.recipe.data
    learned = {source.from_ for source in (*data.sources, *([data.replay.source] if data.replay else []))}
    chosen = next(text for text in GENERAL if text.source not in learned)
    asked = Source(from_=chosen.source, shape=PlainText(text=chosen.column))
    origin = find_origin(0, asked, Continue(), at.world)
    records = read_records(origin.path, origin.name, origin.reader, origin.columns, at.world.track)
    mapped = map_records(records, origin.name, 0, origin.source, Continue())
    texts = dict.fromkeys(row.text for row in mapped if isinstance(row, Example))
    return chosen.source, sorted(texts, key=lambda text: digest(["general", text]))[:most]
