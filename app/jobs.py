"""Jobs: the command line, started detached. A job outlives the app; its folder `jobs/<id>/` says all there is to know.

`job.json` is what was started, `recipe.yaml` what it was started on, `log.txt` what it printed, `exit.json` its exit
code (written by the app that started it; a job whose app has died ends without one).
"""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from secrets import token_hex

from llmops.core.errors import RequestError
from llmops.core.run import Run
from llmops.core.value import Value
from llmops.store.files import read_json, write_json, write_text
from llmops.store.workspace import Workspace

MOST_RECIPE_BYTES = 2**20


class Job(Value):
    """One detached command. `born` is when the system says its process began: a reused pid is another one."""

    id: str
    name: str
    command: tuple[str, ...]
    pid: int
    born: float
    started: datetime
    resumes: str | None = None


def write_recipe(folder: Path, text: str) -> Path:
    """Write YAML text as `recipe.yaml`; `RequestError` where it is larger than a recipe can be."""
    if len(text.encode("utf-8", "replace")) > MOST_RECIPE_BYTES:
        raise RequestError(
            "the recipe is larger than 1 MiB", "put rows into a file of their own and name it as a source"
        )
    path = folder / "recipe.yaml"
    write_text(path, text)
    return path


@dataclass(frozen=True)
class Jobs:
    """The jobs of a workspace. `llmops` is the command that each of them begins with."""

    at: Workspace
    llmops: Sequence[str]

    @property
    def folder(self) -> Path:
        return self.at.root / "jobs"

    def run(self, name: str, text: str, resume: str | None = None) -> Job:
        """Start `llmops run` on a recipe's YAML text; with `resume`, let that run go on."""
        job_id = self._new_id(name)
        target = str(write_recipe(self.folder / job_id, text))
        return self._start(job_id, name, ["run", target], resume)

    def run_shipped(self, name: str) -> Job:
        """Start `llmops run` on a recipe that comes with llmops."""
        return self._start(self._new_id(name), name, ["run", name])

    def _new_id(self, name: str) -> str:
        return f"{self.at.world.clock():%Y%m%dT%H%M%S}-{name}-{token_hex(3)}"

    def _start(self, job_id: str, name: str, verb: list[str], resumes: str | None = None) -> Job:
        import psutil

        command = [*self.llmops, *verb, *(["--resume", resumes] if resumes else []), "--workspace", str(self.at.root)]
        started = self.at.world.clock()  # before the process begins, so that its run is never older than its job
        folder = self.folder / job_id
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "log.txt").open("ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            born = psutil.Process(process.pid).create_time()
        except psutil.Error:
            born = 0.0
        job = Job(
            id=job_id,
            name=name,
            command=tuple(command),
            pid=process.pid,
            born=born,
            started=started,
            resumes=resumes,
        )
        write_json(folder / "job.json", job.to_json())

        def wait() -> None:
            write_json(folder / "exit.json", {"code": process.wait()})

        threading.Thread(target=wait, daemon=True, name=f"wait-{job_id}").start()
        return job

    def all(self) -> list[Job]:
        """Every job, newest first."""
        paths = sorted(self.folder.glob("*/job.json"), reverse=True) if self.folder.is_dir() else []
        return [Job.model_validate(read_json(path)) for path in paths]

    def of(self, run: Run) -> Job | None:
        """The job that made a run, or last went on with it."""
        for job in self.all():
            if job.resumes == run.id or (job.resumes is None and job.name == run.name and job.started <= run.created):
                return job
        return None

    def alive(self, job: Job) -> bool:
        """Whether its process still runs."""
        import psutil

        if (self.folder / job.id / "exit.json").exists():
            return False
        try:
            process = psutil.Process(job.pid)
            return bool(process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - job.born) < 1.0)
        except psutil.Error:
            return False

    def exit_code(self, job: Job) -> int | None:
        """Its exit code; None while it runs, or where the app that started it died first."""
        path = self.folder / job.id / "exit.json"
        return int(read_json(path)["code"]) if path.exists() else None

    def stop(self, job: Job) -> None:
        """Ask it to stop, as Ctrl-C would."""
        import psutil

        if self.alive(job):
            psutil.Process(job.pid).send_signal(signal.SIGINT)

    def log_tail(self, job: Job, most_bytes: int = 8000) -> str:
        """The end of what it printed; of a progress bar drawn over itself, the last state of each line."""
        path = self.folder / job.id / "log.txt"
        if not path.exists():
            return ""
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - most_bytes))
            text = file.read().decode("utf-8", "replace")
        return "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n")).strip()
