"""Every answer as the page's own script gets it: data, which no browser runs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from llmops.core.measures import RIGHT_OR_WRONG
from llmops.core.report import LOWER_IS_BETTER, Answer

# What commands a viewer instead of being read: controls (not tab and line end), and marks that turn the direction.
COMMANDS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# Inside a script element nothing is escaped by the browser; so no sign that ends one or begins a comment stays.
AS_ESCAPES = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}


def plain(text: str) -> str:
    """A text whose characters are only read: commands and lone surrogates become `�`."""
    return COMMANDS.sub("�", text.replace("\r\n", "\n")).encode("utf-8", "replace").decode("utf-8")


def embedded(data: Any) -> Markup:
    """JSON that is safe inside a script element."""
    return Markup(json.dumps(data, ensure_ascii=False, allow_nan=False).translate(AS_ESCAPES))


def verdict(answer: Answer, metric: str) -> str:
    """What became of one answer by the measure that decides: right, wrong, partly, marked, unmarked or failed."""
    if "error" in answer.fields:
        return "failed"
    mark = answer.marks.get(metric)
    if mark is None:
        return "unmarked"
    if metric not in RIGHT_OR_WRONG or metric in answer.weights:
        return "marked"
    return "right" if mark == 1 else "wrong" if mark == 0 else "partly"


def of_report(answers: Sequence[Answer], metric: str) -> list[dict[str, Any]]:
    """Each answer, in the order in which it was asked."""
    return [{**_asked(one), "said": _said(one, metric), "verdict": verdict(one, metric)} for one in answers]


def of_pair(baseline: Sequence[Answer], challenger: Sequence[Answer], metric: str) -> list[dict[str, Any]]:
    """Each row with both answers to it; those that flipped come first, then the largest changes."""
    others = {one.row: one for one in challenger}
    sign = -1 if metric in LOWER_IS_BETTER else 1
    found = []
    for first in baseline:
        second = others[first.row]
        change = _change(first, second, metric, sign)
        found.append(
            {
                **_asked(first),
                "before": _said(first, metric),
                "said": _said(second, metric),
                "change": change,
                "verdict": _flip(verdict(first, metric), verdict(second, metric), change),
            }
        )
    return sorted(found, key=lambda one: -abs(one["change"] or 0.0))


def _change(first: Answer, second: Answer, metric: str, sign: int) -> float | None:
    if metric not in first.marks or metric not in second.marks:
        return None
    return sign * (second.marks[metric] - first.marks[metric])


def _flip(before: str, after: str, change: float | None) -> str:
    """What became of a row: gained, lost, or the same on both sides, right or wrong."""
    if change is None:
        return "unmarked"
    if change:
        return "gained" if change > 0 else "lost"
    return f"both {after}" if before == after and after in ("right", "wrong") else "same"


def _asked(answer: Answer) -> dict[str, Any]:
    fields = {name: plain(value) for name, value in answer.fields.items() if name != "error"}
    return {
        "row": plain(answer.row),
        "prompt": plain(answer.prompt),
        "expected": plain(answer.expected),
        "fields": _plainly(fields),
    }


def _said(answer: Answer, metric: str) -> dict[str, Any]:
    told = {"error": answer.fields["error"]} if "error" in answer.fields else {}
    return {
        "text": plain(answer.answered),
        "mark": answer.marks.get(metric),
        "marks": answer.marks,
        "probability": answer.probability,
        "notes": _plainly({**told, **answer.notes}),
        "samples": [
            {**one.to_json(), "answered": plain(one.answered), "notes": _plainly(one.notes)} for one in answer.samples
        ],
    }


def _plainly(texts: Mapping[str, str]) -> dict[str, str]:
    return {plain(name): plain(value) for name, value in texts.items()}
