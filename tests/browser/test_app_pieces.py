"""What the app is made of, without a browser."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import pytest

from llmops.core.canary import Canary, CanaryStarted
from llmops.core.errors import RequestError
from llmops.core.run import StepRecord
from llmops.core.version import Promotion
from llmops.store.workspace import Workspace
from tests.browser.apps import HOSTILE
from tests.browser.serve import fake_pipeline, load_app
from tests.browser.workspace import fill
from tests.unit import sample_exams
from tests.unit.sample_values import NOON, report, workspace

STEP = {
    "step": 1,
    "of": 2,
    "loss_nats": 2.0,
    "learning_rate": 1e-3,
    "gradient_norm": 1.0,
    "tokens": 10,
    "trained_tokens": 5,
    "seconds": 1.0,
    "memory_bytes": 1,
}


@pytest.fixture(scope="module")
def app() -> Any:
    """The app's modules by name, loaded as the command line loads them."""
    load_app()
    return lambda name: sys.modules[f"llmops_app.{name}"]


def test_whatever_is_not_made_by_el_is_escaped(app: Any) -> None:
    markup = app("markup")
    made = markup.el("p", HOSTILE, markup.el("b", "ours"), title=HOSTILE)
    assert made.count("<") == 4
    assert "<b>ours</b>" in made
    assert not set("${}`") & set(made), "Gradio reads these as a template"


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "  =1", "\r=1"])
def test_a_cell_that_a_spreadsheet_would_run_is_made_text(app: Any, cell: str) -> None:
    assert app("reports").neutral(cell) == f"'{cell}"


def test_an_ordinary_cell_stays_as_it_is(app: Any) -> None:
    assert app("reports").neutral("a = b") == "a = b"


def test_the_download_holds_the_answers_of_the_filter(app: Any, workspace: Workspace) -> None:
    fill(workspace, words="=cmd")
    report = workspace.ids(sys.modules["llmops.core.report"].EvalReport)[-1]
    text = app("reports").as_csv(workspace, report, only_wrong=True, part="domain=tweets")
    assert ",'=cmd unseen" in text
    assert "movies" not in text


def test_an_upload_is_kept_under_its_content_and_nothing_else_is_taken(
    app: Any, workspace: Workspace, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("a,b\n1,2\n")
    kept = app("newrun").keep(workspace, rows)
    assert kept.read_text() == "a,b\n1,2\n"
    assert kept == app("newrun").keep(workspace, rows)
    script = tmp_path / "recipe.py"
    script.write_text("print('run me')")
    with pytest.raises(RequestError):
        app("newrun").keep(workspace, script)


def test_a_run_whose_process_is_gone_is_not_called_running(app: Any, workspace: Workspace) -> None:
    jobs = app("jobs").Jobs(workspace, (sys.executable, "-c", "print('done')"))
    job = jobs.run("tone", "name: tone\n")
    for thread in sys.modules["threading"].enumerate():
        if thread.name == f"wait-{job.id}":
            thread.join(10)
    assert not jobs.alive(job)
    assert jobs.exit_code(job) == 0
    assert jobs.log_tail(job) == "done"


def test_a_progress_bar_in_a_log_is_read_as_its_last_state(app: Any, workspace: Workspace) -> None:
    jobs = app("jobs").Jobs(workspace, (sys.executable, "-c", r"print('\r1 of 2\r2 of 2\nend')"))
    job = jobs.run("tone", "name: tone\n")
    for thread in sys.modules["threading"].enumerate():
        if thread.name == f"wait-{job.id}":
            thread.join(10)
    assert jobs.log_tail(job) == "2 of 2\nend"


def test_an_answer_that_no_measure_judges_is_called_neither_right_nor_wrong(app: Any) -> None:
    reports = app("reports")
    judged, rated = report("tuned", [1.0, 0.0]), report("tuned", [0.6, 2.1], "bits_per_byte", weights=[25.0, 87.0])
    page = str(reports._answers(judged, False, reports.ALL, 1))
    assert page.count(">right<") == page.count(">wrong<") == 1
    page = str(reports._answers(rated, False, reports.ALL, 1))
    assert ">right<" not in page
    assert ">wrong<" not in page
    assert "2.100" in page
    assert [answer.row for answer in reports.chosen_answers(judged, True, reports.ALL)] == ["r1"]
    assert reports.chosen_answers(rated, True, reports.ALL) == []


def test_the_curve_of_a_run_shows_the_held_out_loss_where_it_was_looked_at(app: Any) -> None:
    seen = StepRecord.model_validate(STEP | {"step": 2, "heldout_loss_nats": 1.5})
    curve = app("plots").loss_curve([StepRecord.model_validate(STEP), seen])
    (held_out,) = [line for line in curve.data if line.name == "held out"]
    assert (list(held_out.x), list(held_out.y)) == ([2], [1.5])
    assert "held out" not in [
        line.name for line in app("plots").loss_curve([seen.replace(heldout_loss_nats=None)]).data
    ]


def test_the_app_is_not_opened_to_other_machines_without_a_token(app: Any, workspace: Workspace) -> None:
    with pytest.raises(RequestError, match="reachable from outside"):
        app("main").open_app(workspace, "0.0.0.0", 0, None)
    with pytest.raises(RequestError, match="reachable from outside"):
        app("main").open_app(workspace, "0.0.0.0", 0, "token")


def test_the_fake_verbs_take_what_the_real_ones_take() -> None:
    from llmops import pipeline

    for name, fake in vars(fake_pipeline("")).items():
        if inspect.isfunction(fake):
            wanted = list(inspect.signature(getattr(pipeline, name)).parameters)
            given = list(inspect.signature(fake).parameters)
            assert wanted[: len(given)] == given, name


def test_today_says_what_is_on_trial(app: Any, tmp_path: Path) -> None:
    at = workspace(tmp_path)
    event = Promotion(name="tone", version=1, because="a test", author="ada", at=NOON)
    at.ledger.append(event, "tone")
    assert app("today")._trial(at, "tone") == []
    for how, words in (("split", "on trial, 10% of the conversations"), ("shadow", "in the shadow, 10%")):
        canary = Canary(name="tone", control=1, challenger=2, how=how)
        at.ledger.append(CanaryStarted(canary=canary, author="ada", at=NOON), "tone")
        said = "".join(map(str, app("today")._trial(at, "tone")))
        assert "tone:2" in said and words in said


def test_the_reports_tab_shows_the_exam_and_the_ledger_or_the_command_that_asks(app: Any) -> None:
    cards = app("learned").cards
    shown = cards(sample_exams.examined())
    for part in ("memorised", "+0.311", "23.4, 19.9", "-0.613", "2a text", "+11.7%", "-0.417", "instructions a text"):
        assert part in shown
    assert "<img" in HOSTILE and "<img" not in cards(sample_exams.examined(HOSTILE))
    assert "llmops evaluate tone:1 --exam" in cards(sample_exams.EMPTY)
    assert "llmops evaluate tone:1 --forgetting" in cards(sample_exams.EMPTY)
    assert "no exam: it rates" in cards(sample_exams.EMPTY.replace(cannot_sit="it rates"))
    assert cards(None) == "", "a cheap row has neither"
    figure = app("plots").abilities(sample_exams.ledger(change=-0.5))
    assert list(figure.data[0].x) == [-10.0], "in margins"
