"""The part of a page that says whether a model understood its rows, and what it forgot: plots first, then numbers."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from llmops.core.exam import HALF, SIDE_NAMES, Exam
from llmops.core.examined import Examined
from llmops.core.findings import Estimate
from llmops.core.forgetting import Fate, Forgetting
from llmops.evals.pages.plots import Spread, spreads

TONES = {"understood": "good", "memorised": "bad", "kept": "good", "lost": "bad", "cannot tell": "warn"}
KINDS: dict[Fate, str] = {"kept": "gain", "lost": "sure", "cannot tell": "held"}


def learned(examined: Examined) -> dict[str, Any]:
    """What the template shows of both; None where it was not asked."""
    test, ledger = examined.exam, examined.forgetting
    return {
        "how": examined,
        "exam": None if test is None else {"value": test, "tone": TONES[test.verdict], "plot": carried(test)},
        "twins": "" if test is None or not test.twins else twins(test),
        "ledger": None if ledger is None else {"value": ledger, "tone": TONES[ledger.fate], "plot": abilities(ledger)},
    }


def verdict_tiles(examined: Examined) -> list[tuple[str, str, str]]:
    """(verdict, of what, tone), for the top of the page."""
    test, ledger = examined.exam, examined.forgetting
    tiles: list[tuple[str, str, str]] = [] if test is None else [(test.verdict, "the exam", TONES[test.verdict])]
    if ledger is not None:
        number = f"{len(ledger.lost)} lost" if ledger.lost else ledger.fate
        tiles.append((number, f"of {len(ledger.abilities)} abilities of the base", TONES[ledger.fate]))
    return tiles


def carried(test: Exam) -> Markup | str:
    """Of what was gained on trained rows, the share that holds on the others; half of it decides."""
    if test.carried is None:
        return ""
    kind = {"understood": "gain", "memorised": "sure", "cannot tell": "held"}[test.verdict]
    row = _spread("holds on unseen rows", test.carried, kind, f"{test.carried.value:.0%}")
    return spreads([row], [(0.0, "none"), (HALF, "half"), (1.0, "all")], "How much of the gain holds on unseen rows")


def twins(test: Exam) -> Markup:
    """By how much marks change on twins."""
    rows = []
    for line in test.twins:
        sure = line.change.low > 0 or line.change.high < 0
        kind = "held" if not sure else "gain" if line.change.value > 0 else "sure"
        name = f"{line.kind}, {SIDE_NAMES[line.side].split()[0]}"
        rows.append(_spread(name, line.change, kind, f"{line.change.value:+.2f}"))
    return spreads(rows, [(0.0, "as the row itself")], "Change of the mark on twins")


def abilities(ledger: Forgetting) -> Markup:
    """Each ability's change in units of its own margin, since bits and shares have no axis in common."""
    rows = []
    for one in ledger.abilities:
        value, low, high = (number / one.margin for number in (one.change.value, one.change.low, one.change.high))
        rows.append(Spread(one.name, value, low, high, KINDS[one.fate], f"{one.change.value:+.3f}"))
    return spreads(rows, [(-1.0, "lost below"), (0.0, "no change")], "What the model can do, against its base")


def _spread(name: str, found: Estimate, kind: str, said: str) -> Spread:
    return Spread(name, found.value, found.low, found.high, kind, said)
