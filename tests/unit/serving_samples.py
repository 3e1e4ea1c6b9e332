"""An endpoint on a free port, and a prompt renderer that needs no model: for the tests of serving."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from llmops.core.context import Surroundings
from llmops.core.dataset import Message
from llmops.serving.engine import Engine
from llmops.serving.serve import Served, ServeSettings, running
from llmops.store.ledger import Ledger

TOKEN = "a-token-for-tests-only-0123456789"


class LetterRenderer:
    """A token is a character here; 0 to 2 are control tokens, so no typed character can be one."""

    end_ids = frozenset({2})

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        ids: list[int] = []
        for message in messages:
            ids += [1, *(ord(letter) + 3 for letter in message.content), 2]
        return ids

    def content_ids(self, text: str) -> list[int]:
        return [ord(letter) + 3 for letter in text]

    def text_ids(self, text: str) -> list[int]:
        return [1, *self.content_ids(text)]


@contextmanager
def endpoint(engine: Engine, folder: Path, renderer: object = None, **settings: object) -> Iterator[tuple[str, Ledger]]:
    """A running endpoint for one engine as `tone:2`, and its ledger."""
    ledger = Ledger(f"sqlite:///{folder / 'ledger.db'}")
    served = Served("tone:2", ("tone", "tone@production"), engine, renderer or LetterRenderer())  # type: ignore[arg-type]
    asked = ServeSettings(**{"token": TOKEN, **settings})  # type: ignore[arg-type]
    with running([served], ledger, asked, Surroundings()) as url:
        yield url, ledger
