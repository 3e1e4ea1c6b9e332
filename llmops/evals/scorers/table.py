"""Every scorer by its kind. A new one is a value in `core/scorers.py`, a function, and a line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmops.core.scorers import Scorer
from llmops.evals.judge import judge
from llmops.evals.scorers import documents, numbers, overlap, own, program, texts
from llmops.evals.scorers.mark import Marker, Tools

# kind: a function that takes the knobs and the tools, and gives the function that marks answers.
SCORERS: dict[str, Callable[[Any, Tools], Marker]] = {
    "exact": texts.exact,
    "includes": texts.includes,
    "number": numbers.number,
    "choice": texts.choice,
    "json": documents.json,
    "schema": documents.schema,
    "rouge": overlap.rouge,
    "bleu": overlap.bleu,
    "chrf": overlap.chrf,
    "regex": texts.regex,
    "code": program.code,
    "judge": judge,
    "function": own.function,
}


def marker(scorer: Scorer, tools: Tools) -> Marker:
    """The function that marks answers as `scorer` says. Raises `RequestError` where it lacks something."""
    return SCORERS[scorer.kind](scorer, tools)
