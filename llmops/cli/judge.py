"""The verbs that judge a model: `evaluate compare register promote rollback`."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Option

import llmops
from llmops.cli.session import FetchingSession, Session

Version = Annotated[str, Argument(metavar="VERSION", help="A version: tone:2, or a name for its newest one.")]


def evaluate(
    ref: Annotated[
        str, Argument(metavar="REF", help="A run or a version (tone:2, tone@production), or last.")
    ] = "last",
    session: FetchingSession = FetchingSession(),
) -> None:
    """Measure a model on its held-out rows: every score with its n and interval, every answer kept.

    Example: llmops evaluate tone:1
    """
    session.show(llmops.evaluate(ref, session.at))


def compare(
    baseline: Annotated[str, Argument(metavar="BASELINE", help="A report, a version or a run: what is there now.")],
    challengers: Annotated[
        list[str], Argument(metavar="CHALLENGER...", help="Reports, versions or runs: what might be better.")
    ],
    full: Annotated[
        bool, Option("--full", help="Also how they differ in recipe and plan, how they learned, what they answer.")
    ] = False,
    session: Session = Session(),
) -> None:
    """Is the challenger better than the baseline, or is it noise? Paired; two different suites are refused.

    Several challengers, or --full, stand side by side: differences in recipe and plan, curves, scores, and the
    answers that flipped. Each is compared with the baseline, Holm's p over all of them.

    Example: llmops compare tone:1 tone:2
    """
    if len(challengers) == 1 and not full:
        session.show(llmops.compare(baseline, challengers[0], session.at))
    else:
        session.show(llmops.line_up([baseline, *challengers], session.at))


def register(
    report: Annotated[
        str, Argument(metavar="REPORT", help="The report of what to keep: its id, a prefix, or last.")
    ] = "last",
    session: Session = Session(),
) -> None:
    """Keep what a report measured as the next numbered version, with its lineage back to the rows.

    Example: llmops register last
    """
    session.show(llmops.register(report, session.at))


def promote(
    version: Version,
    comparison: Annotated[
        str | None, Option("--comparison", metavar="ID", help="The evidence; found if left out.")
    ] = None,
    because: Annotated[
        str | None, Option("--because", metavar="TEXT", help="Override a refusal; kept with your name.")
    ] = None,
    session: Session = Session(),
) -> None:
    """Let a version answer as NAME@production, on evidence. A refusal is recorded too, and ends with exit code 1.

    Example: llmops promote tone:2
    """
    session.show(llmops.promote(version, session.at, comparison, because))


def rollback(
    name: Annotated[str, Argument(metavar="NAME", help="Name of the model.")],
    session: Session = Session(),
) -> None:
    """Let the version before answer as NAME@production again. Nothing is deleted: this is one more event.

    Example: llmops rollback tone
    """
    session.show(llmops.rollback(name, session.at))
