"""`promote` and `rollback`: who answers as production. A gate with evidence, and every step on record."""

from __future__ import annotations

from pathlib import Path

from llmops.core.comparison import Comparison
from llmops.core.errors import LlmopsError, Refusal, RequestError
from llmops.core.report import LOWER_IS_BETTER, EvalReport, SubjectKind
from llmops.core.version import ModelVersion, Promotion, RefusedPromotion
from llmops.registry import policy
from llmops.registry.names import answering, resolve
from llmops.registry.register import verify
from llmops.store.files import locked, read_json, stored
from llmops.store.workspace import Workspace

ALIAS = "production"
CHEAP_ROWS: tuple[SubjectKind, ...] = (
    "majority",
    "mean",
    "word_list",
    "tfidf",
    "frozen",
    "nearest",
    "base",
    "few_shot",
)


def promote(
    workspace: Workspace, version: ModelVersion, comparison: Comparison | None, because: str | None = None
) -> Promotion:
    """From now on `version` answers as production, if `comparison` is evidence for it. Appends one event.

    Evidence is a comparison of this version's own report, by the measure that decides, with what answers now (or,
    for the first of a name, with a cheap row no weaker than the best one on file), and a verdict of `better`, or
    of `cannot tell` where the version is the cheaper of the two; besides, every gate of `policy.yaml` must be open.
    Else a `RefusedPromotion` is recorded and `Refusal` raised, unless a person says why with `because`, which is
    recorded with their name. Files that were changed since they were registered are refused whatever a person says.
    """
    because = (because or "").strip() or None
    with locked(_lock(workspace, version.name)):
        now = answering(workspace, version.name, ALIAS)
        if now is not None and now.version == version.number:
            raise RequestError(f"{version.ref} answers as {ALIAS} already", "promote another version, or roll back")
        _refuse_changed_files(workspace, version, comparison)
        objection, speaks = _weigh(workspace, version, comparison, now)
        if objection and not because:
            raise _refused(workspace, version, comparison, objection)
        promotion = Promotion(
            name=version.name,
            alias=ALIAS,
            version=version.number,
            before=now.version if now else None,
            comparison=comparison.id if comparison else None,
            because=f"{because} (the gate had said: {objection})"
            if objection
            else " ".join(filter(None, (speaks, because))),
            override=objection is not None,
            author=workspace.world.author,
            at=workspace.world.clock(),
        )
        workspace.ledger.append(promotion, version.name)
    return promotion


def rollback(workspace: Workspace, name: str) -> Promotion:
    """Give production back to the version that answered before the one that answers now. Appends one event.

    Done twice, it goes back two steps, never forth again. Raises `RequestError` where nothing answered before, and
    `Refusal`, recorded, where that version's files were changed.
    """
    with locked(_lock(workspace, name)):
        known = resolve(workspace, name).name
        now = answering(workspace, known, ALIAS)
        trail = _trail(workspace.ledger.read(Promotion, name))
        if now is None or len(trail) < 2:
            raise RequestError(
                f"nothing answered as {name}@{ALIAS} before {f'{name}:{now.version}' if now else 'now'}",
                f"choose a version with 'llmops list versions' and promote it: 'llmops promote {name}:N'",
            )
        version = next((version for version in workspace.versions(name) if version.number == trail[-2]), None)
        if version is None:
            raise LlmopsError(f"{name}:{trail[-2]} answered before, but its folder is gone", "promote another version")
        _refuse_changed_files(workspace, version, None)
        promotion = Promotion(
            name=name,
            alias=ALIAS,
            version=version.number,
            before=now.version,
            because=f"rolled back from {name}:{now.version}",
            rollback=True,
            author=workspace.world.author,
            at=workspace.world.clock(),
        )
        workspace.ledger.append(promotion, name)
    return promotion


def _lock(workspace: Workspace, name: str) -> Path:
    return workspace.root / "versions" / f".{name}.lock"


def _trail(promotions: list[Promotion]) -> list[int]:
    """The versions that a chain of rollbacks would give back: a promotion adds one, a rollback takes the last off."""
    trail: list[int] = []
    for event in promotions:
        if event.alias != ALIAS:
            continue
        if event.rollback:
            trail.pop()
        else:
            trail.append(event.version)
    return trail


def _refuse_changed_files(workspace: Workspace, version: ModelVersion, comparison: Comparison | None) -> None:
    try:
        verify(workspace, version)
    except LlmopsError as error:
        raise _refused(workspace, version, comparison, error.what, error.fix) from error


def _refused(
    workspace: Workspace, version: ModelVersion, comparison: Comparison | None, objection: str, fix: str | None = None
) -> Refusal:
    """Record that the gate said no, and give the error to raise."""
    event = RefusedPromotion(
        name=version.name,
        alias=ALIAS,
        version=version.number,
        comparison=comparison.id if comparison else None,
        because=objection,
        author=workspace.world.author,
        at=workspace.world.clock(),
    )
    workspace.ledger.append(event, version.name)
    way_out = f"bring a comparison that it wins, or insist: 'llmops promote {version.ref} --because \"...\"'"
    return Refusal(f"{version.ref} is not promoted: {objection}", fix or way_out)


def _weigh(
    workspace: Workspace, version: ModelVersion, comparison: Comparison | None, now: Promotion | None
) -> tuple[str | None, str]:
    """(what speaks against it, or None; the grounds in a sentence)."""
    if comparison is None:
        return "there is no comparison to show that it is better", ""
    objection = _beside_the_point(workspace, version, comparison) or (
        _not_the_champion(workspace, comparison, version.name, now.version)
        if now
        else _not_the_best_row(workspace, version, comparison)
    )
    if objection:
        return objection, ""
    speaks, against = grounds(comparison)
    others = policy.objections(workspace, version, comparison)
    said = "; ".join([*([against] if against else []), *others])
    return (said or None), speaks


def grounds(comparison: Comparison) -> tuple[str, str | None]:
    """(what speaks for the challenger by this comparison, what speaks against it)."""
    found, other = comparison.overall, f"{comparison.baseline.kind} ({comparison.baseline.ref})"
    numbers = f"{comparison.metric} {found.delta:+.4f} ({found.low:+.4f} to {found.high:+.4f}, n {found.n})"
    cheaper = comparison.challenger.cost < comparison.baseline.cost
    if comparison.verdict == "better":
        return f"It is better than {other}: {numbers}.", None
    if comparison.verdict == "worse":
        return "", f"it is worse than {other}: {numbers}"
    if cheaper:
        return f"It is cheaper than {other} and was not shown to be worse: {numbers}.", None
    return "", f"it was not shown to be better than {other}, which costs no more: {numbers}"


def _beside_the_point(workspace: Workspace, version: ModelVersion, comparison: Comparison) -> str | None:
    """Why the comparison says nothing about this version, or None."""
    if comparison.challenger_report != version.report:
        return f"comparison {comparison.id} is about {comparison.challenger_report}, not about its own {version.report}"
    head = _heads(workspace).get(version.report)
    if head is None:
        return f"its report {version.report} is not in this workspace"
    if comparison.suite != head.suite.id or comparison.challenger.kind != version.kind:
        return f"comparison {comparison.id} does not fit its report {version.report}"
    if comparison.metric != head.suite.measures[0]:
        return f"comparison {comparison.id} is by {comparison.metric}, but {head.suite.measures[0]} decides"
    return None


def _not_the_champion(workspace: Workspace, comparison: Comparison, name: str, number: int) -> str | None:
    """An objection where the other side is not the version that answers now, by its report or by its name."""
    champion = next((version for version in workspace.versions(name) if version.number == number), None)
    own = champion is not None and comparison.baseline_report == champion.report
    if own or comparison.baseline.ref == f"{name}:{number}":
        return None
    return f"comparison {comparison.id} is with {comparison.baseline.ref}, but {name}:{number} answers now"


def _not_the_best_row(workspace: Workspace, version: ModelVersion, comparison: Comparison) -> str | None:
    """An objection where a cheap row on file, of the same suite, is better than the one compared with."""
    heads = _heads(workspace)
    baseline = heads.get(comparison.baseline_report)
    if baseline is None:
        return f"report {comparison.baseline_report} of the other side is not in this workspace"
    if comparison.baseline_report == version.report:
        return "it was compared with itself"
    sign = -1.0 if comparison.metric in LOWER_IS_BETTER else 1.0
    for report_id, head in heads.items():
        of_it = head.suite.id == comparison.suite and head.subject.kind in CHEAP_ROWS and report_id != version.report
        if of_it and comparison.metric in head.scores:
            best, compared = head.scores[comparison.metric].value, baseline.scores[comparison.metric].value
            if sign * best > sign * compared:
                won = f"{head.subject.kind} ({best:.4f})"
                return f"it was compared with {baseline.subject.kind} ({compared:.4f}), not with {won}"
    return None


def _heads(workspace: Workspace) -> dict[str, EvalReport]:
    """Every report without its answers, by id: cheap to read where there are many."""
    files = {fact_id: workspace.folder(EvalReport, fact_id) / "report.json" for fact_id in workspace.ids(EvalReport)}
    return {fact_id: stored(EvalReport, {**read_json(file), "answers": ()}, file) for fact_id, file in files.items()}
