"""`evaluate` on questions of one's own: from a file of rows, a suite in YAML, or a list of questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.core.context import Track
from llmops.core.errors import RequestError
from llmops.core.report import EvalReport, Subject, Suite
from llmops.core.scorers import Judge
from llmops.core.suites import Asking, Examples, Generate, NoExamples, Question
from llmops.core.value import Value
from llmops.store.workspace import Workspace

if TYPE_CHECKING:
    from llmops.evals.scorers.mark import OwnFunction, Tools

YAML = (".yaml", ".yml")


@dataclass(frozen=True)
class Own:
    """What a person brings along for a scorer. Files in `trusted` may run; `functions` are Python's, by any name."""

    trusted: tuple[Path, ...] = ()
    functions: Mapping[str, OwnFunction] = field(default_factory=dict)


@dataclass(frozen=True)
class Wanted:
    """How a file is to be asked: the scorer as it is typed, changes as for `--set`, and which columns are what."""

    scorer: str | None = None
    sets: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)


def is_file(name: str) -> bool:
    """Whether a suite's name means a file: it has a file's ending, or is a path."""
    from llmops.data.readers import BY_SUFFIX

    return Path(name).suffix.lower() in (*YAML, *BY_SUFFIX) or "/" in name


def questions_in(
    file: Path, wanted: Wanted, own: Own, examples: Examples = NoExamples(), rows: int | None = None
) -> tuple[Suite, list[Question], Own]:
    """(the suite, its questions as they will be asked, what may run) for a file of rows or a suite in YAML.

    Raises `RequestError` where the file cannot be read, or it is not said how its answers are marked.
    """
    from llmops.data.file_suites import asking_of, load_suite
    from llmops.data.questions import read_questions
    from llmops.evals.exams import with_examples
    from llmops.evals.scorers.named import described, pinned
    from llmops.evals.suite import question_suite

    columns: dict[str, str] = dict(wanted.columns)
    data = None
    if wanted.scorer is not None:
        data, named = described(wanted.scorer)
        own = Own((*own.trusted, *((named,) if named else ())), own.functions)
    rows_file, asking = file, None
    if file.suffix in YAML:
        suite, rows_file = load_suite(file, wanted.sets)
        columns = {**{str(role): name for role, name in suite.columns.items()}, **columns}
        asking = suite.asking
        if data is not None:
            raise RequestError(f"{file} says how answers are marked", "change it there, or with --set scorer.kind=NAME")
    elif data is not None:
        asking = asking_of({"kind": "generate", "scorer": data}, wanted.sets, f"--scorer {wanted.scorer}")
    found = read_questions(rows_file, columns, "lettered" if isinstance(asking, Generate) else "hidden")
    if asking is None:
        asking = asking_of({"kind": _kind(found.questions, file)}, wanted.sets, str(file))
    if not isinstance(examples, NoExamples):
        from llmops.evals.exams import with_asked

        asking = with_asked(asking, examples)
    if isinstance(asking, Generate):
        asking = asking.replace(scorer=pinned(asking.scorer, own.trusted))
    questions = with_examples(found.questions, getattr(asking, "examples", NoExamples()), rows)
    return question_suite(file.stem, asking, questions, found.slices), questions, own


def _kind(questions: Sequence[Question], file: Path) -> str:
    """How questions are asked where no scorer is named: by likelihood, where there is something to choose from."""
    options = {question.options for question in questions}
    if not any(question.asked for question in questions):
        return "read"
    if () in options:
        raise RequestError(
            f"{file}: its answers are texts, and it is not said how to mark them",
            "name a scorer: --scorer exact, includes, number, regex, rouge, judge …",
        )
    return "label" if len(options) == 1 else "choose"


def tools_for(asking: Asking | None, own: Own, at: Workspace) -> Tools:
    """What the scorer of a suite needs: functions, programs, and the judge, which is loaded."""
    from llmops.evals.scorers.mark import Tools
    from llmops.evals.scorers.named import functions_of, programs_of
    from llmops.pipeline.suites import speaker

    if not isinstance(asking, Generate):
        return Tools(track=at.world.track)
    scorer = asking.scorer
    judges = {scorer.model: speaker(scorer.model, at)[1]} if isinstance(scorer, Judge) else {}
    return Tools(
        functions={**functions_of(scorer, own.trusted), **own.functions},
        programs=dict(programs_of(scorer, own.trusted)),
        judges=dict(judges),
        track=at.world.track,
    )


def generated(own: Own, at: Workspace) -> Any:
    """The function that answers and marks a suite of generated answers, as the other kinds have one."""
    from llmops.evals.generate import generate

    def answer(model: Any, subject: Subject, suite: Suite, questions: Sequence[Question], track: Track) -> EvalReport:
        return generate(model, subject, suite, questions, tools_for(suite.asking, own, at))

    return answer


def evaluate_questions(
    ref: str,
    questions: Sequence[Question],
    asking: Asking | OwnFunction,
    at: Workspace,
    name: str = "questions",
    trusted: Sequence[Path] = (),
) -> EvalReport:
    """Ask a base, a run or a version questions made in Python; the suite is called `name`. The report is stored.

    `asking` says how; or it is a function of your own, `mark(answer, question) -> number`, on generated answers.
    `trusted` are files of yours that the scorer may run. Raises `RequestError` as `evaluate_suite` does.
    """
    from llmops.evals.scorers.named import pinned, scorer_of
    from llmops.evals.suite import question_suite
    from llmops.pipeline.suites import ask_suite

    own = Own(tuple(trusted))
    if not isinstance(asking, Value):
        scorer = scorer_of(asking)
        own, asking = Own(own.trusted, {scorer.function: asking}), Generate(scorer=scorer)
    elif isinstance(asking, Generate):
        asking = asking.replace(scorer=pinned(asking.scorer, own.trusted))
    return ask_suite(ref, question_suite(name, asking, questions), questions, at, own)
