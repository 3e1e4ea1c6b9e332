"""`comparison_page`: is the challenger better, where, and which answers flipped: those first."""

from __future__ import annotations

from collections import Counter

from llmops.core.comparison import Comparison
from llmops.core.errors import RequestError
from llmops.core.measures import measure_name, spelt
from llmops.core.report import LOWER_IS_BETTER, EvalReport
from llmops.evals.pages import plots
from llmops.evals.pages.answers import of_pair
from llmops.evals.pages.template import asked_how, called, render

MOST_LINES = 20  # of the plot: the slices that lost most
TONES = {"better": "good", "worse": "bad", "cannot tell": "warn"}


def comparison_page(made: Comparison, baseline: EvalReport, challenger: EvalReport) -> str:
    """The page of one comparison and its two reports. Raises `RequestError` where they are others."""
    if (made.baseline_report, made.challenger_report) != (baseline.id, challenger.id):
        raise RequestError(f"{made.id} compares two other reports", "give the baseline's and the challenger's report")
    metric = made.metric
    rows = of_pair(baseline.answers, challenger.answers, metric)
    counts = Counter(row["verdict"] for row in rows)
    order = sorted(made.slices.items(), key=lambda item: item[1].delta)
    both = [
        (name, baseline.scores.get(name), challenger.scores.get(name))
        for name in dict.fromkeys((*baseline.scores, *challenger.scores))
    ]
    return render(
        kind="comparison",
        title=f"{called(made.challenger)} against {called(made.baseline)}",
        made=made,
        report=challenger,
        metric=metric,
        sentence=sentence(made),
        tone=TONES[made.verdict],
        tiles=_tiles(made, counts),
        both=both,
        differences=[("overall", made.overall), *order],
        difference_plot=plots.differences(
            {"overall": made.overall, **dict(order[:MOST_LINES])}, metric, "Differences by slice"
        ),
        asked=asked_how(challenger.suite),
        data={"answers": rows, "pair": True, "lower": metric in LOWER_IS_BETTER},
    )


def sentence(made: Comparison) -> str:
    """The verdict for a reader who reads one line."""
    overall, name = made.overall, measure_name(made.metric)
    said = {"better": "is better than", "worse": "is worse than"}.get(made.verdict)
    challenger, baseline = called(made.challenger), called(made.baseline)
    low, high = (f"{'+' if bound >= 0 else ''}{spelt(made.metric, bound)}" for bound in (overall.low, overall.high))
    if said is None:
        return (
            f"On {overall.n:,} rows it cannot be told whether {challenger} is better than {baseline} "
            f"({name}: {low} to {high})."
        )
    return f"{challenger} {said} {baseline} by {name}: {low} to {high} on {overall.n:,} rows."


def _tiles(made: Comparison, counts: Counter[str]) -> list[tuple[str, str, str]]:
    overall = made.overall
    delta = f"{'+' if overall.delta >= 0 else ''}{spelt(made.metric, overall.delta)}"
    p = "p < 0.001" if overall.p < 0.001 else f"p = {overall.p:.3f}"
    tiles = [
        (delta, "difference; above 0 the challenger is better", TONES[made.verdict]),
        (p.removeprefix("p = ") if p.startswith("p =") else "< 0.001", f"p ({overall.test})", ""),
        (f"{counts['gained']:,}", "answers got better", "good"),
        (f"{counts['lost']:,}", "answers got worse", "bad"),
    ]
    return [
        *tiles,
        *([(f"{counts['unmarked']:,}", "without a mark on one side", "warn")] if counts["unmarked"] else []),
    ]
