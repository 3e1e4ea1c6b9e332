"""`load`: concurrency against latency, measured at an endpoint; the law that fits; how many replicas people need."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

from llmops.core.capacity import LoadPoint, Need, ScalabilityLaw
from llmops.core.dataset import Message
from llmops.core.errors import LlmopsError

Json = dict[str, Any]
Prompts = Sequence[Sequence[Message]]
# Answers at each level: four for each reader, so that the last ones do not decide, between these.
FEWEST, MOST = 8, 128


def ask_all(url: str, token: str, model: str, prompts: Prompts, readers: int) -> LoadPoint:
    """So many readers at an endpoint, each asking as soon as it was answered. Raises `LlmopsError` where none is."""
    return asyncio.run(_measure(url, token, {"model": model, "prompts": prompts}, readers))


async def _measure(url: str, token: str, what: Json, readers: int) -> LoadPoint:
    import aiohttp

    count = max(FEWEST, min(MOST, 4 * readers))
    numbers: Iterator[int] = iter(range(count))
    told: list[tuple[float, float, int]] = []
    failed = 0
    limits, lines = aiohttp.ClientTimeout(total=600), aiohttp.TCPConnector(limit=0)
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(timeout=limits, connector=lines, headers=headers, trust_env=False) as client:

        async def reader() -> None:
            nonlocal failed
            for number in numbers:
                prompt = what["prompts"][number % len(what["prompts"])]
                answer = await _ask(client, url, what["model"], prompt)
                failed += answer is None
                told.extend([answer] if answer else [])

        began = time.perf_counter()
        await asyncio.gather(*(reader() for _ in range(readers)))
        took_s = time.perf_counter() - began
    if not told:
        raise LlmopsError(f"none of {count} questions was answered by {readers} readers", "see what the endpoint said")
    first, total = sorted(one[0] for one in told), sorted(one[1] for one in told)
    return LoadPoint(
        readers=readers,
        answers=len(told),
        failed=failed,
        answers_s=len(told) / took_s,
        tokens_s=sum(one[2] for one in told) / took_s,
        first_token_p50_s=quantile(first, 0.5),
        first_token_p99_s=quantile(first, 0.99),
        total_p50_s=quantile(total, 0.5),
    )


async def _ask(client: Any, url: str, model: str, prompt: Sequence[Message]) -> tuple[float, float, int] | None:
    """(seconds to the first token, to the end, tokens) of one streamed answer; None where it failed."""
    messages = [message.to_json() for message in prompt]
    body = {"model": model, "messages": messages, "stream": True, "stream_options": {"include_usage": True}}
    began, first_s, tokens = time.perf_counter(), None, 0
    async with client.post(f"{url}/v1/chat/completions", json=body) as answer:
        if answer.status != 200:
            return None
        async for line in answer.content:
            if not line.startswith(b"data: {"):
                continue
            said = json.loads(line[6:])
            if "error" in said:
                return None
            tokens = (said.get("usage") or {}).get("completion_tokens", tokens)
            if first_s is None and any(choice["delta"].get("content") for choice in said["choices"]):
                first_s = time.perf_counter() - began
    total_s = time.perf_counter() - began
    return first_s if first_s is not None else total_s, total_s, tokens


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest of the sorted numbers that at least `share` of them do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def fit_law(points: Sequence[LoadPoint]) -> ScalabilityLaw | None:
    """The universal scalability law through the points, by least squares of relative errors; None for two."""
    if len(points) < 3:
        return None
    import numpy as np
    from scipy.optimize import least_squares

    readers = np.array([point.readers for point in points], dtype=float)
    seen = np.array([point.answers_s for point in points])

    def off(law: Any) -> Any:
        first, contention, crosstalk = law
        return first * readers / (1 + contention * (readers - 1) + crosstalk * readers * (readers - 1)) / seen - 1

    found = least_squares(off, x0=(seen[0] / readers[0], 0.1, 0.0), bounds=((1e-9, 0, 0), (np.inf, 1, 1)))
    first, contention, crosstalk = (float(one) for one in found.x)
    error = float(np.abs(off(found.x)).mean())
    return ScalabilityLaw(first=first, contention=contention, crosstalk=crosstalk, error=error)


def replicas(points: Sequence[LoadPoint], need: Need) -> tuple[float, int | None]:
    """(answers a second of one replica within the need, replicas that its people take; None where none will do)."""
    kept = [one.answers_s for one in points if one.first_token_p99_s <= need.first_token_s and not one.failed]
    if not kept:
        return 0.0, None
    return max(kept), math.ceil(need.users / need.think_s / max(kept))
