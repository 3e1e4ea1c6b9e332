"""`Log`: one line of JSON for each answer. Numbers, names and ids only: no text, no token, no header, no address."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TextIO

from llmops.core.errors import RequestError
from llmops.core.serving import Exchange

# What a line says of an exchange. A list of what may, not of what may not.
SAID = ("id", "version", "prompt_sha256", "prompt_tokens", "answer_tokens", "first_token_s", "total_s", "finish")


class Log:
    """Lines appended to a file, each written at once."""

    def __init__(self, path: Path) -> None:
        """Raises `RequestError` where the file cannot be written."""
        try:
            self._stream: TextIO = path.open("a", encoding="utf-8", buffering=1)
        except OSError as error:
            raise RequestError(f"{path} cannot be written: {error.strerror}.", "Give another --log.") from error

    def exchange(self, exchange: Exchange) -> None:
        """One line."""
        line = {
            "at": exchange.at.isoformat(timespec="milliseconds"),
            **{name: getattr(exchange, name) for name in SAID},
            "sampling": exchange.sampling.model_dump(include={"max_tokens", "temperature", "top_p", "seed"}),
        }
        self._stream.write(json.dumps(line, separators=(",", ":")) + "\n")

    def close(self) -> None:
        self._stream.close()
