"""Tokens as a person reads them: coloured by what training learns, or by how likely each was."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from llmops.cli.words import clean
from llmops.core.views import TokenView

# Probability of a token: style, from likely to surprising.
SHADES = ((0.5, "green"), (0.1, "yellow"), (0.01, "dark_orange"), (0.0, "red"))


def spelt(text: str) -> str:
    """A token's text with line ends and tabs made visible."""
    return clean(text).replace("\n", "⏎").replace("\t", "⇥")


def shade(probability: float) -> str:
    """The style of a token that was this likely."""
    return next(style for bound, style in SHADES if probability >= bound)


def token_picture(tokens: Sequence[TokenView]) -> RenderableType:
    """A reply's tokens with their alternatives where there are probabilities, else a row's tokens with its mask."""
    if any(token.probability is not None for token in tokens):
        return reply_picture(tokens)
    return mask_picture(tokens)


def mask_picture(tokens: Sequence[TokenView]) -> RenderableType:
    """The whole row; what training learns is green and underlined, and counted, so that it shows without colour too."""
    body = Text()
    for token in tokens:
        body.append(
            spelt(token.text) + ("\n" if "\n" in token.text else ""), "bold green underline" if token.trained else "dim"
        )
    learnt = [token for token in tokens if token.trained]
    legend = Text(f"{len(tokens)} tokens, of which training learns {len(learnt)} (green): ", "dim")
    return Group(body, "", Text.assemble(legend, " ".join(f"[{spelt(token.text)}]" for token in learnt)))


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
