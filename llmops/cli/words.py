"""How numbers and foreign text are spelt for people."""

from __future__ import annotations

import re
from datetime import datetime

# A terminal obeys these. Text from data, models and the network must not command the reader's terminal.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """`text` with control and direction characters shown as `�`, and lone surrogates too; line ends and tabs stay."""
    return CONTROL.sub("�", text.replace("\r\n", "\n")).encode("utf-8", "replace").decode("utf-8")


def one_line(text: str, longest: int = 72) -> str:
    """`text` on one line, cut to `longest` characters with `…`."""
    flat = " ".join(clean(text).split())
    return flat if len(flat) <= longest else flat[: longest - 1] + "…"


def count(number: int) -> str:
    """1200 as `1,200`."""
    return f"{number:,}"


def plural(number: int, thing: str) -> str:
    """`1 row`, `1,200 rows`."""
    return f"{count(number)} {thing}" if number == 1 else f"{count(number)} {thing}s"


def seconds(duration_s: float) -> str:
    """A duration: `0.4 s`, `12 s`, `3 min 12 s`, `2 h 5 min`."""
    if duration_s < 10:
        return f"{duration_s:.1f} s"
    if duration_s < 60:
        return f"{duration_s:.0f} s"
    whole = round(duration_s)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(number_bytes: int) -> str:
    """A number of bytes: `512 MB`, `1.3 GB`."""
    return f"{number_bytes / 1e9:.1f} GB" if number_bytes >= 1e9 else f"{number_bytes / 1e6:.0f} MB"


def when(moment: datetime) -> str:
    """A moment in UTC, to the minute."""
    return moment.strftime("%Y-%m-%d %H:%M UTC")


def p_value(p: float) -> str:
    """A p value; below a thousandth only that."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
