"""`VllmEngine`: vLLM on this machine, for many readers at once.

vLLM lives in an environment of its own, for it wants libraries of its own. Its Python runs `vllm_host.py`, which is
asked through a pipe: no port, no secret, and one line a step for all answers together, where its own server says an
event for each.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, TextIO, get_args

from llmops.core.errors import LlmopsError, RequestError
from llmops.core.serving import Sampling
from llmops.serving.engine import Ended, Piece, Plain, Prompt, TokenChance
from llmops.serving.llamahost import named_program

Json = dict[str, Any]
VLLM = "LLMOPS_VLLM"
HOST = Path(__file__).with_name("vllm_host.py")
# One process: `vllm_host` reaches into it.
NEEDED = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
LOAD_S, CLOSE_S = 600, 10
# Of whose chances vLLM tells in one answer, at most.
MOST_OPTIONS = 128
SAID_LETTERS = 300
ENDED = (None, *get_args(Ended))


class Ear(NamedTuple):
    """Where the parts of an answer are awaited: in a loop, or by a thread that blocks."""

    heard: asyncio.Queue[Json] | queue.SimpleQueue[Json]
    loop: asyncio.AbstractEventLoop | None = None


def vllm_python(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The Python that has vLLM: `$LLMOPS_VLLM`, else this one where vLLM is installed in it; None where there is none.

    Raises `LlmopsError` where the variable names no program.
    """
    here = Path(sys.executable) if find_spec("vllm") else None
    return named_program(VLLM, "the python of vLLM", environ) or here


def needed_python() -> Path:
    """The same. Raises `RequestError` where there is none."""
    python = vllm_python()
    if python is None:
        raise RequestError(
            "there is no vLLM on this machine",
            f"install it into an environment of its own, and name its python in {VLLM}",
        )
    return python


class VllmEngine(Plain):
    """vLLM on a folder of safetensors, in bfloat16, with continuous batching over `slots` answers.

    Constraints go to it as the same grammar as to llama.cpp, through the same library (llguidance). The largest
    logits of a place are worked out in float32 (`vllm_host.sharpen`), the others as vLLM rounds them.
    """

    constrains = True
    tells_chances = True
    chooses = True
    name = "vLLM"

    def __init__(self, folder: Path, python: Path, context_tokens: int, slots: int, gib: int = 1) -> None:
        """`gib` is the room for keys and values, in GiB. Raises `LlmopsError` where it cannot load the model."""
        self.slots = slots
        self.context_tokens = context_tokens
        self._numbers = count()
        self._asked: dict[str, Ear] = {}
        self._lock, self._over = threading.Lock(), False
        self._log = tempfile.NamedTemporaryFile("wb", prefix="llmops-vllm-", suffix=".log")  # noqa: SIM115
        self._process = subprocess.Popen(
            [str(python), "-I", str(HOST), str(folder), str(context_tokens), str(slots)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**_settings(gib), **os.environ, **NEEDED},
            # In a session of its own: Ctrl-C is for the gateway, which drains first.
            start_new_session=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._to, out = self._process.stdin, self._process.stdout
        try:
            with self._killed_after(LOAD_S):
                ready = out.readline()
            if not ready:
                why = self._last_words()
                raise LlmopsError(f"vLLM cannot load {folder.name}: {why}", f"See whether vLLM works in {python}.")
        except BaseException:  # Ctrl-C too: it would go on loading, for nobody
            self._kill()
            self.close()
            raise
        threading.Thread(target=self._hear, args=(out,), name="vllm", daemon=True).start()

    async def stream(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Piece]:
        tokens = 0
        async for said in self._parts(_question(prompt, sampling)):
            tokens += len(said["tokens"])
            yield Piece(said["text"], tokens, said["ended"], _chances(said, prompt))

    async def choose(self, ids: Sequence[int], options: Sequence[int]) -> list[float]:
        parts = [options[at : at + MOST_OPTIONS] for at in range(0, len(options), MOST_OPTIONS)]
        told = [nats for some in await asyncio.gather(*(self._nats(ids, part) for part in parts)) for nats in some]
        most = max(told)
        weights = [math.exp(nats - most) for nats in told]
        total = sum(weights)
        return [weight / total for weight in weights]

    async def _nats(self, ids: Sequence[int], options: Sequence[int]) -> list[float]:
        """The log-probability of each option as the next token."""
        question = _question(Prompt(tuple(ids), ""), Sampling(max_tokens=1))
        async for said in self._parts({**question, "options": list(options)}):
            told = {token: logprob for token, _, logprob in said["chances"][0]}
            return [told[option] for option in options]
        raise AssertionError("every answer has a part")

    def likeliest(self, ids: Sequence[int], number: int) -> list[tuple[int, float]]:
        question = _question(Prompt(tuple(ids), "", likeliest=number), Sampling(max_tokens=1))
        return [(token, logprob) for token, _, logprob in self._whole(question)[0]["chances"][0]]

    def answer_ids(self, ids: Sequence[int], sampling: Sampling) -> list[int]:
        return [token for said in self._whole(_question(Prompt(tuple(ids), ""), sampling)) for token in said["tokens"]]

    async def _parts(self, question: Json) -> AsyncGenerator[Json]:
        """What each step adds to an answer. Leaving early stops the work."""
        heard = asyncio.Queue[Json]()
        number = self._ask(question, Ear(heard, asyncio.get_running_loop()))
        try:
            ended = False
            while not ended:
                yield (said := _heard(await heard.get()))
                ended = bool(said["ended"])
        finally:
            if self._asked.pop(number, None) is not None:
                with suppress(OSError, ValueError):  # gone itself
                    self._write({"leave": number})

    def _whole(self, question: Json) -> list[Json]:
        """All that is added to an answer, for llmops' own questions. Blocks."""
        heard = queue.SimpleQueue[Json]()
        self._ask(question, Ear(heard))
        found = [_heard(heard.get())]
        while not found[-1]["ended"]:
            found.append(_heard(heard.get()))
        return found

    def _ask(self, question: Json, ear: Ear) -> str:
        number = str(next(self._numbers))
        try:
            self._write({"ask": number, **question}, {number: ear})
        except (OSError, ValueError):
            self._asked.pop(number, None)
            raise LlmopsError(f"vLLM is gone: {self._last_words()}", "Start it again.") from None
        return number

    def _write(self, what: Json, ears: Mapping[str, Ear] | None = None) -> None:
        """Raises `OSError` or `ValueError` where nobody reads it any more."""
        with self._lock:
            if self._over:
                raise BrokenPipeError
            self._asked.update(ears or {})
            self._to.write(json.dumps(what) + "\n")
            self._to.flush()

    def _hear(self, lines: TextIO) -> None:
        """Pass on what each step added, until vLLM ends; then whoever waits is told so."""
        with suppress(ValueError):  # it died in the middle of a line
            for line in lines:
                self._pass_on(json.loads(line))
        with self._lock:
            self._over = True
        gone = {"error": self._last_words(), "gone": True}
        while self._asked:
            self._pass_on(dict.fromkeys(tuple(self._asked), gone))

    def _pass_on(self, parts: Mapping[str, Json]) -> None:
        """Each to whoever awaits it; a loop is woken once for all that it awaits."""
        found = defaultdict[asyncio.AbstractEventLoop | None, list[tuple[Ear, Json]]](list)
        for number, said in parts.items():
            over = "error" in said or said["ended"]
            ear = self._asked.pop(number, None) if over else self._asked.get(number)
            if ear is not None:  # else its reader left
                found[ear.loop].append((ear, said))
        for loop, heard in found.items():
            if loop is None:
                _put(heard)
            else:
                with suppress(RuntimeError):  # the loop is closed: nobody awaits it any more
                    loop.call_soon_threadsafe(_put, heard)

    def _last_words(self) -> str:
        """The end of what it said, if it said anything."""
        said: list[str] = []
        with suppress(OSError):  # closed, and what it said with it
            said = Path(self._log.name).read_text(errors="replace").split()
        return " ".join(said)[-SAID_LETTERS:] or "it said nothing"

    def close(self) -> None:
        # Where it does not read, whoever asks it something now holds the pipe until it is killed.
        with self._killed_after(CLOSE_S):
            with suppress(OSError):
                self._to.close()
            self._process.wait()
        self._log.close()

    @contextmanager
    def _killed_after(self, seconds: float) -> Iterator[None]:
        """It is killed where the block takes longer."""
        late = threading.Timer(seconds, self._kill)
        late.start()
        try:
            yield
        finally:
            late.cancel()

    def _kill(self) -> None:
        """With all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


def _settings(gib: int) -> Mapping[str, str]:
    """Of vLLM on a processor: all cores (left alone it keeps one of them for itself)."""
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    return {
        "VLLM_CPU_OMP_THREADS_BIND": cores,
        "VLLM_CPU_KVCACHE_SPACE": str(gib),
        # 18 s instead of 55 to load SmolLM2-135M again: what was compiled ahead of time cannot be read back.
        "VLLM_USE_AOT_COMPILE": "0",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
    }


def _question(prompt: Prompt, sampling: Sampling) -> Json:
    """The line that `vllm_host` reads."""
    return {
        "ids": list(prompt.ids),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "max_tokens": sampling.max_tokens,
        "stop": list(sampling.stop),
        "end_ids": sorted(prompt.end_ids),
        "likeliest": prompt.likeliest,
        "grammar": prompt.constraint.grammar if prompt.constraint else None,
    }


def _put(heard: Iterable[tuple[Ear, Json]]) -> None:
    for ear, said in heard:
        ear.heard.put_nowait(said)


def _heard(said: Json) -> Json:
    if "gone" in said:
        raise LlmopsError(f"vLLM ended: {said['error']}", "Start the endpoint again.")
    if "error" in said:
        raise LlmopsError(f"vLLM refused the prompt: {said['error'][:300]}", "Shorten the prompt.")
    if said["ended"] not in ENDED:
        raise LlmopsError(f"vLLM broke the answer off: {said['ended']}", "Ask again; if it happens again, restart.")
    return said


def _chances(said: Json, prompt: Prompt) -> tuple[TokenChance, ...]:
    """Of the tokens of a step, each with as many of the likeliest at its place as were asked for.

    vLLM says the token's own first, and tells of the end token, which is no part of an answer.
    """
    if prompt.likeliest is None:
        return ()
    found = []
    for token, place in zip(said["tokens"], said.get("chances", ()), strict=False):
        if token in prompt.end_ids:
            break
        told = [TokenChance(text, logprob, text.encode()) for _, text, logprob in place]
        best = sorted(told, key=lambda one: -one.logprob)[: prompt.likeliest]
        found.append(TokenChance(told[0].text, told[0].logprob, told[0].raw, tuple(best)))
    return tuple(found)
