"""Fit the cheap rows on training rows, load them again, and the cheap row of reply selection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmops.core.dataset import Row
from llmops.core.errors import RequestError
from llmops.experiments.linear import KINDS, Base, Baseline, FewShot, Frozen, Majority, Tfidf, WordList, softmax
from llmops.experiments.parts import Vocabulary, read_parts, standards, vectorizers

if TYPE_CHECKING:
    from llmops.lm.ports import Probe

# Five-fold cross-validation on 1,200 training rows of the four rated corpora: 0.689 at 0.3, 0.713 at 1, 0.719 at 3,
# 0.721 at 10, 0.722 at 30.
TFIDF_C = 10.0
# On 400 rows of 576 numbers with two BLAS threads lbfgs takes 0.09 to 0.19 s of processor time, newton-cg 0.01 to 0.02;
# the same weights.
SOLVER = "newton-cg"
FROZEN_C = (0.001, 0.003, 0.01, 0.03, 0.1)


def load(folder: Path) -> Baseline:
    """The baseline that was saved in `folder`; `LlmopsError` where a file is missing, damaged or not what it says."""
    return read_parts(folder, KINDS)


def fit_majority(rows: Sequence[Row], labels: Sequence[str]) -> Baseline:
    """The label that most training rows have, for every text."""
    counts_K = np.bincount(targets(rows, labels), minlength=len(labels))
    return Majority(tuple(labels), np.zeros((0, len(labels))), np.log(counts_K / counts_K.sum()))


def fit_word_list(rows: Sequence[Row], labels: Sequence[str], words: Mapping[str, float]) -> Baseline | None:
    """A threshold for the sum of `words`; None for more than two labels, which one number cannot rank fairly."""
    if len(labels) != 2:
        return None
    entries = tuple(words), np.array([float(value) for value in words.values()])
    blank = WordList(tuple(labels), np.zeros((1, 2)), np.zeros(2), *entries)
    weights_FK, bias_K = _logistic(blank.features(_texts(rows), None), targets(rows, labels), c=1.0)
    return WordList(tuple(labels), weights_FK, bias_K, *entries)


def fit_tfidf(rows: Sequence[Row], labels: Sequence[str]) -> Baseline:
    """TF-IDF and logistic regression, one fixed strength of regularisation."""
    found = Vocabulary.of(_texts(rows))
    if not len(found):
        return Tfidf(tuple(labels), np.zeros((0, len(labels))), fit_majority(rows, labels).bias_K, (), (), found.idf_V)
    weights_FK, bias_K = _logistic(found.features(_texts(rows)), targets(rows, labels), TFIDF_C)
    return Tfidf(tuple(labels), weights_FK, bias_K, found.words, found.pieces, found.idf_V)


def fit_frozen(rows: Sequence[Row], labels: Sequence[str], probe: Probe) -> Baseline:
    """Logistic regression on the probe of the training rows; C by five-fold cross-validation within them."""
    targets_N = targets(rows, labels)
    mean_D, scale_D = standards(probe.hidden_ND)
    features_ND = (np.asarray(probe.hidden_ND, dtype=float) - mean_D) / scale_D
    weights_FK, bias_K = _logistic(features_ND, targets_N, _best_c(features_ND, targets_N))
    return Frozen(tuple(labels), weights_FK, bias_K, mean_D, scale_D)


def fit_base(rows: Sequence[Row], labels: Sequence[str], probe: Probe) -> Baseline:
    """One scale (0 or more, so that the base's order cannot be turned round) and one bias a label.

    Both maximise the likelihood of the training rows' labels, which is a convex problem. For two labels that is
    one threshold on the difference of their log-probabilities.
    """
    from scipy.optimize import minimize
    from scipy.special import logsumexp

    targets_N = targets(rows, labels)
    logprobs_NK = np.asarray(probe.logprobs_NK, dtype=float)
    real_NK = np.eye(len(labels))[targets_N]

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        """Mean nats a row and its gradient; the small square keeps the biases' common shift at 0."""
        logits_NK = parameters[0] * logprobs_NK + parameters[1:]
        wrong_NK = (softmax(logits_NK) - real_NK) / len(targets_N)
        nats = np.mean(logsumexp(logits_NK, axis=1) - (logits_NK * real_NK).sum(axis=1))
        gradient = np.concatenate([[(wrong_NK * logprobs_NK).sum()], wrong_NK.sum(axis=0)])
        return float(nats + 5e-7 * (parameters**2).sum()), gradient + 1e-6 * parameters

    start = np.concatenate([[1.0], np.zeros(len(labels))])
    bounds = [(0.0, 1e3), *[(-1e4, 1e4)] * len(labels)]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 2000, "maxls": 50}).x
    return Base(tuple(labels), found[0] * np.eye(len(labels)), found[1:].copy())


def fit_few_shot(rows: Sequence[Row], labels: Sequence[str], probe: Probe, shown: Sequence[Row]) -> Baseline:
    """As `fit_base`, of rows that were probed behind the examples `shown`."""
    base = fit_base(rows, labels, probe)
    turns = [message.content for row in shown for message in row.messages if message.role != "system"]
    return FewShot(base.labels, base.weights_FK, base.bias_K, tuple(turns))


def cosine_pick(train_rows: Sequence[Row], rows: Sequence[Row], options: Sequence[Sequence[str]]) -> list[list[float]]:
    """For each row, the TF-IDF cosine of its prompt with each of its options: the cheap row of reply selection.

    Document frequencies are those of the training rows' prompts and replies.
    """
    vectorizer = vectorizers()[0].set_params(token_pattern=r"\w+", ngram_range=(1, 1))
    try:
        vectorizer.fit([text for row in train_rows for text in (_prompt_text(row), row.reply)])
    except ValueError:  # there is no word in any of them
        return [[0.0] * len(choices) for choices in options]
    prompts = vectorizer.transform([_prompt_text(row) for row in rows])
    return [
        (vectorizer.transform(list(choices)) @ prompts[index].T).toarray().ravel().tolist()
        for index, choices in enumerate(options)
    ]


def _texts(rows: Sequence[Row]) -> list[str]:
    return [row.text for row in rows]


def _prompt_text(row: Row) -> str:
    return "\n".join(message.content for message in row.prompt)


def targets(rows: Sequence[Row], labels: Sequence[str]) -> np.ndarray:
    """The index of each row's label, N; `RequestError` where a label has no row or a row has none of the labels."""
    index = {label: number for number, label in enumerate(labels)}
    strange = sorted({str(row.label) for row in rows} - set(index))
    absent = sorted(set(index) - {str(row.label) for row in rows})
    if strange:
        raise RequestError(
            f"a training row has label {strange[0]!r}", f"the labels are {', '.join(labels)}: add it or mend it"
        )
    if absent:
        raise RequestError(
            f"no training row has label {absent[0]!r}", "add rows with that label, or leave the label out"
        )
    return np.array([index[str(row.label)] for row in rows])


def _logistic(features_NF: Any, targets_N: np.ndarray, c: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights FK and bias K of a logistic regression; with two labels the first one's are 0."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=c, max_iter=5000, solver=SOLVER).fit(features_NF, targets_N)
    weights_FK, bias_K = model.coef_.T, model.intercept_
    if len(bias_K) == 1:
        weights_FK, bias_K = np.pad(weights_FK, ((0, 0), (1, 0))), np.pad(bias_K, (1, 0))
    return np.array(weights_FK, dtype=float), np.array(bias_K, dtype=float)


def _best_c(features_ND: np.ndarray, targets_N: np.ndarray) -> float:
    """The C of `FROZEN_C` with the best accuracy over five folds; the middle one where a label has a single row."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    folds = min(5, int(np.bincount(targets_N).min()))
    if folds < 2:
        return FROZEN_C[len(FROZEN_C) // 2]
    split = StratifiedKFold(folds, shuffle=True, random_state=0)
    scores = [
        cross_val_score(LogisticRegression(C=c, max_iter=5000, solver=SOLVER), features_ND, targets_N, cv=split).mean()
        for c in FROZEN_C
    ]
    return FROZEN_C[int(np.argmax(scores))]
