"""What several verbs share: who is meant by a name, and measured on what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.core.dataset import DatasetManifest, Message, Row
from llmops.core.errors import RequestError
from llmops.core.plan import Plan
from llmops.core.recipe import Recipe
from llmops.core.report import EvalReport, Subject, SubjectKind, Suite
from llmops.core.tasks import Classify, Rate, Task
from llmops.pipeline.gate import check_report
from llmops.store.catalogue import BASES
from llmops.store.files import copy_files
from llmops.store.workspace import Workspace

if TYPE_CHECKING:
    from llmops.experiments.linear import Baseline
    from llmops.lm.ports import Probe


STATE_ONLY = ("0",)  # the label to probe for where only the state is wanted


def is_base(ref: str) -> bool:
    """Whether a base is meant: by its catalogue name, or by its address."""
    return ref in BASES or ref.partition(":")[0] in ("path", "hub", "pypi")


def subject_of(ref: str, at: Workspace) -> tuple[Subject, Plan, Path]:
    """(who, its plan, the folder of its files) of a version (`tone`, `tone:2`, `tone@production`) or a run."""
    from llmops.registry.names import resolve

    name = ref.replace("@", ":").split(":")[0]
    if at.versions(name):
        version = resolve(at, ref)
        subject = Subject(kind=version.kind, ref=version.ref)
        return subject, at.get(Plan, version.plan), at.version_folder(version.ref)
    if is_base(ref):
        what = f"{ref} is a base: nothing was trained, so no held-out rows belong to it"
        raise RequestError(what, f"say what to ask: 'llmops evaluate {ref} --suite SUITE' ('llmops list suites')")
    run = at.run(ref)
    if run.status != "finished":
        raise RequestError(f"run {run.id} is {run.status}", f"go on with: llmops train --resume {run.id}")
    return Subject(kind="tuned", ref=run.id), at.get(Plan, run.plan), at.run_folder(run.id) / "adapter"


def suite_of(plan: Plan, at: Workspace) -> Suite:
    from llmops.evals.suite import make_suite, scale_of

    manifest, task = at.get(DatasetManifest, plan.dataset), plan.recipe.task
    scale = scale_of(at.rows(plan.dataset, "train")) if isinstance(task, Rate) else None
    return make_suite(manifest, task, at.rows(plan.dataset, "heldout"), plan.recipe.evaluation.slices, scale)


def measure(subject: Subject, plan: Plan, folder: Path, at: Workspace, asked: Plan) -> EvalReport:
    """The report of a subject (made by `plan`) on the held-out rows of the plan `asked`, stored."""
    from llmops.evals.evaluate import evaluate as measure
    from llmops.evals.evaluate import grade_labels
    from llmops.evals.ratings import grade_numbers
    from llmops.planning.bases import open_model

    rows, suite, task = at.rows(asked.dataset, "heldout"), suite_of(asked, at), asked.recipe.task
    if subject.kind == "tuned":
        model = open_model(plan, folder, at.world)
        report = measure(model, subject, suite, rows, task, at.world.track)
    elif isinstance(task, Classify):
        texts, prompts = [row.text for row in rows], [row.prompt for row in rows]
        chances = label_chances(subject, plan, folder, texts, prompts, at)
        report = grade_labels(subject, suite, rows, task.labels, chances)
    elif isinstance(task, Rate):
        texts, prompts = [row.text for row in rows], [row.prompt for row in rows]
        report = grade_numbers(subject, suite, rows, numbers_said(plan, folder, texts, prompts, at).tolist())
    else:
        raise RequestError(f"{subject.ref} picks labels, and {asked.recipe.name} wants replies", "evaluate a tuned one")
    at.put(report)
    check_report(report, plan, at)
    return report


def fit_cheap_rows(
    plan: Plan, at: Workspace, heldout: bool = False, probed: bool = True
) -> tuple[dict[SubjectKind, Baseline], Probe | None]:
    """(the cheap rows fitted on a plan's training rows, the base's view of its held-out rows where wanted).

    Not `probed`, only the rows that the base need not read for.
    """
    from llmops.experiments.cheap import fit_cheap
    from llmops.planning.bases import open_model

    task = plan.recipe.task
    if not isinstance(task, Classify):
        raise RequestError("these cheap rows pick labels, and the task has none", "register another report")
    words, model = word_list(plan.recipe, at), open_model(plan, None, at.world) if probed or heldout else None
    rows = labelled(at.rows(plan.dataset, "train"))
    probe = model.probe([row.prompt for row in rows], task.labels, at.world.track) if model else None
    found = fit_cheap(rows, task.labels, probe, words, at.world.track)
    asked = [row.prompt for row in at.rows(plan.dataset, "heldout")] if heldout else []
    return found, model.probe(asked, task.labels, at.world.track) if model and heldout else None


def cheap_files(report: EvalReport, plan: Plan, at: Workspace) -> Callable[[Path], None]:
    """What writes the files of the cheap row behind a report: those that a tournament kept, or fitted again.

    Raises `RequestError` for a row that has no files of its own: a base that is asked as it is.
    """
    from llmops.experiments.ratings import FITS, fit_rater
    from llmops.planning.bases import open_model
    from llmops.store.shelf import winner

    kind, task = report.subject.kind, plan.recipe.task
    if (kept := winner(report.id, at)) is not None:
        return lambda out: copy_files(kept, out)
    if isinstance(task, Classify):
        fitted = fit_cheap_rows(plan, at, probed=kind not in ("majority", "word_list", "tfidf"))[0].get(kind)
        if fitted is not None:
            return fitted.save
    if isinstance(task, Rate) and kind in FITS:
        rows = labelled(at.rows(plan.dataset, "train"))
        probed = kind in ("frozen", "nearest")
        asked = [row.prompt for row in rows] if probed else []
        return fit_rater(kind, rows, open_model(plan, None, at.world).probe(asked, STATE_ONLY) if probed else None).save
    raise RequestError(f"a {kind} row has no files of its own to keep", "register another report")


def keepable(task: Task) -> set[str]:
    """The kinds of cheap rows that `register` can keep for a task."""
    from llmops.experiments.linear import KINDS
    from llmops.experiments.raters import RATERS

    if isinstance(task, Classify):
        return set(KINDS)
    return set(RATERS) if isinstance(task, Rate) else set()


def labelled(rows: Sequence[Row]) -> list[Row]:
    """Those that a cheap row learns from: rows to replay have no label."""
    return [row for row in rows if row.label is not None]


def word_list(recipe: Recipe, at: Workspace) -> dict[str, float] | None:
    """The word list that a recipe names, fetched and read; None where it names none."""
    from llmops.data.words import read_word_list
    from llmops.store.catalogue import DATA
    from llmops.store.sources import fetch

    listed = recipe.baselines.word_list
    if listed is None:
        return None
    if listed not in DATA:
        raise RequestError(f"there is no word list {listed!r} in the catalogue", "see 'llmops list catalogue'")
    return read_word_list(fetch(DATA[listed].address, DATA[listed].sha256, at.world, DATA[listed]).path)


def label_chances(
    subject: Subject,
    plan: Plan,
    folder: Path,
    texts: Sequence[str],
    prompts: Sequence[Sequence[Message]],
    at: Workspace,
) -> Any:
    """The probability of each label for each text, NK, by a version of any kind."""
    from llmops.experiments.baselines import load as load_baseline
    from llmops.experiments.linear import softmax
    from llmops.planning.bases import open_model

    assert isinstance(plan.recipe.task, Classify)
    labels = plan.recipe.task.labels
    if subject.kind == "tuned":
        return softmax(open_model(plan, folder, at.world).probe(prompts, labels, at.world.track).logprobs_NK)
    baseline = load_baseline(folder)
    if not baseline.needs_probe:
        return baseline.probabilities(texts)
    asked = [baseline.asked(prompt) for prompt in prompts]
    return baseline.probabilities(texts, open_model(plan, None, at.world).probe(asked, labels, at.world.track))


def numbers_said(
    plan: Plan, folder: Path, texts: Sequence[str], prompts: Sequence[Sequence[Message]], at: Workspace
) -> Any:
    """The number that a cheap version of a rating says to each text, N."""
    from llmops.experiments.raters import load_rater
    from llmops.planning.bases import open_model

    rater = load_rater(folder)
    if not rater.needs_probe:
        return rater.numbers(texts)
    return rater.numbers(texts, open_model(plan, None, at.world).probe(prompts, STATE_ONLY, at.world.track))
