"""The template of both pages, with its style and its script inside. A browser runs this script and no other.

The content security policy names the script by its sha256 and allows nothing to be fetched, so that a text that got
past the escaping would still not run.
"""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from llmops.core.drawing import flat
from llmops.core.exam import MEASURE_NAMES, SIDE_NAMES
from llmops.core.measures import measure_name, spelt
from llmops.core.plan import Plan
from llmops.core.report import Subject, Suite
from llmops.evals.pages.answers import embedded

HERE = Path(__file__).parent
LONGEST_LABEL = 24


def render(kind: str, title: str, data: dict[str, Any], **shown: Any) -> str:
    """The page `kind` with what its template names, and `data` for its script."""
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    seal = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _templates()
        .get_template(f"{kind}.html.j2")
        .render(
            title=title,
            style=Markup(style),
            script=Markup(script),
            seal=seal,
            data=embedded(data),
            total=len(data["answers"]),
            **shown,
        )
    )


@cache
def _templates() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_line,
    )
    made.filters |= {
        "called": called,
        "count": lambda number: f"{number:,}",
        "measure": measure_name,
        "spelt": lambda value, metric: spelt(metric, value),
        "signed": lambda value, metric: f"{'+' if value >= 0 else ''}{spelt(metric, value)}",
        "plus": lambda value: f"{value:+.3f}",
        "spread": lambda found: f"{found.low:+.3f} to {found.high:+.3f}",
        "bits": lambda numbers: ", ".join(f"{number:.1f}" for number in numbers),
        "side": lambda side: SIDE_NAMES[side],
        "gap_measure": lambda measure: MEASURE_NAMES[measure],
        "short": lambda text: text if len(text) <= LONGEST_LABEL else text[: LONGEST_LABEL - 1] + "…",
        "p": lambda p: "< 0.001" if p < 0.001 else f"{p:.3f}",
    }
    return made


def _line(data: Any) -> Any:
    """Data on one line; what is HTML already stays as it is."""
    return data if isinstance(data, Markup) or not isinstance(data, str) else flat(data)


def called(subject: Subject) -> str:
    """Who was asked, by a name that tells them apart: the cheap rows beside one plan share its id."""
    return subject.kind.replace("_", " ") if subject.ref.startswith(f"{Plan.prefix}-") else subject.ref


def asked_how(suite: Suite) -> list[tuple[str, str]]:
    """(what, how) of everything that a suite fixes."""
    fixed = [("suite", f"{suite.dataset} ({suite.id})"), ("measures", ", ".join(suite.measures))]
    if suite.asking is None:
        return [*fixed, ("asked", "the held-out rows of a recipe, as its task says"), ("rows", suite.rows_sha256)]
    for name, value in suite.asking.to_json().items():
        fixed.append((name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
    return [*fixed, ("questions", suite.rows_sha256)]
