"""`health` claims only what its numbers carry; `curate` makes rows of what people said, and says what it left out."""

from __future__ import annotations

import json
import math
from datetime import timedelta
from pathlib import Path

import pytest

from llmops.core.dataset import Message
from llmops.core.errors import RequestError
from llmops.core.version import Promotion
from llmops.monitoring.curate import curate
from llmops.monitoring.health import health, window
from llmops.registry.register import register
from llmops.store.files import write_text
from llmops.store.workspace import Workspace
from tests.unit.sample_values import NOON, Clock, exchange, feedback, plan, report, share, workspace


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def home(tmp_path: Path, clock: Clock, said: list[str]) -> Workspace:
    made = workspace(tmp_path / "home", clock, said)
    for _ in range(2):
        register(made, plan(), report("tuned", share(1, 2)), lambda folder: write_text(folder / "weights", "w"))
    return made


def promoted(home: Workspace, version: int, before: int | None = None) -> None:
    at = home.world.clock()
    event = Promotion(name="tone", version=version, before=before, because="a test", author="ada", at=at)
    home.ledger.append(event, "tone")


def asked(
    home: Workspace, clock: Clock, count: int, version: str = "tone:1", start: int = 0, **changes: object
) -> None:
    """`count` exchanges, one second apart."""
    for number in range(start, start + count):
        home.ledger.append(exchange(number, clock.now, version, **changes), "tone", f"ex-{number}")
        clock.later(1 / 60)


def test_without_traffic_it_says_how_to_get_some(home: Workspace, clock: Clock) -> None:
    promoted(home, 1)
    clock.later(5)
    found = health(home, "tone")
    assert found.version == "tone:1" and found.now.requests == 0
    assert found.findings == ("No traffic yet: ask something with 'llmops chat tone' or through 'llmops serve tone'.",)


def test_before_any_promotion_there_is_one_window(home: Workspace, clock: Clock) -> None:
    asked(home, clock, 3)
    clock.later(1)
    found = health(home, "tone")
    assert found.version is None and found.now.requests == 3 and found.before.requests == 0
    assert found.findings[0] == "3 requests." and not any("before" in line for line in found.findings)


def test_the_window_before_is_as_long_as_the_one_since(home: Workspace, clock: Clock) -> None:
    promoted(home, 1)
    clock.later(60)
    asked(home, clock, 4)  # long ago: outside
    clock.later(60)
    asked(home, clock, 5, start=10)
    promoted(home, 2, before=1)
    clock.later(0.5)
    asked(home, clock, 6, "tone:2", start=20)
    clock.later(0.5)
    found = health(home, "tone")
    assert (found.now.requests, found.before.requests) == (6, 5)
    assert found.before.until == found.now.since
    assert found.before.until - (found.before.since or NOON) == found.now.until - (found.now.since or NOON)


def test_the_window_before_reaches_back_no_further_than_the_promotion_before(home: Workspace, clock: Clock) -> None:
    asked(home, clock, 4)
    promoted(home, 1)
    clock.later(1)
    promoted(home, 2, before=1)
    clock.later(60)
    found = health(home, "tone")
    assert found.before.since == NOON + timedelta(seconds=4) and found.before.requests == 0


def test_requests_that_another_version_answered_are_named_not_counted(home: Workspace, clock: Clock) -> None:
    promoted(home, 1)
    promoted(home, 2, before=1)
    asked(home, clock, 3, "tone:1")
    asked(home, clock, 2, "tone:2", start=10)
    clock.later(1)
    found = health(home, "tone")
    assert found.now.requests == 2 and "3 requests since then were answered by tone:1" in found.findings[-1]


def two_windows(home: Workspace, clock: Clock, before: int, now: int) -> None:
    promoted(home, 1)
    asked(home, clock, before)
    promoted(home, 2, before=1)
    clock.later(1)
    asked(home, clock, now, "tone:2", start=1000)


def finding(home: Workspace, clock: Clock, word: str) -> str:
    clock.later(10)
    return next(line for line in health(home, "tone").findings if word in line)


def test_many_failures_are_called_worse(home: Workspace, clock: Clock) -> None:
    two_windows(home, clock, 55, 30)
    asked(home, clock, 10, "tone:2", start=2000, finish="error")
    line = finding(home, clock, "failed")
    assert line.startswith("10 of 40 answers failed (before: 0 of 55): worse than before (p ")


def test_a_few_failures_are_too_few_to_tell(home: Workspace, clock: Clock) -> None:
    two_windows(home, clock, 5, 4)
    asked(home, clock, 1, "tone:2", start=2000, finish="error")
    assert finding(home, clock, "failed") == "1 of 5 answers failed (before: 0 of 5): too few to tell a change."


def test_three_failures_of_forty_are_no_change_that_the_numbers_carry(home: Workspace, clock: Clock) -> None:
    two_windows(home, clock, 55, 37)
    asked(home, clock, 3, "tone:2", start=2000, finish="error")
    line = finding(home, clock, "failed")
    assert line == "3 of 40 answers failed (before: 0 of 55): no change that these numbers carry (p 0.07)."


def test_slower_answers_are_called_worse_and_faster_ones_better(home: Workspace, clock: Clock) -> None:
    two_windows(home, clock, 40, 1)
    asked(home, clock, 40, "tone:2", start=2000, total_s=0.9)
    assert "worse than before" in finding(home, clock, "took")
    promoted(home, 1, before=2)
    clock.later(1)
    asked(home, clock, 40, "tone:1", start=3000, total_s=0.2)
    assert "better than before" in finding(home, clock, "took")


def test_equal_latency_is_no_change(home: Workspace, clock: Clock) -> None:
    two_windows(home, clock, 120, 120)
    line = finding(home, clock, "took")
    assert line.startswith("Half of the answers took 0.50 s or less, 99 of 100 0.50 s or less") and "no change" in line


def test_lengths_are_stated_without_a_claim(home: Workspace, clock: Clock) -> None:
    two_windows(home, clock, 10, 10)
    assert finding(home, clock, "length") == "Mean length: 10 tokens in, 5 out (before: 10 tokens in, 5 out)."


def test_windows_add_up() -> None:
    events = [
        exchange(number, NOON + timedelta(minutes=number), finish="error" if number == 2 else "stop")
        for number in range(6)
    ]
    said = [feedback(1, NOON, thumb="up"), feedback(5, NOON, thumb="down"), feedback(4, NOON, edit="better")]
    whole = window(events, said, NOON, NOON + timedelta(minutes=6))
    parts = [window(events, said, NOON + timedelta(minutes=3 * k), NOON + timedelta(minutes=3 * k + 3)) for k in (0, 1)]
    for name in ("requests", "errors", "prompt_tokens", "answer_tokens", "thumbs_up", "thumbs_down", "edits"):
        assert getattr(whole, name) == sum(getattr(part, name) for part in parts), name
    assert list(whole.seconds) == sorted([*parts[0].seconds, *parts[1].seconds])
    assert whole.requests == 6 and whole.errors == 1 and len(whole.seconds) == 5


def test_a_person_who_changes_a_thumb_counts_once() -> None:
    said = [feedback(1, NOON, thumb="up"), feedback(1, NOON, thumb="down"), feedback(1, NOON, "bob", thumb="up")]
    found = window([exchange(1, NOON)], said, None, NOON + timedelta(minutes=1))
    assert (found.thumbs_up, found.thumbs_down) == (1, 1)


def test_thumbs_are_compared_too(home: Workspace, clock: Clock) -> None:
    two_windows(home, clock, 40, 40)
    for number in range(40):
        home.ledger.append(feedback(number, clock.now, thumb="up"), "tone")
        home.ledger.append(feedback(1000 + number, clock.now, thumb="up" if number < 20 else "down"), "tone")
    assert finding(home, clock, "thumbs").startswith("20 of 40 thumbs are up (before: 40 of 40): worse than before")


def test_quiet_days_raise_few_alarms(home: Workspace) -> None:
    import numpy as np

    from llmops.monitoring.health import _findings

    chance, alarms, days = np.random.default_rng(0), 0, 200
    for _ in range(days):
        sides = []
        for _ in range(2):
            seconds = chance.lognormal(0, 1, 50)
            finish = ["error" if lot < 0.05 else "stop" for lot in chance.random(50)]
            events = [
                exchange(number, NOON, total_s=float(time), finish=end)
                for number, (time, end) in enumerate(zip(seconds, finish, strict=True))
            ]
            sides.append(window(events, (), None, NOON + timedelta(minutes=1)))
        alarms += any("than before" in line for line in _findings(sides[0], "tone", sides[1]))
    assert alarms / days <= 0.03 + 3 * math.sqrt(0.03 * 0.97 / days)


def test_an_unknown_name_is_a_request_error(home: Workspace, tmp_path: Path) -> None:
    with pytest.raises(RequestError):
        health(home, "nobody")
    with pytest.raises(RequestError):
        curate(home, "../tone", tmp_path / "out.jsonl")


def curated(home: Workspace, out: Path) -> list[dict[str, object]]:
    assert curate(home, "tone", out) == len(out.read_text().splitlines())
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_edits_and_thumbs_up_become_rows_with_their_lineage(home: Workspace, clock: Clock, tmp_path: Path) -> None:
    asked(home, clock, 3)
    home.ledger.append(feedback(2, clock.now, "bob", edit="a better answer", thumb="down"), "tone")
    home.ledger.append(feedback(0, clock.now, thumb="up"), "tone")
    rows = curated(home, tmp_path / "out" / "rows.jsonl")
    assert rows[0] == {
        "messages": [{"role": "user", "content": "question 0"}, {"role": "assistant", "content": "answer 0"}],
        "exchange": "ex-0",
        "version": "tone:1",
        "author": "ada",
        "at": clock.now.isoformat(),
    }
    assert rows[1]["messages"][-1] == {"role": "assistant", "content": "a better answer"}  # type: ignore[index]
    assert rows[1]["author"] == "bob" and len(rows) == 2


def test_what_cannot_be_used_is_counted_with_its_reason(
    home: Workspace, clock: Clock, said: list[str], tmp_path: Path
) -> None:
    asked(home, clock, 5)
    asked(home, clock, 1, start=10, messages=(), answer=None)
    asked(home, clock, 1, start=11, finish="length")
    for number, words in ((0, {"thumb": "down"}), (1, {"edit": "  "}), (10, {"thumb": "up"}), (11, {"thumb": "up"})):
        home.ledger.append(feedback(number, clock.now, **words), "tone")
    for author, thumb in (("ada", "up"), ("bob", "down")):
        home.ledger.append(feedback(2, clock.now, author, thumb=thumb), "tone")
    home.ledger.append(feedback(99, clock.now, thumb="up"), "tone")
    home.ledger.append(feedback(3, clock.now, thumb="up"), "tone")
    assert [row["exchange"] for row in curated(home, tmp_path / "rows.jsonl")] == ["ex-3"]
    assert "1 rows in" in said[0] and "6 answers with feedback not used" in said[0]
    assert {line.split(": ")[0].removeprefix("not used, ") for line in said[1:]} == {
        "thumb down without an edit",
        "the edit is empty",
        "people disagree",
        "its text was not kept",
        "the answer did not come to its end (length)",
        "the exchange is not in the ledger",
    }
    assert "not used, thumb down without an edit: 1 (ex-0)" in said


def test_the_last_edit_counts_and_a_second_run_gives_the_same_file(
    home: Workspace, clock: Clock, tmp_path: Path
) -> None:
    asked(
        home,
        clock,
        2,
        messages=(Message(role="system", content="be kind"), Message(role="user", content="na\u00efve?")),
    )
    for edit in ("first", "second"):
        home.ledger.append(feedback(1, clock.now, edit=edit), "tone")
    out = tmp_path / "rows.jsonl"
    rows = curated(home, out)
    assert [message["content"] for message in rows[0]["messages"]] == ["be kind", "na\u00efve?", "second"]  # type: ignore[attr-defined]
    first = out.read_bytes()
    clock.later(60)
    curate(home, "tone", out)
    assert out.read_bytes() == first


def test_a_folder_is_no_place_for_the_rows(home: Workspace, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="folder"):
        curate(home, "tone", tmp_path)
