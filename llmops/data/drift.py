"""Drift between the sides of a split: lengths, labels, and whether a linear model can tell the sides apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmops.core.dataset import Row
from llmops.core.findings import Drift, Estimate
from llmops.data.estimates import estimate, lengths
from llmops.data.features import Features, out_of_fold

FOLDS = 5
FEWEST_ROWS = 2 * FOLDS


def drift(train: Sequence[Row], heldout: Sequence[Row], labels: Sequence[str]) -> Drift:
    """How alike two samples of rows are."""
    from scipy.stats import ks_2samp

    texts = [[row.text for row in side] for side in (train, heldout)]
    return Drift(
        lengths_p=round(float(ks_2samp(*map(lengths, texts)).pvalue), 4),
        labels_p=_labels_p(train, heldout, labels),
        told_apart=_told_apart(*texts),
    )


def _labels_p(train: Sequence[Row], heldout: Sequence[Row], labels: Sequence[str]) -> float | None:
    from scipy.stats import chi2_contingency

    table = np.array([[sum(row.label == label for row in side) for label in labels] for side in (train, heldout)])
    if not labels or (table.sum(axis=0) == 0).any():
        return None
    return round(float(chi2_contingency(table).pvalue), 4)


def _told_apart(train: Sequence[str], heldout: Sequence[str]) -> Estimate | None:
    """The AUC, with its interval after Hanley and McNeil (Radiology 143:29, 1982)."""
    from sklearn.metrics import roc_auc_score

    if min(len(train), len(heldout)) < FEWEST_ROWS:
        return None
    side_N = np.array([0] * len(train) + [1] * len(heldout))
    chances_N = out_of_fold(Features([*train, *heldout]).fitted_NF, side_N, FOLDS)[:, 1]
    auc, ones, zeros = float(roc_auc_score(side_N, chances_N)), len(heldout), len(train)
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = (auc * (1 - auc) + (ones - 1) * (q1 - auc**2) + (zeros - 1) * (q2 - auc**2)) / (ones * zeros)
    reach = 1.96 * variance**0.5
    return estimate(auc, max(0.0, auc - reach), min(1.0, auc + reach), ones + zeros)
