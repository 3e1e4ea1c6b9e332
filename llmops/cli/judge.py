"""The verbs that judge a model: `evaluate compare register promote rollback`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from typer import Argument, Option

import llmops
from llmops.cli.cards import LmEvalTask
from llmops.cli.session import FetchingSession, Session
from llmops.cli.suites import SuiteOptions
from llmops.core.errors import RequestError

Version = Annotated[str, Argument(metavar="VERSION", help="A version: tone:2, or a name for its newest one.")]


@dataclass(frozen=True)
class Instead:
    """What to ask besides the score."""

    exam: Annotated[
        bool, Option("--exam", help="Understood or memorised? Unseen rows, recitals, twins and canaries; one verdict.")
    ] = False
    forgetting: Annotated[
        bool, Option("--forgetting", help="What the base could do and this model can not any more, and what helps.")
    ] = False


def evaluate(
    ref: Annotated[
        str,
        Argument(metavar="REF", help="A run, a version (tone:2, tone@production) or last; with --suite also a base."),
    ] = "last",
    asked: SuiteOptions = SuiteOptions(),
    instead: Instead = Instead(),
    session: FetchingSession = FetchingSession(),
) -> None:
    """Measure a model on its held-out rows, or on a suite: every score with its n and interval, every answer kept.

    --exam asks whether it understood its rows or memorised them (--rows N of each side), --forgetting what it lost of
    what its base could do (--rows N of each kind). Both are kept: 'llmops show REF' names them, and the page of
    its report has them.

    Example: llmops evaluate tone:1 --exam; llmops evaluate tone:1 --suite questions.jsonl --scorer includes;
    llmops evaluate smollm2-135m-q4 --suite openbookqa --examples 5 --rows 100
    """
    if instead.exam and instead.forgetting:
        raise RequestError("--exam and --forgetting are two questions", "ask one after the other")
    if (instead.exam or instead.forgetting) and asked.suite is not None:
        raise RequestError("--suite is a question of its own", "leave --exam and --forgetting out, or --suite")
    if instead.exam:
        replace(asked, rows=None).check_nothing_is_asked()
        session.show(llmops.examine(ref, session.at, asked.rows))
    elif instead.forgetting:
        replace(asked, rows=None).check_nothing_is_asked()
        session.show(llmops.forgotten(ref, session.at, asked.rows))
    elif asked.from_lm_eval is not None:
        session.show(llmops.read_lm_eval(asked.from_lm_eval, session.at))
    elif asked.suite is not None:
        _ask_suite(ref, asked.suite, asked, session)
    else:
        asked.check_nothing_is_asked()
        session.show(llmops.evaluate(ref, session.at))


def _ask_suite(ref: str, suite: str, asked: SuiteOptions, session: Session) -> None:
    examples = llmops.examples_of(asked.examples)
    if asked.to_lm_eval is not None:
        task = llmops.export_suite(suite, asked.to_lm_eval, session.at, examples, asked.rows)
        session.show(LmEvalTask(str(task)))
    else:
        session.show(llmops.evaluate_suite(ref, suite, session.at, examples, asked.rows, asked.own()))


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
    abstain_error: Annotated[
        float | None,
        Option("--abstain-error", metavar="SHARE", help="Give no label where more than this share would be wrong."),
    ] = None,
    session: Session = Session(),
) -> None:
    """Keep what a report measured as the next numbered version, with its lineage back to the rows.

    A version with --abstain-error gives a label only where it is sure enough, by its held-out rows, when served and
    by 'llmops predict'; 'llmops show REPORT --abstain 0.05' says how many it would answer.

    Example: llmops register last; llmops register tone:1 --abstain-error 0.05
    """
    session.show(llmops.register(report, session.at, abstain_error))


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
