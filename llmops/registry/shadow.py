"""What a challenger said in the shadow: how often, how often the same as production, and how fast."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from llmops.core.canary import Canary, CanaryEnded, CanaryStarted, Shadows
from llmops.core.serving import Exchange
from llmops.store.workspace import Workspace

ENDED = ("stop", "length")


def shadows(workspace: Workspace, event: CanaryStarted, ended: CanaryEnded | None = None) -> Shadows:
    """The challenger's answers in the shadow since its canary began, beside the answers to the same questions."""
    name, challenger = event.canary.name, event.canary.refs[1]
    asked = [
        one
        for one in workspace.ledger.read(Exchange, name)
        if one.shadow is not None
        and one.version == challenger
        and one.at >= event.at
        and (ended is None or one.at <= ended.at)
    ]
    whole = [one for one in asked if one.finish in ENDED]
    repeated = workspace.ledger.find(Exchange, [one.shadow.of for one in whole if one.shadow])
    return Shadows(
        n=len(asked),
        failed=len(asked) - len(whole),
        same=sum(one.shadow.same for one in whole if one.shadow),
        control_s=_median_s(list(repeated.values())),
        challenger_s=_median_s(whole),
    )


def told(canary: Canary, seen: Shadows) -> str:
    """The same in a sentence."""
    if not seen.n:
        return f"{canary.refs[1]} has answered nothing in the shadow yet"
    failed = f", {seen.failed} failed" if seen.failed else ""
    return f"in the shadow: {seen.n} answers of {canary.refs[1]}, {seen.same} the same as {canary.refs[0]}'s{failed}"


def _median_s(exchanges: Sequence[Exchange]) -> float | None:
    return median(one.total_s for one in exchanges) if exchanges else None
