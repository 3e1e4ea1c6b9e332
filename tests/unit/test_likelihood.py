"""The likelihood engine: what transformers says of each row alone, however rows share packs and beginnings."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from llmops.core.context import silent
from llmops.core.dataset import Message
from llmops.core.errors import RequestError
from llmops.lm import likelihood
from llmops.lm.fast import equip, kernels
from llmops.lm.fast.decoder import Decoder
from llmops.lm.likelihood import End, end_logprobs
from llmops.lm.model import LocalModel
from tests.unit.test_fast import bare

WORDS = 128
KINDS = ("plain", "compiled", "transformers")


@pytest.fixture(autouse=True)
def small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows fill several packs here, as they do in earnest."""
    monkeypatch.setattr(likelihood, "pack_tokens", lambda device: 90)


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "compiled" and not kernels.working_compiler():
        pytest.skip("no C compiler here")
    return str(request.param)


def questions(shared: int, seed: int = 0) -> list[End]:
    """Six contexts that begin alike, each with three targets of different lengths; one context is the beginning."""
    rng = random.Random(seed)

    def some(count: int) -> list[int]:
        return [rng.randrange(WORDS) for _ in range(count)]

    beginning = some(shared)
    contexts = [beginning + some(rng.randrange(1, 20)) for _ in range(5)]
    contexts.append(beginning or some(3))
    return [End(context, some(rng.randrange(1, 6))) for context in contexts for _ in range(3)]


def one_by_one(model: Any, ends: list[End]) -> list[float]:
    """What transformers says of each row alone, all logits computed in float32."""
    found = []
    for end in ends:
        with torch.no_grad():
            logits = model(torch.tensor([[*end.context, *end.target]])).logits[0].float()
        nats = logits.log_softmax(-1)
        places = range(len(end.context) - 1, len(end.context) + len(end.target) - 1)
        found.append(sum(float(nats[place, token]) for place, token in zip(places, end.target, strict=True)))
    return found


def scored(model: Any, ends: list[End]) -> list[float]:
    return end_logprobs(model, ends, "cpu", silent, "scoring")


def apart(one: list[float], other: list[float]) -> float:
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("family", ["llama", "gemma3"])
@pytest.mark.parametrize("kind", KINDS, indirect=True)
@pytest.mark.parametrize("shared", [0, 40])
def test_a_target_has_the_log_probability_that_transformers_gives_it_alone(family: str, kind: str, shared: int) -> None:
    ends = questions(shared)
    expected = one_by_one(bare(family), ends)
    assert apart(scored(equip(bare(family), kind), ends), expected) < 1e-4


@pytest.mark.parametrize("kind", ["plain", "compiled"], indirect=True)
def test_a_final_soft_cap_is_not_forgotten(kind: str) -> None:
    capped, free = bare("gemma3"), bare("gemma3")
    capped.config.final_logit_softcapping = 0.5
    ends = questions(0)
    found = scored(equip(capped, kind), ends)
    assert apart(found, one_by_one(capped, ends)) < 1e-4
    assert apart(found, one_by_one(free, ends)) > 1e-2


@pytest.mark.parametrize("kind", ["plain", "compiled"], indirect=True)
def test_bfloat16_stays_within_its_rounding(kind: str) -> None:
    ends = questions(40)
    expected = one_by_one(bare("llama"), ends)
    assert apart(scored(equip(bare("llama", torch.bfloat16), kind), ends), expected) < 0.2


def test_a_beginning_of_all_rows_is_gone_through_once(monkeypatch: pytest.MonkeyPatch) -> None:
    gone: list[int] = []
    model = equip(bare("llama"), "plain")
    for verb in ("remember", "after"):
        real = getattr(Decoder, verb)

        def counted(self: Decoder, *given: Any, verb: str = verb, real: Any = real) -> Any:
            ids = given[0] if verb == "remember" else given[1][len(given[0].ids) :]
            gone.append(len(ids))
            return real(self, *given)

        monkeypatch.setattr(Decoder, verb, counted)
    ends = questions(40)
    scored(model, ends)
    trie = {
        tuple([*end.context, *end.target][:size]) for end in ends for size in range(1, len(end.context + end.target))
    }
    assert len(gone) > 2, "several packs"
    assert gone[0] == 40
    # What only some rows share is gone through again where two packs have them; the beginning never is.
    assert len(trie) <= sum(gone) < len(trie) + 40


def test_another_beginning_than_the_remembered_one_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    model, ends = equip(bare("llama"), "plain"), questions(40)
    real = Decoder.remember

    def other(self: Decoder, ids: list[int], sparing: bool) -> Any:
        return real(self, [*ids[:-1], (ids[-1] + 1) % WORDS], sparing)

    monkeypatch.setattr(Decoder, "remember", other)
    assert apart(scored(model, ends), one_by_one(bare("llama"), ends)) > 1e-3


def test_the_head_sees_each_state_once_and_only_those_that_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    states: list[int] = []
    real = likelihood.shared_logprobs

    def counted(weights: Any, hidden_UD: torch.Tensor, *given: Any) -> torch.Tensor:
        states.append(len(hidden_UD))
        return real(weights, hidden_UD, *given)

    monkeypatch.setattr(likelihood, "shared_logprobs", counted)
    context = list(range(20))
    ends = [End(context, [token]) for token in range(30, 40)]
    scored(equip(bare("llama"), "plain"), ends)
    assert states == [1], "ten one-token targets of one context stand behind one state"


def test_nothing_to_score_is_no_error() -> None:
    model = equip(bare("llama"), "plain")
    assert scored(model, []) == []
    assert scored(model, [End([1, 2, 3], [])]) == [0.0]


@pytest.fixture
def tiny(tiny_base: Path) -> LocalModel:
    return LocalModel.open(tiny_base, None, "float32", "cpu", "base", 1)


def test_a_text_and_its_option_are_tokenised_as_one_text(tiny: LocalModel) -> None:
    context, target = tiny.renderer.end_ids_of("the cat sat on", " the mat")
    assert tiny.renderer.decode([*context, *target]) == "the cat sat on the mat"
    spaced_context, spaced_target = tiny.renderer.end_ids_of("the cat sat on ", "the mat")
    assert (spaced_context, spaced_target) == (context, target), "a space at the end counts to the option"
    alone, _ = tiny.renderer.end_ids_of("", "the mat")
    assert alone == [tiny.renderer.tokenizer.bos_token_id]


def test_options_behind_messages_are_whole_replies(tiny: LocalModel) -> None:
    prompt = (Message(role="user", content="the cat?"),)
    ((yes, no),) = tiny.option_logprobs([(prompt, ("yes", "no"))])
    assert [yes, no] == tiny.reply_logprobs([(prompt, "yes"), (prompt, "no")])


def test_options_are_scored_question_by_question(tiny: LocalModel) -> None:
    asked = [
        ("the cat sat on", (" the mat", " the dog")),
        ("and the dog", (" sat",)),
        ("12", (" 345", " times", " on")),
    ]
    together = tiny.option_logprobs(asked)
    assert [len(some) for some in together] == [2, 1, 3]
    apart_ = [tiny.option_logprobs([one])[0] for one in asked]
    for some, alone in zip(together, apart_, strict=True):
        assert [nats for nats, _ in some] == pytest.approx([nats for nats, _ in alone], abs=1e-4)


def test_a_question_longer_than_the_model_reads_is_refused(tiny: LocalModel) -> None:
    with pytest.raises(RequestError, match="reads 1024"):
        tiny.option_logprobs([("the cat sat on the mat " * 400, (" yes", " no"))])
