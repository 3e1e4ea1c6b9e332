"""The verb `power`: what can so many rows show?"""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Option

import llmops
from llmops.cli.session import Session


def power(
    of: Annotated[
        str,
        Argument(metavar="OF", help="A number of rows; or a plan, data set, report or version: its rows."),
    ],
    metric: Annotated[
        str | None, Option("--metric", help="By which measure; the first of its suite if left out.")
    ] = None,
    wanted: Annotated[
        float | None, Option("--wanted", metavar="DIFFERENCE", help="How many rows show this? 0.02 is two points.")
    ] = None,
    changed: Annotated[
        float | None,
        Option("--changed", metavar="SHARE", help="Share of rows on which two models differ; measured if left out."),
    ] = None,
    session: Session = Session(),
) -> None:
    """What can so many rows show? The smallest difference they find in 80 of 100 cases, and the rows for a wanted one.

    Example: llmops power 600 --wanted 0.02
    """
    session.show(llmops.power(of, session.at, metric, wanted, changed))
