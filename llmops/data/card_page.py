"""The card as a page and as Markdown. The templates escape every text; nothing in a page is fetched or run."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from llmops.core.drawing import flat
from llmops.core.findings import LEAK_KINDS, Estimate, GroupLine, LabelIssue
from llmops.data import card_plots as plots
from llmops.data.card import SHOWN_ISSUES, Card, quantile

# What a viewer of Markdown would obey: as plain signs they are only text.
MARKDOWN_SIGNS = re.compile(r"([\\`*_{}\[\]<>#|~$!&])")
LONGEST = 240
STEP_NAMES = {"read": "read", "map": "mapped", "split": "split", "near_duplicates": "near duplicates"}


def card_html(card: Card) -> str:
    """One self-contained page."""
    return _templates(html=True).get_template("card.html.j2").render(**shown(card))


def card_markdown(card: Card) -> str:
    """The same in Markdown, without the plots."""
    return _templates(html=False).get_template("card.md.j2").render(**shown(card))


@cache
def _templates(html: bool) -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    made = jinja2.Environment(
        loader=loader,
        autoescape=html,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_line if html else _markdown,
    )
    made.filters |= {"count": lambda number: f"{number:,}", "share": share, "signed": signed, "short": short}
    return made


def _line(data: Any) -> Any:
    """Data on one line; what is HTML already stays as it is."""
    return data if isinstance(data, Markup) or not isinstance(data, str) else flat(data)


def _markdown(data: Any) -> Any:
    """Data as Markdown shows it literally, on one line."""
    return MARKDOWN_SIGNS.sub(r"\\\1", flat(data)) if isinstance(data, str) else data


def share(one: Estimate) -> str:
    """`12.3 % (10.1 to 14.9)`."""
    return f"{one.value:.1%} ({100 * one.low:.1f} to {100 * one.high:.1f})"


def signed(one: Estimate) -> str:
    """`+1.2 points (-0.4 to +2.8)`."""
    return f"{100 * one.value:+.1f} points ({100 * one.low:+.1f} to {100 * one.high:+.1f})"


def short(text: str, longest: int = LONGEST) -> str:
    """A text on one line, cut with `…`."""
    plain = flat(text)
    return plain if len(plain) <= longest else plain[: longest - 1] + "…"


def shown(card: Card) -> dict[str, Any]:
    """What the two templates name."""
    manifest = card.manifest
    train, heldout = card.parts["train"], card.parts["heldout"]
    return {
        "card": card,
        "manifest": manifest,
        "tiles": _tiles(card),
        "steps": [(STEP_NAMES.get(step.step, step.step), step) for step in manifest.steps],
        "flow": plots.bars(_flow(card), "Rows left after each step"),
        "lengths": plots.histogram(train.words, heldout.words, "Rows by number of words"),
        "length_line": [(side, *(quantile(part.words, share) for share in (0.05, 0.5, 0.95, 1))) for side, part in
                        (("to train", train), ("held out", heldout))],
        "balance": plots.twin_bars(_shares(card), "Labels in train and held out") if card.labels else "",
        "shares": _shares(card) if card.labels else {},
        "private": _private(card),
        "leak_kinds": [(kind, card.review.leaks.kinds.get(kind, 0) if card.review else 0, card.left.kinds.get(kind, 0))
                       for kind in LEAK_KINDS],
        "issues": _issues(card),
        "groups": _groups(card),
        "group_plot": plots.forest(_differences(card), "Difference in the rate of the label") if card.labels else "",
        "duplicates": _duplicates(card),
        "swaps": sorted(card.bias.swaps, key=lambda line: -abs(next(iter(line.shift.values())).value)),
    }  # fmt: skip


def _tiles(card: Card) -> list[tuple[str, str, str]]:
    """(number, what it counts, tone) of the headline."""
    manifest, leaks = card.manifest, len(card.left.found)
    wrong = len(card.diagnosis.issues) if card.diagnosis else 0
    private = sum(_private(card).values())
    tiles = [
        (f"{manifest.rows_read:,}", "rows read", ""),
        (f"{manifest.rows_train:,}", "to train", "train"),
        (f"{manifest.rows_heldout:,}", "held out", "held"),
        (f"{manifest.rows_dropped:,}", "dropped", ""),
        (f"{leaks:,}", "leaks left", "bad" if leaks else "good"),
    ]
    if card.diagnosis is not None:
        tiles.append((f"{wrong:,}", "labels to check", "warn" if wrong else "good"))
    return [*tiles, (f"{private:,}", "private data replaced", "")]


def _flow(card: Card) -> list[plots.Bar]:
    steps = [step for step in card.manifest.steps if step.rows_in != step.rows_out or step.step == "read"]
    bars = [plots.Bar("read", card.manifest.rows_read)]
    for step in steps:
        change = step.rows_out - step.rows_in
        if change:
            bars.append(plots.Bar(STEP_NAMES.get(step.step, step.step), step.rows_out, f"  ({change:+,})"))
    return bars


def _shares(card: Card) -> dict[str, tuple[float, float]]:
    sides = card.parts["train"].labels, card.parts["heldout"].labels
    return {
        label: (sides[0][label] / max(1, sides[0].total()), sides[1][label] / max(1, sides[1].total()))
        for label in card.labels
    }


def _private(card: Card) -> dict[str, int]:
    """Private data by type, and how many rows held it."""
    found: dict[str, int] = {}
    for step in card.step("private"):
        for kind, rows in step.altered.items():
            found[kind] = found.get(kind, 0) + rows
    return found


def _duplicates(card: Card) -> list[tuple[str, int]]:
    steps = [*card.step("duplicates"), *card.step("near_duplicates")]
    return [(reason, rows) for step in steps for reason, rows in step.dropped.items()]


def _issues(card: Card) -> list[LabelIssue]:
    return list(card.diagnosis.issues[:SHOWN_ISSUES]) if card.diagnosis else []


def _groups(card: Card) -> dict[str, list[GroupLine]]:
    axes: dict[str, list[GroupLine]] = {}
    for line in card.bias.groups:
        axes.setdefault(line.axis, []).append(line)
    return axes


def _differences(card: Card) -> list[tuple[str, Estimate]]:
    label = card.labels[-1]
    return [(f"{line.group} ({line.rows:,})", line.difference[label]) for line in card.bias.groups]
