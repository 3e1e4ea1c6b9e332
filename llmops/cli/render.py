"""`render`: a value as a person reads it in a terminal. One function a type, in one table at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType

from llmops.cli import boards, canary, exam, scores, weights, words
from llmops.cli.cards import DataCard, LmEvalTask, Page
from llmops.cli.choices import choice, forecast
from llmops.cli.recipes import NewRecipe
from llmops.cli.tables import pairs, table, text
from llmops.cli.tokens import reply_picture, row_picture, set_picture
from llmops.core.calibration import Abstention
from llmops.core.choice import Choice, Forecast
from llmops.core.comparison import Comparison
from llmops.core.dataset import DatasetManifest, DroppedRow, Message
from llmops.core.exam import Exam
from llmops.core.examined import Examined
from llmops.core.experiments import Sweep
from llmops.core.forgetting import Forgetting
from llmops.core.health import HealthReport, Window
from llmops.core.outcome import Outcome, Seeds
from llmops.core.plan import Plan
from llmops.core.proof import Proof
from llmops.core.report import EvalReport
from llmops.core.run import Run
from llmops.core.version import ModelVersion, Promotion
from llmops.core.views import RowView, SetView, TokenView


def plan(value: Plan) -> RenderableType:
    """The decisions with their reasons, and what they will cost."""
    made = table("knob", "value", "because", title=f"plan {value.id} of {words.clean(value.recipe.name)}")
    for decision in value.decisions:
        shown = ", ".join(decision.value) if isinstance(decision.value, tuple) else decision.value
        made.add_row(text(decision.field), text(str(shown)), text(decision.because))
    cost = (
        f"{words.count(value.train_tokens)} tokens a pass, about {words.seconds(value.seconds_expected)}, "
        f"about {words.size(value.memory_bytes_expected)} of memory; next: llmops train {value.id}"
    )
    left = (
        [text(f"{words.plural(len(value.left_out), 'row')} longer than max_tokens left out")] if value.left_out else []
    )
    return Group(made, *left, text(cost, "dim"))


def dataset(value: DatasetManifest) -> RenderableType:
    """Where the rows came from and what became of every one of them."""
    made = table(
        "source", "licence", "rows read", numbers_from=2, title=f"dataset {value.id} of {words.clean(value.name)}"
    )
    for source in value.sources:
        made.add_row(text(source.from_), text(source.licence or "unknown"), words.count(source.rows_read))
    fate = {"read": value.rows_read, "to train": value.rows_train, "held out": value.rows_heldout}
    steps = table("step", "rows in", "rows out", "dropped", "altered", title="what each step did")
    for step in value.steps:
        gone, changed = (counted(found) for found in (step.dropped, step.altered))
        steps.add_row(text(step.step), words.count(step.rows_in), words.count(step.rows_out), text(gone), text(changed))
    look = text(f"see a dropped row: llmops inspect {value.id} --dropped STEP", "dim")
    return Group(made, "", pairs({name: words.count(number) for name, number in fate.items()}), "", steps, "", look)


def counted(found: Mapping[str, int]) -> str:
    """Names with their numbers, the largest first."""
    return ", ".join(f"{words.count(count)} {name}" for name, count in sorted(found.items(), key=lambda one: -one[1]))


def dropped_rows(rows: Sequence[DroppedRow]) -> RenderableType:
    """Rows that were dropped, two lines each, with the id that brings one back."""
    shown = []
    for row in rows:
        shown.append(text(f"{row.id or 'never a row':16}  {row.step}: {row.reason}"))
        shown.append(text(f"{'':16}  {row.source}, line {row.line}: {words.one_line(row.text, 150)}", "dim"))
    back = text(f"{words.plural(len(rows), 'row')}; to bring one back, write its id into data.bring_back", "dim")
    return Group(*shown, "", back)


def run(value: Run) -> RenderableType:
    """How far a training came."""
    return pairs(
        {
            "run": value.id,
            "status": f"{value.status}, step {value.step} of {value.steps}",
            "spent": words.seconds(value.seconds),
            "plan": value.plan,
            "dataset": value.dataset,
            "since": words.when(value.created),
            **({"note": value.note} if value.note else {}),
        }
    )


def seeds(value: Seeds) -> RenderableType:
    """The seeds of a plan side by side, and how far apart chance puts them."""
    metric = value.runs[0].score.metric
    made = table("seed", metric, "95 % interval", "held-out loss", "run", title=f"plan {value.plan} by seed")
    for one in value.runs:
        loss = "" if one.heldout_loss_nats is None else f"{one.heldout_loss_nats:.4f}"
        interval = f"{one.score.low:.3f} to {one.score.high:.3f}"
        made.add_row(str(one.seed), f"{one.score.value:.3f}", interval, loss, text(one.run))
    held = "" if value.low is None or value.high is None else f" ({value.low:.4f} to {value.high:.4f} over all seeds)"
    spread = f"standard deviation between seeds {value.deviation:.4f}"
    return Group(made, text(f"mean {value.mean:.4f}{held}, {spread}", "dim"))


def version(value: ModelVersion) -> RenderableType:
    """What a version is and where it came from."""
    lineage = {
        "base": value.base,
        "recipe": value.recipe,
        "dataset": value.dataset,
        "plan": value.plan,
        "run": value.run,
    }
    code = {"report": value.report, "code": value.code_commit or "not a clone", "files": len(value.files)}
    found = value.abstention
    abstains = {} if found is None else {"abstains": abstains_below(found)}
    return pairs({"version": value.ref, "kind": value.kind, **lineage, **code, **abstains})


def abstains_below(found: Abstention) -> str:
    """Where a version gives no label, and what that promises."""
    return (
        f"below {found.threshold or 0:.3f}, so that at most {found.error:.1%} of its labels are wrong "
        f"({found.answered:.0%} of the held-out rows answered, {found.wrong} of {found.n_answered} wrong)"
    )


def promotion(value: Promotion) -> RenderableType:
    """Who answers from now on, on what evidence."""
    how = "rolled back" if value.rollback else "overridden" if value.override else "promoted"
    before = f"{value.name}:{value.before}" if value.before else "nobody"
    return pairs(
        {
            f"{value.name}@{value.alias}": f"{value.name}:{value.version} ({how}; before: {before})",
            "because": value.because,
            "evidence": value.comparison or "none",
            "by": f"{value.author}, {words.when(value.at)}",
        }
    )


def health(value: HealthReport) -> RenderableType:
    """The findings, and both windows in numbers."""
    title = f"health of {value.name}, {value.version or 'nothing in production'}"
    made = table("", "now", "before", numbers_from=1, title=words.clean(title))
    for name, number in WINDOW_LINES.items():
        made.add_row(name, number(value.now), number(value.before))
    return Group(*(text(f"• {finding}") for finding in value.findings), "", made)


def typical(seconds: Sequence[float], share: float) -> str:
    """The duration that `share` of the sorted durations do not exceed, or a dash."""
    return words.seconds(seconds[min(int(share * len(seconds)), len(seconds) - 1)]) if seconds else "–"


def proof(value: Proof) -> RenderableType:
    """Every check with what it found, and what it should have."""
    made = table("check", "found", "false alarms", "goal", "", "note")
    for check in value.checks:
        alarms = f"{check.false_alarms} of {check.clean}" if check.clean else ""
        verdict = text("passed", "green") if check.passed else text("FAILED", "bold red")
        found = f"{check.found} of {check.of}" if check.of else ""
        made.add_row(*map(text, (check.name, found, alarms, check.goal)), verdict, text(check.note, "dim"))
    return made


WINDOW_LINES: dict[str, Callable[[Window], str]] = {
    "requests": lambda window: words.count(window.requests),
    "errors": lambda window: words.count(window.errors),
    "half are done in": lambda window: typical(window.seconds, 0.5),
    "95 % are done in": lambda window: typical(window.seconds, 0.95),
    "prompt tokens": lambda window: words.count(window.prompt_tokens),
    "answer tokens": lambda window: words.count(window.answer_tokens),
    "thumbs up": lambda window: words.count(window.thumbs_up),
    "thumbs down": lambda window: words.count(window.thumbs_down),
    "edits": lambda window: words.count(window.edits),
}


def new_recipe(made: NewRecipe) -> RenderableType:
    """What was seen in the file, some rows as a model would see them, what to mind, and the recipe."""
    look = made.look
    dealt = (
        f"{words.count(look.rows)}: {words.count(look.rows_train)} to train, {words.count(look.rows_heldout)} held out"
    )
    seen = {"file": look.file, "rows": dealt, "columns": ", ".join(look.columns)}
    if look.labels:
        seen["labels"] = ", ".join(f"{label} ({words.count(number)})" for label, number in look.labels.items())
    rows = [text(message_line(messages)) for messages in look.rendered]
    minds = [text(f"mind: {warning}", "yellow") for warning in look.warnings]
    whys = [text(f"• {why}") for why in look.why]
    return Group(pairs(seen), *whys, *minds, "", text("as a model sees it", "bold"), *rows, "", text(made.yaml))


def message_line(messages: Sequence[Message]) -> str:
    """A row's messages, each on a line of its own."""
    return "\n".join(f"{message.role:>9}  {words.one_line(message.content, 200)}" for message in messages)


def listing(values: Sequence[Any]) -> RenderableType:
    """Values of one kind, one a line: their names first, then what tells them apart."""
    if not values:
        return text("nothing yet")
    if isinstance(values[0], TokenView):
        return reply_picture(values)
    if isinstance(values[0], DroppedRow):
        return dropped_rows(values)
    lines = [LINES.get(type(value), fields_line)(value) for value in values]
    made = table(*lines[0])
    for line in lines:
        made.add_row(*(text(words.one_line("" if cell is None else str(cell))) for cell in line.values()))
    return made


def fields_line(value: Any) -> dict[str, object]:
    """The plain fields of a value that has no line of its own."""
    parts = {name: words.when(part) if isinstance(part, datetime) else part for name, part in vars(value).items()}
    return {name: part for name, part in parts.items() if isinstance(part, (str, int, float, bool, type(None)))}


LINES: dict[type, Callable[[Any], dict[str, object]]] = {
    DatasetManifest: lambda value: {
        "dataset": value.id,
        "name": value.name,
        "train": words.count(value.rows_train),
        "held out": words.count(value.rows_heldout),
        "dropped": words.count(value.rows_dropped),
    },
    Plan: lambda value: {
        "plan": value.id,
        "recipe": value.recipe.name,
        "base": value.base.name,
        "dataset": value.dataset,
        "steps": words.count(value.knobs.steps),
        "expected": words.seconds(value.seconds_expected),
    },
    Run: lambda value: {
        "run": value.id,
        "status": value.status,
        "step": f"{value.step} of {value.steps}",
        "spent": words.seconds(value.seconds),
        "since": words.when(value.created),
    },
    EvalReport: lambda value: {
        "report": value.id,
        "subject": f"{value.subject.kind} {value.subject.ref}",
        "metric": value.main.metric,
        "value": f"{value.main.value:.3f}",
        "95 % interval": scores.interval(value.main),
        "n": words.count(value.main.n),
        "dataset": value.suite.dataset,
    },
    Comparison: lambda value: {
        "comparison": value.id,
        "challenger": f"{value.challenger.kind} {value.challenger.ref}",
        "baseline": f"{value.baseline.kind} {value.baseline.ref}",
        "delta": f"{value.overall.delta:+.3f}",
        "95 % interval": f"{value.overall.low:+.3f} to {value.overall.high:+.3f}",
        "verdict": value.verdict,
    },
    Sweep: lambda value: {
        "sweep": value.id,
        "recipe": value.recipe.name,
        "varied": ", ".join(f"{knob.field}={','.join(knob.values)}" for knob in value.knobs),
        "recipes": len(value.members),
    },
    ModelVersion: lambda value: {
        "version": value.ref,
        "kind": value.kind,
        "base": value.base,
        "dataset": value.dataset,
        "report": value.report,
    },
    Choice: lambda value: {
        "choice": value.id,
        "recipe": value.recipe.name,
        "picked": value.verdict.pick,
        "rows": len(value.entries),
        "took": words.seconds(value.seconds),
        "then": value.then,
    },
    Promotion: lambda value: {
        "alias": f"{value.name}@{value.alias}",
        "version": f"{value.name}:{value.version}",
        "since": words.when(value.at),
        "by": value.author,
        "because": value.because,
    },
    **canary.LINES,
}


def data_card(value: DataCard) -> RenderableType:
    """A card's text as it stands (its signs are plain in a terminal), and where the page is."""
    return Group(text(value.markdown), text(f"page: {value.page}", "bold"))


PICTURES: dict[type, Callable[[Any], RenderableType]] = {
    NewRecipe: new_recipe,
    DataCard: data_card,
    LmEvalTask: lambda value: Group(text(value.task, "bold"), text(f"ask it: {value.how}", "dim")),
    Page: lambda value: text(value.page, "bold"),
    DatasetManifest: dataset,
    Plan: plan,
    Run: run,
    Seeds: seeds,
    EvalReport: scores.report,
    Comparison: scores.comparison,
    Exam: exam.exam,
    Forgetting: exam.forgetting,
    Examined: exam.examined,
    ModelVersion: version,
    Promotion: promotion,
    HealthReport: health,
    Proof: proof,
    RowView: row_picture,
    SetView: set_picture,
    Outcome: scores.outcome,
    Choice: choice,
    Forecast: forecast,
    **boards.PICTURES,
    **canary.PICTURES,
    **weights.PICTURES,
    dict: pairs,
    list: listing,
    tuple: listing,
}


def render(value: object) -> RenderableType:
    """The picture of a value; the plain fields of one that has none of its own."""
    draw = PICTURES.get(type(value))
    return draw(value) if draw else pairs(fields_line(value))
