"""`Disk`: the few things that are done to a disk, and `FaultyDisk`, which lets one of them fail on purpose."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from llmops.core.errors import LlmopsError


class DiskError(LlmopsError):
    """The disk refused: full, broken, read-only or not ours. What was there before is as it was."""

    def __init__(self, path: Path, error: BaseException) -> None:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        super().__init__(f"{path} cannot be written: {reason}", "free some space there, or repair the disk")


# What a disk says that takes no more: full, over a quota, a file too large, broken, read-only.
REFUSALS = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS))


class Disk:
    """Draft, write, sync, rename, append, remove. Every one raises `DiskError`, whatever a library calls its own."""

    def draft(self, folder: Path) -> Path:
        """A new hidden folder beside `folder`, to become it."""
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        except OSError as error:
            raise DiskError(folder, error) from error

    def remove(self, folder: Path) -> None:
        """Remove a folder and all in it."""
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise DiskError(folder, error) from error

    def write(self, path: Path, writer: Callable[[Path], object]) -> None:
        """Let `writer` write the file or folder `path`."""
        from safetensors import SafetensorError

        try:
            writer(path)
        except (OSError, SafetensorError) as error:  # safetensors writes by itself and has an error of its own
            raise DiskError(path, error) from error

    def sync(self, path: Path) -> None:
        """Make the operating system write `path` (a file or a folder) to the disk now."""
        try:
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise DiskError(path, error) from error

    def rename(self, old: Path, new: Path) -> None:
        """Give `old` the name `new`, and make that last. Raises `FileExistsError` where a folder is there already."""
        try:
            old.rename(new)
        except OSError as error:
            if new.is_dir():  # another process was quicker
                raise FileExistsError(new) from error
            raise DiskError(new, error) from error
        self.sync(new.parent)

    def append(self, path: Path, data: bytes) -> None:
        """Add `data` to a file in one write, and make that last."""
        try:
            with path.open("ab", buffering=0) as file:
                if file.write(data) != len(data):
                    raise OSError(0, "only a part was written")
                os.fsync(file.fileno())
        except OSError as error:
            raise DiskError(path, error) from error


DISK = Disk()


@dataclass
class FaultyDisk(Disk):
    """Fails at operation number `at` (from 0) with `errno`, as a full or broken disk does: half is written.

    With `lasting`, every later operation fails too. `done` names the operations so far, for who counts them.
    """

    at: int
    errno: int
    lasting: bool = False
    done: list[str] = field(default_factory=list)

    def _fails(self, what: str) -> bool:
        self.done.append(what)
        number = len(self.done) - 1
        return number == self.at or (self.lasting and number > self.at >= 0)

    def _error(self, path: Path) -> DiskError:
        return DiskError(path, OSError(self.errno, os.strerror(self.errno)))

    def draft(self, folder: Path) -> Path:
        if self._fails(f"draft {folder.name}"):
            raise self._error(folder)
        return super().draft(folder)

    def remove(self, folder: Path) -> None:
        if self._fails(f"remove {folder.name}"):
            next(path for path in sorted(folder.rglob("*")) if path.is_file()).unlink()
            raise self._error(folder)
        super().remove(folder)

    def write(self, path: Path, writer: Callable[[Path], object]) -> None:
        fails = self._fails(f"write {path.name}")
        super().write(path, writer)
        if fails:
            for file in [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]:
                os.truncate(file, file.stat().st_size // 2)
            raise self._error(path)

    def sync(self, path: Path) -> None:
        if self._fails(f"sync {path.name}"):
            raise self._error(path)
        super().sync(path)

    def rename(self, old: Path, new: Path) -> None:
        if self._fails(f"rename {new.name}"):
            raise self._error(new)
        super().rename(old, new)

    def append(self, path: Path, data: bytes) -> None:
        if self._fails(f"append {path.name}"):
            super().append(path, data[: len(data) // 2])
            raise self._error(path)
        super().append(path, data)
