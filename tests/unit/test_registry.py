"""Versions are immutable and numbered once; promotion needs evidence; every step stays on record."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from llmops.core.certificate import Certificate
from llmops.core.comparison import Comparison
from llmops.core.errors import LlmopsError, Refusal, RequestError
from llmops.core.report import EvalReport
from llmops.core.version import ModelVersion, Promotion, RefusedPromotion
from llmops.experiments.compare import compare
from llmops.registry.names import resolve
from llmops.registry.promote import promote, rollback
from llmops.registry.register import Origin, code_commit, register, verify
from llmops.store.files import write_json
from llmops.store.workspace import Workspace
from tests.unit.sample_values import Clock, plan, report, share, workspace


def write(text: str = "weights") -> Callable[[Path], None]:
    def files(folder: Path) -> None:
        (folder / "adapter").mkdir()
        (folder / "adapter" / "adapter_model.safetensors").write_text(text)

    return files


@pytest.fixture
def home(tmp_path: Path) -> Workspace:
    return workspace(tmp_path / "home", Clock())


def stored(home: Workspace, kind: str, right: int, **changes: object) -> EvalReport:
    made = report(kind, share(right, 200), **changes)  # type: ignore[arg-type]
    home.put(made)
    return made


def version_of(home: Workspace, made: EvalReport, name: str = "tone") -> ModelVersion:
    version = register(
        home, plan(name), made, write(made.id), Origin("20261123-tone-ab" if made.subject.kind == "tuned" else None)
    )
    certificate = Certificate(version=version.ref, rows=1, positions=1, probes=1, stages=())
    write_json(home.version_folder(version.ref) / "certificate.json", certificate.to_json())
    return version


def evidence(home: Workspace, baseline: EvalReport, challenger: EvalReport) -> Comparison:
    made = compare(baseline, challenger)
    home.put(made)
    return made


def answers(home: Workspace) -> int | None:
    try:
        return resolve(home, "tone@production").number
    except RequestError:
        return None


def test_registering_twice_gives_the_next_number_and_changes_nothing_before(home: Workspace) -> None:
    made = stored(home, "tuned", 180)
    first, second = version_of(home, made), version_of(home, made)
    assert (first.ref, second.ref) == ("tone:1", "tone:2")
    assert home.versions("tone") == [first, second]
    assert first.report == made.id and first.plan == plan().id and first.recipe == plan().recipe.id
    assert first.packages["torch"] and set(first.files) == {"adapter/adapter_model.safetensors"}
    verify(home, first)


def test_a_number_is_not_given_again_after_its_promoted_folder_was_deleted(home: Workspace) -> None:
    made, base = stored(home, "tuned", 180), stored(home, "tfidf", 120)
    version_of(home, made)
    promote(home, version_of(home, made), evidence(home, base, made))
    import shutil

    shutil.rmtree(home.version_folder("tone:2"))
    assert version_of(home, made).ref == "tone:3"


def test_files_that_fail_to_be_written_leave_nothing(home: Workspace) -> None:
    def fails(folder: Path) -> None:
        write()(folder)
        raise OSError("disk full")

    made = stored(home, "tuned", 180)
    for files in (fails, lambda folder: None):
        with pytest.raises((OSError, LlmopsError)):
            register(home, plan(), made, files)
    assert home.versions() == []
    assert [path.name for path in (home.root / "versions" / "tone").iterdir()] == [".lock"]


def test_a_report_on_other_rows_than_the_plans_is_refused(home: Workspace) -> None:
    made = report("tuned", share(1, 2))
    with pytest.raises(RequestError, match="data set"):
        register(home, plan(), made.replace(suite=made.suite.replace(dataset="ds-9")), write())


def register_some(root: Path, times: int) -> None:
    home = workspace(root)
    for _ in range(times):
        version_of(home, report("tuned", share(1, 2)))


def test_processes_that_register_at_once_never_share_a_number(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=register_some, args=(tmp_path / "home", 5)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    home = workspace(tmp_path / "home")
    versions = home.versions("tone")
    assert [version.number for version in versions] == list(range(1, 21))
    for version in versions:
        verify(home, version)


def register_and_hang(root: Path) -> None:
    def hangs(folder: Path) -> None:
        write()(folder)
        (folder / "version.json").write_text("{}")  # as late as a draft can be killed
        (root / "ready").touch()
        time.sleep(60)

    register(workspace(root), plan(), report("tuned", share(1, 2)), hangs)


def test_killed_in_the_middle_of_registering_leaves_no_half_version(tmp_path: Path) -> None:
    root = tmp_path / "home"
    workspace(root)
    worker = multiprocessing.get_context("fork").Process(target=register_and_hang, args=(root,))
    worker.start()
    while not (root / "ready").exists():
        time.sleep(0.01)
    os.kill(worker.pid or 0, signal.SIGKILL)
    worker.join(10)
    home = workspace(root)
    assert home.versions() == []
    assert version_of(home, report("tuned", share(1, 2))).number == 1
    assert sorted(path.name for path in (root / "versions" / "tone").iterdir()) == [".lock", "1"]


def change(path: Path) -> None:
    path.write_text("other weights")


def remove(path: Path) -> None:
    path.unlink()


def add(path: Path) -> None:
    (path.parent / "adapter_model.bin").write_bytes(b"\x80\x04")


@pytest.mark.parametrize("tamper", [change, remove, add])
def test_a_version_whose_files_changed_is_refused_whatever_a_person_says(
    home: Workspace, tamper: Callable[[Path], None]
) -> None:
    made, base = stored(home, "tuned", 180), stored(home, "tfidf", 120)
    version = version_of(home, made)
    tamper(home.version_folder(version.ref) / "adapter" / "adapter_model.safetensors")
    with pytest.raises(LlmopsError):
        verify(home, version)
    with pytest.raises(Refusal):
        promote(home, version, evidence(home, base, made), because="I am sure")
    assert answers(home) is None and len(home.ledger.read(RefusedPromotion, "tone")) == 1


def test_exports_made_later_are_no_change_of_the_version(home: Workspace) -> None:
    version = version_of(home, stored(home, "tuned", 180))
    exports = home.version_folder(version.ref) / "exports"
    exports.mkdir()
    (exports / "q8_0.gguf").write_text("gguf")
    verify(home, version)


def test_a_first_version_better_than_the_best_cheap_row_is_promoted(home: Workspace) -> None:
    made, best = stored(home, "tuned", 180), stored(home, "frozen", 150)
    stored(home, "tfidf", 120)
    event = promote(home, version_of(home, made), evidence(home, best, made))
    assert (event.version, event.before, event.override, event.author) == (1, None, False, "ada")
    assert "better than frozen" in event.because and answers(home) == 1
    assert home.ledger.read(Promotion, "tone") == [event]


def refused(home: Workspace, version: ModelVersion, comparison: Comparison | None, reason: str) -> None:
    before = home.ledger.read(Promotion, "tone")
    with pytest.raises(Refusal, match=reason) as caught:
        promote(home, version, comparison)
    assert caught.value.exit_code == 1 and "--because" in caught.value.fix
    event = home.ledger.read(RefusedPromotion, "tone")[-1]
    assert event.version == version.number and event.because in str(caught.value) and event.author == "ada"
    assert home.ledger.read(Promotion, "tone") == before


def test_promotion_without_evidence_is_refused_and_recorded(home: Workspace) -> None:
    made, weak, best = stored(home, "tuned", 150), stored(home, "tfidf", 100), stored(home, "frozen", 149)
    version = version_of(home, made)
    refused(home, version, None, "no comparison")
    refused(home, version, evidence(home, weak, made), "not with frozen")
    refused(home, version, evidence(home, best, made), "not shown to be better")
    refused(home, version, evidence(home, made, best), "not about its own")
    refused(home, version, compare(report("tfidf", share(9, 200)), made), "not in this workspace")
    assert len(home.ledger.read(RefusedPromotion, "tone")) == 5


def test_a_worse_version_is_refused_even_if_it_is_cheaper(home: Workspace) -> None:
    made, best = stored(home, "tfidf", 100), stored(home, "frozen", 150)
    refused(home, version_of(home, made), evidence(home, best, made), "worse than frozen")


def test_cheaper_and_not_worse_is_a_reason(home: Workspace) -> None:
    made, best = stored(home, "word_list", 149), stored(home, "frozen", 150)
    event = promote(home, version_of(home, made), evidence(home, best, made))
    assert "cheaper than frozen" in event.because and not event.override


def test_a_comparison_by_another_measure_or_suite_is_no_evidence(home: Workspace) -> None:
    made, best = stored(home, "tuned", 180), stored(home, "frozen", 150)
    version, good = version_of(home, made), evidence(home, best, made)
    refused(home, version, good.replace(metric="macro_f1"), "accuracy decides")
    refused(home, version, good.replace(suite="su-other"), "does not fit")


def test_a_challenger_must_be_compared_with_what_answers_now(home: Workspace) -> None:
    first, second, cheap = (
        stored(home, "tuned", 150, ref="r1"),
        stored(home, "tuned", 180, ref="r2"),
        stored(home, "tfidf", 90),
    )
    promote(home, version_of(home, first), evidence(home, cheap, first))
    challenger = version_of(home, second)
    refused(home, challenger, evidence(home, cheap, second), "tone:1 answers now")
    event = promote(home, challenger, evidence(home, first, second))
    assert (event.before, event.version) == (1, 2) and answers(home) == 2


def test_a_champion_examined_again_is_known_by_its_name(home: Workspace) -> None:
    first, cheap = stored(home, "tuned", 150, ref="r1"), stored(home, "tfidf", 90)
    promote(home, version_of(home, first), evidence(home, cheap, first))
    suite = first.suite.replace(rows_sha256="1" * 64)
    again, second = (
        stored(home, "tuned", 140, ref="tone:1", suite=suite),
        stored(home, "tuned", 180, ref="r2", suite=suite),
    )
    assert promote(home, version_of(home, second), evidence(home, again, second)).version == 2


def test_a_person_may_insist_and_it_stays_on_record(home: Workspace) -> None:
    version = version_of(home, stored(home, "tuned", 150))
    with pytest.raises(Refusal):
        promote(home, version, None, because="   ")
    event = promote(home, version, None, because="the demo is at nine")
    assert event.override and event.author == "ada"
    assert "the demo is at nine" in event.because and "no comparison" in event.because


def test_promoting_what_answers_already_is_a_request_error(home: Workspace) -> None:
    version = version_of(home, stored(home, "tuned", 150))
    promote(home, version, None, because="first")
    with pytest.raises(RequestError, match="already"):
        promote(home, version, None, because="again")


def test_rollback_goes_back_step_by_step_and_never_forth(home: Workspace) -> None:
    made = stored(home, "tuned", 150)
    for _ in range(3):
        promote(home, version_of(home, made), None, because="a test")
    event = rollback(home, "tone")
    assert (event.version, event.before, event.rollback) == (2, 3, True) and answers(home) == 2
    assert rollback(home, "tone").version == 1
    with pytest.raises(RequestError, match="before tone:1"):
        rollback(home, "tone")
    promote(home, home.versions("tone")[2], None, because="after all")
    assert rollback(home, "tone").version == 1
    assert len(home.ledger.read(Promotion, "tone")) == 7


def test_rollback_without_a_promotion_or_to_changed_files_fails(home: Workspace) -> None:
    with pytest.raises(RequestError, match="no version called 'tone'"):
        rollback(home, "tone")
    made = stored(home, "tuned", 150)
    first = version_of(home, made)
    with pytest.raises(RequestError, match="nothing answered"):
        rollback(home, "tone")
    for version in (first, version_of(home, made)):
        promote(home, version, None, because="a test")
    change(home.version_folder("tone:1") / "adapter" / "adapter_model.safetensors")
    with pytest.raises(Refusal, match="was changed"):
        rollback(home, "tone")
    assert answers(home) == 2 and len(home.ledger.read(RefusedPromotion, "tone")) == 1


def test_names_mean_what_people_expect(home: Workspace) -> None:
    made = stored(home, "tuned", 150)
    one, two = version_of(home, made), version_of(home, made)
    other = version_of(home, made, "other-tone")
    assert resolve(home, "tone:1") == one and resolve(home, "tone") == two and resolve(home, "last") == other
    promote(home, one, None, because="a test")
    assert resolve(home, "tone") == one and resolve(home, "tone@production") == one
    (home.version_folder("tone:1") / "exports").mkdir()
    assert resolve(home, "last") == other


@pytest.mark.parametrize(
    "ref",
    [
        "",
        "nobody",
        "tone:9",
        "tone:0",
        "tone:",
        "tone:1x",
        "tone@",
        "tone@staging",
        "../tone",
        "*",
        "tone:1\n",
        "tone:" + "9" * 40,
    ],
)
def test_a_name_that_means_nothing_is_a_request_error(home: Workspace, ref: str) -> None:
    with pytest.raises(RequestError):
        resolve(home, "last")
    version_of(home, stored(home, "tuned", 150))
    with pytest.raises(RequestError) as caught:
        resolve(home, ref)
    assert caught.value.fix


def test_code_without_a_clone_has_no_commit(tmp_path: Path) -> None:
    assert code_commit(tmp_path) is None
    (tmp_path / ".git").mkdir()
    assert code_commit(tmp_path) is None


def test_changed_code_is_marked_in_its_commit(tmp_path: Path) -> None:
    import subprocess

    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*git, "init", "-q"], check=True)
    (tmp_path / "file").write_text("1")
    subprocess.run([*git, "add", "file"], check=True)
    subprocess.run([*git, "commit", "-qm", "one"], check=True)
    clean = code_commit(tmp_path)
    assert clean and len(clean) == 40
    (tmp_path / "file").write_text("2")
    assert code_commit(tmp_path) == f"{clean}-dirty"
