"""A source tree as the rules see it: its Python files, the part of the house each belongs to, and what it imports.

Every rule is a function from the root of a tree to the violations in it, in sentences; a tree that obeys gives none.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
ROOMS = ("data", "planning", "training", "evals", "experiments", "registry", "serving", "monitoring")
FLOORS = {
    "core": 0,
    "store": 1,
    "lm": 1,
    **dict.fromkeys(ROOMS, 2),
    "pipeline": 3,
    "cli": 4,
    "app": 4,
    "recipes": 4,
}
# The public names of `import llmops` are pipeline's verbs and the values: to use them is to stand above pipeline.
FRONT = "pipeline"


@dataclass(frozen=True)
class Source:
    """One Python file of a tree."""

    root: Path
    path: Path

    @property
    def name(self) -> str:
        return self.path.relative_to(self.root).as_posix()

    @property
    def part(self) -> str | None:
        """`lm` for llmops/lm/base.py, `app` for app/main.py; None for the package's own front files and for tests."""
        parts = self.path.relative_to(self.root).parts
        if parts[0] == "llmops" and len(parts) > 1:
            return parts[1].removesuffix(".py") if parts[1] not in ("__init__.py", "__main__.py") else None
        return parts[0] if parts[0] in FLOORS else None

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def syntax(self) -> ast.Module:
        return ast.parse(self.text, self.name)

    @property
    def imports(self) -> list[tuple[str, int]]:
        """(dotted name of what is imported, line), wherever in the file; relative ones are resolved."""
        found = []
        for node in ast.walk(self.syntax):
            if isinstance(node, ast.Import):
                found += [(alias.name, node.lineno) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = self._base(node)
                found += [(f"{base}.{alias.name}".strip("."), node.lineno) for alias in node.names]
        return found

    def _base(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        package = self.path.relative_to(self.root).parts[: -node.level]
        return ".".join((*package, *([node.module] if node.module else [])))

    def parts_seen(self) -> set[tuple[str, int]]:
        """(part of the house that is imported, line)."""
        seen = set()
        for dotted, line in self.imports:
            first, *rest = dotted.split(".")
            if first == "llmops":
                seen.add((rest[0] if rest and rest[0] in FLOORS else FRONT, line))
            elif first in ("app", "recipes"):
                seen.add((first, line))
        return seen


def sources(root: Path, *folders: str) -> Iterator[Source]:
    """The Python files below `folders` of the tree (by default of what is shipped)."""
    for folder in folders or ("llmops", "app", "recipes"):
        for path in sorted((root / folder).rglob("*.py")):
            if "__pycache__" not in path.parts:
                yield Source(root, path)
