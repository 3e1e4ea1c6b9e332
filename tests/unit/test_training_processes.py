"""Several processes that train together give what one gives; and none of them is left behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
import pytest

from llmops import pipeline
from llmops.core.errors import LlmopsError, RequestError
from llmops.core.plan import Plan, Wishes
from llmops.core.recipe import Recipe
from llmops.core.run import Run
from llmops.store.workspace import Workspace
from llmops.training.processes import ALONE, Team, joined
from llmops.training.prove_processes import for_processes, losses, members, processes
from llmops.training.prove_sample import Sample
from tests.unit.tiny_life import made_up_rows, tiny_recipe, write_csv

TWO = Wishes(processes=2, threads=1)


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace.find(tmp_path_factory.mktemp("together") / "workspace", environ={})


@pytest.fixture(scope="module")
def recipe(at: Workspace, tiny_base: Path) -> Recipe:
    made = tiny_recipe(tiny_base, write_csv(at.root / "rows.csv", made_up_rows(120)))
    return made.replace(training=made.training.replace(precision="float32"))


@pytest.fixture(scope="module")
def two(at: Workspace, recipe: Recipe) -> tuple[Plan, Run]:
    plan = pipeline.plan(recipe, pipeline.prepare(recipe, at), at, TWO)
    return plan, pipeline.train(plan, at)


def test_two_processes_give_the_losses_and_the_adapter_of_one(
    at: Workspace, recipe: Recipe, two: tuple[Plan, Run]
) -> None:
    one = pipeline.train(pipeline.plan(recipe, pipeline.prepare(recipe, at), at, Wishes(threads=1)), at)
    far, apart = distance(at, one, two[1])
    assert far < 1e-5 and apart < 1e-4


def test_two_machines_started_by_torchrun_give_the_losses_of_one_launch(at: Workspace, two: tuple[Plan, Run]) -> None:
    plan, run = two
    before, port = set(at.run_ids()), members(1)[0]["MASTER_PORT"]
    nodes = [node(plan, at, rank, port) for rank in range(2)]
    try:
        said = [one.communicate(timeout=100) for one in nodes]
    finally:
        for one in nodes:
            one.kill()
    assert [one.returncode for one in nodes] == [0, 0], said
    (made,) = set(at.run_ids()) - before  # one run, not one a machine
    far, apart = distance(at, at.run(made), run)
    assert far < 1e-5 and apart < 1e-4
    assert json.loads(said[0][0])["id"] == made


def node(plan: Plan, at: Workspace, rank: int, port: str) -> subprocess.Popen[str]:
    """One machine of two, as torchrun is started there."""
    place = ["--nnodes", "2", "--node_rank", str(rank), "--nproc_per_node", "1"]
    door = ["--master_addr", "127.0.0.1", "--master_port", port]
    work = ["-m", "llmops", "train", plan.id, "--workspace", str(at.root), "--json"]
    command = [sys.executable, "-m", "torch.distributed.run", *place, *door, *work]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_base_that_lies_in_parts_gives_the_same(at: Workspace, recipe: Recipe, two: tuple[Plan, Run]) -> None:
    sharded = recipe.replace(training=recipe.training.replace(shard="full"))
    plan = pipeline.plan(sharded, pipeline.prepare(sharded, at), at, TWO)
    assert plan.knobs.shard == "full"
    far, apart = distance(at, pipeline.train(plan, at), two[1])
    assert far < 1e-5 and apart < 1e-4


def distance(at: Workspace, one: Run, other: Run) -> tuple[float, float]:
    """The largest differences of two runs: of a step's loss, and of an adapter's number."""
    from safetensors.torch import load_file

    assert one.status == other.status == "finished"
    losses = [[record.loss_nats for record in at.steps(run.id)] for run in (one, other)]
    adapters = [load_file(at.run_folder(run.id) / "adapter" / "adapter_model.safetensors") for run in (one, other)]
    far = max(abs(a - b) for a, b in zip(*losses, strict=True))
    return far, max(float((adapters[0][name] - adapters[1][name]).abs().max()) for name in adapters[0])


def begin(at: Workspace, plan: Plan) -> tuple[subprocess.Popen[str], str]:
    """`llmops train` on a plan, seen until its first step is done; and the id of its run."""
    before = set(at.run_ids())
    command = [sys.executable, "-m", "llmops", "train", plan.id, "--workspace", str(at.root), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(3000):
        new = set(at.run_ids()) - before
        if new and at.steps(next(iter(new))):
            return process, next(iter(new))
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    pytest.fail("no step was done within a minute")


@pytest.fixture(scope="module")
def long(at: Workspace, recipe: Recipe) -> Plan:
    longer = recipe.replace(training=recipe.training.replace(epochs=15))
    return pipeline.plan(longer, pipeline.prepare(longer, at), at, TWO)


def test_the_end_of_one_process_ends_the_others_with_an_error_and_the_run_can_go_on(at: Workspace, long: Plan) -> None:
    process, run_id = begin(at, long)
    members = {int(member.environ()["RANK"]): member for member in psutil.Process(process.pid).children(recursive=True)}
    members[1].kill()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1 and f"go on with --resume {run_id}" in said
    assert "process 1 of 2 ended with exit code -9" in said and "Traceback" not in said
    assert not any(member.is_running() for member in members.values())
    assert at.run(run_id).status in ("failed", "interrupted")


def test_sigterm_reaches_every_process_and_the_run_is_resumed_by_two(at: Workspace, long: Plan) -> None:
    process, run_id = begin(at, long)
    members = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    stopped = at.run(run_id)
    assert (stopped.status, stopped.note) == ("interrupted", "terminated"), said
    assert 0 < stopped.step < stopped.steps and not any(member.is_running() for member in members)
    resumed = pipeline.train(long, at, run_id)
    assert resumed.status == "finished" and resumed.adapter_sha256 == pipeline.train(long, at).adapter_sha256


def test_as_many_processes_as_planned_must_have_been_started(two: tuple[Plan, Run]) -> None:
    with pytest.raises(RequestError, match="for 2 processes, and there are 1"), joined(two[0].knobs, {}):
        pytest.fail("one process did the work of two")
    three = {"RANK": "0", "WORLD_SIZE": "3", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    with pytest.raises(RequestError, match="and there are 3"), joined(two[0].knobs, three):
        pytest.fail("three processes did the work of two")


def test_the_shares_of_a_team_are_everything_once() -> None:
    shares = [list(Team(rank, 3).share(range(10))) for rank in range(3)]
    assert sorted(item for share in shares for item in share) == list(range(10))
    assert list(ALONE.share("abc")) == ["a", "b", "c"] and ALONE.most(7) == 7 and ALONE.from_first(b"x") == b"x"


def test_a_base_in_parts_needs_more_than_one_process(at: Workspace, recipe: Recipe) -> None:
    sharded = recipe.replace(training=recipe.training.replace(shard="full"))
    with pytest.raises(RequestError, match="there is one"):
        pipeline.plan(sharded, pipeline.prepare(sharded, at), at)


def test_a_base_that_changed_since_the_plan_is_refused(at: Workspace, two: tuple[Plan, Run]) -> None:
    other = two[0].replace(base=two[0].base.replace(sha256="0" * 64))
    alone = other.replace(
        knobs=other.knobs.replace(processes=1),
        decisions=tuple(one.replace(value=1) if one.field == "processes" else one for one in other.decisions),
    )
    with pytest.raises(LlmopsError, match="but the plan is for 000000000000"):
        pipeline.train(alone, at)


def test_the_proof_sees_a_world_that_nobody_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmops.training import prove_processes

    assert processes("ci", tmp_path / "right").passed

    def as_told(made: Sample, world: Sequence[Mapping[str, str] | None], harmed: bool = False) -> list[float]:
        """Train with as many as there are: what a launcher does that nobody checks."""
        return losses(Sample(made.folder, for_processes(made.plan, len(world))), world, harmed)

    monkeypatch.setattr(prove_processes, "losses", as_told)
    found = processes("ci", tmp_path / "wrong")
    assert (found.found, found.of, found.false_alarms) == (1, 4, 0)  # only the gradients that nobody sums
