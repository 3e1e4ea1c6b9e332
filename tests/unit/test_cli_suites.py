"""Questions of a person's own, from the command line: asked, marked, compared, shown on a page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmops.cli import main

ROWS = [{"question": f"What is {one} + 1?", "answer": str(one + 1), "kind": "sum"} for one in range(6)]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMOPS_HOME", str(tmp_path / "home"))
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main.run(arguments)
    out, err = capsys.readouterr()
    return code, out, err


def test_a_file_of_questions_is_asked_marked_and_shown(capsys, tiny_base, folder):
    (folder / "mine.py").write_text("def mark(answer, question):\n    return len(answer), 'its length'\n")
    asked = ("evaluate", f"path:{tiny_base}", "--suite", "q.jsonl", "--set", "sampling.max_tokens=4", "--json")
    code, out, err = run(capsys, *asked, "--scorer", "includes")
    assert code == 0, err
    report = json.loads(out)
    assert report["suite"]["measures"] == ["includes"]
    assert "6 rows show a difference of 96.4 points or more in includes" in err
    assert report["suite"]["asking"]["sampling"]["max_tokens"] == 4
    assert len(report["answers"]) == 6
    code, out, err = run(capsys, *asked, "--scorer", "mine.py:mark", "--rows", "3")
    assert code == 0, err
    mine = json.loads(out)
    assert mine["scores"]["function"]["n"] == 3
    assert mine["answers"][0]["notes"] == {"scorer_read": "its length"}
    code, out, err = run(capsys, "show", report["id"], "--page", "--json")
    assert code == 0, err
    page = Path(json.loads(out)["page"])
    assert page.read_text(encoding="utf-8").count("What is 5 + 1?") == 1


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--suite", "q.jsonl"], "not said how to mark"),
        (["--suite", "nowhere.jsonl", "--scorer", "exact"], "no file"),
        (["--suite", "q.jsonl", "--scorer", "exakt"], "no scorer 'exakt'"),
        (["--suite", "q.jsonl", "--scorer", "number", "--set", "scorer.tolerence=1"], "scorer.tolerence"),
        (["--suite", "q.jsonl", "--scorer", "exact", "--column", "answer"], "--column answer"),
        (["--suite", "q.jsonl", "--scorer", "exact", "--column", "expected=gold"], "no column 'gold'"),
        (["--suite", "q.jsonl", "--scorer", "exact", "--rows", "0"], "0 rows"),
        (["--suite", "openbookqa", "--scorer", "exact"], "says how it is asked"),
        (["--scorer", "exact"], "none is named"),
        (["--suite", "q.jsonl", "--exam"], "--suite is a question of its own"),
        (["--suite", "q.jsonl", "--to-lm-eval", "out"], "own chat template"),
        (["--set", "samples=2"], "--set"),
    ],
)
def test_a_wrong_request_ends_with_two_and_says_what_to_do(capsys, options, what):
    code, out, err = run(capsys, "evaluate", "smollm2-135m-q4", *options)
    assert code == 2
    assert out == ""
    assert what in err
    assert "fix: " in err


def test_only_reports_and_comparisons_have_a_page(capsys):
    code, _, err = run(capsys, "show", "rp-1234", "--page")
    assert code == 2
    assert "error: " in err
