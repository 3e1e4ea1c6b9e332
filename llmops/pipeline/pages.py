"""`page`: one HTML page of an evaluation or a comparison, with every answer in it."""

from __future__ import annotations

from pathlib import Path

from llmops.core.comparison import Comparison
from llmops.core.errors import RequestError
from llmops.core.report import EvalReport, Subject
from llmops.core.run import Run
from llmops.core.version import ModelVersion
from llmops.pipeline.examined import examined, names_of
from llmops.pipeline.judge import report_of
from llmops.pipeline.look import show
from llmops.store.files import write_text
from llmops.store.workspace import Workspace

PAGES = "pages"  # views, not facts: they can be deleted and made again


def page(ref: str, at: Workspace) -> Path:
    """Write the page of a report, a comparison, or a run's or version's newest report. Returns its file.

    Raises `RequestError` where `ref` is something else.
    """
    from llmops.evals.pages.pair import comparison_page
    from llmops.evals.pages.report import report_page

    found = show(ref, at)
    if isinstance(found, Run | ModelVersion):
        found = report_of(ref, at)
    if isinstance(found, Comparison):
        sides = [at.get(EvalReport, side) for side in (found.baseline_report, found.challenger_report)]
        html = comparison_page(found, *sides)
    elif isinstance(found, EvalReport):
        html = report_page(found, examined(found.id, at))
    else:
        raise RequestError(f"{ref} is a {type(found).__name__}, which has no page", "name a report or a comparison")
    file = at.root / PAGES / f"{found.id}.html"
    write_text(file, html)
    return file


def renew_pages(subject: Subject, at: Workspace) -> None:
    """Write those pages anew that there are of a model's reports: it was asked something more."""
    names = names_of(subject.ref, at)
    for report in at.ids(EvalReport):
        if (at.root / PAGES / f"{report}.html").exists() and at.get(EvalReport, report).subject.ref in names:
            at.world.say(f"page {page(report, at)}")
