"""`evaluate` on questions of one's own: a file of rows, a suite in YAML, held-out rows, or a list of questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from llmops.core.context import Track
from llmops.core.dataset import DatasetManifest
from llmops.core.errors import RequestError
from llmops.core.report import EvalReport, Subject, Suite
from llmops.core.scorers import Judge
from llmops.core.suites import Asking, Examples, Generate, NoExamples, Question
from llmops.core.value import Value
from llmops.data.file_suites import asking_of, load_suite
from llmops.pipeline.subjects import subject_of
from llmops.store.workspace import Workspace

if TYPE_CHECKING:
    from llmops.data.questions import AskedRows
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


HELD_OUT = "heldout"


def is_own(name: str) -> bool:
    """Whether a suite's name means rows of one's own: a file (its ending, or a path), a data set, or `heldout`."""
    from llmops.data.readers import BY_SUFFIX

    ending = Path(name).suffix.lower() in (*YAML, *BY_SUFFIX)
    return ending or "/" in name or name == HELD_OUT or name.startswith(f"{DatasetManifest.prefix}-")


def own_suite(
    ref: str,
    name: str,
    wanted: Wanted,
    own: Own,
    at: Workspace,
    asked: tuple[Examples, int | None] = (NoExamples(), None),
) -> tuple[Suite, list[Question], Own]:
    """(the suite, its questions as they will be asked, what may run) for rows of one's own.

    `name` is a file of rows, a suite in YAML, a data set, or `heldout` for that of `ref`; of a data set the held-out
    rows are asked. `asked` is the examples, and how many questions. Raises `RequestError` where the rows cannot be
    read, or it is not said how answers are marked.
    """
    from llmops.evals.exams import with_asked, with_examples
    from llmops.evals.scorers.named import described, pinned
    from llmops.evals.suite import question_suite

    data, file = described(wanted.scorer) if wanted.scorer is not None else (None, None)
    own = Own((*own.trusted, *((file,) if file else ())), own.functions)
    asking = None
    if Path(name).suffix.lower() in YAML:
        if data is not None:
            raise RequestError(f"{name} says how answers are marked", "change it there, or with --set scorer.kind=NAME")
        asking, found, called = _from_yaml(Path(name), wanted)
    else:
        if data is not None:
            asking = asking_of({"kind": "generate", "scorer": data}, wanted.sets, f"--scorer {wanted.scorer}")
        found, called = _from_rows(ref, name, wanted, asking, at)
    if asking is None:
        asking = asking_of({"kind": _kind(found.questions, name)}, wanted.sets, name)
    examples, rows = asked
    if not isinstance(examples, NoExamples):
        asking = with_asked(asking, examples)
    if isinstance(asking, Generate):
        asking = asking.replace(scorer=pinned(asking.scorer, own.trusted))
    questions = with_examples(found.questions, getattr(asking, "examples", NoExamples()), rows)
    return question_suite(called, asking, questions, found.slices), questions, own


def _from_yaml(file: Path, wanted: Wanted) -> tuple[Asking, AskedRows, str]:
    from llmops.data.questions import read_questions

    suite, rows = load_suite(file, wanted.sets)
    columns = {**{str(role): name for role, name in suite.columns.items()}, **wanted.columns}
    return suite.asking, read_questions(rows, columns, _shown(suite.asking)), file.stem


def _from_rows(ref: str, name: str, wanted: Wanted, asking: Asking | None, at: Workspace) -> tuple[AskedRows, str]:
    from llmops.data.questions import held_out, read_questions

    if Path(name).suffix or "/" in name:
        return read_questions(Path(name), wanted.columns, _shown(asking)), Path(name).stem
    if wanted.columns:
        raise RequestError("a data set knows its columns", "leave --column out")
    plan = subject_of(ref, at)[1] if name == HELD_OUT else None
    manifest = at.get(DatasetManifest, plan.dataset if plan else name)
    slices = plan.recipe.evaluation.slices if plan else ()
    return held_out(at.rows(manifest.id, "heldout"), manifest.task, slices), manifest.id


def _shown(asking: Asking | None) -> Literal["lettered", "hidden"]:
    return "lettered" if isinstance(asking, Generate) else "hidden"


def _kind(questions: Sequence[Question], name: str) -> str:
    """How questions are asked where no scorer is named: by likelihood, where there is something to choose from."""
    options = {question.options for question in questions}
    if not any(question.asked for question in questions):
        return "read"
    if () in options:
        raise RequestError(
            f"{name}: its answers are texts, and it is not said how to mark them",
            "name a scorer: --scorer exact, includes, number, regex, rouge, judge …",
        )
    return "label" if len(options) == 1 else "choose"


def tools_for(
    asking: Asking | None, own: Own, at: Workspace, loaded: Mapping[str, Any] = MappingProxyType({})
) -> Tools:
    """What the scorer of a suite needs: functions, programs, and the judge, which is loaded unless it is already."""
    from llmops.evals.scorers.mark import Tools
    from llmops.evals.scorers.named import functions_of, programs_of
    from llmops.pipeline.suites import speaker

    if not isinstance(asking, Generate):
        return Tools(track=at.world.track)
    scorer = asking.scorer
    judges = {}
    if isinstance(scorer, Judge):
        judges[scorer.model] = loaded.get(scorer.model) or speaker(scorer.model, at)[1]
    return Tools(
        functions={**functions_of(scorer, own.trusted), **own.functions},
        programs=dict(programs_of(scorer, own.trusted)),
        judges=judges,
        track=at.world.track,
    )


def generated(own: Own, at: Workspace) -> Any:
    """The function that answers and marks a suite of generated answers, as the other kinds have one."""
    from llmops.evals.generate import generate

    def answer(model: Any, subject: Subject, suite: Suite, questions: Sequence[Question], track: Track) -> EvalReport:
        return generate(model, subject, suite, questions, tools_for(suite.asking, own, at, {subject.ref: model}))

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

    `asking` says how, such as `Generate(scorer={"kind": "includes"})`; or it is a function of your own,
    `mark(answer, question) -> number`, on generated answers. `trusted` are files of yours that the scorer may run.
    Raises `RequestError` as `evaluate_suite` does.
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
