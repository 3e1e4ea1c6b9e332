"""vLLM behind the gateway: its other half run on a stand-in (`fake_vllm`), and on vLLM itself where there is one."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import aclosing, closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from llmops.core.dataset import Message
from llmops.core.errors import LlmopsError, RequestError
from llmops.core.serving import Sampling
from llmops.lm.model import LocalModel
from llmops.serving import vllm, vllm_host
from llmops.serving.constraint import Constraint, json_fault, json_grammar
from llmops.serving.engine import Engine, Piece, Prompt
from llmops.serving.vllm import VLLM, VllmEngine, needed_python, vllm_python
from tests.unit.fake_vllm import stand_in
from tests.unit.tiny_model import tiny_llama

REAL = vllm_python()


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A python that has the stand-in for vLLM."""
    return stand_in(tmp_path_factory.mktemp("python"))


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
    with closing(VllmEngine(folder, python, 64, 1)) as engine:
        assert engine.answer_ids(ids, Sampling(max_tokens=1)) == [51]


def test_a_reader_who_leaves_is_no_longer_answered(folder: Path, python: Path, model: LocalModel) -> None:
    async def leave() -> None:
        async with aclosing(engine.stream(prompt(model, "the cat"), Sampling(max_tokens=900, temperature=2.0))) as said:
            async for _ in said:
                break

    with closing(VllmEngine(folder, python, 1024, 4)) as engine:
        asyncio.run(leave())
        for _ in range(100):
            if "left: 0" in Path(engine._log.name).read_text():
                break
            time.sleep(0.05)
        assert "left: 0" in Path(engine._log.name).read_text() and not engine._asked
        assert engine.answer_ids(prompt(model, "a dog").ids, Sampling(max_tokens=2))
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

    async def wait() -> list[list[Piece] | BaseException]:
        asked = (prompt(model, "the cat"), Prompt((13, 14), ""))
        return await asyncio.gather(
            *(pieces(engine, one, Sampling(max_tokens=200, temperature=2.0)) for one in asked), return_exceptions=True
        )

    with closing(VllmEngine(folder, python, 256, 4)) as engine:
        for said in asyncio.run(wait()):
            assert isinstance(said, LlmopsError) and "out of memory, they say" in str(said)
        with pytest.raises(LlmopsError, match="vLLM is gone"):
            engine.answer_ids([1, 2], Sampling(max_tokens=1))


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


def stub(folder: Path, script: str) -> Path:
    """A program in the place of vLLM's python."""
    path = folder / "stub"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


READY = """echo '{"ready": true}'"""


def test_a_vllm_that_dies_in_the_middle_of_a_line_leaves_nobody_waiting(tmp_path: Path) -> None:
    torn = stub(tmp_path, READY + """; read line; printf '{"0": {"te'""")
    with closing(VllmEngine(tmp_path, torn, 64, 1)) as engine, pytest.raises(LlmopsError, match="vLLM ended"):
        asyncio.run(asyncio.wait_for(pieces(engine, Prompt((1, 2), ""), Sampling()), 10))


def test_a_vllm_that_cannot_even_end_leaves_nobody_waiting(
    folder: Path, python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_VLLM_FAULT", "lingers")
    with closing(VllmEngine(folder, python, 64, 1)) as engine, pytest.raises(LlmopsError, match="the step failed"):
        asyncio.run(asyncio.wait_for(pieces(engine, Prompt((1, 2), ""), Sampling()), 20))


def test_who_is_interrupted_while_it_loads_leaves_no_process_behind(tmp_path: Path) -> None:
    slow = stub(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 60")

    def interrupt() -> None:
        while not (tmp_path / "pid").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        VllmEngine(tmp_path, slow, 64, 1)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_it_is_closed_though_it_hears_nothing_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm, "CLOSE_S", 0.3)
    engine = VllmEngine(tmp_path, stub(tmp_path, READY + "; exec sleep 60"), 64, 1)
    refused: list[LlmopsError] = []

    def ask() -> None:
        try:
            engine.answer_ids(range(200_000), Sampling())  # more than a pipe holds
        except LlmopsError as error:
            refused.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    time.sleep(0.3)
    closing = threading.Thread(target=engine.close, daemon=True)
    closing.start()
    closing.join(10)
    asking.join(10)
    assert not closing.is_alive() and len(refused) == 1
    engine.close()


def test_it_stops_loading_where_who_started_it_is_gone(folder: Path, python: Path) -> None:
    command = [str(python), "-I", str(vllm.HOST), str(folder), "64", "1"]
    host = subprocess.Popen(command, stdin=subprocess.PIPE, env={**os.environ, "FAKE_VLLM_FAULT": "slow"})
    assert host.stdin is not None
    host.stdin.close()
    try:
        assert host.wait(30) == 0
    finally:
        host.kill()


def test_an_answer_that_vllm_ends_in_error_is_no_answer(
    folder: Path, python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_VLLM_FAULT", "errs")
    with closing(VllmEngine(folder, python, 256, 4)) as engine:
        with pytest.raises(LlmopsError, match="error"):
            asyncio.run(pieces(engine, Prompt((13, 14), ""), Sampling(max_tokens=9)))
        assert engine.answer_ids([14, 13], Sampling(max_tokens=2))


def test_more_options_than_vllm_takes_are_asked_in_parts(engine: VllmEngine, model: LocalModel) -> None:
    asked, options = prompt(model, "the cat"), list(range(3, 303))
    with torch.no_grad():
        logits_V = model.weights(torch.tensor([asked.ids])).logits[0, -1].float()
    found = asyncio.run(engine.choose(asked.ids, options))
    assert found == pytest.approx(torch.softmax(logits_V[options], -1).tolist(), abs=0.05)
    assert sum(found) == pytest.approx(1)


def test_who_chooses_and_who_is_told_the_likeliest_are_answered_in_one_step(
    engine: VllmEngine, model: LocalModel
) -> None:
    asked = prompt(model, "the cat", likeliest=3)

    async def both() -> tuple[list[Piece], list[list[float]]]:
        told = asyncio.create_task(pieces(engine, asked, Sampling(max_tokens=20)))
        chosen = [await engine.choose(prompt(model, f"a dog {number}").ids, [30, 4]) for number in range(5)]
        return await told, chosen

    alone = asyncio.run(pieces(engine, asked, Sampling(max_tokens=20)))
    beside, _ = asyncio.run(both())
    for one, other in zip(alone, beside, strict=True):
        for first, second in zip(one.chances, other.chances, strict=True):
            assert first.logprob == pytest.approx(second.logprob, abs=0.1)
            nats = [[chance.logprob for chance in said.likeliest] for said in (first, second)]
            assert nats[1] == pytest.approx(nats[0], abs=0.1)


def test_the_end_of_an_answer_is_no_token_of_it(engine: VllmEngine, model: LocalModel) -> None:
    asked = prompt(model, "the cat", likeliest=2)
    first = engine.answer_ids(asked.ids, Sampling(max_tokens=1))
    said = asyncio.run(pieces(engine, replace(asked, end_ids=frozenset(first)), Sampling(max_tokens=4)))
    assert [(piece.text, piece.finish, piece.chances) for piece in said] == [("", "stop", ())]


def test_a_head_with_more_than_rows_is_left_alone() -> None:
    plain = {"weight": torch.zeros(4, 2), "bias": None}
    whole = SimpleNamespace(soft_cap=None, scale=1.0)
    for head, processor, sharp in (
        (SimpleNamespace(**plain), whole, True),
        (SimpleNamespace(**{**plain, "bias": torch.ones(4)}), whole, False),
        (SimpleNamespace(**plain), SimpleNamespace(soft_cap=30.0, scale=1.0), False),
        (None, None, False),
    ):
        rough = lambda states: states  # noqa: E731
        model = SimpleNamespace(compute_logits=rough, lm_head=head, logits_processor=processor)
        if processor is None:
            model = SimpleNamespace(compute_logits=rough)
        vllm_host.sharpen(model)
        assert (model.compute_logits is not rough) == sharp


@pytest.mark.skipif(REAL is None, reason=f"there is no vLLM here; {VLLM} may name the python that has it")
def test_vllm_itself_says_what_the_model_says(tmp_path: Path) -> None:
    assert REAL is not None
    folder = tiny_llama(tmp_path, spread=0.2, hidden=128)
    model = LocalModel.open(folder, None, "float32", "cpu", "base", 1)
    with closing(VllmEngine(folder, REAL, 256, 4)) as engine:
        test_it_says_what_the_model_says_alone_and_beside_others(engine, model)
        test_its_chances_are_those_of_the_model(engine, model)
        test_more_options_than_vllm_takes_are_asked_in_parts(engine, model)
        test_who_chooses_and_who_is_told_the_likeliest_are_answered_in_one_step(engine, model)
        test_the_end_of_an_answer_is_no_token_of_it(engine, model)
        schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
        held = Constraint(json_grammar(schema), {}, json_fault(schema))
        asked = replace(prompt(model, "the cat"), constraint=held)
        said = "".join(piece.text for piece in asyncio.run(pieces(engine, asked, Sampling(max_tokens=60))))
        assert said.startswith('{"age":')
        with pytest.raises(LlmopsError, match="maximum context length"):
            engine.answer_ids(range(3, 303), Sampling(max_tokens=3))
