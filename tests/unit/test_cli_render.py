"""What a person reads: the honest tables say what the values say, and nothing in them commands the terminal."""

from __future__ import annotations

import io
import time
from datetime import UTC, datetime

import pytest
from rich.console import Console

from llmops.cli import words
from llmops.cli.progress import News, ProgressDisplay, progress_line
from llmops.cli.render import render
from llmops.cli.scores import best
from llmops.core.comparison import Comparison, Difference, Pick
from llmops.core.health import HealthReport, Window
from llmops.core.outcome import ComparisonLine, EndpointCheck, Outcome, SideBySide
from llmops.core.report import Score, Subject
from llmops.core.run import StepRecord
from llmops.core.slices import Slices
from llmops.core.version import Promotion
from llmops.core.views import RoundTrip, RowView, SetView, TokenView

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def drawn(value: object, width: int = 80) -> str:
    """A value as it is printed where there is no colour."""
    console = Console(file=io.StringIO(), width=width)
    console.print(render(value))
    return console.file.getvalue()  # type: ignore[attr-defined]


def score(value: float, metric: str = "accuracy", **slices: float) -> Score:
    """A score with an interval of 0.02 to each side."""
    parts = {f"domain={name}": score(part, metric) for name, part in slices.items()}
    return Score(metric=metric, value=value, low=value - 0.02, high=value + 0.02, n=1200, slices=parts)


OUTCOME = Outcome(
    name="tone",
    version="tone:2",
    tuned_version="tone:1",
    promoted="tone:2 answers as production",
    run="20261123-tone-abc",
    plan="pl-1",
    dataset="ds-1",
    seconds={"prepare": 3.0, "train": 180.0},
    scores={
        "word_list": score(0.8, tweets=0.967, movies=0.672),
        "tuned": score(0.9, tweets=0.958, movies=0.827),
    },
    more_scores={"word_list": {"macro_f1": score(0.7, "macro_f1")}, "tuned": {"macro_f1": score(0.88, "macro_f1")}},
    comparisons=(
        ComparisonLine(
            baseline="word_list", metric="accuracy", delta=-0.012, low=-0.03, high=-0.001, p=0.03, verdict="worse"
        ),
    ),
    pick=Pick(subject=Subject(kind="word_list", ref="tone:2"), because="it is cheapest and not worse", margin=0.01),
    endpoint=EndpointCheck(version="tone:1", offline=0.91, endpoint=0.905, differ=2, n=812),
    answers=(SideBySide(prompt="hi", base="Hello.", tuned="hey :)"),),
    reports={},
)


def test_an_outcome_tells_scores_tests_pick_endpoint_and_time() -> None:
    text = drawn(OUTCOME)
    for part in (
        "0.880 to 0.920",
        "0.967",
        "macro F1",
        "-0.012",
        "-0.030 to -0.001",
        "p = 0.030",
        "worse",
        "3 min 3 s",
    ):
        assert part in text
    flat = " ".join(text.split())
    assert "picked: tone:2 (word_list). it is cheapest and not worse" in flat
    assert "812 rows through the endpoint (tone:1): offline 0.910, through the endpoint 0.905, 2 answers differ" in flat


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_number_is_lost_in_a_narrow_terminal(width: int) -> None:
    text = drawn(OUTCOME, width)
    for number in ("0.958", "0.827", "0.672", "1,200"):
        assert number in text


def test_the_best_of_a_line_is_the_lowest_where_lower_is_better() -> None:
    assert best({"base": score(1.5, "bits_per_byte"), "tuned": score(1.3, "bits_per_byte")}) == {"tuned"}
    assert best({"base": score(0.5), "tuned": score(0.9), "frozen": score(0.9001)}) == {"tuned", "frozen"}


def test_a_comparison_says_the_verdict_of_its_interval_overall_and_by_slice() -> None:
    tweets = Difference(delta=-0.01, low=-0.03, high=0.01, p=0.2, n=150, test="mcnemar")
    comparison = Comparison(
        suite="su-1",
        metric="accuracy",
        baseline=Subject(kind="tfidf", ref="tone:1"),
        challenger=Subject(kind="tuned", ref="tone:2"),
        baseline_report="rp-1",
        challenger_report="rp-2",
        overall=Difference(delta=0.08, low=0.05, high=0.11, p=1e-9, n=812, test="mcnemar"),
        slices={"domain=tweets": tweets},
    )
    text = drawn(comparison)
    assert "+0.080  +0.050 to +0.110  p < 0.001  812       better" in text
    assert "cannot tell" in text


def test_a_promotion_names_who_did_it_and_an_override_is_seen() -> None:
    promotion = Promotion(name="tone", version=2, before=1, because="a hunch", override=True, author="ada", at=NOON)
    text = drawn(promotion)
    assert "tone:2 (overridden; before: tone:1)" in text
    assert "ada, 2026-11-23 12:00 UTC" in text


def test_health_shows_both_windows_and_its_findings() -> None:
    def window(requests: int, seconds: tuple[float, ...]) -> Window:
        counts = dict.fromkeys(("errors", "prompt_tokens", "answer_tokens", "thumbs_up", "thumbs_down", "edits"), 0)
        return Window(since=None, until=NOON, requests=requests, seconds=seconds, **counts)

    report = HealthReport(
        name="tone",
        version="tone:1",
        now=window(1200, (0.1, 0.2, 0.9)),
        before=window(0, ()),
        findings=("slower than before",),
    )
    text = drawn(report)
    assert "• slower than before" in text
    assert "1,200" in text
    assert "0.9 s" in text


ROW_VIEW = RowView(
    number=0,
    id="r1",
    source="path:x.csv",
    line=2,
    tokens=(TokenView(text="hi\n", id=1), TokenView(text=" yes", id=2, trained=True)),
    end_trained=True,
    round_trip=RoundTrip(same=True),
)


def test_tokens_of_a_row_show_what_is_learnt_without_colour_too() -> None:
    text = drawn(ROW_VIEW)
    assert "2 tokens, of which training learns 1 (green): [ yes]" in text
    assert "the end token is trained" in text and "gives the same tokens" in text


def test_a_row_that_is_left_out_or_differs_from_the_template_says_so() -> None:
    other = RoundTrip(same=False, at=7, ours="a<end>", theirs="a <end>")
    text = drawn(ROW_VIEW.replace(left_out=True, end_trained=False, fault="would train on nothing", round_trip=other))
    for said in ("training learns 0", "left out", "no end token", "train on nothing", "differs at token 7", "a <end>"):
        assert said in text


def test_a_set_under_the_microscope_is_counted() -> None:
    seen = SetView(
        dataset="ds-1",
        base="tiny",
        rows=1200,
        tokens=10_000,
        trained=2_500,
        shortest=7,
        longest=90,
        left_out=3,
        end_trained=1200,
        round_trips=1000,
        same=999,
        first_other=17,
        faults={"begin twice": 2},
    )
    text = drawn(seen)
    for said in ("25.0% of all", "3 left out", "999 of 1,000 rows", "--row 17", "2 begin twice", "1,200 of 1,200"):
        assert said in text


def test_tokens_of_a_reply_show_probability_and_alternatives() -> None:
    text = drawn([TokenView(text=" yes", id=2, probability=0.25, alternatives=((" no", 0.5),))])
    assert "0.250" in text
    assert "' no' 0.500" in text


@pytest.mark.parametrize("evil", ["\x1b[2J", "\x9b2J", "\x07", "\u202e", "[red]", "\x00"])
def test_text_from_models_and_data_cannot_command_the_terminal(evil: str) -> None:
    answers = (SideBySide(prompt=f"a{evil}b", base=evil, tuned=evil),)
    text = drawn(OUTCOME.replace(answers=answers, promoted=f"x{evil}y"))
    assert not words.CONTROL.search(text.replace("\n", ""))
    assert "x[red]y" in text or evil != "[red]"


def test_a_list_has_a_line_a_value() -> None:
    assert drawn([]) == "nothing yet\n"
    promotion = Promotion(name="tone", version=2, because="better", author="ada", at=NOON)
    assert len(drawn([promotion, promotion]).splitlines()) == 3


def test_durations_and_counts_are_spelt_for_people() -> None:
    spelt = [words.seconds(s) for s in (0.4, 12.3, 59.7, 192, 7500)]
    assert spelt == ["0.4 s", "12 s", "60 s", "3 min 12 s", "2 h 5 min"]
    assert words.plural(1, "row") == "1 row"
    assert words.plural(1200, "row") == "1,200 rows"
    assert words.size(512_000_000) == "512 MB"


class Clock:
    """Two seconds pass at every look."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 2.0
        return self.now


def watch(terminal: bool, clock: object = None) -> tuple[list[int], str]:
    """What a loop of ten gives, and what is said meanwhile."""
    console = Console(file=io.StringIO(), width=80, force_terminal=terminal)
    display = ProgressDisplay(console, clock or Clock())  # type: ignore[arg-type]
    given = list(display(range(10), "training"))
    return given, console.file.getvalue()  # type: ignore[attr-defined]


def test_progress_without_a_terminal_is_plain_lines_with_the_time_left() -> None:
    given, said = watch(terminal=False)
    assert given == list(range(10))
    assert "training: 3 of 10 (30%), about 14 s left" in said
    assert said.endswith("training: 10 in 22 s\n")
    assert "\x1b" not in said


def step(number: int, heldout: float | None = None) -> StepRecord:
    return StepRecord(
        step=number, of=9, loss_nats=0.5 / number, learning_rate=1e-3, gradient_norm=1.0, tokens=600, trained_tokens=6,
        seconds=2.0, memory_bytes=2_100_000_000, heldout_loss_nats=heldout,
    )  # fmt: skip


@pytest.mark.parametrize("terminal", [True, False])
def test_training_tells_loss_heldout_loss_rate_and_memory_as_it_goes(terminal: bool) -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=terminal)
    records = [step(1), step(2, heldout=0.75), *(step(number) for number in range(3, 10))]
    for _ in ProgressDisplay(console, Clock())(records, "training"):
        if terminal:
            time.sleep(0.15)  # a bar is drawn once the work has taken a second
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "held out 0.750, 300 tokens/s, 2.1 GB" in said
    assert "left" in said and "loss 0.0" in said
    assert "held out" not in News().of(step(1)) and News().of(7) == ""


def test_short_work_says_nothing() -> None:
    assert watch(terminal=False, clock=lambda: 0.0)[1] == ""


def test_a_bar_passes_every_item_on_and_is_gone_at_the_end() -> None:
    given, said = watch(terminal=True)
    assert given == list(range(10))
    assert "training: 10 in" in said


def test_progress_may_be_nested_and_left_early() -> None:
    display = ProgressDisplay(Console(file=io.StringIO(), force_terminal=True))
    for _ in display([1, 2], "outer"):
        for inner in display(iter("abc"), "inner"):
            if inner == "b":
                break
    assert list(display([], "nothing")) == []


def test_a_line_of_unknown_length_only_counts() -> None:
    assert progress_line("reading", 1200, None, 3.0) == "reading: 1,200"
    assert progress_line("reading", 0, 10, 3.0) == "reading: 0"


def test_too_few_rows_for_a_slice_say_so_instead_of_an_empty_table():
    assert "needs 10 rows" in drawn(Slices(report="rp-1", metric="accuracy", slices=()))
