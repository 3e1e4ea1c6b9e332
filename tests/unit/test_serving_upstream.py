"""The other engines: an OpenAI-compatible upstream, and transformers one token after the other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from pathlib import Path

import pytest

from llmops.core.dataset import Message
from llmops.core.errors import LlmopsError
from llmops.core.serving import Sampling
from llmops.lm.gguf import write_gguf
from llmops.lm.model import LocalModel
from llmops.lm.steps import token_steps
from llmops.pipeline import engines
from llmops.serving.chat import stream_reply
from llmops.serving.engine import Engine, Piece, Prompt
from llmops.serving.llamacpp import LlamaCppEngine
from llmops.serving.stepping import SteppingEngine
from llmops.serving.upstream import Upstream, UpstreamEngine
from llmops.store.catalogue import BASES
from llmops.store.workspace import Workspace
from tests.unit.tiny_model import tiny_llama


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LocalModel:
    folder = tiny_llama(tmp_path_factory.mktemp("tiny"), spread=0.2)
    write_gguf(folder, folder / "tiny.gguf")
    return LocalModel.open(folder, None, "float32", "cpu", "base", 1)


@pytest.fixture(scope="module")
def raw(model: LocalModel) -> Iterator[LlamaCppEngine]:
    """A server of somebody else's: llama.cpp's own, which takes token ids as vLLM does."""
    engine = LlamaCppEngine(Path(model.weights.config._name_or_path) / "tiny.gguf", 1, 512, 2)
    yield engine
    engine.close()


def pieces(engine: Engine, ids: Sequence[int], sampling: Sampling) -> list[Piece]:
    async def through() -> list[Piece]:
        return [piece async for piece in engine.stream(Prompt(tuple(ids), ""), sampling)]

    return asyncio.run(through())


def text(found: list[Piece]) -> str:
    return "".join(piece.text for piece in found)


def test_an_upstream_answers_what_it_answers_when_asked_directly(raw: LlamaCppEngine, model: LocalModel) -> None:
    upstream = UpstreamEngine(Upstream(raw._open().url, "any", raw._open().secret), slots=2, context_tokens=512)
    ids = model.renderer.prompt_ids([Message(role="user", content="the cat")])
    sampling = Sampling(max_tokens=4)
    theirs, ours = pieces(raw, ids, sampling), pieces(upstream, ids, sampling)
    assert (text(ours), ours[-1].finish) == (text(theirs), theirs[-1].finish)
    assert ours[-1].answer_tokens == theirs[-1].answer_tokens and text(ours)


def test_an_upstream_that_refuses_or_is_not_there_says_so(raw: LlamaCppEngine) -> None:
    here, nowhere = raw._open().url, "http://127.0.0.1:9"
    for token, url, why in (("wrong", here, "answered 401"), (None, nowhere, "cannot be reached")):
        with pytest.raises(LlmopsError, match=why):
            pieces(UpstreamEngine(Upstream(url, "any", token)), [1, 20], Sampling())
    assert "secret" not in repr(Upstream("http://x", "m", "secret"))


def test_a_base_by_itself_is_served_by_the_engine_that_was_asked_for(
    raw: LlamaCppEngine, model: LocalModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = f"path:{model.weights.config._name_or_path}"
    monkeypatch.setitem(BASES, ref, None)
    at = Workspace.find(tmp_path, environ={})
    upstream = engines.upstream_engine(Upstream(raw._open().url, "any", raw._open().secret))
    assert isinstance(engines.served(ref, at, upstream).engine, UpstreamEngine)
    found = engines.served(ref, at, engines.transformers_engine(at))
    assert found.engine.name == "transformers" and found.renderer is not None
    prompt = found.renderer.prompt_ids([Message(role="user", content="the cat")])
    assert text(pieces(found.engine, prompt, Sampling(max_tokens=4))) == text(
        pieces(raw, prompt, Sampling(max_tokens=4))
    )


def test_transformers_step_by_step_say_what_they_say_at_once(model: LocalModel) -> None:
    engine = SteppingEngine("transformers", lambda ids, how: token_steps(model, ids, how), model.renderer.decode)
    for words in ("the cat", "12 345", "a dog sat on"):
        prompt = [Message(role="user", content=words)]
        at_once = model.reply([prompt], Sampling(max_tokens=24))[0]
        assert "".join(stream_reply(engine, model.renderer, prompt, Sampling(max_tokens=24))) == at_once
    ids = model.renderer.prompt_ids(prompt)
    hot = Sampling(max_tokens=16, temperature=1.0, top_p=0.9, seed=4)
    assert text(pieces(engine, ids, hot)) == text(pieces(engine, ids, hot)) != at_once
    engine.close()


def letters(text: str) -> SteppingEngine:
    """An engine that says one byte after the other."""
    return SteppingEngine("bytes", lambda ids, how: iter_bytes(text), lambda ids: bytes(ids).decode("utf-8", "replace"))


def iter_bytes(text: str) -> Iterator[int]:
    yield from text.encode()


@pytest.mark.parametrize("said", ["plain", "🐈 and 👩\u200d👧", "e\u0301न\u093f", "ends in half \ufffd"])
def test_no_character_is_cut_and_no_stop_word_is_shown(said: str) -> None:
    found = pieces(letters(said), [1], Sampling(max_tokens=200))
    assert text(found) == said and found[-1].finish == "stop"
    assert all("\ufffd" not in piece.text for piece in found[:-1])
    cut = pieces(letters(f"{said}<stop>more"), [1], Sampling(max_tokens=200, stop=("<stop>", "<st0p>")))
    assert text(cut) == said and not any("<" in piece.text for piece in cut)
    assert pieces(letters(said), [1], Sampling(max_tokens=2))[-1].finish == "length"


def test_a_reader_who_leaves_stops_the_steps() -> None:
    ended = threading.Event()

    def forever() -> Iterator[int]:
        try:
            while True:
                yield 65
        finally:
            ended.set()

    async def leave() -> None:
        engine = SteppingEngine("A", lambda ids, how: forever(), lambda ids: "A" * len(ids))
        async with aclosing(engine.stream(Prompt((1,), ""), Sampling(max_tokens=4096))) as stream:
            await anext(stream)
        engine.close()

    asyncio.run(leave())
    assert ended.is_set()
