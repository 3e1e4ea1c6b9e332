"""The verdicts on a tuned model beside its score: its exam and what it forgot, or the command that asks."""

from __future__ import annotations

from llmops.core.exam import MEASURE_NAMES, SIDE_NAMES, Exam
from llmops.core.examined import Examined
from llmops.core.findings import Estimate
from llmops.core.forgetting import Forgetting

from .markup import Html, card, chip, el, table

TONES = {"understood": "good", "memorised": "bad", "kept": "good", "lost": "bad", "cannot tell": "busy"}


def cards(examined: Examined | None) -> Html:
    """Both cards; nothing for what is no tuned model."""
    if examined is None:
        return Html("")
    return el("div", _exam(examined), _ledger(examined), class_="lo-scope")


def _exam(examined: Examined) -> Html:
    title, test = "Understood, or memorised?", examined.exam
    if test is None:
        return card(
            title,
            el("p", f"There is no exam: {examined.cannot_sit}.") if examined.cannot_sit else _ask(examined.ask_exam),
        )
    parts: list[object] = [el("p", chip(test.verdict, TONES[test.verdict]), " ", test.because, ".")]
    if test.advice:
        parts.append(el("p", test.advice, class_="lo-quiet"))
    parts.append(_gaps(test))
    if test.copying:
        beyond = test.copying.excess
        parts.append(
            el("p", f"Recited beyond the controls: {beyond.value:+.1%} of the trained rows {_percent(beyond)}.")
        )
    if test.exposures:
        rows = [(f"{one.repeats} times", _bits(one.bits), _bits(one.base_bits)) for one in test.exposures]
        parts += [el("h4", "Exposure of canaries, in bits of 36"), table(("planted", "tuned", "base"), rows)]
    if test.twins:
        parts += [el("h4", "Twins: the same row with one thing changed"), _twins(test)]
    if test.most_copied:
        copied = [(row.row, row.given or "the question alone", row.recited, row.because) for row in test.most_copied]
        parts += [el("h4", "The most copied rows"), table(("row", "given", "what it made of it", "because"), copied)]
    asked = f"{test.rows_train:,} trained and {test.rows_heldout:,} held-out rows were asked."
    parts.append(
        el("p", " ".join([*(f"{line[0].upper()}{line[1:]}." for line in test.not_asked), asked]), class_="lo-quiet")
    )
    return card(title, *parts)


def _gaps(test: Exam) -> Html:
    rows = []
    for gap in test.gaps:
        both = (f"{gap.base_train:.3f} → {gap.tuned_train:.3f}", f"{gap.base_heldout:.3f} → {gap.tuned_heldout:.3f}")
        rows.append((MEASURE_NAMES[gap.measure], *map(_number, both), _number(_spread(gap.gap))))
    return table(("base → tuned", *SIDE_NAMES.values(), "gained more on trained rows by"), rows)


def _twins(test: Exam) -> Html:
    rows = [
        (
            line.kind,
            SIDE_NAMES[line.side],
            line.n,
            _number(f"{line.before:.3f} → {line.after:.3f}"),
            _number(_spread(line.change)),
        )
        for line in test.twins
    ]
    return table(("changed", "of", "n", "row → twin", "change [95 % interval]"), rows)


def _ledger(examined: Examined) -> Html:
    title, ledger = "What did it forget?", examined.forgetting
    if ledger is None:
        return card(title, _ask(examined.ask_forgetting))
    parts: list[object] = [
        el("p", chip(ledger.fate, TONES[ledger.fate]), " ", ledger.because.removeprefix("lost: "), ".")
    ]
    if ledger.advice:
        parts.append(el("p", ledger.advice, class_="lo-quiet"))
    rows = [
        (
            el("span", one.name, title=one.about),
            one.measure,
            one.n,
            _number(f"{one.before:.3f} → {one.after:.3f}"),
            _number(_spread(one.change)),
            chip(one.fate, TONES[one.fate]),
        )
        for one in ledger.abilities
    ]
    parts.append(
        table(("ability", "measure", "n", "base → tuned", "change [95 % interval], above 0 is better", ""), rows)
    )
    if ledger.suggestions:
        parts += [el("h4", "What would help, the surest first"), _suggestions(ledger)]
    return card(title, *parts)


def _suggestions(ledger: Forgetting) -> Html:
    rows = []
    for one in ledger.suggestions:
        said = el("code", " ".join(f"--set '{part}'" for part in one.sets))
        rows.append((one.knob, f"{one.now} → {one.take}", one.because, said))
    return table(("knob", "turn", "because", "say it so"), rows)


def _ask(command: str) -> Html:
    return el("p", "Not asked yet. This command does: ", el("code", command))


def _number(said: str) -> Html:
    return el("span", said, class_="lo-num")


def _spread(found: Estimate) -> str:
    return f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def _percent(found: Estimate) -> str:
    return f"[{found.low:+.1%}, {found.high:+.1%}]"


def _bits(numbers: tuple[float, ...]) -> str:
    return ", ".join(f"{number:.1f}" for number in numbers)
