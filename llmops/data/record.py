"""`Record`: one row as a reader found it, or the reason why it cannot be read."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from llmops.core.errors import RequestError

UNREADABLE = "unreadable"
LONGEST_QUOTE = 500


class Record(NamedTuple):
    """One row of a source. `cells` is None where no row could be made; `reason` then says why, `text` shows it."""

    line: int
    cells: dict[str, Any] | None
    reason: str = ""
    text: str = ""


def unreadable(line: int, why: str, text: str) -> Record:
    """The record of a line that cannot be read."""
    return Record(line, None, f"{UNREADABLE}: {why}", shown(text))


def shown(text: str) -> str:
    """At most 500 characters of a text, with nothing in it that UTF-8 cannot hold."""
    return text[:LONGEST_QUOTE].encode("utf-8", "replace").decode("utf-8")


def opened_bytes(path: Path) -> IO[bytes]:
    """The bytes of a file, unpacked where it is gzip (told by its first bytes, not by its name)."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path, "rb")) if packed else path.open("rb")


def _numbered(file: IO[bytes], path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines and their numbers; `RequestError` where a gzip file is cut off or damaged."""
    number = 0
    try:
        for number, raw in enumerate(file, 1):
            yield number, raw
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        what = f"{path.name} is cut off or damaged behind line {number}: {error}"
        raise RequestError(what, "pack or fetch it again") from error


def text_lines(path: Path) -> Iterator[tuple[int, str, str]]:
    """Each physical line of a UTF-8 file: its number, its text without line end and BOM, and what is wrong with it.

    Lines end at a line feed only, so that a separator inside a text does not cut it. Raises `RequestError` for UTF-16.
    """
    with opened_bytes(path) as file:
        for number, raw in _numbered(file, path):
            line = raw.removesuffix(b"\n").removesuffix(b"\r")
            if number == 1:
                if line.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in line[:4]:
                    raise RequestError(f"{path.name} is UTF-16, not UTF-8", "save it as UTF-8 and run it again")
                if b"\r" in line and b"\n" not in raw:
                    raise RequestError(
                        f"{path.name}: its lines end with a carriage return alone", "save it with Unix line ends"
                    )
                line = line.removeprefix(b"\xef\xbb\xbf")
            try:
                text, fault = line.decode("utf-8"), ""
            except UnicodeDecodeError as error:
                text, fault = line.decode("utf-8", "replace"), f"byte {error.start + 1} is not UTF-8"
            yield number, text, "it holds a NUL character" if "\0" in text else fault
