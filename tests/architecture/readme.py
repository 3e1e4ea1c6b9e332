"""The README's picture of the house against the house."""

from __future__ import annotations

import re
from pathlib import Path

FENCE = re.compile(r"```\w*\n(llmops/.*?)\n```", re.DOTALL)
DRAWING = re.compile(r"^[\s│├└─|`+-]*")
# Made by tools or by running; no part of the house.
PASSING = {
    ".git",
    ".gitignore",
    ".venv",
    ".venv-peers",
    ".llmops",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    ".hypothesis",
    "dist",
}


def drawn(readme: str) -> list[str]:
    """The paths in the README's tree, from the repository: one a line, `name/  # what it is`, indented by depth."""
    block = FENCE.search(readme)
    paths: list[str] = []
    stack: list[tuple[int, str]] = []
    for line in block[1].splitlines() if block else []:
        depth = len((DRAWING.match(line) or [""])[0])
        name = line[depth:].split("#")[0].strip().split(" ")[0]
        if not name:
            continue
        while stack and stack[-1][0] >= depth:
            stack.pop()
        path = "/".join([*(parent for _, parent in stack), name.rstrip("/")])
        paths.append(path)
        if name.endswith("/"):
            stack.append((depth, name.rstrip("/")))
    if any(path.startswith("llmops/llmops") for path in paths):  # the first line is the repository itself
        paths = [path.removeprefix("llmops/") for path in paths if path != "llmops"]
    return paths


def readme_tells_the_truth(root: Path) -> list[str]:
    """What the README draws is there; what stands at the top level, and every part of the package, is drawn."""
    readme = root / "README.md"
    paths = drawn(readme.read_text(encoding="utf-8")) if readme.is_file() else []
    if not paths:
        return ["README.md has no fenced block that begins with llmops/"]
    found = [f"README.md draws {path}, which is not there" for path in paths if not (root / path).exists()]
    parts = {
        f"llmops/{path.name}"
        for path in (root / "llmops").iterdir()
        if path.is_dir() and (path / "__init__.py").exists()
    }
    top = {
        path.name
        for path in root.iterdir()
        if path.name not in PASSING and not path.name.endswith((".egg-info", ".pyc"))
    }
    missing = sorted((parts | top) - set(paths) - {"README.md"})
    return found + [f"README.md does not draw {path}" for path in missing]
