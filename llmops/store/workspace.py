"""`Workspace`: the folder that holds everything, readable with `cat`. See design.md section 5 for its picture."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from llmops.core.comparison import Comparison
from llmops.core.context import Surroundings
from llmops.core.dataset import DatasetManifest, Row
from llmops.core.errors import RequestError
from llmops.core.experiments import Sweep
from llmops.core.health import HealthReport
from llmops.core.plan import Plan
from llmops.core.report import Answer, EvalReport
from llmops.core.run import Run, RunEvent, StepRecord, fold_run
from llmops.core.value import Fact
from llmops.core.version import ModelVersion
from llmops.store.disk import DISK, Disk
from llmops.store.files import (
    append_line,
    building,
    read_json,
    read_jsonl,
    read_log,
    stored,
    verify_folder,
    write_json,
    write_jsonl,
)
from llmops.store.ledger import Ledger

F = TypeVar("F", bound=Fact)

FOLDERS: dict[type[Fact], str] = {
    DatasetManifest: "datasets",
    Plan: "plans",
    EvalReport: "reports",
    Comparison: "comparisons",
    HealthReport: "health",
    Sweep: "sweeps",
}


@dataclass(frozen=True)
class Workspace:
    """A folder of values and its ledger, with the surroundings in which verbs run, and the disk that runs write to."""

    root: Path
    world: Surroundings = field(default_factory=Surroundings)
    database_url: str | None = None
    disk: Disk = DISK

    @classmethod
    def find(
        cls,
        folder: Path | None = None,
        world: Surroundings | None = None,
        environ: Mapping[str, str] = os.environ,
        start: Path | None = None,
    ) -> Workspace:
        """`folder`, else `$LLMOPS_HOME`, else the nearest `.llmops` found upwards of `start`, else `start/.llmops`.

        Makes the folder, with a `.gitignore` of `*` inside.
        """
        here = (start or Path.cwd()).resolve()
        found = [parent / ".llmops" for parent in (here, *here.parents) if (parent / ".llmops").is_dir()]
        named = folder or (Path(environ["LLMOPS_HOME"]) if environ.get("LLMOPS_HOME") else None)
        root = (named or (found[0] if found else here / ".llmops")).expanduser().resolve()
        if root.exists() and not root.is_dir():
            raise RequestError(f"workspace {root} is a file", "name a folder with --workspace")
        try:
            root.mkdir(parents=True, exist_ok=True)
            if not (root / ".gitignore").exists():
                (root / ".gitignore").write_text("*\n", encoding="utf-8")
        except OSError as error:
            what = f"workspace {root} cannot be made: {error.strerror}"
            raise RequestError(what, "name a folder that you can write to with --workspace") from error
        return cls(root, world or Surroundings(), environ.get("LLMOPS_DATABASE_URL"))

    @cached_property
    def ledger(self) -> Ledger:
        """The events: SQLite in the workspace, or the database at `LLMOPS_DATABASE_URL`."""
        return Ledger(self.database_url or f"sqlite:///{self.root / 'ledger.db'}")

    def folder(self, kind: type[Fact], fact_id: str) -> Path:
        """Where the files of a fact lie (for datasets and reports)."""
        return self.root / FOLDERS[kind] / fact_id

    # Facts: written once, found by id, by a unique prefix of it, or as `last`.

    def put(self, fact: Fact) -> Path:
        """Write a fact, atomically and at most once. Returns its file. A dataset's rows are put by `data`."""
        if isinstance(fact, EvalReport):
            return self._put_report(fact)
        path = self.root / FOLDERS[type(fact)] / f"{fact.id}.json"
        if isinstance(fact, DatasetManifest):
            path = self.folder(DatasetManifest, fact.id) / "manifest.json"
        if not path.exists():
            write_json(path, fact.to_json())
        return path

    def _put_report(self, report: EvalReport) -> Path:
        folder = self.folder(EvalReport, report.id)
        with suppress(FileExistsError), building(folder) as draft:  # the same id is the same report
            write_jsonl(draft / "answers.jsonl", (answer.to_json() for answer in report.answers))
            write_json(draft / "report.json", report.model_dump(mode="json", by_alias=True, exclude={"answers"}))
        return folder / "report.json"

    def ids(self, kind: type[Fact]) -> list[str]:
        """The ids of all stored facts of a kind, oldest first."""
        folder = self.root / FOLDERS[kind]
        paths = list(folder.glob(f"{kind.prefix}-*")) if folder.is_dir() else []
        return [path.name.removesuffix(".json") for path in sorted(paths, key=lambda path: path.stat().st_mtime_ns)]

    def get(self, kind: type[F], ref: str) -> F:
        """The fact of a kind by id, unique prefix or `last`; a data set by its recipe's name too, the newest one.

        Raises `RequestError` where there is none or more than one.
        """
        if kind is DatasetManifest and (named := self._named(ref)):
            ref = named
        fact_id = pick(ref, self.ids(kind), FOLDERS[kind].removesuffix("s"))
        if kind is EvalReport:
            folder = self.folder(kind, fact_id)
            answers = [stored(Answer, row, folder) for row in read_jsonl(folder / "answers.jsonl")]
            return stored(kind, {**read_json(folder / "report.json"), "answers": answers}, folder)
        path = self.root / FOLDERS[kind] / f"{fact_id}.json"
        if kind is DatasetManifest:
            path = self.folder(kind, fact_id) / "manifest.json"
        return stored(kind, read_json(path), path)

    def _named(self, name: str) -> str | None:
        """The id of the newest data set of a recipe's name."""
        ids = [] if name.startswith(f"{DatasetManifest.prefix}-") else self.ids(DatasetManifest)
        files = ((one, self.folder(DatasetManifest, one) / "manifest.json") for one in reversed(ids))
        return next((one for one, file in files if file.exists() and read_json(file)["name"] == name), None)

    def all(self, kind: type[F]) -> list[F]:
        """Every stored fact of a kind, oldest first."""
        return [self.get(kind, fact_id) for fact_id in self.ids(kind)]

    def reports_of(self, ref: str) -> list[EvalReport]:
        """The reports of a run, a version, or (of cheap rows) a plan, oldest first. Answers of others are not read."""
        files = {fact_id: self.folder(EvalReport, fact_id) / "report.json" for fact_id in self.ids(EvalReport)}
        return [self.get(EvalReport, one) for one, file in files.items() if read_json(file)["subject"]["ref"] == ref]

    def rows(self, dataset: str, part: str) -> list[Row]:
        """The rows of a dataset's part, `train` or `heldout`; `LlmopsError` where the manifest names other ones."""
        manifest = self.get(DatasetManifest, dataset)
        folder = self.folder(DatasetManifest, manifest.id)
        verify_folder(folder, {name: sha256 for name, sha256 in manifest.files.items() if name == f"{part}.jsonl"})
        return [stored(Row, row, folder) for row in read_jsonl(folder / f"{part}.jsonl")]

    # Runs: events, folded.

    def run_folder(self, run_id: str) -> Path:
        return self.root / "runs" / run_id

    def add_event(self, run_id: str, event: RunEvent) -> None:
        """Append one event to a run's `run.jsonl`."""
        append_line(self.run_folder(run_id) / "run.jsonl", event.to_json(), self.disk)

    def events(self, run_id: str) -> list[RunEvent]:
        """The events of a run, oldest first."""
        return [stored(RunEvent, row, run_id) for row in read_log(self.run_folder(run_id) / "run.jsonl")]

    def run_ids(self) -> list[str]:
        """The ids of all runs, oldest first."""
        folder = self.root / "runs"
        paths = [path for path in folder.iterdir() if (path / "run.jsonl").exists()] if folder.is_dir() else []
        return [
            path.name for path in sorted(paths, key=lambda path: (self.events(path.name)[0].at, path.stat().st_mtime))
        ]

    def run(self, ref: str) -> Run:
        """A run by id, unique prefix, `last`, or the last one of a recipe's name."""
        ids = self.run_ids()
        named = [run_id for run_id in ids if run_id.split("-", 1)[-1].rsplit("-", 1)[0] == ref]
        run_id = named[-1] if named else pick(ref, ids, "run")
        events = self.events(run_id)
        run = fold_run(run_id, events)
        if run.status == "running" and died([event for event in events if event.kind == "started"][-1]):
            return run.replace(status="interrupted", note="its process is gone")
        return run

    def steps(self, run_id: str) -> list[StepRecord]:
        """The metrics of a run; where a resumed run did a step again, the later record counts."""
        by_step = {row["step"]: row for row in read_log(self.run_folder(run_id) / "metrics.jsonl")}
        return [stored(StepRecord, by_step[step], run_id) for step in sorted(by_step)]

    # Versions: `name:number` in folders, never changed.

    def version_folder(self, ref: str) -> Path:
        name, _, number = ref.partition(":")
        return self.root / "versions" / name / number

    def versions(self, name: str | None = None) -> list[ModelVersion]:
        """Every version (of one name), by name and number."""
        paths = (self.root / "versions").glob(f"{name or '*'}/[0-9]*/version.json")  # a draft's name begins with a dot
        found = [stored(ModelVersion, read_json(path), path) for path in paths]
        return sorted(found, key=lambda version: (version.name, version.number))


def died(started: RunEvent) -> bool:
    """Whether the process of a start is known to be gone; of another machine's process nothing is known."""
    import psutil

    pid = started.data.get("pid")
    if pid is None or started.data.get("host") != platform.node():
        return False
    try:
        return bool(psutil.Process(pid).create_time() != started.data.get("process_began"))
    except psutil.NoSuchProcess:
        return True


def pick(ref: str, ids: list[str], what: str) -> str:
    """The one of `ids` that `ref` means: `last`, itself, or its unique prefix (with or without `xx-`)."""
    if ref == "last" and ids:
        return ids[-1]
    found = [item for item in ids if item == ref] or [
        item for item in ids if item.startswith(ref) or item.split("-", 1)[-1].startswith(ref)
    ]
    if len(found) == 1:
        return found[0]
    if not found:
        known = ", ".join(ids[-5:]) or "none yet"
        raise RequestError(f"there is no {what} {ref!r}", f"known: {known}")
    raise RequestError(f"{ref!r} means {len(found)} {what}s: {', '.join(found[:5])}", "give more of the id")
