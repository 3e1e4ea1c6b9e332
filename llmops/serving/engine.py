"""`Engine`: whatever turns a rendered prompt into pieces of an answer. llama.cpp, a cheap classifier, or a script."""

from __future__ import annotations

import asyncio
import ctypes
import json
import secrets
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from llmops.core.errors import LlmopsError
from llmops.core.serving import Sampling


@dataclass(frozen=True)
class Prompt:
    """A question as an engine may read it: as token ids, or as the bare text of the last message."""

    ids: tuple[int, ...]
    text: str
    end_ids: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Piece:
    """A part of an answer. Pieces concatenate to it; `finish` is set on the last one only, which may be empty."""

    text: str
    answer_tokens: int
    finish: Literal["stop", "length"] | None = None


class Engine(Protocol):
    """Answers up to `slots` prompts at once, each with at most `context_tokens` of prompt and answer together."""

    name: str
    slots: int
    context_tokens: int

    def stream(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Piece]:
        """The answer in pieces, each whole Unicode characters. Closing the iterator stops the work."""
        ...

    def close(self) -> None:
        """Give back memory and threads. A closed engine answers nothing more."""
        ...


class ScriptedEngine:
    """A fake: answers what `script` makes of the prompt, `pause_s` seconds before each piece.

    `running` counts the answers under way, `left` those whose reader went away.
    """

    def __init__(
        self,
        script: Callable[[Prompt], Iterable[str]],
        pause_s: float = 0.0,
        slots: int = 8,
        context_tokens: int = 2048,
    ) -> None:
        self.name = "script"
        self.script = script
        self.pause_s = pause_s
        self.slots = slots
        self.context_tokens = context_tokens
        self.running = 0
        self.left = 0

    async def stream(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Piece]:
        self.running += 1
        finish: Literal["stop", "length"] | None = None
        try:
            count = 0
            for count, text in enumerate(self.script(prompt), start=1):
                await asyncio.sleep(self.pause_s)
                if count > sampling.max_tokens:
                    finish = "length"
                    break
                yield Piece(text, count)
            finish = finish or "stop"
            yield Piece("", min(count, sampling.max_tokens), finish)
        finally:
            self.running -= 1
            self.left += finish is None

    def close(self) -> None:
        """Nothing to give back."""


class ClassifierEngine:
    """A cheap row as an engine: reads the bare text and answers its label."""

    def __init__(self, classify: Callable[[str], str]) -> None:
        self.name = "classifier"
        self.slots = 1
        self.context_tokens = 131_072
        self._classify = classify

    async def stream(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Piece]:
        yield Piece(await asyncio.to_thread(self._classify, prompt.text), 1, "stop")

    def close(self) -> None:
        """Nothing to give back."""


class LlamaCppEngine:
    """llama.cpp on a GGUF file, in this process, with continuous batching over `slots` answers.

    It is asked through the loopback port that it opens anyway, behind a random key and without CORS: over that
    connection a reader who leaves also stops a prompt that is still being read. Only its `/completion` is used,
    with token ids; its chat templates never see a request.
    """

    def __init__(self, gguf: Path, threads: int, context_tokens: int = 2048, slots: int = 4) -> None:
        self.name = "llama.cpp"
        self.slots = slots
        self.context_tokens = context_tokens
        self._key = secrets.token_urlsafe(32)
        parameters = _parameters(gguf, self._key)
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
        parameters.n_parallel = slots
        parameters.n_ctx = slots * context_tokens
        self._server: Any = _start(parameters, gguf)
        self._url: str = self._server.listening_address

    async def stream(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Piece]:
        import httpx

        if self._server is None:
            raise LlmopsError("The engine is closed.", "Start it again.")
        client = httpx.AsyncClient(trust_env=False, verify=False, timeout=httpx.Timeout(None, connect=10))
        request = client.build_request(
            "POST",
            f"{self._url}/completion",
            headers={"Authorization": f"Bearer {self._key}"},
            json=_completion(prompt, sampling),
        )
        async with client:
            answer = await client.send(request, stream=True)
            try:
                if answer.status_code != httpx.codes.OK:
                    raise _refused((await answer.aread()).decode("utf-8", "replace"))
                async with aclosing(_pieces(answer.aiter_bytes(), prompt.end_ids)) as pieces:
                    async for piece in pieces:
                        yield piece
            finally:
                await answer.aclose()

    def complete(self, prompt: Prompt, sampling: Sampling, more: dict[str, Any] | None = None) -> dict[str, Any]:
        """llmops' own question: the whole answer as llama.cpp says it, in one piece; `more` goes into the request.
        Blocks; raises as `stream` does."""
        import httpx

        if self._server is None:
            raise LlmopsError("The engine is closed.", "Start it again.")
        with httpx.Client(trust_env=False, verify=False, timeout=httpx.Timeout(600, connect=10)) as client:
            answer = client.post(
                f"{self._url}/completion",
                headers={"Authorization": f"Bearer {self._key}"},
                json={**_completion(prompt, sampling), "stream": False, **(more or {})},
            )
        if answer.status_code != httpx.codes.OK:
            raise _refused(answer.text)
        whole: dict[str, Any] = answer.json()
        return whole

    def close(self) -> None:
        self._server = None


def _parameters(gguf: Path, key: str) -> Any:
    """llama.cpp's settings that are the same for every model."""
    from xllamacpp import CommonParams

    parameters = CommonParams()
    parameters.model.path = str(gguf)
    parameters.verbosity = -1
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.api_keys = [key]
    parameters.cors_origins = ""
    parameters.cors_credentials = False
    parameters.ui = False
    parameters.endpoint_slots = False
    # Memory that grows with the requests: 8 GiB of old prompts by default.
    parameters.cache_ram_mib = 0
    parameters.n_ctx_checkpoints = 0
    # Otherwise it would shrink the context without a word when memory is short.
    parameters.fit_params = False
    parameters.warmup = False
    # A reader who leaves is noticed between two batches of the prompt.
    parameters.n_batch = parameters.n_ubatch = 256
    return parameters


def _start(parameters: Any, gguf: Path) -> Any:
    from xllamacpp import Server

    if not gguf.is_file():
        raise LlmopsError(f"There is no model file {gguf}.", "Export the version again.")
    try:
        with _signals_kept():
            server = Server(parameters)
        # Warms up, and shows that its loop runs: told to stop before that, it would not hear it and hang.
        server.handle_completions({"prompt": [0], "n_predict": 1})
        return server
    except RuntimeError as error:
        raise LlmopsError(f"llama.cpp cannot load {gguf.name}: {error}", "Export the version again.") from error


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Put back the handlers of Ctrl-C and SIGTERM: llama.cpp's server takes both without asking."""
    get, put = ctypes.pythonapi.PyOS_getsig, ctypes.pythonapi.PyOS_setsig
    get.restype = put.restype = ctypes.c_void_p
    get.argtypes, put.argtypes = [ctypes.c_int], [ctypes.c_int, ctypes.c_void_p]
    before = {number: get(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            put(number, handler)


def _completion(prompt: Prompt, sampling: Sampling) -> dict[str, Any]:
    """The body of a request to llama.cpp. Only temperature and top-p take part, in transformers' order."""
    return {
        "prompt": list(prompt.ids),
        "stream": True,
        "return_tokens": True,
        "n_predict": sampling.max_tokens,
        "samplers": ["temperature", "top_p"],
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "stop": list(sampling.stop),
        "cache_prompt": True,
    }


async def _pieces(chunks: AsyncIterator[bytes], end_ids: frozenset[int]) -> AsyncGenerator[Piece]:
    """Server-sent events to pieces. llama.cpp holds bytes back until they are a whole character."""
    count = 0
    async for data in _events(chunks):
        if "error" in data:
            raise _refused(json.dumps(data))
        count = data.get("tokens_predicted", count)
        if end_ids.intersection(data.get("tokens", ())):
            yield Piece("", count, "stop")
            return
        finish: Literal["stop", "length"] | None = None
        if data.get("stop"):
            finish = "length" if data.get("stop_type") == "limit" else "stop"
        yield Piece(data.get("content", ""), count, finish)
        if finish:
            return
    raise LlmopsError("llama.cpp broke off in the middle of an answer.", "Ask again; if it happens again, restart.")


async def _events(chunks: AsyncIterator[bytes]) -> AsyncGenerator[dict[str, Any]]:
    """The JSON of each `data:` or `error:` line. Split at line feeds only: U+2028 is part of an answer."""
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            word, _, body = line.partition(b": ")
            if word == b"data":
                yield json.loads(body.decode("utf-8", "replace"))
            elif word == b"error":
                yield {"error": body.decode("utf-8", "replace")}


def _refused(why: str) -> LlmopsError:
    return LlmopsError(f"llama.cpp refused the prompt: {why[:300]}", "Shorten the prompt, or restart the endpoint.")
