"""The bias audit: how rows that name a group are labelled, and what a linear model makes of a swapped name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from llmops.core.dataset import Row
from llmops.core.findings import Bias, Estimate, GroupLine, SwapLine
from llmops.core.review import BiasAudit, Terms
from llmops.core.value import digest
from llmops.data.doctor import FEWEST_OF_A_LABEL, FOLDS, sample
from llmops.data.estimates import difference_of, lengths, mean_of, share_of
from llmops.data.features import Features, fit, folds
from llmops.data.swaps import Swap, swaps, term_pattern
from llmops.data.terms import TERMS

FEWEST_ROWS = 10  # below this an interval says nothing
MOST_VALUES = 12  # of a column


def audit(rows: Sequence[Row], labels: Sequence[str], wanted: BiasAudit) -> Bias:
    """Label rates and lengths by group and by column, and the swaps. `labels` is empty where rows have none."""
    rows = sample(rows)
    texts = [row.text for row in rows]
    lines = [
        _line(axis, group, member_N, rows, labels)
        for axis, group, member_N in _memberships(rows, texts, wanted)
        if FEWEST_ROWS <= int(member_N.sum()) < len(rows)
    ]
    return Bias(rows=len(rows), groups=tuple(lines), swaps=tuple(_swaps(rows, texts, labels, wanted.terms)))


def chosen_swaps(rows: Sequence[Row], wanted: BiasAudit) -> list[Row]:
    """The counterfactual rows to add: one for each of a share of the rows that name a group, by the hash of its id."""
    if not wanted.swaps:
        return []
    known, made = swaps(wanted.terms), []
    for row in rows:
        drawn = int(digest(["swap", row.id])[:8], 16)
        found = [new for swap in known if (new := swap.row(row)) is not None] if drawn < wanted.swaps * 2**32 else []
        if found:
            made.append(found[drawn % len(found)])
    return made


def _memberships(rows: Sequence[Row], texts: Sequence[str], wanted: BiasAudit) -> Iterator[tuple[str, str, np.ndarray]]:
    """(axis, group, whether each row belongs to it): by the words of its text, then by the columns asked for."""
    known: Terms = {**TERMS, **wanted.terms}
    for axis, groups in known.items():
        for group, words in groups.items():
            find: Callable[[str], object] = term_pattern(words).search
            yield axis, group, np.array([find(text) is not None for text in texts], dtype=bool)
    for column in wanted.columns:
        values = [row.fields.get(column, "") for row in rows]
        for value in sorted(set(values), key=lambda value: (-values.count(value), value))[:MOST_VALUES]:
            yield f"column {column}", value or "(empty)", np.array([one == value for one in values], dtype=bool)


def _line(axis: str, group: str, member_N: np.ndarray, rows: Sequence[Row], labels: Sequence[str]) -> GroupLine:
    has = {label: np.array([row.label == label for row in rows]) for label in labels}
    inside = {label: share_of(marks_N[member_N]) for label, marks_N in has.items()}
    outside = {label: share_of(marks_N[~member_N]) for label, marks_N in has.items()}
    return GroupLine(
        axis=axis,
        group=group,
        rows=int(member_N.sum()),
        rates=inside,
        difference={label: difference_of(inside[label], outside[label]) for label in labels},
        words=mean_of(lengths([row.text for row, member in zip(rows, member_N, strict=True) if member])),
    )


def _swaps(rows: Sequence[Row], texts: Sequence[str], labels: Sequence[str], terms: Terms) -> Iterator[SwapLine]:
    """What each swap does to a linear model that has not seen the row: five folds."""
    if not labels:
        return
    targets_N = np.array([labels.index(str(row.label)) for row in rows])
    if np.bincount(targets_N, minlength=len(labels)).min() < FEWEST_OF_A_LABEL:
        return
    pairs = [(swap, _swapped(swap, texts)) for swap in swaps(terms)]
    pairs = [(swap, new) for swap, new in pairs if len(new) >= FEWEST_ROWS]
    if not pairs:
        return
    features = Features(texts)
    models = [(unseen, fit(features.fitted_NF[seen], targets_N[seen])) for seen, unseen in folds(targets_N, FOLDS)]
    fold_of_N = np.zeros(len(rows), dtype=int)
    for number, (unseen, _) in enumerate(models):
        fold_of_N[unseen] = number
    for swap, new in pairs:
        numbers = np.array(list(new))
        before, after = features.fitted_NF[numbers], features.of(list(new.values()))
        shift_MK, flipped_M = np.zeros((len(numbers), len(labels))), np.zeros(len(numbers), dtype=bool)
        for fold, (_, model) in enumerate(models):
            mine = np.flatnonzero(fold_of_N[numbers] == fold)
            if len(mine):
                old_MK, new_MK = model.predict_proba(before[mine]), model.predict_proba(after[mine])
                shift_MK[mine] = new_MK - old_MK
                flipped_M[mine] = new_MK.argmax(axis=1) != old_MK.argmax(axis=1)
        shift: dict[str, Estimate] = {label: mean_of(shift_MK[:, place]) for place, label in enumerate(labels)}
        yield SwapLine(axis=swap.axis, swap=swap.name, rows=len(numbers), shift=shift, flipped=share_of(flipped_M))


def _swapped(swap: Swap, texts: Sequence[str]) -> dict[int, str]:
    return {row: new for row, text in enumerate(texts) if (new := swap.text(text)) is not None}
