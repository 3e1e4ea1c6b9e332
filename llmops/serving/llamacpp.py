"""`LlamaCppEngine`: llama.cpp on this machine, with continuous batching and adapters that a request picks."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from llmops.core.errors import LlmopsError
from llmops.core.serving import Sampling
from llmops.serving.engine import Ended, Piece, Prompt, TokenChance
from llmops.serving.llamahost import Host, Load, start

Json = dict[str, Any]
Scales = list[dict[str, float]]
# Asked for none, llama.cpp does not tell the token's own either.
LEAST_TOLD = 1
# Nobody's log-odds reach 40 nats; a float32 holds odds of 87.
OPTION_NATS = 100.0
FILLER_NATS = 150.0
FILLERS = (".", "a", "1")
BREATH_S, NEAR_AN_END = 0.03, 6


class LlamaCppEngine:
    """llama.cpp on a GGUF file, on this machine, with continuous batching over `slots` answers.

    It is asked through its own door (`llamahost`), behind a random key: over that
    connection a reader who leaves also stops a prompt that is still being read. Only its `/completion` is used,
    with token ids; its chat templates never see a request.

    With `adapters` (GGUF files), all are loaded at scale 0, and `adapter(n)` is the engine with that one at work. Every
    request says every scale: llama.cpp takes an empty list for whatever was at work before.
    """

    constrains = True
    tells_chances = True
    chooses = True

    def __init__(
        self,
        gguf: Path,
        threads: int,
        context_tokens: int = 2048,
        slots: int = 4,
        adapters: Sequence[Path] = (),
    ) -> None:
        self.slots = slots
        self.context_tokens = context_tokens
        self.adapters = len(adapters)
        self._host: Host | None = start(Load(gguf, threads, context_tokens, slots, tuple(adapters)))
        self.name = "llama.cpp"
        self._fillers = [self._first_token(text) for text in FILLERS]

    @property
    def pool(self) -> object:
        return self

    def adapter(self, number: int) -> AdapterEngine:
        """This engine with one of its adapters at work."""
        return AdapterEngine(self, number)

    def stream(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Piece]:
        return self.pieces(prompt, sampling, self.scales(None))

    async def choose(self, ids: Sequence[int], options: Sequence[int]) -> list[float]:
        return await self.chances(ids, options, self.scales(None))

    def scales(self, number: int | None) -> Scales:
        """The scale of every adapter: 1 for the one at work."""
        return [{"id": one, "scale": float(one == number)} for one in range(self.adapters)]

    async def pieces(self, prompt: Prompt, sampling: Sampling, scales: Scales) -> AsyncGenerator[Piece]:
        """The answer in pieces, with adapters at these scales."""
        async with self._ask({**_completion(prompt, sampling), "lora": scales}) as answer:
            async for piece in _pieces(paced(answer.content.iter_any(), sampling.max_tokens), prompt):
                yield piece

    async def chances(self, ids: Sequence[int], options: Sequence[int], scales: Scales) -> list[float]:
        """The probability of each option among the options: one pass, in which all others are biased away.

        The same bias on each leaves their differences as they were. What is drawn is a filler, biased higher: where
        llama.cpp draws an end token, or a part of a character, it tells no probabilities at all.
        """
        filler = next(token for token in self._fillers if token not in options)
        bias = {**dict.fromkeys(options, OPTION_NATS), filler: FILLER_NATS}
        body = {
            "prompt": list(ids),
            "n_predict": 1,
            "samplers": ["temperature"],
            "temperature": 1.0,
            "logit_bias": [[token, nats] for token, nats in bias.items()],
            "n_probs": len(bias),
            "post_sampling_probs": True,
            "cache_prompt": True,
            "lora": scales,
        }
        async with self._ask(body) as answer:
            told = json.loads((await answer.read()).decode("utf-8", "replace"))
        found = {one["id"]: float(one["prob"]) for one in told["completion_probabilities"][0]["top_probs"]}
        weights = [found.get(option, 0.0) for option in options]
        return [weight / sum(weights) for weight in weights]

    def likeliest(self, ids: Sequence[int], number: int) -> list[tuple[int, float]]:
        # What is drawn does not matter here, and a drawn half of a character would hold the whole answer back: a plain
        # letter is forced. The log-probabilities are those before any such thing.
        more = {"n_probs": number, "logit_bias": [[self._fillers[0], 1000.0]]}
        answer = self._complete(Prompt(tuple(ids), ""), Sampling(max_tokens=1), more)
        return [(one["id"], one["logprob"]) for one in answer["completion_probabilities"][0]["top_logprobs"]]

    def answer_ids(self, ids: Sequence[int], sampling: Sampling) -> list[int]:
        return list(self._complete(Prompt(tuple(ids), ""), sampling)["tokens"])

    def _complete(self, prompt: Prompt, sampling: Sampling, more: Json | None = None) -> Json:
        """llmops' own question: the whole answer as llama.cpp says it, in one piece; `more` goes into the request.

        Blocks; raises as `stream` does.
        """
        body = {**_completion(prompt, sampling), "lora": self.scales(None), "stream": False, **(more or {})}
        with self._open().client() as client:
            answer = client.post("/completion", json=body)
        if answer.is_error:
            raise _refused(answer.text)
        whole: Json = answer.json()
        return whole

    @asynccontextmanager
    async def _ask(self, body: Json) -> AsyncIterator[Any]:
        """The engine's answer to one request, its status looked at. Leaving early breaks the connection off."""
        import aiohttp

        host = self._open()
        limits = aiohttp.ClientTimeout(total=None, connect=10)
        door = aiohttp.UnixConnector(host.socket) if host.socket else None
        async with aiohttp.ClientSession(
            host.url, connector=door, headers=host.key, timeout=limits, trust_env=False
        ) as client:
            try:
                answer = await client.post("/completion", json=body)
                if answer.status != 200:
                    raise _refused((await answer.read()).decode("utf-8", "replace"))
                try:
                    yield answer
                finally:
                    answer.close()
            except aiohttp.ClientError as error:
                raise LlmopsError(
                    f"llama.cpp broke off: {error}.", "Ask again; if it happens again, restart."
                ) from error

    def _first_token(self, text: str) -> int:
        with self._open().client() as client:
            answer = client.post("/tokenize", json={"content": text, "add_special": False})
        return int(answer.json()["tokens"][0])

    def _open(self) -> Host:
        if self._host is None:
            raise LlmopsError("The engine is closed.", "Start it again.")
        return self._host

    def close(self) -> None:
        if self._host is not None:
            self._host.close()
        self._host = None


class AdapterEngine:
    """A `LlamaCppEngine` with one adapter at work. Several of these share one engine, its slots and its weights."""

    constrains = True
    tells_chances = True
    chooses = True

    def __init__(self, engine: LlamaCppEngine, number: int) -> None:
        self.name = engine.name
        self.slots = engine.slots
        self.context_tokens = engine.context_tokens
        self._engine = engine
        self._scales = engine.scales(number)

    @property
    def pool(self) -> object:
        return self._engine

    def stream(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Piece]:
        return self._engine.pieces(prompt, sampling, self._scales)

    async def choose(self, ids: Sequence[int], options: Sequence[int]) -> list[float]:
        return await self._engine.chances(ids, options, self._scales)

    def close(self) -> None:
        self._engine.close()


def _completion(prompt: Prompt, sampling: Sampling) -> Json:
    """The body of a request to llama.cpp. Only temperature and top-p take part, in transformers' order.

    The likeliest token is asked for as the first of one: temperature 0 writes to every place of the vocabulary before
    it looks for it, which with 49,152 of them takes 8 % of all that llama.cpp says at 8 readers.
    """
    finer: Json = {}
    if prompt.constraint is not None:
        finer["grammar"] = prompt.constraint.grammar
    if prompt.likeliest is not None:
        finer["n_probs"] = max(prompt.likeliest, LEAST_TOLD)
    return {
        **finer,
        "prompt": list(prompt.ids),
        "stream": True,
        "return_tokens": True,
        "n_predict": sampling.max_tokens,
        "samplers": ["temperature", "top_p"] if sampling.temperature else ["top_k"],
        "top_k": 1,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "stop": list(sampling.stop),
        "cache_prompt": True,
    }


async def paced(chunks: AsyncIterator[bytes], most_events: int) -> AsyncGenerator[bytes]:
    """The same bytes, looked for no more often than every `BREATH_S` where they come faster than that.

    Woken for each token of a lone reader, the gateway would take 7 % of the cores from the engine. Nothing waits
    near the beginning, so no short answer, nor near the end: `most_events` is how many there are at most.
    """
    seen, before = 0, -BREATH_S
    async for chunk in chunks:
        came, number = time.monotonic(), chunk.count(b"data: ")
        yield chunk
        seen += number
        fast = number > 1 or came - before < BREATH_S
        before = came
        if fast and NEAR_AN_END < seen < most_events - NEAR_AN_END:
            await asyncio.sleep(BREATH_S)


async def _pieces(chunks: AsyncIterator[bytes], prompt: Prompt) -> AsyncGenerator[Piece]:
    """Server-sent events to pieces. llama.cpp holds bytes back until they are a whole character."""
    count = 0
    async for data in _events(chunks):
        if "error" in data:
            raise _refused(json.dumps(data))
        count = data.get("tokens_predicted", count)
        if prompt.end_ids.intersection(data.get("tokens", ())):
            yield Piece("", count, "stop")
            return
        finish: Ended | None = None
        if data.get("stop"):
            finish = "length" if data.get("stop_type") == "limit" else "stop"
        chances = () if prompt.likeliest is None else _chances(data, prompt.likeliest)
        yield Piece(data.get("content", ""), count, finish, chances)
        if finish:
            return
    raise LlmopsError("llama.cpp broke off in the middle of an answer.", "Ask again; if it happens again, restart.")


def _chances(data: Json, likeliest: int) -> tuple[TokenChance, ...]:
    """What llama.cpp tells of the tokens of an event, with so many of the likeliest at each place."""

    def chance(one: Json, others: Sequence[Json]) -> TokenChance:
        return TokenChance(
            one["token"], one["logprob"], bytes(one["bytes"]), tuple(chance(other, ()) for other in others)
        )

    return tuple(chance(one, one["top_logprobs"][:likeliest]) for one in data.get("completion_probabilities", ()))


async def _events(chunks: AsyncIterator[bytes]) -> AsyncGenerator[Json]:
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
