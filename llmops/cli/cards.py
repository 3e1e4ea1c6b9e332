"""What `show --card` and `show --page` print: where the page is, and the card as Markdown."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DataCard:
    """The page of a card, and its text."""

    page: str
    markdown: str


@dataclass(frozen=True)
class Page:
    """The page of a report or a comparison."""

    page: str
