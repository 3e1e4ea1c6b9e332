"""vLLM behind the gateway: its other half run on a stand-in (`fake_vllm`), and on vLLM itself where there is one."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from llmops import pipeline
from llmops.core.certificate import Check
from llmops.core.dataset import Message
from llmops.core.errors import LlmopsError, RequestError
from llmops.core.export import EngineName, Weights
from llmops.core.serving import Sampling
from llmops.core.version import ModelVersion
from llmops.lm.model import LocalModel
from llmops.pipeline import engines
from llmops.registry.export import certificate_file
from llmops.serving import llamahost, vllm
from llmops.serving.constraint import Constraint, json_fault, json_grammar
from llmops.serving.engine import Engine, Piece, Prompt
from llmops.serving.vllm import VLLM, VllmEngine, needed_python, vllm_python
from llmops.store.files import write_json
from llmops.store.workspace import Workspace
from tests.unit.tiny_life import tiny_version
from tests.unit.tiny_model import tiny_llama

FAKE = Path(__file__).with_name("fake_vllm.py")
REAL = vllm_python()


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A python that has the stand-in for vLLM."""
    path = tmp_path_factory.mktemp("python") / "python"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{FAKE}" "$@"\n')
    path.chmod(0o755)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("tiny"), spread=0.2)


@pytest.fixture(scope="module")
def model(folder: Path) -> LocalModel:
    return LocalModel.open(folder, None, "float32", "cpu", "base", 1)


@pytest.fixture(scope="module")
def engine(folder: Path, python: Path) -> Iterator[VllmEngine]:
    engine = VllmEngine(folder, python, 256, 4)
    yield engine
    engine.close()


def prompt(model: LocalModel, text: str, likeliest: int | None = None) -> Prompt:
    ids = model.renderer.prompt_ids([Message(role="user", content=text)])
    return Prompt(tuple(ids), text, model.renderer.end_ids, likeliest=likeliest)


async def pieces(engine: Engine, asked: Prompt, sampling: Sampling) -> list[Piece]:
    return [piece async for piece in engine.stream(asked, sampling)]


def test_it_says_what_the_model_says_alone_and_beside_others(engine: VllmEngine, model: LocalModel) -> None:
    texts = [f"the cat {number}" for number in range(6)]

    async def together() -> list[list[Piece]]:
        return await asyncio.gather(*(pieces(engine, prompt(model, text), Sampling(max_tokens=6)) for text in texts))

    found = asyncio.run(together())
    for text, said in zip(texts, found, strict=True):
        expected = engine.answer_ids(prompt(model, text).ids, Sampling(max_tokens=6))
        assert said == asyncio.run(pieces(engine, prompt(model, text), Sampling(max_tokens=6)))
        assert said[-1].finish in ("stop", "length") and all(one.finish is None for one in said[:-1])
        assert said[-1].answer_tokens == len(expected) or said[-1].finish == "stop"
    assert len({"".join(piece.text for piece in said) for said in found}) > 1
    dice = [Sampling(temperature=2.0, seed=seed) for seed in (1, 2, 1)]
    drawn = [asyncio.run(pieces(engine, prompt(model, "the dog"), sampling)) for sampling in dice]
    assert drawn[0] == drawn[2] != drawn[1]


def test_its_chances_are_those_of_the_model(engine: VllmEngine, model: LocalModel) -> None:
    asked = prompt(model, "the cat", likeliest=3)
    with torch.no_grad():
        logits_V = model.weights(torch.tensor([asked.ids])).logits[0, -1].float()
    expected_V = torch.log_softmax(logits_V, -1)
    first = asyncio.run(pieces(engine, asked, Sampling(max_tokens=1)))[0].chances[0]
    assert len(first.likeliest) == 3 and first.likeliest[0].logprob == first.logprob
    assert first.logprob == pytest.approx(float(expected_V.max()), abs=0.15)
    told = dict(engine.likeliest(asked.ids, 8))
    assert len(told) == 8 and all(abs(float(expected_V[token]) - nats) < 0.15 for token, nats in told.items())
    options = [30, 4, 77]
    chances = asyncio.run(engine.choose(asked.ids, options))
    assert chances == pytest.approx(torch.softmax(logits_V[options], -1).tolist(), abs=0.05)
    assert asyncio.run(pieces(engine, prompt(model, "the cat"), Sampling(max_tokens=1)))[0].chances == ()


def test_words_that_bfloat16_cannot_tell_apart_are_told_apart(tmp_path: Path, python: Path) -> None:
    """Two rows of the head that differ by less than a step of the logits: the better one is not the first."""
    folder = tiny_llama(tmp_path, spread=0.2)
    ids = [1, 20, 30, 40]
    from transformers import AutoModelForCausalLM

    whole = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    with torch.no_grad():
        state_H = whole.model(torch.tensor([ids])).last_hidden_state[0, -1].float()
        along_H = (state_H / state_H.norm() * 40 / state_H.norm()).bfloat16()
        step_H = along_H.clone()
        place = int(state_H.abs().argmax())
        step_H[place] *= 1 + torch.sign(along_H[place] * state_H[place]) * 2**-7
        whole.lm_head.weight[50], whole.lm_head.weight[51] = along_H, step_H
        rough_V = whole.lm_head(state_H.bfloat16())
    assert rough_V[50] == rough_V[51] == rough_V.max()
    whole.save_pretrained(folder)
    engine = VllmEngine(folder, python, 64, 1)
    try:
        assert engine.answer_ids(ids, Sampling(max_tokens=1)) == [51]
    finally:
        engine.close()


def test_a_reader_who_leaves_is_no_longer_answered(folder: Path, python: Path, model: LocalModel) -> None:
    engine = VllmEngine(folder, python, 1024, 4)

    async def leave() -> None:
        async with aclosing(engine.stream(prompt(model, "the cat"), Sampling(max_tokens=900, temperature=2.0))) as said:
            async for _ in said:
                break

    try:
        asyncio.run(leave())
        for _ in range(100):
            if "left: 0" in Path(engine._log.name).read_text():
                break
            time.sleep(0.05)
        assert "left: 0" in Path(engine._log.name).read_text() and not engine._asked
        assert engine.answer_ids(prompt(model, "a dog").ids, Sampling(max_tokens=2))
    finally:
        engine.close()
    assert engine._process.returncode == 0


def test_one_bad_question_is_no_other_ones_business(engine: VllmEngine, model: LocalModel) -> None:
    async def both() -> list[list[Piece] | BaseException]:
        long = Prompt(tuple(range(3, 303)), "")
        asked = (pieces(engine, one, Sampling(max_tokens=3)) for one in (long, prompt(model, "the cat")))
        return await asyncio.gather(*asked, return_exceptions=True)

    refused, answered = asyncio.run(both())
    assert isinstance(refused, LlmopsError) and "300 tokens are more than 256" in str(refused)
    assert isinstance(answered, list) and answered[-1].finish


def test_who_waits_for_a_vllm_that_dies_is_told_why(
    folder: Path, python: Path, model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_VLLM_FAULT", "dies")
    engine = VllmEngine(folder, python, 256, 4)

    async def wait() -> list[list[Piece] | BaseException]:
        asked = (prompt(model, "the cat"), Prompt((13, 14), ""))
        return await asyncio.gather(
            *(pieces(engine, one, Sampling(max_tokens=200, temperature=2.0)) for one in asked), return_exceptions=True
        )

    try:
        for said in asyncio.run(wait()):
            assert isinstance(said, LlmopsError) and "out of memory, they say" in str(said)
        with pytest.raises(LlmopsError, match="vLLM is gone"):
            engine.answer_ids([1, 2], Sampling(max_tokens=1))
    finally:
        engine.close()


def test_what_cannot_be_loaded_and_what_is_not_there_say_so(
    tmp_path: Path, python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LlmopsError, match=r"vLLM cannot load .*: .*config\.json"):
        VllmEngine(tmp_path, python, 64, 1)
    assert vllm_python({VLLM: str(python)}) == python
    with pytest.raises(LlmopsError, match="is no program"):
        vllm_python({VLLM: str(tmp_path)})
    monkeypatch.setattr(vllm, "find_spec", lambda _: None)
    monkeypatch.delenv(VLLM, raising=False)
    assert vllm_python() is None
    with pytest.raises(RequestError, match="no vLLM"):
        needed_python()


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, ModelVersion]:
    return tiny_version(tmp_path_factory.mktemp("life"))


def test_readers_and_machine_choose_the_engine_and_its_weights(
    lived: tuple[Workspace, ModelVersion], python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at, version = lived
    monkeypatch.setattr(vllm, "find_spec", lambda _: None)
    monkeypatch.delenv(VLLM, raising=False)
    few, many = engines.MANY - 1, engines.MANY

    def picked(names: Sequence[str], readers: int) -> EngineName:
        name, why = engines.pick(names, at, readers)
        assert name in why
        return name

    assert picked(["smollm2-135m-q4"], many) == "llama.cpp" and VLLM in engines.pick(["smollm2-135m-q4"], at, many)[1]
    monkeypatch.setenv(VLLM, str(python))
    assert picked(["smollm2-135m-q4"], many) == "vLLM"
    assert picked(["smollm2-135m-q4"], few) == "llama.cpp"
    assert picked(["smollm2-135m-q4", version.ref], many) == "llama.cpp"
    assert picked([version.ref], many) == "llama.cpp" and "certif" in engines.pick([version.ref], at, many)[1]
    made = pipeline.certify(version.ref, at, engine="vLLM")
    assert made.broken is None, made.because
    assert [stage.name for stage in made.stages] == ["merged", "served"] and made.engine == "vLLM"
    assert picked([version.ref], many) == "vLLM"
    served = engines.served(version.ref, at, engines.vllm_engine(at))
    assert isinstance(served.engine, VllmEngine) and served.labels is not None
    served.engine.close()

    monkeypatch.setenv("FAKE_VLLM_FAULT", "halved")
    broken = pipeline.certify(version.ref, at, again=True, engine="vLLM")
    assert broken.broken is not None and broken.broken.name == "served", broken.because
    assert picked([version.ref], many) == "llama.cpp" and "breaks where" in engines.pick([version.ref], at, many)[1]


def test_a_lone_reader_has_smaller_weights_where_they_are_certified(
    lived: tuple[Workspace, ModelVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    at, version = lived
    first = pipeline.certify(version.ref, at)
    monkeypatch.setattr(llamahost, "native_server", lambda: Path("/llama-server"))
    monkeypatch.setattr(llamahost, "_processor", lambda: [llamahost.PAIRS])
    assert [llamahost.fastest(readers) for readers in (1, 2, 3, 64)] == ["q8_0", "q8_0", "bf16", "bf16"]

    def kept(weights: Weights, passes: bool) -> None:
        broken = first.stages[0].replace(checks=(Check(name="x", value=1.0, limit=0.0),))
        stages = first.stages if passes else (broken, *first.stages[1:])
        write_json(certificate_file(at, version, weights), first.replace(weights=weights, stages=stages).to_json())

    write_json(certificate_file(at, version), first.replace(weights="bf16").to_json())
    assert engines.served_weights(version, at, 1) == "bf16"
    kept("q8_0", passes=False)
    assert engines.served_weights(version, at, 1) == "bf16"
    kept("q8_0", passes=True)
    assert engines.served_weights(version, at, 1) == "q8_0"
    assert engines.served_weights(version, at, 8) == "bf16"


@pytest.mark.skipif(REAL is None, reason=f"there is no vLLM here; {VLLM} may name the python that has it")
def test_vllm_itself_says_what_the_model_says(tmp_path: Path) -> None:
    assert REAL is not None
    folder = tiny_llama(tmp_path, spread=0.2, hidden=128)
    model = LocalModel.open(folder, None, "float32", "cpu", "base", 1)
    engine = VllmEngine(folder, REAL, 256, 4)
    try:
        test_it_says_what_the_model_says_alone_and_beside_others(engine, model)
        test_its_chances_are_those_of_the_model(engine, model)
        schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
        held = Constraint(json_grammar(schema), {}, json_fault(schema))
        asked = replace(prompt(model, "the cat"), constraint=held)
        said = "".join(piece.text for piece in asyncio.run(pieces(engine, asked, Sampling(max_tokens=60))))
        assert said.startswith('{"age":')
        with pytest.raises(LlmopsError, match="maximum context length"):
            engine.answer_ids(range(3, 303), Sampling(max_tokens=3))
    finally:
        engine.close()
