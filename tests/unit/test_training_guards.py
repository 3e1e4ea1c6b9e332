"""What stops training in time: memory that runs short, a disk that refuses, another process on the same run."""

from __future__ import annotations

import errno
import random
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from llmops.core.errors import LlmopsError, RequestError
from llmops.lm.memory import group_free_bytes
from llmops.store.disk import DiskError, FaultyDisk
from llmops.store.files import append_line, building, holding, read_log
from llmops.training import checkpoint, prove_crashes, prove_guards
from llmops.training.guard import MemoryGuard, MemoryShort, shrink
from llmops.training.prove_sample import RUN, Sample, sample


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return sample(tmp_path_factory.mktemp("sample"), steps=6, checkpoint_every=2)


def test_a_guard_strikes_within_the_stretch_that_it_watches_and_nowhere_else() -> None:
    room = 1
    with MemoryGuard(lambda: room).on() as guard:
        with guard.watched():
            time.sleep(0.12)
        with pytest.raises(MemoryShort, match="within the step"), guard.watched():
            room = -1
            for _ in range(200):
                time.sleep(0.01)
        time.sleep(0.12)  # nothing strikes here, though the room is as small
        with pytest.raises(MemoryShort, match="before the step"), guard.watched():
            pytest.fail("a stretch was begun without room")


def test_an_allocation_that_fails_is_memory_short_and_another_error_is_itself() -> None:
    guard = MemoryGuard(lambda: 1)
    with pytest.raises(MemoryShort), guard.watched():
        raise MemoryError("no more")
    with pytest.raises(MemoryShort), guard.watched():
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")
    with pytest.raises(RuntimeError, match="shapes"), guard.watched():
        raise RuntimeError("shapes do not fit")


def test_in_another_thread_the_room_is_looked_at_before_each_batch() -> None:
    found: list[str] = []

    def act() -> None:
        with MemoryGuard(lambda: -1).on() as guard:
            try:
                with guard.watched():
                    found.append("begun")
            except MemoryShort:
                found.append("short")

    thread = threading.Thread(target=act)
    thread.start()
    thread.join()
    assert found == ["short"]


def test_a_smaller_plan_differs_in_its_pack_and_names_the_one_before(made: Sample) -> None:
    smaller = shrink(made.plan, 40, "a test")
    assert smaller.replaces == made.plan.id and smaller.id != made.plan.id
    assert smaller.knobs == made.plan.knobs.replace(pack_tokens=64)
    with pytest.raises(LlmopsError, match="longest row, 64 tokens") as refused:
        shrink(smaller, 64, "a test")
    assert "--resume" in refused.value.fix


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({"memory.max": "1000", "memory.current": "700", "memory.stat": "anon 1\ninactive_file 50\n"}, 350),
        ({"memory.max": "max", "memory.current": "700", "memory.stat": ""}, None),
        (
            {
                "memory/memory.limit_in_bytes": "1000",
                "memory/memory.usage_in_bytes": "900",
                "memory/memory.stat": "total_inactive_file 5",
            },
            105,
        ),
        ({"memory/memory.limit_in_bytes": str(2**63 - 4096), "memory/memory.usage_in_bytes": "900"}, None),
        ({}, None),
    ],
)
def test_the_room_of_a_control_group_is_read(tmp_path: Path, files: dict[str, str], left: int | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert group_free_bytes(tmp_path) == left


def test_a_disk_that_fails_leaves_a_folder_whole_or_away(tmp_path: Path) -> None:
    counting = FaultyDisk(-1, 0)
    with building(tmp_path / "whole", counting) as draft:
        counting.write(draft / "a", lambda path: path.write_text("text"))
    for number in range(len(counting.done)):
        disk, folder = FaultyDisk(number, errno.ENOSPC), tmp_path / f"folder-{number}"
        with pytest.raises(DiskError, match="No space left"), building(folder, disk) as draft:
            disk.write(draft / "a", lambda path: path.write_text("text"))
        left = [path.name for path in folder.rglob("*")] if folder.exists() else []
        assert left == (["a"] if number == len(counting.done) - 1 else [])  # the last one syncs what was renamed
    assert not list(tmp_path.glob(".*"))


def test_half_a_line_on_a_full_disk_costs_that_line_only(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    append_line(path, {"a": 1})
    with pytest.raises(DiskError):
        append_line(path, {"a": 2}, FaultyDisk(0, errno.ENOSPC))
    append_line(path, {"a": 3})
    assert list(read_log(path)) == [{"a": 1}, {"a": 3}]


def test_what_the_library_writes_itself_fails_as_the_disk_does(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from llmops.store.disk import Disk

    with pytest.raises(DiskError, match="cannot be written"):
        Disk().write(tmp_path / "nowhere" / "a.safetensors", lambda path: save_file({"a": torch.zeros(3)}, path))


def test_a_run_on_a_disk_that_stays_full_fails_with_the_way_out(made: Sample) -> None:
    made.begin()
    with pytest.raises(LlmopsError, match="No space left on device") as full:
        made.train(replace(made.at, disk=FaultyDisk(12, errno.ENOSPC, lasting=True)))
    assert f"--resume {RUN}" in full.value.fix
    assert made.train().status == "finished"


def test_two_starts_of_one_run_are_told_apart_and_the_second_changes_nothing(made: Sample) -> None:
    made.begin()
    before = (made.run_folder / "run.jsonl").read_bytes()
    with holding(made.run_folder / "lock") as ours, pytest.raises(RequestError, match="in training already"):
        assert ours
        made.train()
    assert (made.run_folder / "run.jsonl").read_bytes() == before
    assert made.train().status == "finished"


def test_an_adapter_of_a_start_that_died_before_it_said_so_is_made_again(made: Sample) -> None:
    made.begin()
    done = made.train()
    events = (made.run_folder / "run.jsonl").read_bytes().splitlines(keepends=True)
    (made.run_folder / "run.jsonl").write_bytes(b"".join(events[:-1]))
    (made.run_folder / "adapter" / "adapter_config.json").write_text("{")
    again = made.train()
    assert (again.status, again.adapter_sha256) == ("finished", done.adapter_sha256)


def test_a_run_names_the_rows_of_a_step_that_was_not_finite(made: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmops.training import loop, train

    def poisoned(*arguments: object) -> loop.Loop:
        doing = loop.build(*arguments)  # type: ignore[arg-type]
        prove_guards.in_gradient(doing.model)
        return doing

    monkeypatch.setattr(train, "build", poisoned)
    made.begin()
    with pytest.raises(LlmopsError, match=r"step 1: loss .* gradient norm nan, in training rows \d+ \(r\d+\)"):
        made.train()
    assert made.at.run(RUN).status == "failed" and not checkpoint.found(made.run_folder / "state")


def test_the_proof_sees_a_checkpoint_that_nobody_verifies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, whole = prove_crashes.reference(tmp_path / "made")
    made.train(made.stopped_at(10))
    flips = dict(prove_crashes.damages("ci", random.Random(0)))["adapter.safetensors flipped"]
    assert prove_crashes.recovers(made, flips, whole, tmp_path / "copy")
    monkeypatch.setattr(checkpoint, "verify_folder", lambda folder, expected: None)
    assert not prove_crashes.recovers(made, flips, whole, tmp_path / "copy")


def test_the_proof_sees_a_step_whose_numbers_nobody_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmops.training import loop

    monkeypatch.setattr(loop, "check_step", lambda *arguments: None)
    assert prove_guards.nans("ci", tmp_path).found == 0


def test_the_proof_sees_weights_that_nobody_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmops.training import train

    for module in (train, checkpoint):
        monkeypatch.setattr(module, "check_weights", lambda tensors, step: None)
    assert not prove_guards.nothing_bad_is_saved("ci", tmp_path).passed


def test_the_proof_sees_a_run_that_forgets_its_random_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    made, whole = prove_crashes.reference(tmp_path)
    made.train(made.stopped_at(10))
    monkeypatch.setattr(torch, "set_rng_state", lambda state: None)
    assert made.train().adapter_sha256 != whole
