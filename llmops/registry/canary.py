"""A canary's life: started behind the gate of certificates, judged after every thumb, rolled back by itself.

One in the shadow lives as long, but no thumb judges it: people never saw what it said.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from llmops.core.canary import MOST, Arm, Canary, CanaryEnded, CanaryReading, CanaryStarted, How, running_canary
from llmops.core.errors import LlmopsError, Refusal, RequestError
from llmops.core.serving import Exchange, Feedback
from llmops.core.version import ModelVersion, Promotion, RefusedPromotion
from llmops.registry.export import certificate_of
from llmops.registry.names import answering
from llmops.registry.policy import lacks_certificate
from llmops.registry.register import verify
from llmops.registry.sequential import first_crossing
from llmops.registry.shadow import shadows, told
from llmops.store.files import locked
from llmops.store.workspace import Workspace

ALIAS = "canary"  # what a refused one is recorded under


def start(
    workspace: Workspace, version: ModelVersion, share: float, alpha: float, because: str, how: How = "split"
) -> CanaryStarted:
    """Let `version` answer `share` of the conversations beside production, until thumbs or a person end it.

    In the shadow it answers them a second time, and nobody sees it. Raises `RequestError` where nothing answers as
    production, another canary runs, or the numbers make no sense; and `Refusal`, recorded, where the version's files
    were changed or it lacks the certificate that the policy wants.
    """
    name = version.name
    with locked(_lock(workspace, name)):
        now = answering(workspace, name)
        if now is None:
            what = f"nothing answers as {name}@production, so there is nothing to try {version.ref} against"
            raise RequestError(what, f"promote it: 'llmops promote {version.ref}'")
        if now.version == version.number:
            raise RequestError(f"{version.ref} answers as production already", "name another version with --to")
        _close_if_moved(workspace, name)
        already = running(workspace, name)
        if already is not None:
            raise RequestError(f"{already.refs[1]} is tried already", f"end it first: 'llmops canary {name} --stop'")
        _refuse_unfit(workspace, version)
        try:
            canary = Canary(
                name=name,
                control=now.version,
                challenger=version.number,
                how=how,
                share=share,
                alpha=alpha,
                because=because,
            )
        except ValueError as error:
            what = f"no canary goes by a share of {share} and an alpha of {alpha}"
            fix = f"the share is above 0 and at most {MOST[how]:g}, alpha at most 0.2"
            raise RequestError(what, fix) from error
        event = CanaryStarted(canary=canary, author=workspace.world.author, at=workspace.world.clock())
        workspace.ledger.append(event, name)
    return event


def running(workspace: Workspace, name: str) -> Canary | None:
    """The canary of `name` that runs now: what an endpoint splits its conversations by (`core.canary.version_for`)."""
    event = _running(workspace, name)
    return event.canary if event else None


def settle(workspace: Workspace, name: str) -> CanaryReading | None:
    """Read the canary that runs, and roll it back where the thumbs say so; None where none runs.

    For whoever watches: an endpoint may call it every few seconds, and several may at once. A canary is ended once.
    """
    with locked(_lock(workspace, name)):
        _close_if_moved(workspace, name)
        event = _running(workspace, name)
        if event is None:
            return None
        reading = _judge(workspace, event)
        if reading.verdict != "roll back":
            return reading
        return reading.replace(ended=_end(workspace, event.canary, "rolled back", reading.because))


def stop(workspace: Workspace, name: str, because: str = "") -> CanaryReading:
    """End the canary that runs: production answers everything again. `RequestError` where none runs."""
    with locked(_lock(workspace, name)):
        _close_if_moved(workspace, name)
        event = _running(workspace, name)
        if event is None:
            raise RequestError(f"no canary of {name} runs", f"start one: 'llmops canary {name} --to {name}:N'")
        reading = _judge(workspace, event)
        why = because or f"stopped by {workspace.world.author}"
        return reading.replace(ended=_end(workspace, event.canary, "stopped", why))


def read(workspace: Workspace, name: str) -> CanaryReading:
    """The last canary of `name`, running or ended, by the thumbs of its time. `RequestError` where there was none."""
    started, ended = workspace.ledger.read(CanaryStarted, name), workspace.ledger.read(CanaryEnded, name)
    if not started:
        raise RequestError(f"there was no canary of {name}", f"start one: 'llmops canary {name} --to {name}:N'")
    over = ended[-1] if len(ended) == len(started) else None
    return _judge(workspace, started[-1], over)


def _lock(workspace: Workspace, name: str) -> Path:
    return workspace.root / "versions" / f".{name}.canary.lock"


def _running(workspace: Workspace, name: str) -> CanaryStarted | None:
    ledger = workspace.ledger
    started, ended = ledger.read(CanaryStarted, name), ledger.read(CanaryEnded, name)
    return running_canary(started, ended, ledger.read(Promotion, name), name)


def _close_if_moved(workspace: Workspace, name: str) -> None:
    """A promotion ends a canary against the version before: say so on record."""
    started, ended = workspace.ledger.read(CanaryStarted, name), workspace.ledger.read(CanaryEnded, name)
    if len(ended) < len(started) and _running(workspace, name) is None:
        now = answering(workspace, name)
        why = f"{name}:{now.version} was promoted meanwhile" if now else "nothing answers as production any more"
        _end(workspace, started[-1].canary, "stopped", why)


def _end(workspace: Workspace, canary: Canary, outcome: str, because: str) -> CanaryEnded:
    said = {"canary": canary, "outcome": outcome, "because": because}
    event = CanaryEnded.model_validate({**said, "author": workspace.world.author, "at": workspace.world.clock()})
    workspace.ledger.append(event, canary.name)
    workspace.world.say(f"the canary {canary.refs[1]} is {outcome}: {because}")
    return event


def _refuse_unfit(workspace: Workspace, version: ModelVersion) -> None:
    """People will be answered by it: its files must be what was registered, and served as they were measured."""
    objection, fix = None, f"'llmops certify {version.ref}' makes one"
    try:
        verify(workspace, version)
    except LlmopsError as error:
        objection, fix = error.what, error.fix
    certificate = certificate_of(workspace, version)
    if objection is None and lacks_certificate(workspace, version):
        objection = "it has no parity certificate"
    elif objection is None and certificate is not None and certificate.broken:
        objection, fix = certificate.because, "mend that stage, then 'llmops certify --again'"
    if objection is None:
        return
    event = RefusedPromotion(
        name=version.name,
        alias=ALIAS,
        version=version.number,
        comparison=None,
        because=objection,
        author=workspace.world.author,
        at=workspace.world.clock(),
    )
    workspace.ledger.append(event, version.name)
    raise Refusal(f"{version.ref} is not tried on people: {objection}", fix)


def _judge(workspace: Workspace, event: CanaryStarted, ended: CanaryEnded | None = None) -> CanaryReading:
    if event.canary.how == "shadow":
        seen = shadows(workspace, event, ended)
        return judge(event, (), ()).replace(because=told(event.canary, seen), shadows=seen, ended=ended)
    arms_N, ups_N = _thumbs(workspace, event, ended)
    return judge(event, arms_N, ups_N).replace(ended=ended)


def judge(event: CanaryStarted, arms_N: Sequence[bool], ups_N: Sequence[bool]) -> CanaryReading:
    """What N thumbs say, in the order in which they were given; `arms_N` is true where the challenger had answered.

    The first boundary that is crossed decides, whenever somebody looks. A challenger no worse than the control is ever
    rolled back with a chance of at most alpha, and one no better is promoted with the same.
    """
    canary = event.canary
    of_N, up_N = np.asarray(arms_N, dtype=bool), np.asarray(ups_N, dtype=bool)
    tried = np.cumsum(of_N & up_N), np.cumsum(of_N)
    usual = np.cumsum(~of_N & up_N), np.cumsum(~of_N)
    worse = first_crossing(*tried, *usual, canary.alpha)
    better = first_crossing(*usual, *tried, canary.alpha)
    control, challenger = canary.refs
    arms = (
        Arm(version=control, up=_last(usual[0]), n=_last(usual[1])),
        Arm(version=challenger, up=_last(tried[0]), n=_last(tried[1])),
    )
    counts = f"thumbs: {arms[1].told()}, {arms[0].told()}"
    verdict, because = "cannot tell", f"{counts}; neither is shown to be better (alpha {canary.alpha:g})"
    if worse is not None and (better is None or worse < better):
        verdict = "roll back"
        because = f"people like {challenger} less, shown after {worse + 1} thumbs at alpha {canary.alpha:g}; {counts}"
    elif better is not None:
        verdict = "promote"
        because = f"people like {challenger} more, shown after {better + 1} thumbs at alpha {canary.alpha:g}; {counts}"
    said = {"canary": canary, "since": event.at, "control": arms[0], "challenger": arms[1]}
    return CanaryReading.model_validate({**said, "verdict": verdict, "because": because})


def _last(counts_N: np.ndarray) -> int:
    return int(counts_N[-1]) if len(counts_N) else 0


def _thumbs(workspace: Workspace, event: CanaryStarted, ended: CanaryEnded | None) -> tuple[list[bool], list[bool]]:
    """(answered by the challenger?, up?) of each conversation since the start: its first thumb.

    Only those that the canary drew: who asks for a version by its name may ask it other things. Of each one thumb, as
    one person's thumbs are alike and all fall to one arm. A later change of mind does not count either: a stream that
    changes its past may not be tested at any time.
    """
    said: dict[str, Feedback] = {}
    for one in workspace.ledger.read(Feedback, event.canary.name):
        if one.thumb and one.at >= event.at and (ended is None or one.at <= ended.at):
            said.setdefault(one.exchange, one)
    answered = workspace.ledger.find(Exchange, list(said))
    control, challenger = event.canary.refs
    drawn: dict[str, tuple[bool, bool]] = {}
    for exchange, one in said.items():
        about = answered.get(exchange)
        if about is None or about.conversation is None or about.at < event.at:
            continue
        if about.version in (control, challenger):
            drawn.setdefault(about.conversation, (about.version == challenger, one.thumb == "up"))
    return [arm for arm, _ in drawn.values()], [up for _, up in drawn.values()]
