"""Signs: what a step that looks at all rows keeps of each one, in columns of fixed width, so that memory is bounded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

Columns = Mapping[str, np.ndarray]


class Signs:
    """The columns of all chunks. A column is loaded when it is asked for, and one at a time."""

    def __init__(self, parts: Sequence[Columns]) -> None:
        self.parts = parts

    def column(self, name: str) -> np.ndarray:
        """One column over all rows."""
        return np.concatenate([np.asarray(part[name]) for part in self.parts])

    def slice(self, name: str, place: int) -> np.ndarray:
        """One of the columns of a table that is stored column after column, over all rows."""
        return np.concatenate([np.array(part[name][place]) for part in self.parts])


class StoredColumns(Mapping[str, np.ndarray]):
    """The columns of one chunk in files `<stem>.<name>.npy`, mapped into memory when they are asked for."""

    def __init__(self, stem: Path) -> None:
        self.stem = stem

    def __getitem__(self, name: str) -> np.ndarray:
        values: np.ndarray = np.load(f"{self.stem}.{name}.npy", mmap_mode="r")
        return values

    def __iter__(self) -> Iterator[str]:
        return (path.name.split(".")[-2] for path in sorted(self.stem.parent.glob(f"{self.stem.name}.*.npy")))

    def __len__(self) -> int:
        return len(list(iter(self)))


def store_columns(stem: Path, columns: Columns) -> None:
    """Write the columns of one chunk."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    for name, values in columns.items():
        np.save(f"{stem}.{name}.npy", values)


def distinct(values: np.ndarray) -> np.ndarray:
    """The values sorted, each once. By sorting: numpy's own `unique` hashes first, and took three times as long."""
    ordered = np.sort(values)
    return ordered[np.r_[True, ordered[1:] != ordered[:-1]]] if len(ordered) else ordered


def number_of_id(row_id: str) -> int:
    """A row's id, 16 hex digits, as the number that it is."""
    return int(row_id, 16)


def id_of_number(number: int) -> str:
    """The id that a number stands for."""
    return f"{number:016x}"


def hash64(*texts: str) -> int:
    """A hash of some texts, the same on every machine."""
    return int.from_bytes(hashlib.blake2b("\0".join(texts).encode("utf-8", "surrogatepass"), digest_size=8).digest())
