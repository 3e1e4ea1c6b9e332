"""The exam and the ledger of forgetting, as a person reads them: the verdict first, then what it stands on."""

from __future__ import annotations

from rich.console import Group, RenderableType

from llmops.cli import words
from llmops.cli.tables import pairs, table, text
from llmops.core.exam import MEASURE_NAMES, SIDE_NAMES, CopiedRow, Copying, Exam, Exposure, Gap, Recital, TwinLine
from llmops.core.examined import Examined
from llmops.core.findings import Estimate
from llmops.core.forgetting import Ability, Forgetting

STYLE = {
    "understood": "bold green",
    "memorised": "bold red",
    "kept": "green",
    "lost": "red",
    "cannot tell": "yellow",
}
SHOWN = 160  # characters of a text
MARGINS = "a change above 0 is for the better; lost is what lies below minus its margin with its whole interval"


def spread(found: Estimate) -> str:
    """`+0.012 to +0.130`."""
    return f"{found.low:+.3f} to {found.high:+.3f}"


def exam(value: Exam) -> RenderableType:
    """The verdict and its reason, the gaps, what is recited, twins, canaries, and the most copied rows."""
    parts: list[RenderableType] = [text(value.verdict, STYLE[value.verdict]), text(value.because)]
    if value.advice is not None:
        parts.append(text(value.advice, "dim"))
    parts += ["", gaps(value.gaps)]
    if value.copying is not None:
        parts += ["", recitals(value.copying)]
    if value.twins:
        parts += ["", twins(value.twins)]
    if value.exposures:
        parts += ["", exposures(value.exposures)]
    if value.most_copied:
        parts += ["", *most_copied(value.most_copied)]
    parts += ["", *(text(f"• {line}", "dim") for line in value.not_asked)] if value.not_asked else []
    asked = f"{value.rows_train:,} trained and {value.rows_heldout:,} held-out rows"
    return Group(*parts, "", text(f"{value.id} · {value.subject.ref} · {asked} · plan {value.plan}", "dim"))


def gaps(found: tuple[Gap, ...]) -> RenderableType:
    """Both models on both sides."""
    made = table(
        "", "", *SIDE_NAMES.values(), "gained more on trained rows by", numbers_from=2, title="trained and held out"
    )
    for gap in found:
        made.add_row(text(MEASURE_NAMES[gap.measure]), "base", f"{gap.base_train:.3f}", f"{gap.base_heldout:.3f}", "")
        tuned = (f"{gap.tuned_train:.3f}", f"{gap.tuned_heldout:.3f}")
        made.add_row("", "tuned", *tuned, f"{gap.gap.value:+.3f} ({spread(gap.gap)})")
    return made


def recitals(found: Copying) -> RenderableType:
    """Who recites what, and how much of it nothing else explains."""
    title = f"recited word for word from the first {found.prefix_tokens} tokens"
    made = table("", "rows", "of", "longest run, median", numbers_from=1, title=title)
    lines: dict[str, Recital] = {
        "tuned, trained rows": found.tuned_train,
        "tuned, held-out rows": found.tuned_heldout,
        "base, trained rows": found.base_train,
    }
    for name, recital in lines.items():
        made.add_row(name, words.count(recital.recited), words.count(recital.rows), f"{recital.run_tokens:g} tokens")
    excess = f"beyond the controls: {found.excess.value:+.1%} of the trained rows ({found.excess.low:+.1%} to "
    return Group(made, text(f"{excess}{found.excess.high:+.1%})"))


def twins(found: tuple[TwinLine, ...]) -> RenderableType:
    """How marks change where what should not matter is changed, or what must."""
    columns = ("twins of", "changed", "n", "answer must change", "row", "twin", "change", "95 % interval")
    made = table(*columns, numbers_from=2, title="twins: the same row with one thing changed, by the tuned model")
    for line in found:
        counts = (words.count(line.n), words.count(line.must_flip))
        marks = (f"{line.before:.3f}", f"{line.after:.3f}", f"{line.change.value:+.3f}")
        made.add_row(SIDE_NAMES[line.side], line.kind, *counts, *marks, spread(line.change))
    return Group(made, text("the mean mark: the share of right labels, or minus the bits per byte of a text", "dim"))


def exposures(found: tuple[Exposure, ...]) -> RenderableType:
    """How exposed the planted canaries are."""
    made = table("planted", "tuned", "base", numbers_from=1, title="exposure of canaries, in bits of 36")
    for one in found:
        made.add_row(words.plural(one.repeats, "time"), *(bits(some) for some in (one.bits, one.base_bits)))
    return Group(made, text("about 1.4 bits are chance; 36: no other sentence is as likely", "dim"))


def bits(some: tuple[float, ...]) -> str:
    """`5.7, 1.0`."""
    return ", ".join(f"{number:.1f}" for number in some)


def most_copied(rows: tuple[CopiedRow, ...]) -> list[RenderableType]:
    """Three rows, each with what was given and what was recited."""
    parts: list[RenderableType] = [text("most copied", "bold")]
    for row in rows:
        parts += [
            text(f"{row.row}  {row.because}"),
            text(f"  given    {words.one_line(row.given, SHOWN) or 'the question alone'}", "dim"),
            text(f"  recited  {words.one_line(row.recited, SHOWN)}"),
        ]
    return parts


def forgetting(value: Forgetting) -> RenderableType:
    """Every ability before and after, what went wrong, and what to turn."""
    parts: list[RenderableType] = [text(value.because, STYLE[value.fate])]
    if value.advice is not None:
        parts.append(text(value.advice, "dim"))
    parts += ["", abilities(value.abilities), text(MARGINS, "dim")]
    for ability in value.abilities:
        if ability.fate != "kept":
            parts += examples(ability)
    if value.suggestions:
        parts += ["", text("what would help, the surest first", "bold")]
    for one in value.suggestions:
        sets = " ".join(f"--set '{part}'" if " " in part else f"--set {part}" for part in one.sets)
        parts += [text(f"• {one.knob}: {one.now} → {one.take}, because {one.because}"), text(f"  {sets}", "dim")]
    line = f"{value.id} · {value.subject.ref} against {value.base} · general text: {value.general_text}"
    return Group(*parts, "", text(line, "dim"))


def abilities(found: tuple[Ability, ...]) -> RenderableType:
    """One line each; a change above 0 is for the better, whatever the measure."""
    columns = ("ability", "measure", "n", "base", "tuned", "change", "95 % interval", "margin", "")
    made = table(*columns, numbers_from=2, title="before and after, paired")
    for one in found:
        numbers = (words.count(one.n), f"{one.before:.3f}", f"{one.after:.3f}", f"{one.change.value:+.3f}")
        fate = text(one.fate, STYLE[one.fate])
        made.add_row(text(one.name), text(one.measure), *numbers, spread(one.change), f"{one.margin:g}", fate)
    return made


def examples(ability: Ability) -> list[RenderableType]:
    """What went wrong that had gone well."""
    parts: list[RenderableType] = []
    for one in ability.examples:
        parts += [
            "",
            text(f"{ability.name}: {words.one_line(one.asked, SHOWN)}"),
            text(f"  base   {words.one_line(one.before, SHOWN)}", "dim"),
            text(f"  tuned  {words.one_line(one.after, SHOWN)}", "dim"),
        ]
    return parts


def examined(value: Examined) -> RenderableType:
    """Both verdicts, or the command that asks for them."""
    test, ledger = value.exam, value.forgetting
    found = {"exam": value.ask_exam, "forgetting": value.ask_forgetting}
    lines = {name: f"not asked yet: {how}" for name, how in found.items()}
    if test is not None:
        lines["exam"] = f"{test.verdict}: {test.because} (all of it: llmops show {value.ref} --exam)"
    elif value.cannot_sit is not None:
        lines["exam"] = f"none: {value.cannot_sit}"
    if ledger is not None:
        lines["forgetting"] = f"{ledger.because} (all of it: llmops show {value.ref} --forgetting)"
    return pairs(lines)
