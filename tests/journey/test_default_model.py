"""One short journey on the real default model and real rows: the page to learn from does what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

import llmops
from llmops.core.context import Surroundings
from llmops.core.report import EvalReport
from llmops.core.serving import Exchange
from recipes import by_hand


@pytest.mark.journey
@pytest.mark.timeout(900)
def test_by_hand_walks_the_whole_life(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = llmops.Workspace.find(tmp_path / "workspace", Surroundings(), environ={})
    by_hand.main(at)
    printed = capsys.readouterr().out
    verbs = ("prepare", "plan", "inspect", "train", "evaluate", "compare", "pick", "register", "promote", "chat")
    assert all(f"--- {verb}" in printed for verb in (*verbs, "health", "curate"))
    (version,) = at.versions("by-hand")
    reports = {report.subject.kind: report.main for report in at.all(EvalReport)}
    # 160 rows are enough for the tuned model to leave the majority behind, with room to spare.
    assert reports["tuned"].low > reports["majority"].value
    assert reports["tuned"].value > 0.8
    (asked,) = at.ledger.read(Exchange, "by-hand")
    assert (asked.version, asked.answer, asked.finish) == (version.ref, "positive", "stop")
    assert "1 rows for the next data set" in printed
