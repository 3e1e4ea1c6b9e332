"""Files that are there whole or not at all, and a sha256 for every one of them."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from llmops.core.errors import LlmopsError
from llmops.core.value import Value, canonical_json
from llmops.store.disk import DISK, Disk

V = TypeVar("V", bound=Value)

# Stands at the end of a line that a crash left unfinished. JSON cannot hold this byte.
UNFINISHED = b"\x18"


def sha256_file(path: Path) -> str:
    """The sha256 of a file's bytes, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_folder(folder: Path) -> dict[str, str]:
    """Relative path: sha256, of every file below `folder`, sorted by path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}


def verify_folder(folder: Path, expected: dict[str, str]) -> None:
    """Raise `LlmopsError` unless every file named in `expected` is there with its sha256."""
    for name, wanted in expected.items():
        path = folder / name
        if not path.is_file() or sha256_file(path) != wanted:
            state = "was changed after it was written" if path.is_file() else "is missing"
            raise LlmopsError(f"{path} {state}", "restore it from a copy, or make it again from its recipe")


def copy_files(source: Path, target: Path) -> None:
    """Copy every file of the folder `source` into the folder `target`, which exists."""
    shutil.copytree(source, target, dirs_exist_ok=True)


@contextmanager
def building(folder: Path, disk: Disk = DISK) -> Iterator[Path]:
    """Give a temporary folder that becomes `folder` by one rename; if anything fails, nothing of it stays.

    Raises `FileExistsError` where `folder` exists already.
    """
    if folder.exists():
        raise FileExistsError(folder)
    draft = disk.draft(folder)
    try:
        yield draft
        for path in sorted(draft.rglob("*")):
            disk.sync(path)
        disk.sync(draft)
        draft.chmod(0o755)
        disk.rename(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Give a temporary file beside `path` that replaces it by one rename; if anything fails, `path` is as before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    draft = Path(name)
    try:
        yield draft
        DISK.sync(draft)
        draft.chmod(0o644)
        DISK.rename(draft, path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold `path` as a lock; others who ask for it wait. The system lets go of it however this process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with writing(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_json(path: Path, data: Any) -> None:
    """Write one indented JSON document, whole or not at all."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object a line, whole or not at all."""
    with writing(path) as draft, draft.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(canonical_json(row) + "\n")


def append_line(path: Path, row: dict[str, Any], disk: Disk = DISK) -> None:
    """Add one JSON line in one write, so that a crash leaves at most an unfinished last line. For `read_log`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = canonical_json(row).encode() + b"\n"
    if path.exists() and path.stat().st_size:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # a crash left half a line: close it with a mark that the reader knows
                line = UNFINISHED + b"\n" + line
    disk.append(path, line)


def clear_drafts(folder: Path) -> None:
    """Remove what processes that died left half-built in `folder`. Only for who alone writes there."""
    for path in folder.glob(".*.*") if folder.is_dir() else ():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


@contextmanager
def holding(path: Path) -> Iterator[bool]:
    """Hold `path` as a lock if nobody else does; gives whether it is ours. Never waits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def read_json(path: Path) -> Any:
    """Read one JSON document; `LlmopsError` where it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise LlmopsError(f"{path} cannot be read: {error}", "restore it from a copy, or make it again") from error


def stored(kind: type[V], data: Any, where: object) -> V:
    """What was stored as a `kind`, from its JSON (data or text); `LlmopsError` where this release has another form."""
    try:
        return kind.model_validate_json(data) if isinstance(data, str) else kind.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise LlmopsError(
            f"{where} is no {kind.__name__} as this llmops writes it: {place}: {first['msg']}",
            "another release of llmops wrote it, or it was changed: make it anew, or read it with that release",
        ) from error


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Read JSON lines that were written whole; `LlmopsError` where the file is missing or any line is damaged."""
    if not path.exists():
        raise LlmopsError(f"{path} is missing", "restore it from a copy, or make it again")
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                raise _damaged(path, number, "the last line is not finished")
            yield _row(path, number, line)


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """Read lines as `append_line` wrote them; none where there is no file.

    Half a line, as a crash leaves it, is skipped, at the end or, once `append_line` has closed it, anywhere.
    Other damage raises `LlmopsError`.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            finished = line.endswith(b"\n") and not line.endswith(UNFINISHED + b"\n")
            try:
                row = _row(path, number, line.rstrip(b"\n").removesuffix(UNFINISHED))
            except LlmopsError:
                if finished:
                    raise
                continue
            yield row


def _row(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, number, str(error)) from error
    if not isinstance(row, dict):
        raise _damaged(path, number, "this is no JSON object")
    return row


def _damaged(path: Path, number: int, why: str) -> LlmopsError:
    return LlmopsError(f"{path}, line {number}: {why}", "restore the file from a copy, or make it again")
