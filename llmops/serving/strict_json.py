"""JSON as RFC 8259 has it and nothing else: what Python reads and an encoder would choke on is refused."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn


def parse(body: bytes) -> Any:
    """The value in `body`. Raises `ValueError` for what is no strict JSON.

    That is also: NaN and infinities, numbers beyond a double, a key twice in one object, a lone surrogate, bytes that
    are no UTF-8, nesting beyond what the parser can follow.
    """
    try:
        value = json.loads(
            body.decode("utf-8"), parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_no_twins
        )
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except UnicodeEncodeError as error:
        raise ValueError("half of a surrogate pair") from error
    return value


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice in one object")
    return found
