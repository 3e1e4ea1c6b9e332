"""`ask_endpoint`: put prompts to an OpenAI-compatible endpoint, some at a time, and return its answers in order."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from llmops.core.context import Track
from llmops.core.dataset import Message
from llmops.core.errors import LlmopsError
from llmops.core.serving import Sampling

AT_ONCE = 32


def ask_endpoint(
    url: str,
    model: str,
    prompts: Sequence[Sequence[Message]],
    sampling: Sampling,
    track: Track,
    token: str | None = None,
) -> list[str]:
    """The text of each answer. `url` is the address without `/v1`. Raises `LlmopsError` where a request fails."""
    import httpx

    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with httpx.Client(base_url=url, headers=headers, timeout=120, trust_env=False) as client:

        def ask(prompt: Sequence[Message]) -> str:
            asked = {
                "model": model,
                "messages": [message.to_json() for message in prompt],
                "max_tokens": sampling.max_tokens,
                "temperature": sampling.temperature,
            }
            answer = client.post("/v1/chat/completions", json=asked)
            if answer.status_code != httpx.codes.OK:
                raise LlmopsError(f"the endpoint answered {answer.status_code}: {answer.text[:200]}", "see its log")
            return str(answer.json()["choices"][0]["message"]["content"])

        with ThreadPoolExecutor(AT_ONCE) as askers:
            return list(track(askers.map(ask, prompts), "asking the endpoint", len(prompts)))
