"""What several test files share: a workspace with a stopped clock, and the browser."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from llmops.core.context import Surroundings
from llmops.store.workspace import Workspace

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An empty workspace in which it is always noon and the author is `tester`."""
    return Workspace.find(tmp_path / "workspace", Surroundings(clock=lambda: NOON, author="tester"), environ={})


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium. Without one the test is skipped, except in CI, where it must be there."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found:
            return found
    if os.environ.get("CI"):
        pytest.fail("no chromium in CI: .ci/run installs it")
    pytest.skip("no chromium here (Debian: apt-get install chromium)")


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of 2 layers with a tokenizer of its own, as a model folder."""
    from tests.unit.tiny_model import tiny_llama

    return tiny_llama(tmp_path_factory.mktemp("tiny"), spread=0.05)
