"""Patterns of other people: by RE2, in linear time whatever the text."""

from __future__ import annotations

from functools import lru_cache
from typing import Any


@lru_cache(maxsize=512)
def linear(pattern: str) -> Any:
    """The pattern, compiled by RE2. Raises `ValueError` with RE2's own words where it cannot be read.

    RE2 itself would also print them: on a server, a stranger's text on the console.
    """
    import re2  # late: most commands need none

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        said = error.args[0] if error.args else ""
        raise ValueError(said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)) from error
