"""What `show --card` and `show --page` print: where the page is, and the card as Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DataCard:
    """The page of a card, and its text."""

    page: str
    markdown: str


@dataclass(frozen=True)
class LmEvalTask:
    """A suite that was written as a task of lm-eval."""

    task: str

    @property
    def how(self) -> str:
        """The line that asks it."""
        file = Path(self.task)
        return f"lm_eval --include_path {file.parent} --tasks llmops-{file.stem} --log_samples --output_path DIR"


@dataclass(frozen=True)
class Page:
    """The page of a report or a comparison."""

    page: str
