"""The verbs that judge a model: measured, compared, picked, registered, promoted."""

from __future__ import annotations

from collections.abc import Sequence

from llmops.core.comparison import Comparison, Pick
from llmops.core.dataset import DatasetManifest
from llmops.core.errors import LlmopsError, RequestError
from llmops.core.plan import Plan
from llmops.core.report import LOWER_IS_BETTER, EvalReport, Subject
from llmops.core.tasks import Classify, Rate, Reply
from llmops.core.version import ModelVersion, Promotion
from llmops.pipeline.parity import certify
from llmops.pipeline.subjects import cheap_files, fit_cheap_rows, labelled, measure, subject_of, suite_of
from llmops.store.files import copy_files
from llmops.store.workspace import Workspace


def evaluate(ref: str, at: Workspace) -> EvalReport:
    """Measure a run or a version on the held-out rows of its plan. What they can show is said first."""
    from llmops.pipeline.experiments import power

    subject, plan, folder = subject_of(ref, at)
    if at.get(DatasetManifest, plan.dataset).rows_heldout > 1:
        at.world.say(power(plan.id, at).sentence)
    return measure(subject, plan, folder, at, plan)


def measure_cheap(plan: Plan, at: Workspace) -> dict[str, EvalReport]:
    """The reports of the cheap rows beside a plan, by row name, on its held-out rows. Each is stored."""
    from llmops.evals.evaluate import evaluate as measure
    from llmops.evals.evaluate import grade_labels, grade_picks
    from llmops.evals.ratings import grade_numbers
    from llmops.evals.suite import reply_options
    from llmops.experiments.baselines import cosine_pick
    from llmops.experiments.ratings import BARE, fit_rater
    from llmops.planning.bases import open_model

    rows, suite, task = at.rows(plan.dataset, "heldout"), suite_of(plan, at), plan.recipe.task
    found: dict[str, EvalReport] = {}
    if isinstance(task, Classify):
        baselines, probe = fit_cheap_rows(plan, at, heldout=True)
        for kind, baseline in baselines.items():
            chances = baseline.probabilities([row.text for row in rows], probe)
            found[kind] = grade_labels(Subject(kind=kind, ref=plan.id), suite, rows, task.labels, chances)
    else:
        if isinstance(task, Reply) and "pick_reply" in suite.measures:
            options = reply_options(rows, task.opening)
            scores = cosine_pick(at.rows(plan.dataset, "train"), rows, options)
            found["tfidf"] = grade_picks(Subject(kind="tfidf", ref=plan.id), suite, rows, options, scores)
        if isinstance(task, Rate):
            rated, texts = labelled(at.rows(plan.dataset, "train")), [row.text for row in rows]
            for kind in BARE:
                numbers = fit_rater(kind, rated).numbers(texts).tolist()
                found[kind] = grade_numbers(Subject(kind=kind, ref=plan.id), suite, rows, numbers)
        model = open_model(plan, None, at.world)
        found["base"] = measure(model, Subject(kind="base", ref=plan.id), suite, rows, task, at.world.track)
    for report in found.values():
        at.put(report)
    return found


def compare(baseline_ref: str, challenger_ref: str, at: Workspace, metric: str | None = None) -> Comparison:
    """Is the challenger better, by `metric` or the first measure that both have?

    Each side is a report, or a run or version whose newest report counts.
    """
    from llmops.experiments.compare import compare as pair

    baseline, challenger = report_of(baseline_ref, at), report_of(challenger_ref, at)
    if baseline.id == challenger.id:
        what = f"{baseline_ref} and {challenger_ref} are the same report, {baseline.id}"
        raise RequestError(what, "name two; 'llmops list reports' and 'llmops list versions' show what there is")
    made = pair(baseline, challenger, metric)
    at.put(made)
    return made


def pick(reports: Sequence[EvalReport]) -> Pick:
    """The cheapest row that is not worse than the best."""
    from llmops.experiments.pick import pick as choose

    return choose(reports)


def register(report_ref: str, at: Workspace, abstain_error: float | None = None) -> ModelVersion:
    """Keep what a report measured as the next version of its recipe's name, with its model card (`card.md`).

    With `abstain_error` it gives a label only where at most that share of such answers is wrong, with 95 % confidence,
    by the report's rows. What is kept already stays that version; the same weights that abstain otherwise are another.
    Raises `LlmopsError` where no threshold promises that.
    """
    from llmops.pipeline.experiments import abstention as found_by
    from llmops.pipeline.experiments import promised
    from llmops.registry.card import write_card
    from llmops.registry.register import Origin
    from llmops.registry.register import register as keep

    report = report_of(report_ref, at)
    abstention = None if abstain_error is None else promised(found_by(report.id, abstain_error, at))
    kept = [one for one in at.versions() if one.report == report.id and one.abstention == abstention]
    if kept:
        return kept[0]
    origin = Origin(temperature=_temperature(report), abstention=abstention)
    if report.subject.kind == "tuned":
        run = at.run(report.subject.ref)
        plan, adapter = at.get(Plan, run.plan), at.run_folder(run.id) / "adapter"
        version = keep(at, plan, report, lambda out: copy_files(adapter, out), origin._replace(run=run.id))
    else:
        plan = at.get(Plan, report.subject.ref)
        version = keep(at, plan, report, cheap_files(report, plan, at), origin)
    write_card(at, version)
    return version


def _temperature(report: EvalReport) -> float | None:
    """What the probabilities of a report are to be tempered by; None where it has none, or too few rows to tell."""
    from llmops.evals.calibration import calibrate, too_few

    return None if too_few(report) else calibrate(report).temperature


def promote(version_ref: str, at: Workspace, comparison: str | None = None, because: str | None = None) -> Promotion:
    """Let a version answer as production, on evidence: the comparison named, or one made now with who answers."""
    from llmops.registry.names import resolve
    from llmops.registry.policy import lacks_certificate
    from llmops.registry.promote import promote as decide

    newest = at.versions(version_ref)[-1:]  # by its name a model's newest version is meant, not what answers already
    version = newest[0] if newest else resolve(at, version_ref)
    evidence = at.get(Comparison, comparison) if comparison else evidence_for(version, at)
    if lacks_certificate(at, version):
        try:
            certify(version.ref, at)
        except LlmopsError as error:  # the gate refuses for want of it, and that is recorded
            at.world.say(f"no parity certificate: {error.what}")
    return decide(at, version, evidence, because)


def rollback(name: str, at: Workspace) -> Promotion:
    """Let the version that answered before answer again."""
    from llmops.registry.promote import rollback as go_back

    return go_back(at, name)


def report_of(ref: str, at: Workspace) -> EvalReport:
    """A report by its id or `last`; of a run or version the newest on held-out rows, else on any suite."""
    if ref == "last" or (ref.startswith("rp-") and any(report_id.startswith(ref) for report_id in at.ids(EvalReport))):
        return at.get(EvalReport, ref)
    subject, _, _ = subject_of(ref, at)
    kept = [at.get(EvalReport, version.report) for version in at.versions() if version.ref == subject.ref]
    found = [*kept, *at.reports_of(subject.ref)]
    on_rows = [report for report in found if report.suite.asking is None]
    return (on_rows or found)[-1] if found else evaluate(ref, at)


def evidence_for(version: ModelVersion, at: Workspace) -> Comparison:
    """The version against who answers now, re-examined on its suite; the first against the best cheap row."""
    from llmops.registry.names import answering

    own, now = at.get(EvalReport, version.report), answering(at, version.name)
    if now is not None and now.version != version.number:
        subject, plan, folder = subject_of(f"{version.name}:{now.version}", at)
        return compare(measure(subject, plan, folder, at, at.get(Plan, version.plan)).id, own.id, at)
    metric = own.suite.measures[0]
    sign = -1 if metric in LOWER_IS_BETTER else 1
    rivals = [
        report
        for report in at.all(EvalReport)
        if report.suite == own.suite
        and report.id != own.id
        and metric in report.scores
        and report.subject.kind != "tuned"
    ]
    if not rivals:
        raise RequestError(f"nothing was measured beside {version.ref}", "run its recipe, or name a --comparison")
    return compare(max(rivals, key=lambda report: sign * report.main.value).id, own.id, at)
