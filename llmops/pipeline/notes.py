"""The folder of a tournament: what was made stays, so that an interrupted one goes on."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from llmops.core.choice import Choice, Entry
from llmops.store.files import building, read_json, stored, write_json, write_text
from llmops.store.shelf import WINNER

if TYPE_CHECKING:
    from llmops.experiments.parts import Parts

PAGE = "choice.html"
RESULT = "choice.json"


class Notes:
    """The folder of a tournament: each entry as it was made, what each rung trained, and the result."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def result(self) -> Choice | None:
        """The finished tournament, if it is."""
        path = self.folder / RESULT
        return stored(Choice, read_json(path), path) if path.exists() else None

    def entry(self, name: str) -> Entry | None:
        """What was noted of an entrant (of a tuned one on a rung: `name.rung`)."""
        path = self.folder / "entries" / f"{name}.json"
        return stored(Entry, read_json(path)["entry"], path) if path.exists() else None

    def keep(self, name: str, entry: Entry, seconds: float) -> Entry:
        """Note an entry and the seconds that it took."""
        write_json(self.folder / "entries" / f"{name}.json", {"seconds": seconds, "entry": entry.to_json()})
        return entry

    def of_deal(self, number: int) -> Notes:
        """Those of another deal of the training rows."""
        return Notes(self.folder / f"deal-{number}")

    def tuned(self) -> list[Entry]:
        """Every entry of a training, on every rung."""
        paths = sorted((self.folder / "entries").glob("*.json"))
        found = [stored(Entry, read_json(path)["entry"], path) for path in paths]
        return [entry for entry in found if entry.rung is not None]

    def judged(self, name: str, entry: Entry, seconds: float) -> Entry:
        """Note an entry again, with what the held-out rows said; the seconds add up."""
        before = float(read_json(self.folder / "entries" / f"{name}.json")["seconds"])
        return self.keep(name, entry, before + seconds)

    def spent_s(self, began: float) -> float:
        """Seconds of this start, or of all entries together where earlier starts made some of them."""
        before = sum(read_json(path)["seconds"] for path in (self.folder / "entries").glob("*.json"))
        return max(float(before), time.perf_counter() - began)

    def keep_parts(self, parts: Parts) -> None:
        """Write the winner, fitted on all training rows: what `register` takes."""
        shutil.rmtree(self.folder / WINNER, ignore_errors=True)
        with building(self.folder / WINNER) as draft:
            parts.save(draft)

    def finish(self, choice: Choice) -> Choice:
        """Write the result and its page."""
        from llmops.experiments.pareto import page

        write_text(self.folder / PAGE, page(choice))
        write_json(self.folder / RESULT, choice.to_json())
        return choice
