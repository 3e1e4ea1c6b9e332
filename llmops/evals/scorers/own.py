"""The scorer `function`: a Python function of a person's own. Its file runs only because that person named it."""

from __future__ import annotations

from typing import Any

from llmops.core.errors import RequestError
from llmops.core.scorers import Function
from llmops.evals.scorers.mark import Marked, Marker, Tools, each, number_of


def function(knobs: Function, tools: Tools) -> Marker:
    """What the function returns: a number, or a number and a sentence that says why."""
    if knobs.function not in tools.functions:
        file = knobs.function.partition(":")[0]
        raise RequestError(
            f"{knobs.function} is code, and runs only if you name its file yourself",
            f"say so on the command line: --trust {file} (in Python: functions={{...}})",
        )
    own = tools.functions[knobs.function]
    return each(lambda answer, question: read_mark(own(answer, question)))


def read_mark(given: Any) -> Marked:
    """The mark that somebody's own scorer gave, with its reason where there is one."""
    if isinstance(given, Marked):
        return Marked(number_of(given.mark), given.notes)
    if isinstance(given, tuple) and len(given) == 2:
        return Marked(number_of(given[0]), {"scorer_read": str(given[1])[:2000]})
    return Marked(number_of(given))
