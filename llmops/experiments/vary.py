"""`vary`: every combination of some knobs, as changes that `--set` understands; and how many may train at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

from llmops.core.errors import RequestError
from llmops.core.experiments import Knob
from llmops.core.value import Value

MOST_MEMBERS = 256
SPARE = 0.8  # of the free memory: the rest is for what is not training


def knobs_of(given: Mapping[str, Any]) -> tuple[Knob, ...]:
    """Knobs as Python names them: `method__rank=(4, 16)` is `method.rank` with two values; a single value is one."""
    knobs = []
    for name, values in given.items():
        several = isinstance(values, Iterable) and not isinstance(values, (str, Mapping, Value))
        knobs.append(Knob(field=name.replace("__", "."), values=tuple(map(_spelt, values if several else [values]))))
    return tuple(knobs)


def _spelt(value: Any) -> str:
    """A value as YAML reads it back. Text that YAML would take for something else is quoted."""
    return json.dumps(value.to_json() if isinstance(value, Value) else value, ensure_ascii=False)


def knobs_typed(typed: Sequence[str]) -> tuple[Knob, ...]:
    """Knobs as typed: `method.rank=4,16`. A comma inside brackets or quotes belongs to its value."""
    knobs = []
    for text in typed:
        field, equals, values = text.partition("=")
        if not equals or not field.strip() or not values.strip():
            raise RequestError(f"--vary {text} varies nothing", "write FIELD=A,B, such as --vary method.rank=4,16")
        knobs.append(Knob(field=field.strip(), values=tuple(_split(values))))
    return tuple(knobs)


def _split(text: str) -> list[str]:
    """`4,[1, 2],"a, b"` as three values."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        quote = ("" if letter == quote else quote) if quote else letter if letter in "\"'" else ""
        depth += 0 if quote else (letter in "[{") - (letter in "]}")
        if letter == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def combinations(knobs: Sequence[Knob]) -> list[tuple[str, ...]]:
    """Every combination, the last knob changing fastest, as `--set` changes.

    Raises `RequestError` where a knob is named twice, a value is repeated, or there are more than 256.
    """
    names = [knob.field for knob in knobs]
    if not knobs:
        raise RequestError("nothing is varied", "name a knob and its values, such as --vary method.rank=4,16")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise RequestError(f"{twice} is varied twice", "give all its values at once: --vary FIELD=A,B,C")
    for knob in knobs:
        if len(set(knob.values)) != len(knob.values):
            raise RequestError(f"{knob.field} has the same value twice", "name each value once")
    found = list(product(*([f"{knob.field}={value}" for value in knob.values] for knob in knobs)))
    if len(found) > MOST_MEMBERS:
        raise RequestError(f"that is {len(found):,} recipes", f"vary less: {MOST_MEMBERS} at most")
    return found


def jobs_for(members: int, cores: int, free_bytes: int, memory_bytes: int, on_gpu: bool) -> tuple[int, str]:
    """(how many members may train at a time, why): one a core at most, and as many as the memory holds.

    `memory_bytes` is what the plan of one expects. A GPU is not shared.
    """
    if on_gpu:
        return 1, "a GPU trains one at a time"
    fitting = max(1, int(SPARE * free_bytes // max(1, memory_bytes)))
    jobs = max(1, min(members, cores, fitting))
    if jobs == fitting < min(members, cores):
        return jobs, f"{memory_bytes / 1e9:.1f} GB each of {free_bytes / 1e9:.1f} GB that are free"
    return jobs, f"{members} recipes on {cores} cores" if jobs > 1 else "there is one core, or one recipe"
