"""The one way from data to HTML: `el` escapes every child that is not itself made by `el`."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from datetime import datetime

from llmops.core.errors import LlmopsError
from llmops.core.report import Score


class Html(str):
    """Text that is HTML already, because `el` made it. Anything else is data and is escaped."""

    __slots__ = ()


# One table for what html.escape leaves alone and Gradio's HTML component would read as a template.
TEMPLATE_SIGNS = str.maketrans({"$": "&#36;", "{": "&#123;", "}": "&#125;", "`": "&#96;"})


def plain(data: object) -> Html:
    """Any data as HTML that shows its text and nothing else."""
    if isinstance(data, Html):
        return data
    return Html(html.escape(str(data), quote=True).translate(TEMPLATE_SIGNS))


def el(name: str, *children: object, **attributes: object) -> Html:
    """One element. Children and attribute values are escaped; `class_` is class; None leaves an attribute out."""
    pairs = ((key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items() if value is not None)
    inside = "".join(f' {key}="{plain(value)}"' for key, value in pairs)
    return Html(f"<{name}{inside}>{''.join(plain(child) for child in children)}</{name}>")


def join(parts: Iterable[object]) -> Html:
    """Parts one after the other."""
    return Html("".join(plain(part) for part in parts))


def table(head: Sequence[object], rows: Iterable[Sequence[object]], class_: str = "") -> Html:
    """A table that scrolls sideways inside its own box where the page is narrow."""
    top = el("tr", *(el("th", cell) for cell in head))
    body = [el("tr", *(el("td", cell) for cell in row)) for row in rows]
    return el("div", el("table", el("thead", top), el("tbody", *body)), class_=f"lo-scroll {class_}".strip())


def card(title: object, *children: object, class_: str = "") -> Html:
    """A titled box."""
    return el("section", el("h3", title), *children, class_=f"lo-card {class_}".strip())


def note(*children: object, tone: str = "calm") -> Html:
    """A remark; `tone` is calm, good or bad."""
    return el("div", *children, class_=f"lo-note lo-{tone}", role="status")


def chip(text: object, tone: str = "calm") -> Html:
    """A short word in a rounded box; `tone` is calm, good, bad or busy."""
    return el("span", text, class_=f"lo-chip lo-{tone}")


def empty(what: object, fix: object) -> Html:
    """An empty state: what is missing, and what to do about it."""
    return el("div", el("p", what, class_="lo-empty-what"), el("p", fix), class_="lo-empty")


def failed(error: LlmopsError) -> Html:
    """An error as a person reads it: what happened, and what to do."""
    return note(el("strong", error.what), el("br"), error.fix, tone="bad")


def when(moment: datetime, now: datetime) -> str:
    """`23 Nov 2026, 14:05 UTC (3 hours ago)`."""
    seconds = max(0, int((now - moment).total_seconds()))
    for size, word in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = seconds // size
            return f"{stamp(moment)} ({count} {word}{'s' if count > 1 else ''} ago)"
    return f"{stamp(moment)} (just now)"


def stamp(moment: datetime) -> str:
    """`23 Nov 2026, 14:05 UTC`."""
    return f"{moment.day} {moment:%b %Y, %H:%M} UTC"


def duration(seconds: float) -> str:
    """`4.2 s`, `3 min 20 s` or `2 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def score_text(score: Score) -> str:
    """`0.912 [0.893, 0.930], n 480`."""
    return f"{score.value:.3f} [{score.low:.3f}, {score.high:.3f}], n {score.n}"


ROW_NAMES = {
    "majority": "majority",
    "mean": "mean rating",
    "word_list": "word list",
    "tfidf": "TF-IDF, linear",
    "frozen": "frozen base + logistic",
    "nearest": "frozen base + nearest rows",
    "base": "base, zero-shot",
    "few_shot": "base, few-shot",
    "tuned": "tuned",
    "endpoint": "through the endpoint",
}


def row_name(kind: str) -> str:
    """What people call a row of the table."""
    return ROW_NAMES.get(kind, kind)
