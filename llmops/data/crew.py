"""Several processes for the passes over chunks. Each is this Python with `llmops.data.worker`, and is told in lines.

Plain processes and lines of JSON: nothing is pickled, a script needs no `if __name__` guard, and a notebook will do.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import chain, islice
from pathlib import Path
from types import TracebackType
from typing import Self

from llmops.core.context import Track, silent
from llmops.core.errors import LlmopsError
from llmops.data.passes import Chunk, Job, work


class Crew:
    """Does jobs to chunks with `size` processes; where there is one, or one chunk, here without starting any."""

    def __init__(self, size: int, folder: Path) -> None:
        self.size, self.folder = size, folder
        self.idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        self.workers: list[Worker] = []
        self.threads = ThreadPoolExecutor(size, thread_name_prefix="crew")
        self.jobs = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.threads.shutdown(wait=kind is None, cancel_futures=True)
        for worker in self.workers:
            worker.close()
        self.threads.shutdown(wait=True)

    def do(self, job: Job, chunks: Iterable[Chunk], what: str, track: Track = silent) -> list[Chunk]:
        """Do a job to every chunk, and return them. `chunks` may come slowly: each is begun as it comes."""
        coming = iter(chunks)
        done = list(islice(coming, 2))
        if self.size == 1 or len(done) < 2:
            known = chunks if isinstance(chunks, Sequence) else chain(done, coming)
            done = []
            for chunk in track(known, what):
                work(job, chunk)
                done.append(chunk)
            return done
        self.jobs += 1
        path = self.folder / f"job-{self.jobs}.json"
        path.write_text(job.model_dump_json(), encoding="utf-8")
        begun = [self.threads.submit(self._hand_out, path, chunk) for chunk in done]
        for chunk in coming:
            done.append(chunk)
            begun.append(self.threads.submit(self._hand_out, path, chunk))
        for finished in track(as_completed(begun), what, len(begun)):
            finished.result()
        return done

    def _hand_out(self, job: Path, chunk: Chunk) -> None:
        try:
            worker = self.idle.get_nowait()
        except queue.Empty:
            worker = Worker()
            self.workers.append(worker)
        worker.do(job, chunk)
        self.idle.put(worker)


class Worker:
    """One process."""

    def __init__(self) -> None:
        place = str(Path(__file__).resolve().parents[2])  # the same code as here, wherever we are
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "llmops.data.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([place, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
            },
            text=True,
            encoding="utf-8",
        )

    def do(self, job: Path, chunk: Chunk) -> None:
        """Have one chunk done. Raises `LlmopsError` where the process fails or dies."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps([str(job), chunk.number, str(chunk.path)]) + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except OSError:
            answer = ""
        if answer.strip() != "done":
            said = json.loads(answer)["error"] if answer.strip() else "it ended without a word, as for want of memory"
            raise LlmopsError(f"a process that cleans rows failed: {said}", "run it again: what is done is kept")

    def close(self) -> None:
        """End the process: it ends by itself when nothing more can come."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
