"""Things are called by name: `tone`, `tone:2`, `tone@production`, `last`."""

from __future__ import annotations

import re

from llmops.core.errors import RequestError
from llmops.core.version import ModelVersion, Promotion, champion
from llmops.store.workspace import Workspace

REF = re.compile(r"(?P<name>[a-z][a-z0-9-]{0,62})(:(?P<number>[1-9][0-9]{0,8})|@(?P<alias>[a-z][a-z0-9-]{0,62}))?")


def resolve(workspace: Workspace, ref: str) -> ModelVersion:
    """The version that `ref` means; `RequestError`, naming what there is, where it means none.

    `tone:2` is that number, `tone@production` what answers under that alias, `tone` what answers as production or,
    before any promotion, the newest; `last` is the version registered last under any name.
    """
    versions = workspace.versions()
    if ref == "last" and versions:
        return max(versions, key=lambda version: registered(workspace, version))
    match = REF.fullmatch(ref)
    named = [version for version in versions if match and version.name == match["name"]]
    if not match or not named:
        known = ", ".join(sorted({version.name for version in versions})) or "none yet: 'llmops run RECIPE' makes one"
        raise RequestError(f"there is no version called {ref!r}", f"known names: {known}")
    production = answering(workspace, match["name"], match["alias"] or "production")
    if match["alias"] and production is None:
        raise RequestError(f"nothing answers as {ref}", f"promote one first: 'llmops promote {named[-1].ref}'")
    number = int(match["number"]) if match["number"] else production.version if production else named[-1].number
    found = [version for version in named if version.number == number]
    if not found:
        known = ", ".join(version.ref for version in named[-5:])
        raise RequestError(f"there is no version {match['name']}:{number}", f"known: {known}")
    return found[0]


def registered(workspace: Workspace, version: ModelVersion) -> int:
    """When a version was registered, nanoseconds: the age of its card, since no version holds a time."""
    return (workspace.version_folder(version.ref) / "version.json").stat().st_mtime_ns


def answering(workspace: Workspace, name: str, alias: str = "production") -> Promotion | None:
    """The promotion by which `name@alias` answers now, or None."""
    return champion(tuple(workspace.ledger.read(Promotion, name)), name, alias)
