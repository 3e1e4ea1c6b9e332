"""A canary: conversations stay with one version, thumbs judge it at any time, and a worse one goes by itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import llmops
from llmops.cli.main import run
from llmops.core.canary import Canary, CanaryEnded, CanaryStarted, version_for
from llmops.core.certificate import Certificate
from llmops.core.errors import Refusal, RequestError
from llmops.core.version import Promotion, RefusedPromotion
from llmops.registry.canary import judge, read, running, settle, start, stop
from llmops.registry.prove_canary import by_the_test
from llmops.registry.register import register
from llmops.registry.sequential import evidence, first_crossing
from llmops.store.files import write_json
from llmops.store.workspace import Workspace
from tests.unit.sample_values import NOON, Clock, exchange, feedback, plan, report, share, workspace

CANARY = Canary(name="tone", control=1, challenger=2, share=0.1)


def some_weights(folder: Path) -> None:
    (folder / "adapter_model.safetensors").write_text("weights")


@pytest.fixture
def home(tmp_path: Path) -> Workspace:
    """tone:1 answers as production; tone:2 has a certificate, tone:3 has none."""
    at = workspace(tmp_path / "home", Clock())
    for number in (1, 2, 3):
        version = register(at, plan(), report("tuned", share(1, 2)), some_weights)
        if number < 3:
            made = Certificate(version=version.ref, rows=1, positions=1, probes=1, stages=())
            write_json(at.version_folder(version.ref) / "certificate.json", made.to_json())
    promoted(at, 1)
    return at


def promoted(at: Workspace, number: int) -> None:
    at.ledger.append(Promotion(name="tone", version=number, because="a test", author="ada", at=NOON), "tone")


def began(at: Workspace, number: int = 2) -> CanaryStarted:
    return start(at, at.versions("tone")[number - 1], 0.5, 0.05, "a try")


def said(at: Workspace, first: int, version: int, thumbs: str) -> None:
    """Exchanges of a version, and a thumb on each: `+` or `-`."""
    for number, sign in enumerate(thumbs, first):
        drawn = exchange(number, NOON, f"tone:{version}", conversation=f"c{number}")
        at.ledger.append(drawn, "tone", f"ex-{number}")
        thumb = "up" if sign == "+" else "down"
        at.ledger.append(feedback(number, NOON, thumb=thumb), "tone", f"ex-{number}")


def test_a_conversation_stays_with_whom_it_began_and_the_share_is_kept() -> None:
    who = [version_for(CANARY, f"conversation {number}") for number in range(20_000)]
    assert who == [version_for(CANARY, f"conversation {number}") for number in range(20_000)]
    assert set(who) == {"tone:1", "tone:2"} and 0.09 < who.count("tone:2") / len(who) < 0.11
    assert [version_for(CANARY, name) for name in ("a", "b", "\ud800")] == ["tone:2", "tone:2", "tone:1"]
    other = CANARY.replace(challenger=3)
    both = sum(
        version_for(CANARY, str(n)) == "tone:2" and version_for(other, str(n)) == "tone:3" for n in range(20_000)
    )
    assert both < 400  # another canary falls to others: 1 % of them, not 10 %


def test_the_numbers_of_a_canary_are_bounded() -> None:
    for wrong in ({"share": 0.0}, {"share": 0.6}, {"alpha": 0.0}, {"challenger": 1}):
        with pytest.raises(ValueError):
            CANARY.replace(**wrong)


def test_evidence_is_little_where_arms_are_equal_and_grows_where_one_is_worse() -> None:
    n = np.arange(1, 301)
    equal = evidence(n * 8 // 10, n, n * 8 // 10, n)
    worse = evidence(n * 5 // 10, n, n * 8 // 10, n)
    assert equal.max() < 1.0 and worse[-1] > 10 and (np.diff(worse[9::10]) > 0).mean() > 0.9
    better = evidence(n * 8 // 10, n, n * 5 // 10, n)
    assert better.max() < 1.0
    assert np.isfinite(evidence(n * 0, n * 1000, n * 1000, n * 1000)).all()  # however far apart


def test_passing_over_looks_that_cannot_cross_changes_nothing() -> None:
    chance = np.random.default_rng(0)
    for _ in range(20):
        arms, ups = chance.random(400) < 0.3, chance.random(400) < 0.7
        ups &= ~arms | (chance.random(400) < 0.6)
        counts = [np.cumsum(arms & ups), np.cumsum(arms), np.cumsum(~arms & ups), np.cumsum(~arms)]
        reached = np.flatnonzero(evidence(*counts) >= np.log(20))
        assert first_crossing(*counts, 0.05) == (int(reached[0]) if len(reached) else None)


def test_no_thumbs_are_no_evidence() -> None:
    event = CanaryStarted(canary=CANARY, author="ada", at=NOON)
    found = judge(event, [], [])
    assert (found.verdict, found.control.n, found.challenger.n) == ("cannot tell", 0, 0)


def test_the_verdict_of_the_first_crossing_stays_whatever_comes_later() -> None:
    bad = [True, False] * 60, [False, True] * 60
    assert by_the_test(np.array(bad[0]), np.array(bad[1])) == "roll back"
    later = [*bad[0], *[True] * 500], [*bad[1], *[True] * 500]
    assert by_the_test(np.array(later[0]), np.array(later[1])) == "roll back"


def test_a_worse_challenger_is_rolled_back_once_and_production_never_moved(home: Workspace) -> None:
    began(home)
    said(home, 0, 1, "+" * 40)
    said(home, 100, 2, "-" * 40)
    found = settle(home, "tone")
    assert found is not None and found.verdict == "roll back" and found.ended is not None
    assert found.ended.outcome == "rolled back" and "tone:2 less" in found.because and "0 of 40 up" in found.because
    assert settle(home, "tone") is None and running(home, "tone") is None
    assert len(home.ledger.read(CanaryEnded, "tone")) == 1 and len(home.ledger.read(Promotion, "tone")) == 1
    assert read(home, "tone") == found


def test_a_better_one_goes_on_until_a_person_promotes_it(home: Workspace) -> None:
    began(home)
    said(home, 0, 1, "-" * 40)
    said(home, 100, 2, "+" * 40)
    found = settle(home, "tone")
    assert found is not None and found.verdict == "promote" and found.ended is None
    assert running(home, "tone") is not None
    promoted(home, 2)
    assert running(home, "tone") is None and settle(home, "tone") is None
    assert home.ledger.read(CanaryEnded, "tone")[-1].because == "tone:2 was promoted meanwhile"


def test_thumbs_of_others_of_before_and_second_thoughts_do_not_count(home: Workspace) -> None:
    clock = home.world.clock
    said(home, 0, 2, "-" * 30)  # before the canary
    clock.later(5)  # type: ignore[attr-defined]
    began(home)
    said(home, 50, 3, "-" * 30)
    late = clock()
    home.ledger.append(exchange(90, late, "tone:2", conversation="c90"), "tone", "ex-90")
    for thumb in ("up", "down", "down"):
        home.ledger.append(feedback(90, late, thumb=thumb), "tone", "ex-90")
    home.ledger.append(feedback(91, late, thumb="up"), "tone", "ex-91")  # of an exchange that is not on record
    found = settle(home, "tone")
    assert found is not None and (found.challenger.up, found.challenger.n, found.control.n) == (1, 1, 0)


def test_a_conversation_counts_once_and_only_where_it_was_drawn(home: Workspace) -> None:
    began(home)
    said(home, 0, 1, "+" * 5)
    for number in range(50, 60):  # one who is never pleased, and one who asked for the version by its name
        sign = "angry" if number < 55 else None
        home.ledger.append(exchange(number, NOON, "tone:2", conversation=sign), "tone", f"ex-{number}")
        home.ledger.append(feedback(number, NOON, thumb="down"), "tone", f"ex-{number}")
    found = settle(home, "tone")
    assert found is not None and (found.challenger.up, found.challenger.n, found.control.n) == (0, 1, 5)


def test_only_one_runs_and_it_can_be_stopped(home: Workspace) -> None:
    with pytest.raises(RequestError, match="there was no canary"):
        read(home, "tone")
    with pytest.raises(RequestError, match="no canary of tone runs"):
        stop(home, "tone")
    began(home)
    with pytest.raises(RequestError, match="tone:2 is tried already"):
        began(home)
    ended = stop(home, "tone", "enough").ended
    assert ended is not None and (ended.outcome, ended.because) == ("stopped", "enough")
    assert running(home, "tone") is None
    began(home)
    assert running(home, "tone") is not None


def test_what_production_says_nothing_of_or_is_already_is_not_tried(home: Workspace) -> None:
    with pytest.raises(RequestError, match="answers as production already"):
        began(home, 1)
    with pytest.raises(RequestError, match=r"share of 0\.9"):
        start(home, home.versions("tone")[1], 0.9, 0.05, "")


def test_a_version_without_a_certificate_or_with_changed_files_is_refused_on_record(home: Workspace) -> None:
    with pytest.raises(Refusal, match="no parity certificate"):
        began(home, 3)
    (home.version_folder("tone:2") / "adapter_model.safetensors").write_text("other")
    with pytest.raises(Refusal):
        began(home, 2)
    refused = home.ledger.read(RefusedPromotion, "tone")
    assert [(event.alias, event.version) for event in refused] == [("canary", 3), ("canary", 2)]
    assert home.ledger.read(CanaryStarted, "tone") == []


def test_the_verb_starts_tells_and_stops(home: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--workspace", str(home.root)]
    assert run(["canary", "tone", "--to", "tone:2", "--share", "0.2", *where]) == 0
    assert "20% of the conversations" in capsys.readouterr().out
    assert run(["canary", "tone", "--json", *where]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "cannot tell"
    assert run(["canary", "tone", "--to", "other:2", *where]) == 2
    assert run(["canary", "tone", "--to", "tone:2", "--stop", *where]) == 2
    assert run(["canary", "tone", "--shadow", *where]) == 2
    capsys.readouterr()
    assert run(["canary", "tone", "--stop", *where]) == 0
    assert "stopped" in capsys.readouterr().out
    assert run(["canary", "tone", "--to", "tone:2", "--share", "1", *where]) == 2
    assert run(["canary", "tone", "--to", "tone:2", "--share", "1", "--shadow", *where]) == 0
    assert "which nobody is shown" in capsys.readouterr().out
    assert run(["canary", "tone", *where]) == 0
    assert "0 questions a second time" in capsys.readouterr().out
    assert run(["list", "canaries", *where]) == 0
    assert "shadow, 100%" in (listed := capsys.readouterr().out) and "stopped by" in listed
    with pytest.raises(RequestError, match="names no one version"):
        llmops.start_canary("tone", home)
