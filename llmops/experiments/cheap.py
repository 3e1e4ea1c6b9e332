"""All cheap rows of a classification at once, fitted on its training rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from llmops.core.context import Track, silent
from llmops.core.dataset import Row
from llmops.core.report import SubjectKind
from llmops.experiments.baselines import fit_base, fit_frozen, fit_majority, fit_tfidf, fit_word_list
from llmops.experiments.linear import Baseline
from llmops.experiments.nearest import fit_nearest
from llmops.lm.ports import Probe


def fit_cheap(
    rows: Sequence[Row],
    labels: Sequence[str],
    probe: Probe | None,
    words: Mapping[str, float] | None,
    track: Track = silent,
) -> dict[SubjectKind, Baseline]:
    """Every cheap row that applies, by kind, cheapest first. `probe` is the base's view of the same rows.

    Without one, the rows that need none.
    """
    fits: dict[SubjectKind, Callable[[], Baseline | None]] = {
        "majority": lambda: fit_majority(rows, labels),
        "word_list": lambda: fit_word_list(rows, labels, words) if words else None,
        "tfidf": lambda: fit_tfidf(rows, labels),
    }
    if probe is not None:
        fits |= {
            "frozen": lambda: fit_frozen(rows, labels, probe),
            "nearest": lambda: fit_nearest(rows, labels, probe),
            "base": lambda: fit_base(rows, labels, probe),
        }
    found = {kind: fit() for kind, fit in track(fits.items(), "fitting cheap rows", len(fits))}
    return {kind: baseline for kind, baseline in found.items() if baseline is not None}
