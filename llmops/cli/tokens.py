"""Tokens as a person reads them: coloured by what training learns, or by how likely each was."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from llmops.cli.tables import pairs
from llmops.cli.words import clean, count, plural
from llmops.core.views import RowView, SetView, TokenView

# Probability of a token: style, from likely to surprising.
SHADES = ((0.5, "green"), (0.1, "yellow"), (0.01, "dark_orange"), (0.0, "red"))


def spelt(text: str) -> str:
    """A token's text with line ends and tabs made visible."""
    return clean(text).replace("\n", "⏎").replace("\t", "⇥")


def shade(probability: float) -> str:
    """The style of a token that was this likely."""
    return next(style for bound, style in SHADES if probability >= bound)


def row_picture(row: RowView) -> RenderableType:
    """The whole row; what training learns is green and underlined, and counted, so that it shows without colour too."""
    body = Text()
    for token in row.tokens:
        style = "strike red" if row.left_out else "bold green underline" if token.trained else "dim"
        body.append(spelt(token.text) + ("\n" if "\n" in token.text else ""), style)
    learnt = [token for token in row.tokens if token.trained and not row.left_out]
    legend = Text(f"{len(row.tokens)} tokens, of which training learns {len(learnt)} (green): ", "dim")
    about = Text(f"row {row.number}, {row.id}, from {clean(row.source)}, line {row.line}", "dim")
    words = [legend, Text.assemble(*(f"[{spelt(token.text)}]" for token in learnt))]
    return Group(about, "", body, "", Text.assemble(*words), *(Text(line, style) for line, style in verdicts(row)))


def verdicts(row: RowView) -> list[tuple[str, str]]:
    """(what is true of a row, style): left out, its end, its faults, the round trip, the worse reply."""
    said = []
    if row.left_out:
        said.append(("left out: it is longer than max_tokens, and rows are never cut", "bold red"))
    said.append(("the end token is trained", "green") if row.end_trained else ("no end token is trained", "bold red"))
    if row.fault:
        said.append((f"fault: it would {row.fault.removeprefix('would ')}", "bold red"))
    trip = row.round_trip
    if trip is None:
        said.append(("not compared with a chat template: the base has none, or this is running text", "dim"))
    elif trip.same:
        said.append(("the base's own chat template gives the same tokens", "green"))
    else:
        said.append((f"the base's own chat template differs at token {trip.at}:", "yellow"))
        said.append((f"  ours    {spelt(trip.ours)}", "yellow"))
        said.append((f"  theirs  {spelt(trip.theirs)}", "yellow"))
    if row.rejected is not None:
        said.append((f"the worse reply: {clean(row.rejected)}", "dim"))
    return said


def set_picture(seen: SetView) -> RenderableType:
    """Counts over all training rows, a line each."""
    trips = f"{count(seen.same)} of {plural(seen.round_trips, 'row')} the same tokens"
    if seen.first_other is not None:
        trips += f"; see the first that differs with --row {seen.first_other}"
    lines = {
        "rows": f"{count(seen.rows)}, as {seen.base} reads them; {count(seen.left_out)} left out as too long",
        "tokens": f"{count(seen.tokens)}; a row has from {count(seen.shortest)} to {count(seen.longest)}",
        "trained": f"{count(seen.trained)} tokens, {seen.share:.1%} of all",
        "end token": f"trained in {count(seen.end_trained)} of {plural(seen.rows, 'row')}",
        "own template": trips if seen.round_trips else "the base has none, or the rows are running text",
        "faults": "; ".join(f"{count(number)} {wrong}" for wrong, number in seen.faults.items()) or "none",
    }
    return Group(pairs(lines), Text("one row: --row N", "dim"))


def reply_picture(tokens: Sequence[TokenView]) -> RenderableType:
    """The reply coloured by probability, then a line a token with the likeliest others."""
    shown = [token for token in tokens if token.probability is not None]
    body = Text()
    table = Table("token", "probability", "might have been", box=None, pad_edge=False, header_style="dim")
    for token in shown:
        probability = token.probability or 0.0
        body.append(clean(token.text), shade(probability))
        others = "  ".join(f"{spelt(text)!r} {share:.3f}" for text, share in token.alternatives)
        table.add_row(Text(repr(spelt(token.text)), shade(probability)), f"{probability:.3f}", Text(others, "dim"))
    return Group(body, "", table)
