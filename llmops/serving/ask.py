"""`Readers`: so many at once at an OpenAI-compatible endpoint, each asking as soon as it was answered."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from llmops.core.context import Track
from llmops.core.dataset import Message
from llmops.core.errors import LlmopsError
from llmops.core.serving import Sampling

Json = dict[str, Any]


@dataclass(frozen=True)
class Readers:
    """`url` is the address without `/v1`. What they hear is in the order of what they asked. Where a request fails,
    `LlmopsError` is raised."""

    url: str
    model: str
    token: str | None = None
    at_once: int = 32

    def replies(self, prompts: Sequence[Sequence[Message]], sampling: Sampling, track: Track) -> list[str]:
        """The text of each answer."""
        how = {"max_tokens": sampling.max_tokens, "temperature": sampling.temperature}
        asked = [{"messages": [message.to_json() for message in prompt], **how} for prompt in prompts]
        answers = self._ask("/v1/chat/completions", asked, track)
        return [str(answer["choices"][0]["message"]["content"]) for answer in answers]

    def labels(self, texts: Sequence[str], track: Track) -> list[str]:
        """The label of each text."""
        answers = self._ask("/v1/classify", [{"input": text} for text in texts], track)
        return [str(answer["data"][0]["label"]) for answer in answers]

    def _ask(self, door: str, bodies: Sequence[Json], track: Track) -> list[Json]:
        import httpx

        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        with httpx.Client(base_url=self.url, headers=headers, timeout=120, trust_env=False) as client:

            def ask(body: Json) -> Json:
                answer = client.post(door, json={"model": self.model, **body})
                if answer.status_code != httpx.codes.OK:
                    raise LlmopsError(f"the endpoint answered {answer.status_code}: {answer.text[:200]}", "see its log")
                found: Json = answer.json()
                return found

            with ThreadPoolExecutor(self.at_once) as askers:
                return list(track(askers.map(ask, bodies), "asking the endpoint", len(bodies)))
