"""`LabelReader` and `/v1/classify`: the label of a text in one forward pass, or one wherever labels part."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from starlette.responses import Response

from llmops.core.dataset import Message
from llmops.core.errors import LlmopsError
from llmops.core.serving import Exchange, Sampling
from llmops.core.value import digest
from llmops.serving.admission import Ticket
from llmops.serving.answer import Desk, fresh_id
from llmops.serving.engine import ClassifierEngine, Engine
from llmops.serving.replies import usage
from llmops.serving.roster import Labels, PromptRenderer, Served
from llmops.serving.wire import ApiError, AsciiJSON

Json = dict[str, Any]


class LabelReader:
    """Reads labels off a model that was tuned to say them: the chances of their first tokens after the prompt.

    Where labels begin with the same token the next one decides, and so on: one pass at each place where they part. With
    first tokens that differ this is what `LocalModel.probe` computes.
    """

    def __init__(
        self,
        engine: Engine,
        renderer: PromptRenderer,
        labels: Sequence[str],
        ask: Callable[[str], Sequence[Message]],
    ) -> None:
        self.labels = tuple(labels)
        self._engine = engine
        self._renderer = renderer
        self._ask = ask
        # The end token stands behind every label, so that one may be the beginning of another.
        end = min(renderer.end_ids)
        self._paths = [(*renderer.content_ids(label), end) for label in labels]

    def ids(self, text: str) -> list[int]:
        """The prompt that asks for the label of a text."""
        return self._renderer.prompt_ids(self._ask(text))

    async def chances(self, text: str, ids: Sequence[int]) -> list[float]:
        """The probability of each label among the labels."""
        found = [1.0] * len(self.labels)
        await self._part(list(ids), list(range(len(self.labels))), 0, found)
        return found

    async def _part(self, ids: list[int], still: list[int], depth: int, found: list[float]) -> None:
        """Multiply in the chances of those labels that are alike up to `depth`."""
        while len({self._paths[one][depth] for one in still}) == 1:
            if len(still) == 1:
                return
            ids, depth = [*ids, self._paths[still[0]][depth]], depth + 1
        options = sorted({self._paths[one][depth] for one in still})
        chance = dict(zip(options, await self._engine.choose(ids, options), strict=True))
        for one in still:
            found[one] *= chance[self._paths[one][depth]]
        for option in options:
            alike = [one for one in still if self._paths[one][depth] == option]
            if len(alike) > 1:
                await self._part([*ids, option], alike, depth + 1, found)


class CheapLabels:
    """The labels of a cheap row. It reads bare text, so no token is counted."""

    def __init__(self, engine: ClassifierEngine) -> None:
        self.labels = engine.labels
        self._engine = engine

    def ids(self, text: str) -> list[int]:
        return []

    async def chances(self, text: str, ids: Sequence[int]) -> list[float]:
        return await self._engine.label_chances(text)


class Classification:
    """The labels of several texts, asked for by one request. Each is an exchange of its own."""

    def __init__(self, one: Served, labels: Labels, tickets: Sequence[Ticket], desk: Desk) -> None:
        self._id = fresh_id("cls")
        self._one = one
        self._labels = labels
        self._tickets = list(tickets)
        self._desk = desk

    async def respond(
        self, texts: Sequence[str], prompts: Sequence[list[int]], abstain_below: float | None
    ) -> Response:
        """A label, its probability and all others for each text; no label below the bound, or the version's own.

        Raises `ApiError` 500 where the engine fails, 504 where the deadline is over.
        """
        asked = zip(range(len(texts)), texts, prompts, strict=True)
        try:
            async with asyncio.timeout(self._desk.deadline_s):
                data = await asyncio.gather(
                    *(self._label(number, text, ids, abstain_below) for number, text, ids in asked)
                )
        except TimeoutError as error:
            raise ApiError(504, "deadline_exceeded", "The labels took too long. Ask for fewer at once.") from error
        except (LlmopsError, OSError, RuntimeError, ValueError) as error:
            self._desk.world.say(f"{self._one.version} failed on {self._id}: {error}")
            raise ApiError(500, "engine_failed", "The engine failed on this request. Ask again.") from error
        counted = usage(sum(map(len, prompts)), len(texts))
        head = {"id": self._id, "object": "classification", "model": self._one.version}
        return AsciiJSON({**head, "data": data, "usage": counted})

    async def _label(self, number: int, text: str, ids: list[int], bound: float | None) -> Json:
        at, began = self._desk.world.clock(), time.perf_counter()
        ticket, labels = self._tickets[number], self._labels
        await ticket.slot()
        try:
            found = await labels.chances(text, ids)
        finally:
            ticket.leave()
        chances = tempered(found, self._one.temperature)
        best = max(range(len(chances)), key=chances.__getitem__)
        id = f"{self._id}.{number}" if number else self._id
        took_s = time.perf_counter() - began
        self._desk.record(
            Exchange(
                id=id,
                version=self._one.version,
                at=at,
                prompt_sha256=digest(ids or text),
                sampling=Sampling(max_tokens=1),
                prompt_tokens=len(ids),
                answer_tokens=1,
                first_token_s=took_s,
                total_s=took_s,
                finish="stop",
                messages=(Message(role="user", content=text),),
                answer=labels.labels[best],
            )
        )
        # The version's own bound was found on probabilities as they come; a request speaks of those it is shown.
        abstains = max(found) < (self._one.abstain_below or 0.0) if bound is None else chances[best] < bound
        return {
            "index": number,
            "id": id,
            "label": None if abstains else labels.labels[best],
            "probability": round(chances[best], 6),
            "abstained": abstains,
            "probabilities": {name: round(chance, 6) for name, chance in zip(labels.labels, chances, strict=True)},
        }


def tempered(chances: Sequence[float], temperature: float) -> list[float]:
    """Chances whose logarithms are divided by `temperature` and which add up to 1 again (Guo et al. 2017)."""
    if temperature == 1:
        return list(chances)
    powers = [chance ** (1 / temperature) for chance in chances]
    return [power / sum(powers) for power in powers]


def labels_of(one: Served) -> Labels:
    """How a version labels. Raises `ApiError` 400 where it was not trained to."""
    if one.labels is None:
        why = f"{one.version} does not label texts. Ask it at /v1/chat/completions."
        raise ApiError(400, "not_a_classifier", why, "model")
    return one.labels
