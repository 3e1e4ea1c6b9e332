"""A sweep is trained, measured, ranked and, once interrupted, gone on with; and several runs stand side by side."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import llmops
from llmops.cli.main import run as command_line
from llmops.core.errors import LlmopsError, RequestError
from llmops.core.experiments import Sweep
from llmops.core.plan import Wishes
from llmops.experiments.board import differing
from llmops.pipeline import sweeps
from llmops.store.workspace import Workspace
from tests.unit.tiny_life import made_up_rows, tiny_recipe, write_csv


class Ended:
    """A process that has ended already."""

    pid = 0

    def __init__(self, code: int) -> None:
        self.returncode = code

    def poll(self) -> int:
        return self.returncode


def in_this_process(arguments: list[str], log: Path) -> Ended:
    """What a process of its own would do, without the seconds in which it loads torch."""
    log.parent.mkdir(parents=True, exist_ok=True)
    return Ended(command_line(arguments))


@pytest.fixture(autouse=True, scope="module")
def quick_processes() -> Iterator[None]:
    """Members run in this process; one test starts real ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweeps, "launched", in_this_process)
        patch.setattr(sweeps, "LOOK_S", 0.0)
        yield


@pytest.fixture(scope="module")
def swept(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a sweep of two ranks, done."""
    folder = tmp_path_factory.mktemp("swept")
    recipe = tiny_recipe(tiny_base, write_csv(folder / "rows.csv", made_up_rows(240)), epochs=0.4)
    at = Workspace.find(folder / "ws", environ={})
    llmops.sweep(recipe, {"method.rank": (2, 4)}, at, Wishes(threads=1))
    return at


def recipe_of(at: Workspace) -> llmops.Recipe:
    return at.all(Sweep)[0].recipe


def test_a_sweep_is_ranked_with_the_cheap_rows_beside_it(swept: Workspace):
    board = llmops.board(swept, at_sweep(swept))
    names = [line.name for line in board.lines]
    assert {"method.rank=2", "method.rank=4", "tfidf", "majority"} <= set(names)
    values = [line.score.value for line in board.lines if line.score]
    assert values == sorted(values, reverse=True) and board.lines[0].against_best is None
    against = [line.against_best for line in board.lines[1:]]
    assert all(one is not None and one.adjusted_p is not None and one.adjusted_p >= one.p for one in against)
    assert len(swept.run_ids()) == 2 and len({swept.run(one).dataset for one in swept.run_ids()}) == 1


def at_sweep(at: Workspace) -> str:
    return at.ids(Sweep)[-1]


def test_asked_for_again_it_does_nothing_again(swept: Workspace):
    runs, reports = swept.run_ids(), swept.ids(llmops.EvalReport)
    board = llmops.sweep(recipe_of(swept), ["method.rank=2,4"], swept, Wishes(threads=1))
    assert swept.run_ids() == runs and swept.ids(llmops.EvalReport) == reports
    assert len(swept.ids(Sweep)) == 1 and board == llmops.board(swept, at_sweep(swept))


def test_an_interrupted_member_is_resumed_and_a_finished_one_left_alone(swept: Workspace, tmp_path: Path):
    """The killed parent: its member is stopped half-way, and the next go trains only what is missing."""
    at = replace(swept, root=tmp_path / "ws")
    shutil.copytree(swept.root, at.root)
    first, second = at.all(Sweep)[0].members
    run_ids = {at.events(run_id)[0].data["plan"]: run_id for run_id in at.run_ids()}
    whole = at.run(run_ids[second.plan])
    folder = at.run_folder(whole.id)
    events = [json.loads(line) for line in (folder / "run.jsonl").read_text().splitlines()]
    kept = [event for event in events if event["kind"] in ("created", "started")]
    kept[-1]["data"]["pid"] = 2**30  # there is no such process any more
    (folder / "run.jsonl").write_text("".join(json.dumps(event) + "\n" for event in kept))
    shutil.rmtree(folder / "adapter")
    for report in at.reports_of(whole.id):
        shutil.rmtree(at.folder(llmops.EvalReport, report.id))
    assert at.run(whole.id).status == "interrupted"
    assert [line.status for line in llmops.board(at, at_sweep(at)).lines if "rank=4" in line.name] == ["interrupted"]
    board = llmops.sweep(recipe_of(at), {"method.rank": (2, 4)}, at, Wishes(threads=1))
    assert len(at.run_ids()) == 2 and at.run(whole.id).adapter_sha256 == whole.adapter_sha256
    assert len(at.events(run_ids[first.plan])) == len(swept.events(run_ids[first.plan]))
    assert {line.status for line in board.lines} == {"measured"}


def test_a_member_that_fails_is_told_and_the_others_are_finished(
    swept: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The planted fault: the first member's process ends with an error."""
    said: list[str] = []
    at = replace(swept, root=tmp_path / "ws", world=replace(swept.world, say=said.append))
    shutil.copytree(swept.root, at.root)
    whole, unlucky = at.all(Sweep)[0], at.run_ids()[0]
    for report in [one for run in at.run_ids() for one in at.reports_of(run)]:
        shutil.rmtree(at.folder(llmops.EvalReport, report.id))

    def launched(arguments: list[str], log: Path) -> Ended:
        if unlucky not in arguments:
            return in_this_process(arguments, log)
        log.write_text("error: no luck\nfix: none\n")
        return Ended(1)

    monkeypatch.setattr(sweeps, "launched", launched)
    with pytest.raises(LlmopsError, match=r"1 of 2 recipes failed: .*no luck") as failed:
        llmops.sweep(whole.recipe, {"method.rank": (2, 4)}, at, Wishes(threads=1))
    assert "tries them again" in failed.value.fix and any("FAILED" in line for line in said)
    assert sum(bool(at.reports_of(run_id)) for run_id in at.run_ids()) == 1


def test_ctrl_c_leaves_a_sweep_that_goes_on(swept: Workspace, tmp_path: Path):
    """Members are asked to save themselves, and no process is left."""
    recipe = recipe_of(swept)
    longer = recipe.replace(training=recipe.training.replace(epochs=200.0))
    script = (
        "import sys, llmops\n"
        "from llmops.core.plan import Wishes\n"
        "at = llmops.Workspace.find(__import__('pathlib').Path(sys.argv[1]), environ={})\n"
        "recipe = llmops.Recipe.model_validate_json(sys.argv[2])\n"
        "try:\n    llmops.sweep(recipe, ['method.rank=2,4'], at, Wishes(threads=1))\n"
        "except KeyboardInterrupt:\n    sys.exit(130)\n"
    )
    at = Workspace.find(tmp_path / "ws", environ={})
    text = json.dumps(longer.to_json())
    process = subprocess.Popen([sys.executable, "-c", script, str(at.root), text], start_new_session=True)
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and not any(at.steps(run_id) for run_id in at.run_ids()):
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(60) == 130
    statuses = [at.run(run_id).status for run_id in at.run_ids()]
    assert statuses and "running" not in statuses and "interrupted" in statuses


def test_several_stand_side_by_side(swept: Workspace):
    runs = swept.run_ids()
    found = llmops.line_up(runs, swept)
    assert set(found.recipe) == {"method.rank"} and {"2", "4"} == set(found.recipe["method.rank"])
    assert "method.rank" in found.plan and len(found.comparisons) == 1
    assert all(column.curve is not None and len(column.curve.loss_nats) > 3 for column in found.columns)
    assert found.flipped == len(found.flips) or len(found.flips) == 50
    assert all(len(set(flip.marks)) > 1 for flip in found.flips)
    with pytest.raises(RequestError, match="twice"):
        llmops.line_up([runs[0], runs[0]], swept)
    with pytest.raises(RequestError, match="one alone"):
        llmops.line_up(runs[:1], swept)


def test_three_are_compared_with_the_first_after_holm(swept: Workspace):
    cheap = [report.id for report in swept.all(llmops.EvalReport) if report.subject.kind in ("tfidf", "majority")]
    found = llmops.line_up([*cheap, swept.run_ids()[0]], swept)
    assert [one.baseline_report for one in found.comparisons] == [found.columns[0].report] * 2
    assert all(one.overall.adjusted_p is not None for one in found.comparisons)
    assert found.columns[0].curve is None and found.columns[2].curve is not None


def test_the_command_line_shows_all_of_it(swept: Workspace, capsys: pytest.CaptureFixture[str]):
    at = ["--workspace", str(swept.root)]
    runs = swept.run_ids()
    for words in (
        ["list", "board"],
        ["list", "sweeps"],
        ["show", at_sweep(swept)],
        ["compare", *runs, "--full"],
        ["show", runs[0], "--slices"],
        ["power", runs[0]],
        ["power", "600"],
    ):
        assert command_line([*words, *at]) == 0, words
        assert capsys.readouterr().out.strip(), words
        assert command_line([*words, *at, "--json"]) == 0
        assert json.loads(capsys.readouterr().out), words


def test_a_version_keeps_its_temperature_and_abstains(swept: Workspace, tmp_path: Path):
    report = next(one for one in swept.all(llmops.EvalReport) if one.subject.kind == "tfidf")
    version = llmops.register(report.id, swept)
    assert version.temperature == llmops.calibrate(report.id, swept).temperature
    rows = write_csv(tmp_path / "in.csv", made_up_rows(40, seed=3))
    plain, picky = (tmp_path / name for name in ("plain.csv", "picky.csv"))
    assert llmops.predict(version.ref, rows, plain, swept, "text") == 40
    with pytest.raises(LlmopsError, match=r"no threshold promises at most 0\.1 %"):
        llmops.predict(version.ref, rows, picky, swept, "text", error=0.001)
    assert not picky.exists()
    llmops.predict(version.ref, rows, picky, swept, "text", error=0.2)
    with plain.open() as one, picky.open() as other:
        rows_plain, rows_picky = list(csv.DictReader(one)), list(csv.DictReader(other))
    assert "answered" not in rows_plain[0] and {row["answered"] for row in rows_picky} <= {"yes", "no"}
    assert all(bool(row["predicted_label"]) == (row["answered"] == "yes") for row in rows_picky)


def test_a_version_is_registered_with_its_threshold_and_abstains_by_itself(
    swept: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    report = next(one for one in swept.all(llmops.EvalReport) if one.subject.kind == "tfidf")
    plain, picky = llmops.register(report.id, swept), llmops.register(report.id, swept, abstain_error=0.2)
    assert plain.abstention is None and picky.number != plain.number and picky.files == plain.files
    assert picky.abstention == llmops.abstention(report.id, 0.2, swept)
    assert llmops.register(report.id, swept, 0.2) == picky and llmops.register(report.id, swept) == plain
    with pytest.raises(LlmopsError, match=r"no threshold promises at most 0\.1 %"):
        llmops.register(report.id, swept, 0.001)
    rows = write_csv(tmp_path / "in.csv", made_up_rows(40, seed=3))
    asked, own = tmp_path / "asked.csv", tmp_path / "own.csv"
    llmops.predict(plain.ref, rows, asked, swept, "text", error=0.2)
    llmops.predict(picky.ref, rows, own, swept, "text")
    assert asked.read_text().replace(plain.ref, picky.ref) == own.read_text()
    assert command_line(["show", picky.ref, "--workspace", str(swept.root)]) == 0
    assert "at most 20.0% of its labels are wrong" in " ".join(capsys.readouterr().out.split())
    assert "Where it gives no label" in (swept.version_folder(picky.ref) / "card.md").read_text()


def test_what_is_not_answered_has_no_label():
    from llmops.pipeline.use import _labels

    made = _labels(np.array([[0.9, 0.1], [0.4, 0.6]]), ("bad", "good"), 2.0, 0.7)
    assert [one["label"] for one in made] == ["bad", ""] and [one["answered"] for one in made] == ["yes", "no"]
    assert made[0]["probability"] == 0.75  # 0.9 and 0.1 to the power of a half
    assert "answered" not in _labels(np.array([[0.9, 0.1]]), ("bad", "good"), 1.0, None)[0]


def test_fields_that_differ_are_named_and_long_values_cut():
    found = differing([{"a": {"b": 1, "c": [1, 2]}, "d": "x" * 99}, {"a": {"b": 2, "c": [1, 2]}, "d": "y"}, {"a": {}}])
    assert set(found) == {"a.b", "a.c", "d"} and found["a.b"] == ("1", "2", "–") and len(found["d"][0]) == 60


def test_a_sweep_that_varies_its_rows_prepares_them_apart(swept: Workspace, tmp_path: Path):
    recipe = recipe_of(swept)
    assert sweeps._rows(recipe) != sweeps._rows(recipe.replace(data=recipe.data.replace(heldout_share=0.4)))
    assert sweeps._rows(recipe) == sweeps._rows(recipe.replace(method=llmops.IA3()))
