"""Other formats of a version's weights, made when they are first needed and kept beside it in `exports/`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from llmops.core.version import ModelVersion
from llmops.registry.register import EXPORTS, verify
from llmops.store.workspace import Workspace

GGUF = "model-q8_0.gguf"


def version_gguf(workspace: Workspace, version: ModelVersion, base: Path) -> Path:
    """The version merged with its base (a folder) as GGUF q8_0. Raises `LlmopsError` where its files were changed."""
    from llmops.lm.adapters import merge
    from llmops.lm.gguf import write_gguf

    verify(workspace, version)
    folder = workspace.version_folder(version.ref)
    path = folder / EXPORTS / GGUF
    if not path.exists():
        workspace.world.say(f"writing {version.ref} as GGUF q8_0, once")
        path.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="llmops-merge-") as scratch:
            merge(base, folder, Path(scratch))
            write_gguf(Path(scratch), path)
    return path
