"""Clients that nobody here wrote, unchanged, against the endpoint: openai, litellm, llm and langchain-openai.

`clients.py` runs it in an environment that has them (`make bench-setup`), as `_clients.py URL TOKEN MODEL`. Prints a
line of JSON for each thing that a client does: {"client", "does", "works", "why"}. A client that is not installed is
skipped with its reason. Exit code 1 where something does not work. It imports nothing of llmops.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ASKED = [{"role": "user", "content": "Say hello."}]


def with_openai(url: str, token: str, model: str) -> dict[str, Callable[[], Any]]:
    """The openai package: chat, stream, text, choices, log-probabilities, schema, models."""
    import openai

    client = openai.OpenAI(base_url=f"{url}/v1", api_key=token)
    create = client.chat.completions.create
    usage = {"include_usage": True}
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    shape = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}

    def streams() -> bool:
        parts = list(create(model=model, messages=ASKED, stream=True, max_tokens=8, stream_options=usage))
        return parts[-1].usage.completion_tokens > 0 and any(part.choices for part in parts)

    return {
        "chat": lambda: create(model=model, messages=ASKED, max_tokens=8).choices[0].message.content,
        "stream with usage": streams,
        "text": lambda: client.completions.create(model=model, prompt="Once", max_tokens=8).choices[0].text,
        "two choices": lambda: len(create(model=model, messages=ASKED, n=2, temperature=1, max_tokens=4).choices) == 2,
        "log-probabilities": lambda: (
            create(model=model, messages=ASKED, logprobs=True, top_logprobs=2, max_tokens=4).choices[0].logprobs.content
        ),
        "a JSON schema": lambda: json.loads(
            create(model=model, messages=ASKED, response_format=shape, max_tokens=64).choices[0].message.content
        ).keys(),
        "the list of models": lambda: model in [one.id for one in client.models.list()],
    }


def with_litellm(url: str, token: str, model: str) -> dict[str, Callable[[], Any]]:
    """litellm's OpenAI-compatible provider."""
    import litellm

    knobs = {"model": f"openai/{model}", "api_base": f"{url}/v1", "api_key": token, "messages": ASKED, "max_tokens": 8}

    def streams() -> bool:
        parts = list(litellm.completion(**knobs, stream=True, stream_options={"include_usage": True}))
        return bool("".join(part.choices[0].delta.content or "" for part in parts if part.choices))

    return {"chat": lambda: litellm.completion(**knobs).choices[0].message.content, "stream": streams}


def with_llm(url: str, token: str, model: str) -> dict[str, Callable[[], Any]]:
    """The llm command, with the OpenAI-compatible models that its own plugin reads from a file."""
    home = Path(tempfile.mkdtemp(prefix="llm-"))
    entry = {"model_id": "ours", "model_name": model, "api_base": f"{url}/v1", "api_key_name": "ours"}
    (home / "extra-openai-models.yaml").write_text(json.dumps([entry]))
    (home / "keys.json").write_text(json.dumps({"ours": token}))

    def says(*options: str) -> str:
        command = [str(Path(sys.executable).parent / "llm"), "-m", "ours", *options, "Say hello."]
        world = {**os.environ, "LLM_USER_PATH": str(home)}
        told = subprocess.run(command, env=world, capture_output=True, text=True, check=False)
        if told.returncode:
            raise RuntimeError(told.stderr[-300:])
        return told.stdout.strip()

    return {"chat": lambda: says("--no-stream"), "stream": says}


def with_langchain(url: str, token: str, model: str) -> dict[str, Callable[[], Any]]:
    """langchain-openai's chat model: asked, streamed, several at once, and with structured output."""
    from langchain_openai import ChatOpenAI

    chat = ChatOpenAI(model=model, base_url=f"{url}/v1", api_key=token, max_tokens=64)
    shape = {
        "title": "answer",
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    return {
        "chat": lambda: chat.invoke("Say hello.").content,
        "stream": lambda: "".join(str(part.content) for part in chat.stream("Say hello.")),
        "several at once": lambda: len(chat.batch(["a", "b", "c"])) == 3,
        "structured output": lambda: (
            "n" in chat.with_structured_output(shape, method="json_schema").invoke("A number.")
        ),
    }


CLIENTS = {
    "openai": ("openai", with_openai),
    "litellm": ("litellm", with_litellm),
    "llm": ("llm", with_llm),
    "langchain-openai": ("langchain_openai", with_langchain),
}


def main(url: str, token: str, model: str) -> int:
    """Let every client do everything; the number of things that do not work."""
    failed = 0
    for name, (module, tries) in CLIENTS.items():
        if importlib.util.find_spec(module) is None:
            print(json.dumps({"client": name, "does": "nothing", "works": None, "why": "it is not installed here"}))
            continue
        for does, attempt in tries(url, token, model).items():
            try:
                works, why = bool(attempt()), ""
            except Exception as error:  # whatever a client raises is what its user would see
                works, why = False, f"{type(error).__name__}: {error}"[:300]
            failed += not works
            print(json.dumps({"client": name, "does": does, "works": works, "why": why}), flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(min(1, main(*sys.argv[1:4])))
