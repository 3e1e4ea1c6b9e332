"""The honest tables: scores with their intervals, paired comparisons, and what a whole run came to."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from llmops.cli import words
from llmops.cli.tables import table, text
from llmops.core.comparison import Comparison, Difference
from llmops.core.measures import measure_name
from llmops.core.outcome import Outcome
from llmops.core.report import LOWER_IS_BETTER, EvalReport, Score

measure = measure_name
VERDICT_STYLE = {"better": "green", "worse": "red", "cannot tell": "yellow"}


def interval(score: Score) -> str:
    """`0.887 to 0.931`."""
    return f"{score.low:.3f} to {score.high:.3f}"


def score_table(scores: Mapping[str, Score], title: str) -> RenderableType:
    """Every row with its value, 95 % interval and n; then the same by slice. The best value of each line is bold."""
    overall = table("", "value", "95 % interval", "n", numbers_from=1, title=title)
    top = best(scores)
    for name, score in scores.items():
        overall.add_row(
            text(name), text(f"{score.value:.3f}", "bold" if name in top else ""), interval(score), words.count(score.n)
        )
    slices = list(dict.fromkeys(slice_ for score in scores.values() for slice_ in score.slices))
    if not slices:
        return overall
    by_slice = table("", *scores, numbers_from=1, title="by slice")
    for slice_ in slices:
        here = {name: score.slices[slice_] for name, score in scores.items() if slice_ in score.slices}
        top = best(here)
        size = max(score.n for score in here.values())
        cells = [slice_cell(here.get(name), name in top) for name in scores]
        by_slice.add_row(text(f"{slice_}\nn {words.count(size)}"), *cells)
    return Group(overall, "", by_slice)


def slice_cell(score: Score | None, is_best: bool) -> Text:
    """A value over its interval, or a dash."""
    if score is None:
        return text("–")
    low, high = (
        f"{bound:.2f}".removeprefix("0") if 0 <= bound < 1 else f"{bound:.2f}" for bound in (score.low, score.high)
    )
    return Text.assemble((f"{score.value:.3f}", "bold" if is_best else ""), (f"\n{low}–{high}", "dim"))


def best(scores: Mapping[str, Score]) -> set[str]:
    """The names of the best scores: one, or all that are equal to three digits, as shown."""
    if not scores:
        return set()
    sign = -1 if next(iter(scores.values())).metric in LOWER_IS_BETTER else 1
    top = max(sign * round(score.value, 3) for score in scores.values())
    return {name for name, score in scores.items() if sign * round(score.value, 3) == top}


def difference_row(name: str, difference: Difference) -> tuple[RenderableType, ...]:
    """Name, delta, interval, p, n and verdict."""
    return (
        text(name),
        f"{difference.delta:+.3f}",
        f"{difference.low:+.3f} to {difference.high:+.3f}",
        words.p_value(difference.p if difference.adjusted_p is None else difference.adjusted_p),
        words.count(difference.n),
        text(difference.verdict, VERDICT_STYLE[difference.verdict]),
    )


def sources(value: Difference) -> str:
    """Wilcoxon's p beside a test of means; how many sources the rows share, where they do, and what that costs."""
    rank = "" if value.rank_p is None else f" · Wilcoxon {words.p_value(value.rank_p)}"
    if value.groups is None:
        return rank
    return f"{rank} · {words.count(value.groups)} sources, {value.design_effect or 1:.1f} rows counting as one"


def comparison(value: Comparison) -> RenderableType:
    """Overall and by slice; a delta above 0 speaks for the challenger, for every measure."""
    title = f"{value.challenger.kind} {value.challenger.ref} against {value.baseline.kind} {value.baseline.ref}"
    made = table("", "delta", "95 % interval", "p", "n", "verdict", numbers_from=1)
    made.add_row(*difference_row("overall", value.overall))
    for name, difference in value.slices.items():
        made.add_row(*difference_row(name, difference))
    end = text(
        f"{value.id} · {measure(value.metric)}, paired ({value.overall.test}) · above 0 the challenger is better"
        f"{' · p of slices after Holm' if len(value.slices) > 1 else ''}{sources(value.overall)}",
        "dim",
    )
    return Group(text(title, "bold"), made, end)


def outcome(value: Outcome) -> RenderableType:
    """The honest table, the paired tests, both voices, the pick with its reason, and where the time went."""
    metric = next(iter(value.scores.values())).metric if value.scores else ""
    parts: list[RenderableType] = ["", score_table(value.scores, f"{value.name}: {measure(metric)}")]
    others = dict.fromkeys(name for more in value.more_scores.values() for name in more if name != metric)
    for other in others:
        rows = {name: more[other] for name, more in value.more_scores.items() if other in more}
        parts += ["", score_table(rows, measure(other))]
    if value.comparisons:
        parts += ["", outcome_tests(value)]
    if value.answers:
        parts += ["", side_by_side(value)]
    parts += [
        "",
        Text.assemble(
            ("picked: ", "bold"), words.clean(f"{value.version} ({value.pick.subject.kind}). {value.pick.because}")
        ),
    ]
    parts.append(text(value.promoted))
    if value.endpoint is not None:
        check = value.endpoint
        parts.append(
            text(
                f"the same {words.plural(check.n, 'row')} through the endpoint ({check.version}): "
                f"offline {check.offline:.3f}, "
                f"through the endpoint {check.endpoint:.3f}, {words.plural(check.differ, 'answer')} "
                f"{'differs' if check.differ == 1 else 'differ'}"
            )
        )
    parts += [
        "",
        time_table(value.seconds),
        text(f"run {value.run} · plan {value.plan} · dataset {value.dataset}", "dim"),
    ]
    return Group(*parts)


def outcome_tests(value: Outcome) -> RenderableType:
    """The tuned model against every other row, paired."""
    title = f"the tuned model ({value.tuned_version}) against each, paired; above 0 the tuned model is better"
    made = table("against", "by", "delta", "95 % interval", "p", "tuned is", numbers_from=2)
    for line in value.comparisons:
        made.add_row(
            text(line.baseline),
            text(line.metric),
            f"{line.delta:+.3f}",
            f"{line.low:+.3f} to {line.high:+.3f}",
            words.p_value(line.p),
            text(line.verdict, VERDICT_STYLE.get(line.verdict, "")),
        )
    return Group(text(title, "bold"), made)


def side_by_side(value: Outcome) -> Table:
    """The same prompts, answered by both."""
    made = table("prompt", "base", "tuned", title="both voices")
    for answer in value.answers:
        made.add_row(*(text(words.one_line(part, 160)) for part in (answer.prompt, answer.base, answer.tuned)))
    return made


def time_table(stages: Mapping[str, float]) -> Table:
    """Seconds a stage, as bars."""
    total = sum(stages.values()) or 1.0
    made = table("", "", "", title=f"where {words.seconds(total)} went", numbers_from=99)
    made.show_header = False
    for stage, spent in stages.items():
        made.add_row(text(stage), words.seconds(spent), Text("█" * round(30 * spent / total), style="cyan"))
    return made


def report(value: EvalReport) -> RenderableType:
    """Every score of one subject."""
    parts: list[RenderableType] = []
    for metric, score in value.scores.items():
        parts += [score_table({value.subject.kind: score}, measure(metric)), ""]
    failed = sum("error" in answer.fields for answer in value.answers)
    unmarked = sum(not answer.marks for answer in value.answers)
    for number, what in ((failed, "failed, counted as wrong"), (unmarked, "without a mark, left out")):
        if number:
            parts.append(text(f"{words.plural(number, 'answer')} {what}; see: llmops show {value.id} --page", "yellow"))
    line = (
        f"{value.id} · {value.subject.ref} · {words.plural(len(value.answers), 'answer')} kept · suite {value.suite.id}"
    )
    shared = value.main
    if shared.groups is not None:
        line += f" · {words.count(shared.groups)} sources, {shared.design_effect or 1:.1f} rows counting as one"
    return Group(*parts, text(line, "dim"))
