"""The verb `canary`: try a version on a part of the people, and let their thumbs decide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from rich.console import Group, RenderableType
from typer import Argument, Option

import llmops
from llmops.cli import words
from llmops.cli.session import Session
from llmops.cli.tables import pairs, text
from llmops.core.canary import CanaryEnded, CanaryReading, CanaryStarted, How, Shadows


@dataclass(frozen=True)
class Trial:
    """What is tried, and on whom."""

    to: Annotated[
        str | None, Option("--to", metavar="VERSION", help="Start one: the version that is tried, as in tone:3.")
    ] = None
    share: Annotated[float, Option("--share", help="Of the conversations; each stays with whom it began.")] = 0.1
    shadow: Annotated[
        bool, Option("--shadow", help="With --to: it is asked too, when nobody waits; people get production's answer.")
    ] = False


def canary(
    name: Annotated[str, Argument(metavar="NAME", help="Name of the model.")],
    trial: Trial = Trial(),
    stop: Annotated[bool, Option("--stop", help="End it: production answers everything again.")] = False,
    because: Annotated[str, Option("--because", metavar="TEXT", help="Why; kept with your name.")] = "",
    session: Session = Session(),
) -> None:
    """Try a version on a part of the conversations. Thumbs judge it, at any time; a worse one is rolled back by itself.

    'llmops serve tone' takes it up within seconds. A conversation is who asks ("user" in the request), else its first
    message; its first thumb (POST /v1/feedback) counts. --shadow compares answers before anybody is given one.

    Example: llmops canary tone --to tone:3 --share 0.1; llmops canary tone; llmops canary tone --stop
    """
    to = trial.to
    if trial.shadow and not to:
        raise llmops.RequestError("--shadow says how a version is tried, and none is named", f"add --to {name}:N")
    if to and stop:
        raise llmops.RequestError("--to starts a canary and --stop ends one", "give one of them")
    if to and not to.startswith(f"{name}:"):
        raise llmops.RequestError(f"{to} is no version of {name}", f"name one as in {name}:3")
    if to:
        how: How = "shadow" if trial.shadow else "split"
        session.show(llmops.start_canary(to, session.at, trial.share, because=because, how=how))
    elif stop:
        session.show(llmops.stop_canary(name, session.at, because))
    else:
        session.show(llmops.canary(name, session.at))


def started(value: CanaryStarted) -> RenderableType:
    """Who answers what from now on."""
    control, challenger = value.canary.refs
    seen = ", which nobody is shown" if value.canary.how == "shadow" else ""
    said = {
        "tried": f"{challenger}, on {value.canary.share:.0%} of the conversations{seen}",
        "beside": f"{control}, which answers as production",
        "by": f"{value.author}, {words.when(value.at)}",
    }
    return Group(pairs(said), text(f"'llmops canary {value.canary.name}' says what people think of it", "dim"))


def reading(value: CanaryReading) -> RenderableType:
    """The thumbs of both arms and the verdict; of a shadow what it answered."""
    if value.shadows:
        return pairs({**_shadows(value, value.shadows), **_ended(value)})
    said = {
        value.challenger.version: f"{value.challenger.up} of {value.challenger.n} thumbs up (tried)",
        value.control.version: f"{value.control.up} of {value.control.n} thumbs up (production)",
        "since": words.when(value.since),
        "verdict": value.verdict,
        "because": value.because,
        **_ended(value),
    }
    then = f"'llmops promote {value.challenger.version}' puts it before the gate" if value.verdict == "promote" else ""
    return Group(pairs(said), text(then, "bold")) if then else pairs(said)


def _shadows(value: CanaryReading, seen: Shadows) -> dict[str, str]:
    control, challenger = value.canary.refs
    whole = seen.n - seen.failed
    said = {"in the shadow": f"{challenger}, beside {control}, since {words.when(value.since)}"}
    said["asked"] = f"{seen.n} questions a second time, {seen.failed} without an answer"
    if seen.challenger_s is not None and seen.control_s is not None:
        said["the same"] = f"{seen.same} of {whole} answers, letter by letter"
        said["median"] = f"{seen.challenger_s:.3g} s ({challenger}), {seen.control_s:.3g} s ({control})"
    return said


def _ended(value: CanaryReading) -> dict[str, str]:
    if value.ended is None:
        return {}
    return {"ended": f"{value.ended.outcome}, {words.when(value.ended.at)}: {value.ended.because}"}


def _event(what: str, because: str, value: CanaryStarted | CanaryEnded) -> dict[str, object]:
    control, challenger = value.canary.refs
    said = {"tried": challenger, "beside": control, "what": what, "when": words.when(value.at)}
    return {**said, "by": value.author, "because": because}


LINES: dict[type, Callable[[Any], dict[str, object]]] = {
    CanaryStarted: lambda value: _event(f"{value.canary.how}, {value.canary.share:.0%}", value.canary.because, value),
    CanaryEnded: lambda value: _event(value.outcome, value.because, value),
}
PICTURES: dict[type, Callable[[Any], RenderableType]] = {CanaryStarted: started, CanaryReading: reading}
