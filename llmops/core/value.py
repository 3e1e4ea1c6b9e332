"""The two kinds of thing llmops passes around: values, and facts (values named by their content)."""

from __future__ import annotations

import hashlib
import json
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict


def canonical_json(data: Any) -> str:
    """One spelling for one meaning: sorted keys, no spaces, UTF-8 kept, NaN refused (`ValueError`)."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(data: Any) -> str:
    """The sha256 (64 hex digits) of the canonical JSON of `data`."""
    return hashlib.sha256(canonical_json(data).encode("utf-8", "surrogatepass")).hexdigest()


class Value(BaseModel):
    """Frozen, closed (an unknown field is an error), compared by content."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, protected_namespaces=())

    def replace(self, **changes: Any) -> Self:
        """A checked copy that differs only in `changes`."""
        return self.model_validate({**dict(self), **changes})

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data; field aliases are used, so that a stored value reads like the recipe it came from."""
        return self.model_dump(mode="json", by_alias=True)


class Fact(Value):
    """A value with a name of its own: `id` is a prefix and the first 12 hex digits of its content's sha256.

    The same fact has the same id on every machine, so a fact holds no time, no path and no duration.
    """

    prefix: ClassVar[str]
    schema_number: Literal[1] = 1

    @property
    def id(self) -> str:
        return f"{self.prefix}-{digest(self.to_json())[:12]}"
