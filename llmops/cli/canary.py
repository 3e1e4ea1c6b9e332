"""The verb `canary`: try a version on a part of the people, and let their thumbs decide."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from rich.console import Group, RenderableType
from typer import Argument, Option

import llmops
from llmops.cli import words
from llmops.cli.session import Session
from llmops.cli.tables import pairs, text
from llmops.core.canary import CanaryReading, CanaryStarted


def canary(
    name: Annotated[str, Argument(metavar="NAME", help="Name of the model.")],
    to: Annotated[
        str | None, Option("--to", metavar="VERSION", help="Start one: the version that is tried, as in tone:3.")
    ] = None,
    share: Annotated[float, Option("--share", help="Of the conversations; each stays with whom it began.")] = 0.1,
    stop: Annotated[bool, Option("--stop", help="End it: production answers everything again.")] = False,
    because: Annotated[str, Option("--because", metavar="TEXT", help="Why; kept with your name.")] = "",
    session: Session = Session(),
) -> None:
    """Try a version on a part of the conversations. Thumbs judge it, at any time; a worse one is rolled back by itself.

    Example: llmops canary tone --to tone:3 --share 0.1
    """
    if to and stop:
        raise llmops.RequestError("--to starts a canary and --stop ends one", "give one of them")
    if to and not to.startswith(f"{name}:"):
        raise llmops.RequestError(f"{to} is no version of {name}", f"name one as in {name}:3")
    if to:
        session.show(llmops.start_canary(to, session.at, share, because=because))
    elif stop:
        session.show(llmops.stop_canary(name, session.at, because))
    else:
        session.show(llmops.canary(name, session.at))


def started(value: CanaryStarted) -> RenderableType:
    """Who answers what from now on."""
    control, challenger = value.canary.refs
    said = {
        "tried": f"{challenger}, on {value.canary.share:.0%} of the conversations",
        "beside": f"{control}, which answers as production",
        "by": f"{value.author}, {words.when(value.at)}",
    }
    return Group(pairs(said), text(f"'llmops canary {value.canary.name}' says what people think of it", "dim"))


def reading(value: CanaryReading) -> RenderableType:
    """The thumbs of both arms, and the verdict."""
    said = {
        value.challenger.version: f"{value.challenger.up} of {value.challenger.n} thumbs up (tried)",
        value.control.version: f"{value.control.up} of {value.control.n} thumbs up (production)",
        "since": words.when(value.since),
        "verdict": value.verdict,
        "because": value.because,
    }
    if value.ended:
        said["ended"] = f"{value.ended.outcome}, {words.when(value.ended.at)}: {value.ended.because}"
    then = f"'llmops promote {value.challenger.version}' puts it before the gate" if value.verdict == "promote" else ""
    return Group(pairs(said), text(then, "bold")) if then else pairs(said)


PICTURES: dict[type, Callable[[Any], RenderableType]] = {CanaryStarted: started, CanaryReading: reading}
