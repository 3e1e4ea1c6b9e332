"""`llmops prove data`: its own faults are found, and a check that finds nothing would be noticed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmops.core.proof import CheckResult
from llmops.data import prove_files, prove_kinds
from llmops.data.record import Record
from llmops.store.workspace import Workspace


def one(results: Iterator[CheckResult]) -> CheckResult:
    (result,) = results
    return result


def test_fifteen_kinds_of_malformed_data_are_caught_and_ten_clean_sets_pass(workspace: Workspace) -> None:
    found = one(prove_kinds.checks("ci", workspace))
    assert found.passed, found.note
    assert found.of >= 15 and found.clean >= 10
    assert not list(workspace.root.glob("prove-*"))


def test_sixty_damaged_files_and_more_change_nothing_in_silence(workspace: Workspace) -> None:
    found = one(prove_files.checks("ci", workspace))
    assert found.passed, found.note
    assert found.of >= 60 and found.clean >= 10


def lenient(path: Path, name: str) -> Iterator[Record]:
    """A reader as many are: what it cannot read it mends, or leaves out."""
    import json

    for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1):
        try:
            row: Any = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            yield Record(number, {key: str(value) for key, value in row.items()})


def test_a_lenient_reader_would_be_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prove_files, "read_records", lenient)
    files = [file for file in prove_files.damaged_files((0,)) if file.name.startswith("a.jsonl ")]
    assert sum(bool(prove_files.silent_change(file, tmp_path)) for file in files) > len(prove_files.BAD_JSON) / 2


def test_a_refusal_that_was_taken_out_would_be_missed(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prove_kinds, "refuse", lambda rows, examples, renderer: None)
    found = one(prove_kinds.checks("ci", workspace))
    assert not found.passed and "missed: shifted labels" in found.note
