"""`Decisions`: a value and its reason for every knob."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from llmops.core.plan import Decision
from llmops.core.value import Value

Choice = TypeVar("Choice", bound=Value)
Proposal = tuple[Any, str]


class Decisions:
    """Collects a value and its reason for every knob; what the recipe or the person fixed is taken as it is."""

    def __init__(self) -> None:
        self.made: dict[str, Decision] = {}

    def take(self, field: str, fixed: Any, proposed: Any, because: str) -> Any:
        """`fixed` where somebody fixed it, else `proposed` because of `because`."""
        value, reason = (proposed, because) if fixed is None else (fixed, "asked for")
        self.made[field] = Decision(field=field, value=value, because=reason)
        return value

    def close(self, name: str, choice: Choice, because: str, proposals: Mapping[str, Proposal]) -> Choice:
        """`choice` (a method, an objective) with nothing open: its kind `because`, each open field by its proposal.

        The decisions are called `name` and `name.field`.
        """
        kind = dict(choice)["kind"]
        self.take(name, None, kind, because)
        closed = {
            field: self.take(f"{name}.{field}", value, *proposals[field]) for field, value in choice if field != "kind"
        }
        return choice.replace(**closed)
