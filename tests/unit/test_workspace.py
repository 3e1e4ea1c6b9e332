"""The workspace under attack: half lines, half files, races, names that mean two things."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest

from llmops.core.comparison import Comparison
from llmops.core.dataset import DatasetManifest, SourceRecord
from llmops.core.errors import LlmopsError, RequestError
from llmops.core.plan import Plan
from llmops.core.report import EvalReport
from llmops.core.run import RunEvent
from llmops.core.tasks import Classify
from llmops.store.files import (
    append_line,
    building,
    locked,
    read_jsonl,
    read_log,
    sha256_file,
    sha256_folder,
    verify_folder,
    write_json,
    write_jsonl,
    write_text,
    writing,
)
from llmops.store.workspace import Workspace, pick
from tests.unit.sample_values import LABELS, NOON, plan, report, row, share, workspace

EVENTS = [
    {"kind": "created", "data": {"name": "t", "seconds": {"a": 1.5}}},
    {"kind": "checkpoint", "data": {}, "text": "na\u00efve \U0001f600 {}"},
    {"kind": "finished", "data": {"x": {"y": {}}}},
]


def log(folder: Path) -> Path:
    path = folder / "run.jsonl"
    for event in EVENTS:
        append_line(path, event)
    return path


def test_a_log_that_a_crash_cut_anywhere_loses_the_last_event_only_and_goes_on(tmp_path: Path) -> None:
    path = log(tmp_path)
    whole = path.read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    for cut in range(start, len(whole)):
        path.write_bytes(whole[:cut])
        finished = cut == len(whole) - 1  # only the end of the line is missing: nothing is lost
        kept = EVENTS if finished else EVENTS[:2]
        assert list(read_log(path)) == kept, whole[start:cut]
        append_line(path, {"kind": "resumed"})
        append_line(path, {"kind": "later"})
        assert list(read_log(path)) == [*kept, {"kind": "resumed"}, {"kind": "later"}], whole[start:cut]


@pytest.mark.parametrize(
    "damage", [b'{"kind": "creat\n', b"{}}\n", b"\x00\x00\x00\n", b"[1]\n", b"\xff\n", b"[" * 9999 + b"\n"]
)
def test_other_damage_in_a_log_is_an_error_not_a_gap(tmp_path: Path, damage: bytes) -> None:
    path = log(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + damage + lines[2])
    with pytest.raises(LlmopsError, match="line 2"):
        list(read_log(path))


def test_a_file_that_was_written_whole_may_not_end_in_half_a_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, EVENTS)
    assert list(read_jsonl(path)) == EVENTS
    whole = path.read_bytes()
    for cut in (len(whole) - 1, len(whole) - 2, len(whole) - 9):
        path.write_bytes(whole[:cut])
        with pytest.raises(LlmopsError, match="line 3"):
            list(read_jsonl(path))
    path.unlink()
    with pytest.raises(LlmopsError, match="missing"):
        list(read_jsonl(path))
    assert list(read_log(path)) == []


def test_writing_leaves_the_old_file_where_anything_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"a": float("nan")})
    with pytest.raises(RuntimeError), writing(path) as draft:
        draft.write_text("half")
        raise RuntimeError
    assert json.loads(path.read_text()) == {"a": 1}
    assert [found.name for found in tmp_path.iterdir()] == ["a.json"]


def test_building_gives_the_whole_folder_or_none(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), building(tmp_path / "ds-1") as draft:
        (draft / "half").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with building(tmp_path / "ds-1") as draft:
        (draft / "deep").mkdir()
        (draft / "deep" / "file").write_text("whole")
        assert not (tmp_path / "ds-1").exists()
    assert (tmp_path / "ds-1" / "deep" / "file").read_text() == "whole"
    with pytest.raises(FileExistsError), building(tmp_path / "ds-1"):
        raise AssertionError("it exists already")


def test_of_two_builders_of_one_folder_the_slower_is_told_and_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "ds-1"
    with pytest.raises(FileExistsError), building(folder) as slow:
        (slow / "file").write_text("slow")
        with building(folder) as quick:
            (quick / "file").write_text("quick")
    assert (folder / "file").read_text() == "quick" and [path.name for path in tmp_path.iterdir()] == ["ds-1"]


def add_ones(folder: Path, times: int) -> None:
    for _ in range(times):
        with locked(folder / ".lock"):
            count = int((folder / "count").read_text())
            write_text(folder / "count", str(count + 1))


def test_a_lock_lets_one_process_in_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0")
    workers = [multiprocessing.get_context("fork").Process(target=add_ones, args=(tmp_path, 40)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert (tmp_path / "count").read_text() == "120"


def test_a_changed_or_missing_file_is_found_by_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c").write_text("c")
    expected = sha256_folder(tmp_path)
    verify_folder(tmp_path, expected)
    for harm in (drop_a_line, Path.unlink):
        harm(tmp_path / "b" / "c")
        with pytest.raises(LlmopsError, match="c "):
            verify_folder(tmp_path, expected)


def test_facts_come_back_by_id_prefix_and_last(tmp_path: Path) -> None:
    home = workspace(tmp_path)
    first, second = plan("tone"), plan("other")
    home.put(first)
    home.put(second)
    assert home.get(Plan, first.id) == first and home.get(Plan, "last") == second
    assert home.get(Plan, first.id[:7]) == first and home.get(Plan, first.id[3:8]) == first
    assert home.all(Plan) == [first, second]
    with pytest.raises(RequestError, match="means 2"):
        home.get(Plan, "pl")
    with pytest.raises(RequestError, match="no plan 'zz'"):
        home.get(Plan, "zz")
    with pytest.raises(RequestError):
        home.get(Comparison, "last")


def test_putting_a_fact_twice_writes_it_once(tmp_path: Path) -> None:
    home = workspace(tmp_path)
    made = report("tuned", share(3, 4))
    path = home.put(made)
    before = path.stat().st_mtime_ns
    assert home.put(made) == path and path.stat().st_mtime_ns == before
    assert home.get(EvalReport, "last") == made


def put_report(root: Path) -> None:
    for number in range(20):
        workspace(root).put(report("tuned", share(number, 200)))


def test_two_processes_may_put_the_same_reports(tmp_path: Path) -> None:
    workers = [multiprocessing.get_context("fork").Process(target=put_report, args=(tmp_path,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 3
    assert len(workspace(tmp_path).all(EvalReport)) == 20


def test_answers_that_were_cut_are_an_error_not_a_smaller_report(tmp_path: Path) -> None:
    home = workspace(tmp_path)
    path = home.put(report("tuned", share(3, 4))).parent / "answers.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(LlmopsError):
        home.get(EvalReport, "last")


def dataset(home: Workspace) -> DatasetManifest:
    """Two training rows, one held out, as `prepare` lays them down."""
    draft = home.root / "draft"
    write_jsonl(draft / "train.jsonl", [row(0, "a", "good").to_json(), row(1, "b", "bad").to_json()])
    write_jsonl(draft / "heldout.jsonl", [row(2, "c", "bad").to_json()])
    made = DatasetManifest(
        name="tone",
        task=Classify(question="?", labels=LABELS),
        sources=(SourceRecord(from_="path:x", sha256="0" * 64, licence=None, rows_read=3),),
        rows_read=3,
        rows_train=2,
        rows_heldout=1,
        dropped={},
        files=sha256_folder(draft),
    )
    folder = home.folder(DatasetManifest, made.id)
    folder.parent.mkdir(parents=True)
    draft.rename(folder)
    home.put(made)
    return made


def flip(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"good"', b'"bad"', 1))


def drop_a_line(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


@pytest.mark.parametrize("harm", [flip, drop_a_line, Path.unlink])
def test_rows_that_changed_since_prepare_are_refused(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    home = workspace(tmp_path)
    made = dataset(home)
    assert [item.id for item in home.rows("last", "train")] == ["r0", "r1"]
    harm(home.folder(DatasetManifest, made.id) / "train.jsonl")
    assert len(home.rows(made.id, "heldout")) == 1
    with pytest.raises(LlmopsError):
        home.rows(made.id, "train")


def test_a_run_is_found_by_name_and_its_half_written_event_is_skipped(tmp_path: Path) -> None:
    home = workspace(tmp_path)
    data = {"name": "my-tone", "plan": "pl-1", "dataset": "ds-1", "steps": 9}
    home.add_event("20261123-my-tone-ab12", RunEvent(kind="created", at=NOON, data=data))
    home.add_event("20261123-my-tone-ab12", RunEvent(kind="started", at=NOON))
    home.add_event("20261123-my-tone-ab12", RunEvent(kind="finished", at=NOON, step=9))
    path = home.run_folder("20261123-my-tone-ab12") / "run.jsonl"
    path.write_bytes(path.read_bytes()[:-2])
    assert home.run("my-tone").status == "running" and home.run("last") == home.run("20261123")
    home.add_event("20261123-my-tone-ab12", RunEvent(kind="interrupted", at=NOON, step=4))
    assert home.run("my-tone").status == "interrupted" and len(home.events("20261123-my-tone-ab12")) == 3


def test_the_later_record_of_a_step_that_was_done_again_counts(tmp_path: Path) -> None:
    home = workspace(tmp_path)
    path = home.run_folder("r") / "metrics.jsonl"
    step = {"step": 1, "of": 2, "loss_nats": 3.0, "learning_rate": 0.1, "gradient_norm": 1.0, "tokens": 1}
    step |= {"trained_tokens": 1, "seconds": 0.1, "memory_bytes": 1}
    for loss in (3.0, 2.0):
        append_line(path, {**step, "loss_nats": loss})
    assert [record.loss_nats for record in home.steps("r")] == [2.0]


def test_the_workspace_is_the_named_one_then_the_environments_then_the_nearest(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (tmp_path / ".llmops").mkdir()
    assert Workspace.find(None, None, {}, deep).root == tmp_path / ".llmops"
    assert Workspace.find(None, None, {"LLMOPS_HOME": str(tmp_path / "env")}, deep).root == tmp_path / "env"
    assert Workspace.find(tmp_path / "c", None, {"LLMOPS_HOME": "/nowhere"}, deep).root == tmp_path / "c"
    assert (tmp_path / "c" / ".gitignore").read_text() == "*\n"
    (tmp_path / "file").write_text("x")
    with pytest.raises(RequestError, match="is a file"):
        Workspace.find(tmp_path / "file", None, {}, deep)


def test_an_id_that_is_another_ones_prefix_still_means_itself() -> None:
    assert pick("pl-ab", ["pl-ab", "pl-abc"], "plan") == "pl-ab"
    assert pick("last", ["pl-1", "pl-2"], "plan") == "pl-2"


def test_a_fact_of_another_release_is_an_error_that_says_so(tmp_path: Path) -> None:
    home = workspace(tmp_path)
    path = home.put(plan())
    old = {**json.loads(path.read_text()), "method": "lora"}
    path.write_text(json.dumps(old))
    with pytest.raises(LlmopsError, match=r"is no Plan as this llmops writes it: method: .*") as told:
        home.get(Plan, "last")
    assert "another release" in told.value.fix


def test_a_fact_that_was_damaged_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    home = workspace(tmp_path)
    path = home.put(plan())
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(LlmopsError, match="cannot be read"):
        home.get(Plan, "last")
    assert sha256_file(path)
