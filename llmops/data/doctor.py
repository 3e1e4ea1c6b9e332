"""The label doctor: which labels look wrong, and whether dropping or changing them helps. N rows, K labels.

A linear model on TF-IDF features gives every row a probability of each label from folds that did not hold the row.
Confident learning (Northcutt, Jiang and Chuang, JAIR 70:1373, 2021; the library cleanlab) says from these how many
labels are wrong, and which. A treatment is given only where cross-validation says that it does no harm: within each
training fold rows are found and treated, and the model of the treated fold is judged on rows that nobody touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from llmops.core.context import Track, silent
from llmops.core.dataset import Row
from llmops.core.findings import Diagnosis, LabelIssue, Treatment
from llmops.core.review import DropLabels, KeepLabels, LabelDoctor, Relabel
from llmops.core.value import digest
from llmops.data.estimates import NOTHING, mean_of, share_of
from llmops.data.features import Features, fit, folds, out_of_fold

FOLDS = 5
INNER_FOLDS = 3
MOST_ROWS = 20_000  # looked at; a larger set is judged by the rows with the smallest hashes
FEWEST_OF_A_LABEL = 2 * FOLDS


Done = Literal["nothing", "drop", "relabel"]


class Suspect(NamedTuple):
    """A row number, the label that the other rows suggest, and the probability of the given one."""

    row: int
    suggested: int
    quality: float


def diagnose(rows: Sequence[Row], labels: Sequence[str], doctor: LabelDoctor, track: Track = silent) -> Diagnosis:
    """The rows whose label looks wrong, and what a treatment would do. Nothing is changed here: see `treated`."""
    rows = sample(rows)
    targets_N = np.array([labels.index(str(row.label)) for row in rows])
    scarce = np.bincount(targets_N, minlength=len(labels)) < FEWEST_OF_A_LABEL
    if scarce.any():
        why = f"Label {labels[int(np.argmax(scarce))]!r} has fewer than {FEWEST_OF_A_LABEL} rows: too few to judge."
        return Diagnosis(rows=len(rows), accuracy=NOTHING, issues=(), because=why)
    features_NF = Features([row.text for row in rows]).fitted_NF
    chances_NK = out_of_fold(features_NF, targets_N, FOLDS)
    suspects = find_suspects(targets_N, chances_NK)
    treatments = () if isinstance(doctor, KeepLabels) else (try_treatment(features_NF, targets_N, doctor, track),)
    done, because = _decide(doctor, treatments, len(suspects))
    return Diagnosis(
        rows=len(rows),
        accuracy=share_of(chances_NK.argmax(axis=1) == targets_N),
        issues=tuple(
            LabelIssue(
                row=rows[one.row].id,
                text=rows[one.row].text,
                given=labels[int(targets_N[one.row])],
                suggested=labels[one.suggested],
                quality=round(one.quality, 4),
            )
            for one in suspects
        ),
        treatments=treatments,
        done=done,
        because=because,
    )


def sample(rows: Sequence[Row], most: int = MOST_ROWS) -> list[Row]:
    """At most `most` rows, those whose ids have the smallest hashes, in the order given."""
    if len(rows) <= most:
        return list(rows)
    last = sorted(digest(["sample", row.id]) for row in rows)[most - 1]
    return [row for row in rows if digest(["sample", row.id]) <= last]


def find_suspects(targets_N: np.ndarray, chances_NK: np.ndarray) -> list[Suspect]:
    """The rows that confident learning holds for mislabelled, the most suspicious first."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    wrong_N = find_label_issues(targets_N, chances_NK, filter_by="prune_by_noise_rate", n_jobs=1)
    quality_N = get_label_quality_scores(targets_N, chances_NK, method="self_confidence")
    others_NK = chances_NK.copy()
    others_NK[np.arange(len(targets_N)), targets_N] = -1.0
    order = np.lexsort((np.arange(len(targets_N)), quality_N))
    return [Suspect(int(row), int(others_NK[row].argmax()), float(quality_N[row])) for row in order[wrong_N[order]]]


def rank(targets_N: np.ndarray, chances_NK: np.ndarray) -> np.ndarray:
    """How suspicious each row's label is, N: 1 less the out-of-fold probability of the given label."""
    suspicion_N: np.ndarray = 1.0 - chances_NK[np.arange(len(targets_N)), targets_N]
    return suspicion_N


def treat(diagnosis: Diagnosis) -> tuple[dict[str, str], dict[str, str]]:
    """({row id: why it is dropped}, {row id: new label}), as the diagnosis decided."""
    issues = diagnosis.issues[: _treated_rows(diagnosis)]
    if diagnosis.done == "drop":
        return {one.row: f"label looks wrong: {one.given}, others suggest {one.suggested}" for one in issues}, {}
    if diagnosis.done == "relabel":
        return {}, {one.row: one.suggested for one in issues}
    return {}, {}


def _treated_rows(diagnosis: Diagnosis) -> int:
    return next((tried.rows for tried in diagnosis.treatments if tried.kind == diagnosis.done), 0)


def try_treatment(
    features_NF: Any, targets_N: np.ndarray, doctor: DropLabels | Relabel, track: Track = silent
) -> Treatment:
    """The treatment asked for, judged on rows that it did not touch: five folds, each treated by itself."""
    change_N, touched = np.zeros(len(targets_N)), 0
    for seen, unseen in track(folds(targets_N, FOLDS), f"trying to {doctor.kind}", FOLDS):
        inside_NF, given_N = features_NF[seen], targets_N[seen]
        suspects = find_suspects(given_N, out_of_fold(inside_NF, given_N, INNER_FOLDS))[: _most(doctor, len(seen))]
        touched += len(suspects)
        plain = fit(inside_NF, given_N).predict(features_NF[unseen])
        better = fit(*treated(doctor, inside_NF, given_N, suspects)).predict(features_NF[unseen])
        truth = targets_N[unseen]
        change_N[unseen] = (better == truth).astype(float) - (plain == truth)
    return Treatment(kind=doctor.kind, rows=touched // (FOLDS - 1), change=mean_of(change_N))


def treated(
    doctor: DropLabels | Relabel, features_NF: Any, targets_N: np.ndarray, suspects: Sequence[Suspect]
) -> tuple[Any, np.ndarray]:
    if isinstance(doctor, Relabel):
        changed_N = targets_N.copy()
        for one in suspects:
            changed_N[one.row] = one.suggested
        return (features_NF, changed_N) if len(set(changed_N)) == len(set(targets_N)) else (features_NF, targets_N)
    kept_N = np.ones(len(targets_N), dtype=bool)
    kept_N[[one.row for one in suspects]] = False
    return (features_NF[kept_N], targets_N[kept_N]) if len(set(targets_N[kept_N])) > 1 else (features_NF, targets_N)


def _decide(doctor: LabelDoctor, treatments: Sequence[Treatment], suspects: int) -> tuple[Done, str]:
    """What is done, and the sentence that says why."""
    if isinstance(doctor, KeepLabels):
        return "nothing", f"{suspects:,} labels are worth a look, the first ones most. Every row is kept."
    tried = treatments[0]
    change = f"{tried.change.value:+.2%} ({tried.change.low:+.2%} to {tried.change.high:+.2%})"
    what = f"To {tried.kind} {tried.rows:,} rows changes cross-validated accuracy by {change}"
    if helps(tried):
        return tried.kind, f"{what}: it is done."
    return "nothing", f"{what}: that may be chance, so doing nothing is best."


def helps(tried: Treatment) -> bool:
    """Whether accuracy rises by more than chance: what may be chance is left alone."""
    return tried.rows > 0 and tried.change.low > 0


def _most(doctor: DropLabels | Relabel, rows: int) -> int:
    return int(doctor.at_most * rows)
