"""The verb `evaluate` on a suite: the same questions to any base, run or version, by likelihood or in its own words."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.core.context import Track
from llmops.core.errors import RequestError
from llmops.core.report import EvalReport, Subject, Suite
from llmops.core.suites import DrawnExamples, Examples, FixedExamples, NoExamples, Question
from llmops.pipeline.file_suites import Own, Wanted, generated, is_own, own_suite
from llmops.pipeline.subjects import is_base, subject_of
from llmops.store.workspace import Workspace

if TYPE_CHECKING:
    from llmops.lm.model import LocalModel

PRECISION = "float32"  # of every subject, so that reports are of the same arithmetic whoever made the weights
Evaluate = Callable[[Any, Subject, Suite, Sequence[Question], Track], EvalReport]


def evaluate_suite(
    ref: str,
    name: str,
    at: Workspace,
    examples: Examples = NoExamples(),
    rows: int | None = None,
    own: tuple[Wanted, Own] = (Wanted(), Own()),
) -> EvalReport:
    """Ask a base (by its catalogue name or address), a run or a version the questions of a shipped exam or of rows.

    `name` is an exam, a file of rows, a suite in YAML, a data set, or `heldout` for that of `ref`. `rows` of them are
    asked, drawn by their ids, or all. Of one's own rows, `own` says how they are asked and what may run. The report is
    stored. Raises `RequestError` where there is no such suite or subject, or the examples do not fit.
    """
    if rows is not None and rows < 1:
        raise RequestError(f"{rows} rows are none", "ask at least one")
    wanted, brought = own
    if is_own(name):
        suite, questions, brought = own_suite(ref, name, wanted, brought, at, (examples, rows))
    elif wanted != Wanted():
        raise RequestError(f"the exam {name} says how it is asked", "leave --scorer, --set and --column out")
    else:
        suite, questions = suite_named(name, at, examples, rows)
    return ask_suite(ref, suite, questions, at, brought)


def ask_suite(ref: str, suite: Suite, questions: Sequence[Question], at: Workspace, own: Own = Own()) -> EvalReport:
    """The stored report of whoever `ref` means on questions that are ready. What they can show is said first."""
    from llmops.pipeline.experiments import power_of_suite

    if len(questions) > 1:
        at.world.say(power_of_suite(suite, len(questions), at).sentence)
    subject, model = speaker(ref, at)
    assert suite.asking is not None
    kinds = {**_kinds(), "generate": generated(own, at)}
    report: EvalReport = kinds[suite.asking.kind](model, subject, suite, questions, at.world.track)
    at.put(report)
    return report


def suite_named(
    name: str, at: Workspace, examples: Examples = NoExamples(), rows: int | None = None
) -> tuple[Suite, list[Question]]:
    """A shipped exam as a suite, and its questions as they will be asked."""
    from llmops.evals.exams import exam_named, read_exam, with_asked, with_examples
    from llmops.evals.suite import question_suite

    exam = exam_named(name)
    asking = with_asked(exam.asking, examples)
    questions = with_examples(read_exam(name, at.world), examples, rows)
    return question_suite(name, asking, questions, exam.slices), questions


def export_suite(
    name: str, folder: Path, at: Workspace, examples: Examples = NoExamples(), rows: int | None = None
) -> Path:
    """Write a suite of options as a task of lm-eval into a folder; its YAML is returned (`evals/lm_eval.py`)."""
    from llmops.evals.lm_eval import write_task

    if is_own(name):
        what = f"{name} is asked through each model's own chat template, and a task of lm-eval is one text for all"
        raise RequestError(what, "write an exam ('llmops list suites'); ask your own rows here")
    return write_task(*suite_named(name, at, examples, rows), folder)


def read_lm_eval(results: Path, at: Workspace) -> list[EvalReport]:
    """The reports of a run of lm-eval, from its `results_DATE.json` and the samples beside it. Each is stored."""
    from llmops.evals.lm_eval import read_results

    reports = read_results(results)
    for report in reports:
        at.put(report)
    return reports


def speaker(ref: str, at: Workspace) -> tuple[Subject, LocalModel]:
    """Whoever is meant by a name, with weights: a base, or what was tuned from one. In `PRECISION`."""
    from llmops.planning.bases import open_bare, open_model

    if is_base(ref):
        return Subject(kind="base", ref=ref), open_bare(ref, at.world)
    subject, plan, folder = subject_of(ref, at)
    if subject.kind not in ("tuned", "base"):
        raise RequestError(f"{ref} is a {subject.kind} row, which picks labels only", "ask a base or a tuned version")
    return subject, open_model(plan, folder if subject.kind == "tuned" else None, at.world, PRECISION)


def examples_of(text: str) -> Examples:
    """`0`, `5` (the same for all questions) or `drawn:5` (for each question its own), as a value."""
    found = re.fullmatch(r"(drawn:)?(\d{1,2})", text)
    if not found or int(found[2]) > 64:
        raise RequestError(f"cannot read {text!r} as a number of examples", "write 5, or drawn:5, at most 64")
    if int(found[2]) == 0:
        return NoExamples()
    return (DrawnExamples if found[1] else FixedExamples)(number=int(found[2]))


def _kinds() -> dict[str, Evaluate]:
    """The function for each kind of `Asking`."""
    from llmops.evals.choices import choose, label, read

    return {"choose": choose, "label": label, "read": read}
