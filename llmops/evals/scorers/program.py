"""The scorer `code`: a program of a person's own marks each answer, in a process of its own.

The program reads one JSON object on standard input (`answered`, `expected`, `asked`, `options`, `fields`) and prints a
number, or an object with `mark` and `why`. An answer is never run, named or put into a command line: it is data on a
pipe. The limits are there against a program that hangs or grows; it is the person's own, so it is not a sandbox.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from llmops.core.errors import RequestError
from llmops.core.scorers import Code
from llmops.core.suites import Question
from llmops.evals.scorers import limits
from llmops.evals.scorers.mark import Given, Marked, Marker, Tools, Unmarked, marked, number_of

READ_BYTES = 64 * 1024
PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ")


def code(knobs: Code, tools: Tools) -> Marker:
    """What the program says of each answer; as many at once as there are cores."""
    if knobs.program not in tools.programs:
        raise RequestError(
            f"{knobs.program} is a program, and runs only if you name its file yourself",
            f"say so on the command line: --trust {knobs.program} (in Python: programs={{...}})",
        )
    command = command_of(tools.programs[knobs.program])

    def mark(given: Given) -> list[Marked]:
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            found = pool.map(lambda one: marked(lambda *both: ask(command, knobs, *both), *one), given)
            return list(tools.track(found, "marking answers", len(given)))

    return mark


def command_of(program: Path) -> list[str]:
    """How a program is started: a `.py` by this Python, anything else by itself."""
    path = program.resolve()
    if not path.is_file():
        raise RequestError(f"there is no program {program}", "check the path")
    if path.suffix == ".py":
        return [sys.executable, "-I", str(path)]
    if not os.access(path, os.X_OK):
        raise RequestError(f"{program} is not executable", f"chmod +x {program}, or write it in Python (.py)")
    return [str(path)]


def ask(command: list[str], knobs: Code, answer: str, question: Question) -> Marked:
    """One answer shown to the program. Raises `Unmarked` where it fails, takes too long or says no mark."""
    told: dict[str, object] = {"answered": answer, "expected": list(question.expected), "asked": question.asked}
    told |= {"options": list(question.options), "fields": question.fields}
    with tempfile.TemporaryDirectory(prefix="llmops-mark-") as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        with out.open("wb") as stdout, err.open("wb") as stderr:
            ended = run(command, knobs, json.dumps(told).encode(), (stdout.fileno(), stderr.fileno()), folder)
        said, complaint = (path.read_bytes()[:READ_BYTES].decode("utf-8", "replace").strip() for path in (out, err))
    if ended is None:
        raise Unmarked(f"{knobs.program} took longer than {knobs.seconds:g} s")
    if ended:
        how = f"was ended by signal {-ended}" if ended < 0 else f"ended with code {ended}"
        raise Unmarked(f"{knobs.program} {how}: {complaint[-300:] or 'it said nothing'}")
    return read(said, knobs.program)


def run(command: list[str], knobs: Code, told: bytes, files: tuple[int, int], folder: str) -> int | None:
    """The exit code of a program that was told something; None where its time ran out. Nothing of it stays behind."""
    memory = str(knobs.memory_mb * 1024 * 1024)
    limited = [sys.executable, "-I", limits.__file__, str(math.ceil(knobs.seconds)), memory, *command]
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    with subprocess.Popen(
        limited,
        stdin=subprocess.PIPE,
        stdout=files[0],
        stderr=files[1],
        cwd=folder,
        env=environment,
        start_new_session=True,
    ) as process:
        try:
            process.communicate(told, timeout=knobs.seconds)
            return process.returncode
        except subprocess.TimeoutExpired:
            return None
        finally:
            end_group(process)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and whatever it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # all of it has gone
    finally:
        process.wait()


def read(said: str, program: str) -> Marked:
    """The mark in what a program printed."""
    try:
        given = json.loads(said)
    except (ValueError, RecursionError) as error:
        raise Unmarked(f"{program} printed no mark, but {said[:100]!r}") from error
    if isinstance(given, dict):
        why = {"scorer_read": str(given["why"])[:2000]} if given.get("why") else {}
        return Marked(number_of(given.get("mark")), why)
    return Marked(number_of(given))
