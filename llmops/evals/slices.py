"""`find_slices`: where is a model weak? Rows are grouped by field, by length and by topic.

N rows, F features, D directions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from llmops.core.comparison import holm
from llmops.core.errors import RequestError
from llmops.core.measures import top_of
from llmops.core.report import LOWER_IS_BETTER, Answer, EvalReport, Score
from llmops.core.resampling import by_group
from llmops.core.slices import By, Slice, Slices
from llmops.evals.intervals import of_marks

FEWEST_ROWS = 10  # of a slice, and of all others
MOST_VALUES = 20  # of a field: names and numbers of their own say nothing of other rows
ROWS_A_CLUSTER = 40
MOST_CLUSTERS = 12
DIRECTIONS = 20
NAMING_WORDS = 3

Found = tuple[str, By, np.ndarray]


def find_slices(report: EvalReport, metric: str | None = None) -> Slices:
    """Every slice of a report by one measure (the first, by default), the worst first.

    A slice is a value of a field, a quarter of the lengths, or a cluster of alike prompts; who is in it hangs on the
    rows, never on the marks, so its p is honest. Raises `RequestError` where no row has a mark.
    """
    metric = metric or report.main.metric
    answers = [answer for answer in report.answers if metric in answer.marks]
    if not answers:
        raise RequestError(f"report {report.id} has no marks by {metric}", "name a measure that marks each row")
    sides = [found for found in _sides(answers) if FEWEST_ROWS <= found[2].sum() <= len(answers) - FEWEST_ROWS]
    tested = [_tested(answers, metric, inside_N) for _, _, inside_N in sides]
    ps = list(holm({str(place): p for place, (_, p) in enumerate(tested)}).values())
    slices = [
        Slice(
            name=name,
            by=by,
            rows=tuple(answer.row for answer, inside in zip(answers, inside_N, strict=True) if inside),
            score=score_of(metric, [answer for answer, inside in zip(answers, inside_N, strict=True) if inside]),
            gap=gap,
            p=p,
            adjusted_p=adjusted,
        )
        for (name, by, inside_N), (gap, p), adjusted in zip(sides, tested, ps, strict=True)
    ]
    return Slices(report=report.id, metric=metric, slices=tuple(sorted(slices, key=_badness)))


def _badness(found: Slice) -> tuple[bool, float]:
    """Those shown to be weak come first, then the rest by how far behind they are."""
    return found.verdict != "weak", found.gap


def _sides(answers: Sequence[Answer]) -> Iterator[Found]:
    """(name, by what, who is inside) of every slice."""
    yield from _by_field(answers)
    yield from _by_length(answers)
    yield from _by_cluster([answer.prompt for answer in answers])


def _by_field(answers: Sequence[Answer]) -> Iterator[Found]:
    for field in dict.fromkeys(name for answer in answers for name in answer.fields if name != "error"):
        values = Counter(answer.fields.get(field) for answer in answers)
        for value in sorted(value for value in values if value is not None) if len(values) <= MOST_VALUES else ():
            yield f"{field}={value}", "field", np.array([answer.fields.get(field) == value for answer in answers])


def _by_length(answers: Sequence[Answer]) -> Iterator[Found]:
    """The quarters of the prompts by their number of words; ties stay together."""
    words_N = np.array([len(answer.prompt.split()) for answer in answers])
    edges = np.unique(np.quantile(words_N, [0.25, 0.5, 0.75]).astype(int))
    quarter_N = np.searchsorted(edges, words_N)
    for quarter in np.unique(quarter_N):
        inside_N = quarter_N == quarter
        yield f"{words_N[inside_N].min()} to {words_N[inside_N].max()} words", "length", inside_N


def _by_cluster(texts: Sequence[str]) -> Iterator[Found]:
    """Clusters of prompts by TF-IDF and k-means, named by the words that set them apart.

    On the main directions of TF-IDF, normalised: on TF-IDF itself, most short texts share no word with any centre
    and land in one heap (recipes/LOG.md).
    """
    from sklearn.cluster import KMeans
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    number = min(MOST_CLUSTERS, len(texts) // ROWS_A_CLUSTER)
    vectorizer = TfidfVectorizer(sublinear_tf=True, stop_words="english", min_df=2, max_df=0.5)
    if number < 2:
        return
    try:
        features_NF = vectorizer.fit_transform(texts)
    except ValueError:  # no word is in two of the texts
        return
    if min(features_NF.shape) <= number:
        return
    directions = min(DIRECTIONS, min(features_NF.shape) - 1)
    points_ND = normalize(TruncatedSVD(directions, random_state=0).fit_transform(features_NF))
    cluster_N = KMeans(number, n_init=4, random_state=0).fit_predict(points_ND)
    names, mean_F = vectorizer.get_feature_names_out(), np.asarray(features_NF.mean(axis=0)).ravel()
    for cluster in range(number):
        inside_N = cluster_N == cluster
        ahead_F = np.asarray(features_NF[inside_N].mean(axis=0)).ravel() - mean_F
        yield f"about {', '.join(names[np.argsort(-ahead_F)[:NAMING_WORDS]])}", "cluster", inside_N


def _tested(answers: Sequence[Answer], metric: str, inside_N: np.ndarray) -> tuple[float, float]:
    """(how much better the rows inside are than the others, p).

    Right or wrong of independent rows: Fisher's exact test. Anything else: Student's t of the difference of two
    weighted rates, its variance that of the sources' linearised sums, with the sources inside less one as degrees.
    """
    from scipy.stats import fisher_exact, t

    marks_N = np.array([answer.marks[metric] for answer in answers])
    weights_N = np.array([answer.weights.get(metric, 1.0) for answer in answers])
    groups = [answer.group or answer.row for answer in answers]
    rates = [float(np.average(marks_N[side], weights=weights_N[side])) for side in (inside_N, ~inside_N)]
    gap = (rates[0] - rates[1]) * (-1 if metric in LOWER_IS_BETTER else 1)
    if len(set(groups)) == len(groups) and set(marks_N) <= {0.0, 1.0} and np.all(weights_N == 1):
        table = [[int(marks_N[side].sum()), int((1 - marks_N[side]).sum())] for side in (inside_N, ~inside_N)]
        return gap, float(fisher_exact(table).pvalue)
    shares_N = np.where(inside_N, weights_N / weights_N[inside_N].sum(), -weights_N / weights_N[~inside_N].sum())
    sums_G = by_group(groups, shares_N * (marks_N - np.where(inside_N, *rates)))
    degrees = len({group for group, inside in zip(groups, inside_N, strict=True) if inside}) - 1
    error = float((sums_G**2).sum() * len(sums_G) / max(1, len(sums_G) - 1)) ** 0.5
    if degrees < 1 or error == 0:
        return gap, 1.0
    return gap, float(2 * t.sf(abs(gap) / error, degrees))


def score_of(metric: str, answers: Sequence[Answer]) -> Score:
    """The score of some answers of a report, from their marks."""
    marks = [answer.marks[metric] for answer in answers]
    weights = [answer.weights.get(metric, 1.0) for answer in answers]
    groups = [answer.group or answer.row for answer in answers]
    graded = not set(marks) <= {0.0, 0.5, 1.0} or any(metric in answer.weights for answer in answers)
    low, high = of_marks(marks, weights, groups if 1 < len(set(groups)) < len(groups) else None, graded, top_of(metric))
    value = float(np.average(marks, weights=weights))
    return Score(metric=metric, value=value, low=min(low, value), high=max(high, value), n=len(marks))
