"""A process of a `Crew`: reads a line `[job file, chunk number, chunk file]`, does it, answers `done` or the error."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from llmops.data.passes import Chunk, Job, work


def main() -> None:
    """Do what the lines of standard input say until they end."""
    known: dict[str, Job] = {}
    for line in sys.stdin:
        job_file, number, path = json.loads(line)
        try:
            if job_file not in known:
                known = {job_file: Job.model_validate_json(Path(job_file).read_text(encoding="utf-8"))}
            work(known[job_file], Chunk(number, Path(path)))
        except Exception as error:  # whatever it is, the process that asked says it
            print(json.dumps({"error": f"{type(error).__name__}: {error}"}), flush=True)
        else:
            print("done", flush=True)


if __name__ == "__main__":
    main()
