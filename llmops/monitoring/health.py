"""`health`: is it still the model that was promoted? What happened since, against what happened before."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from llmops.core.errors import RequestError
from llmops.core.health import HealthReport, Window
from llmops.core.serving import Exchange, Feedback
from llmops.core.version import Promotion
from llmops.store.workspace import Workspace

# A change is claimed below this p: three tests a report then raise a false alarm in 3 of 100 quiet reports at most.
CLAIM_P = 0.01
# Fewer requests than this on either side are called too few, not unchanged.
FEW = 30


def health(workspace: Workspace, name: str) -> HealthReport:
    """What the promoted version of `name` did since its promotion, against the window before. Writes nothing.

    The window before is as long as the one since, or reaches back to the promotion before, whichever is shorter,
    and holds what the version then in production did. Before any promotion there is one window: everything so far,
    by every version. Raises `RequestError` where no version has that name.
    """
    if not workspace.versions(name):
        raise RequestError(f"there is no version called {name!r}", "see 'llmops list versions'")
    until = workspace.world.clock()
    promotions = [event for event in workspace.ledger.read(Promotion, name) if event.alias == "production"]
    exchanges = [exchange for exchange in workspace.ledger.read(Exchange, name) if exchange.shadow is None]
    feedback = workspace.ledger.read(Feedback, name)
    if not promotions:
        now = window(exchanges, feedback, None, until)
        nothing = window((), (), None, until)
        return HealthReport(name=name, version=None, now=now, before=nothing, findings=_findings(now, name))
    last, version = promotions[-1], f"{name}:{promotions[-1].version}"
    start = last.at - (until - last.at)
    earlier = exchanges
    if len(promotions) > 1:
        start = max(start, promotions[-2].at)
        earlier = [exchange for exchange in exchanges if exchange.version == f"{name}:{promotions[-2].version}"]
    own = [exchange for exchange in exchanges if exchange.version == version]
    now = window(own, feedback, last.at, until)
    before = window(earlier, feedback, start, last.at)
    findings = _findings(now, name, before)
    others = [exchange for exchange in exchanges if exchange.version != version and last.at <= exchange.at < until]
    if others:
        who = ", ".join(sorted({exchange.version for exchange in others}))
        findings += (f"{len(others)} requests since then were answered by {who}: not counted here.",)
    return HealthReport(name=name, version=version, now=now, before=before, findings=findings)


def window(
    exchanges: Sequence[Exchange], feedback: Sequence[Feedback], since: datetime | None, until: datetime
) -> Window:
    """The exchanges at or after `since` and before `until`, counted; feedback belongs to its exchange's window.

    Of several thumbs that one person gave one answer, the last counts.
    """
    inside = [exchange for exchange in exchanges if (since is None or since <= exchange.at) and exchange.at < until]
    ids = {exchange.id for exchange in inside}
    said = [event for event in feedback if event.exchange in ids]
    thumbs = list({(event.exchange, event.author): event.thumb for event in said if event.thumb}.values())
    return Window(
        since=since,
        until=until,
        requests=len(inside),
        errors=sum(exchange.finish == "error" for exchange in inside),
        seconds=tuple(sorted(exchange.total_s for exchange in inside if exchange.finish in ("stop", "length"))),
        prompt_tokens=sum(exchange.prompt_tokens for exchange in inside),
        answer_tokens=sum(exchange.answer_tokens for exchange in inside),
        thumbs_up=thumbs.count("up"),
        thumbs_down=thumbs.count("down"),
        edits=len({event.exchange for event in said if event.edit is not None}),
    )


def _findings(now: Window, name: str, before: Window | None = None) -> tuple[str, ...]:
    """Sentences a person can act on; a change is claimed only where a test carries it."""
    if now.requests == 0:
        earlier = f" There were {before.requests} requests in the window before." if before and before.requests else ""
        return (f"No traffic yet: ask something with 'llmops chat {name}' or through 'llmops serve {name}'.{earlier}",)
    found = [f"{now.requests} requests{_aside(before, f'{before.requests}') if before else ''}."]
    found.append(_errors(now, before))
    if now.seconds:
        found.append(_latency(now, before))
        found.append(_lengths(now, before))
    if now.thumbs_up + now.thumbs_down:
        found.append(_thumbs(now, before))
    if now.edits:
        found.append(f"{now.edits} answers were edited: 'llmops curate {name}' makes rows of them.")
    return tuple(found)


def _aside(before: Window | None, what: str) -> str:
    return f" (before: {what})" if before and before.requests else " (none before)" if before else ""


def _errors(now: Window, before: Window | None) -> str:
    head = f"{now.errors} of {now.requests} answers failed"
    if not before or not before.requests:
        return f"{head}{_aside(before, '')}."
    head += f" (before: {before.errors} of {before.requests})"
    if now.errors == before.errors == 0:
        return f"{head}."
    p = _rates_differ(now.errors, now.requests, before.errors, before.requests)
    return _claimed(head, p, now.errors * before.requests > before.errors * now.requests, now.requests, before.requests)


def _thumbs(now: Window, before: Window | None) -> str:
    given = now.thumbs_up + now.thumbs_down
    head = f"{now.thumbs_up} of {given} thumbs are up"
    earlier = before.thumbs_up + before.thumbs_down if before else 0
    if before is None or not earlier:
        return f"{head}{_aside(before, 'no thumbs')}."
    head += f" (before: {before.thumbs_up} of {earlier})"
    p = _rates_differ(now.thumbs_up, given, before.thumbs_up, earlier)
    return _claimed(head, p, now.thumbs_up * earlier < before.thumbs_up * given, given, earlier)


def _latency(now: Window, before: Window | None) -> str:
    head = f"Half of the answers took {_quantile(now.seconds, 0.5):.2f} s or less, {_tail(now.seconds)}"
    if not before or not before.seconds:
        return f"{head}{_aside(before, 'no answer')}."
    from scipy.stats import mannwhitneyu

    head += f" (before: {_quantile(before.seconds, 0.5):.2f} s, {_tail(before.seconds)})"
    test = mannwhitneyu(now.seconds, before.seconds)
    slower = test.statistic > len(now.seconds) * len(before.seconds) / 2
    return _claimed(head, float(test.pvalue), slower, len(now.seconds), len(before.seconds))


def _lengths(now: Window, before: Window | None) -> str:
    """Means only, and no claim: a window keeps sums, which carry no test."""

    def means(of: Window) -> str:
        return f"{of.prompt_tokens / of.requests:.0f} tokens in, {of.answer_tokens / of.requests:.0f} out"

    return f"Mean length: {means(now)}{_aside(before, means(before) if before and before.requests else '')}."


def _claimed(head: str, p: float, worse: bool, n_now: int, n_before: int) -> str:
    if p < CLAIM_P:
        return f"{head}: {'worse' if worse else 'better'} than before (p {p:.2g})."
    if min(n_now, n_before) < FEW:
        return f"{head}: too few to tell a change."
    return f"{head}: no change that these numbers carry (p {p:.2f})."


def _rates_differ(hits: int, n: int, hits_before: int, n_before: int) -> float:
    """Two-sided p of Fisher's exact test."""
    from scipy.stats import fisher_exact

    return float(fisher_exact([[hits, n - hits], [hits_before, n_before - hits_before]]).pvalue)


def _quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest of the sorted numbers that at least `share` of them do not exceed."""
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def _tail(ordered: Sequence[float]) -> str:
    """The 99th percentile says something from a hundred answers on; before, the slowest is named."""
    if len(ordered) >= 100:
        return f"99 of 100 {_quantile(ordered, 0.99):.2f} s or less"
    return f"the slowest {ordered[-1]:.2f} s"
