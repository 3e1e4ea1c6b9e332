"""The verbs that look: `inspect show list`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

import llmops
from llmops.cli.cards import DataCard, Page
from llmops.cli.session import FetchingSession, Session
from llmops.core.errors import RequestError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from llmops.core.exam import Exam
    from llmops.core.examined import Examined
    from llmops.core.forgetting import Forgetting
    from llmops.core.value import Value


@dataclass(frozen=True)
class Question:
    """What to ask a model, and whose answer to look at."""

    prompt: Annotated[str | None, Option("--prompt", metavar="TEXT", help="Ask the model this.")] = None
    reply: Annotated[
        str | None, Option("--reply", metavar="TEXT", help="Judge this reply; the model's own if left out.")
    ] = None


def inspect(
    ref: Annotated[str, Argument(metavar="REF", help="A dataset, or a version or run (with --prompt).")],
    row: Annotated[int | None, Option("--row", metavar="N", help="Number of a training row, from 0.")] = None,
    dropped: Annotated[
        str | None,
        Option("--dropped", metavar="STEP", help="The rows that a step dropped, or all, with their reasons."),
    ] = None,
    base: Annotated[
        str | None, Option("--base", help="Whose tokens to show for a row; the default base if left out.")
    ] = None,
    question: Question = Question(),
    session: FetchingSession = FetchingSession(),
) -> None:
    """See tokens: of a data set or a row, which of them training learns; of a reply, how likely each was.

    Example: llmops inspect last --row 0
    """
    if sum(asked is not None for asked in (row, dropped, question.prompt)) > 1:
        raise RequestError(
            "inspect takes --row, --dropped or --prompt, not both",
            "llmops inspect last --row 0; llmops inspect tone --prompt TEXT",
        )
    if question.prompt is not None:
        session.show(llmops.inspect_reply(ref, question.prompt, question.reply, session.at))
        return
    if dropped is not None:
        session.show(llmops.inspect_dropped(ref, dropped, session.at))
        return
    if row is not None:
        session.show(llmops.inspect_row(ref, row, base, session.at))
        return
    session.show(llmops.inspect_set(ref, base, session.at))


@dataclass(frozen=True)
class View:
    """What else to make of a report, or of the report of a run or version."""

    slices: Annotated[
        bool, Option("--slices", help="Of a report, run or version: where it is weak, by field, length and topic.")
    ] = False
    calibration: Annotated[
        bool, Option("--calibration", help="Of a report, run or version: whether its probabilities can be believed.")
    ] = False
    abstain: Annotated[
        float | None,
        Option("--abstain", metavar="SHARE", help="Which answers to keep back, so that at most this share is wrong."),
    ] = None
    exam: Annotated[bool, Option("--exam", help="Of a report, run or version: the whole exam that it has sat.")] = False
    forgetting: Annotated[
        bool, Option("--forgetting", help="Of a report, run or version: the whole ledger of what it forgot.")
    ] = False


def show(
    ref: Annotated[
        str, Argument(metavar="REF", help="Anything by its name, id or prefix: tone:2, last, rp-3f…")
    ] = "last",
    card: Annotated[
        bool, Option("--card", help="Of a data set: write its card (HTML and Markdown), print it and its path.")
    ] = False,
    page: Annotated[
        bool,
        Option("--page", help="Of a report or comparison: write its page (HTML, every answer in it), print its path."),
    ] = False,
    view: View = View(),
    session: Session = Session(),
) -> None:
    """Show one stored thing: a run, a version, a plan, a dataset, a report, a comparison, a sweep.

    Of a tuned model also the verdicts of its exam and of its ledger of forgetting, or the command that makes them.

    Example: llmops show tone:1; llmops show tone:1 --slices; llmops show tone:1 --exam
    """
    if view.slices:
        session.show(llmops.slices(ref, session.at))
        return
    if view.calibration:
        session.show(llmops.calibrate(ref, session.at))
        return
    if view.abstain is not None:
        session.show(llmops.abstention(ref, view.abstain, session.at))
        return
    if card:
        file = llmops.card(ref, session.at)
        session.show(DataCard(str(file), file.with_suffix(".md").read_text(encoding="utf-8")))
        return
    if page:
        session.show(Page(str(llmops.page(ref, session.at))))
        return
    if view.exam or view.forgetting:
        session.show(kept(ref, view.exam, session))
        return
    found = llmops.show(ref, session.at)
    beside = None if session.as_json else llmops.examined(ref, session.at)
    session.show(found, None if beside is None else lambda value: with_verdicts(value, beside))


def kept(ref: str, of_exam: bool, session: Session) -> Exam | Forgetting:
    """The exam or the ledger of a model. Raises `RequestError` where there is none."""
    beside = llmops.examined(ref, session.at)
    if beside is None:
        raise RequestError(f"{ref} is no tuned model", "name a version, a finished run, or a report on one")
    made = beside.exam if of_exam else beside.forgetting
    if made is None:
        what, how = ("exam", beside.ask_exam) if of_exam else ("ledger of forgetting", beside.ask_forgetting)
        raise RequestError(f"{beside.ref} has no {what} yet", f"make it: {how}")
    return made


def with_verdicts(value: Value, beside: Examined) -> RenderableType:
    """A value, and below it what else was asked of its model."""
    from rich.console import Group

    from llmops.cli.exam import examined
    from llmops.cli.render import render

    return Group(render(value), "", examined(beside))


def list_(
    kind: Annotated[
        str,
        Argument(
            metavar="KIND",
            help="versions, runs, plans, datasets, reports, comparisons, promotions, canaries, suites, board …",
        ),
    ] = "versions",
    session: Session = Session(),
) -> None:
    """List what is kept of one kind, oldest first; or the board: all that was measured like the last, the best first.

    Example: llmops list board
    """
    session.show(llmops.board(session.at) if kind == "board" else llmops.listing(kind, session.at))
