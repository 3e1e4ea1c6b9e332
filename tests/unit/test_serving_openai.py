"""The OpenAI surface: choices, log-probabilities, constraints, tools, running text, labels, metrics, the log."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from llmops.core.context import Surroundings
from llmops.core.dataset import Message
from llmops.core.serving import Exchange, Feedback
from llmops.serving.classify import CheapLabels, LabelReader
from llmops.serving.engine import ClassifierEngine, Prompt, ScriptedEngine
from llmops.serving.prepare import Tokeniser
from llmops.serving.requests import ChatRequest
from llmops.serving.serve import Served, ServeSettings, running
from llmops.serving.tools import tool_use
from llmops.store.ledger import Ledger
from tests.unit.serving_samples import TOKEN, LetterRenderer, endpoint

AUTH = {"Authorization": f"Bearer {TOKEN}"}
HELLO = [{"role": "user", "content": "hello"}]
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'


class Tools:
    """A renderer of tools in the manner of Hermes."""

    template = "... <tool_call> ..."

    def prompt_ids(self, turns: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]]) -> list[int]:
        shown = json.dumps([turns, tools])
        return [ord(letter) + 3 for letter in shown]


def script(prompt: Prompt) -> Iterable[str]:
    """Says what the question asks it to say; letters of the question otherwise."""
    word, _, rest = prompt.text.partition(":")
    return [rest] if word == "say" else list(prompt.text)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Ledger]]:
    folder = tmp_path_factory.mktemp("openai")
    ledger = Ledger(f"sqlite:///{folder / 'l.db'}")
    speaks = ScriptedEngine(
        script, context_tokens=4000, chances=lambda ids, options: [0.7, 0.3, 0.0][: len(options)], constrains=True
    )
    reader = LabelReader(speaks, LetterRenderer(), ("good", "gone", "bad"), lambda text: (_user(text),))
    cheap = ClassifierEngine(("bad", "good"), lambda text: (0.1, 0.9) if "good" in text else (0.6, 0.4))
    served = [
        Served("tone:2", ("tone",), speaks, LetterRenderer(), labels=reader, tools=Tools()),
        Served("cheap:1", (), cheap, None, labels=CheapLabels(cheap)),
        Served("bare:1", (), ScriptedEngine(script), LetterRenderer()),
    ]
    settings = ServeSettings(token=TOKEN, keep_text=True, log=folder / "log.jsonl")
    with running(served, ledger, settings, Surroundings()) as url:
        yield url, ledger


def _user(text: str) -> Message:
    return Message(role="user", content=text)


@pytest.fixture()
def ask(site: tuple[str, Ledger]) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{site[0]}/v1", api_key=TOKEN, max_retries=0)


def say(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"say:{text}"}]


def recorded(ledger: Ledger, id: str) -> Exchange:
    """The exchange with this id. It is written behind the answer's back, so it may come a little later."""
    until = time.monotonic() + 10
    while not (found := ledger.read(Exchange, key=id)) and time.monotonic() < until:
        time.sleep(0.01)
    return found[0]


def test_four_choices_have_indices_and_exchanges_of_their_own(ask: openai.OpenAI, site: tuple[str, Ledger]) -> None:
    answer = ask.chat.completions.create(model="tone", messages=HELLO, n=4, temperature=1, seed=5)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert answer.usage is not None and (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (7, 20)
    found = [recorded(site[1], f"{answer.id}{number}") for number in ("", ".1", ".2", ".3")]
    assert [one.sampling.seed for one in found] == [5, 6, 7, 8]


def test_a_stream_of_choices_is_ended_by_one_usage_chunk_without_choices(ask: openai.OpenAI) -> None:
    options = {"include_usage": True}
    parts = list(ask.chat.completions.create(model="tone", messages=HELLO, n=2, stream=True, stream_options=options))
    texts = {0: "", 1: ""}
    for part in parts[:-1]:
        (choice,) = part.choices
        texts[choice.index] += choice.delta.content or ""
    assert texts == {0: "hello", 1: "hello"}
    assert parts[-1].choices == [] and parts[-1].usage is not None and parts[-1].usage.completion_tokens == 10
    assert len({(part.id, part.created, part.model) for part in parts}) == 1


def test_the_frames_of_a_stream_are_what_openai_sends(site: tuple[str, Ledger]) -> None:
    body = {"model": "tone", "messages": HELLO, "stream": True}
    answer = httpx.post(f"{site[0]}/v1/chat/completions", json=body, headers=AUTH)
    assert answer.headers["content-type"].startswith("text/event-stream")
    frames = answer.text.split("\n\n")
    assert frames[-1] == "" and frames[-2] == "data: [DONE]"
    read = [json.loads(frame.removeprefix("data: ")) for frame in frames[:-2]]
    assert read[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [one["choices"][0]["finish_reason"] for one in read] == [None] * (len(read) - 1) + ["stop"]
    assert read[-1]["choices"][0]["delta"] == {}


def test_without_a_seed_a_drawn_answer_gets_a_fresh_one_and_a_greedy_one_none(
    ask: openai.OpenAI, site: tuple[str, Ledger]
) -> None:
    drawn = [ask.chat.completions.create(model="tone", messages=HELLO, temperature=1).id for _ in range(2)]
    greedy = ask.chat.completions.create(model="tone", messages=HELLO).id
    seeds = [recorded(site[1], id).sampling.seed for id in (*drawn, greedy)]
    assert seeds[0] != seeds[1] and seeds[2] == 0


def test_log_probabilities_are_told_both_ways(ask: openai.OpenAI) -> None:
    knobs: dict[str, Any] = {"model": "tone", "messages": HELLO, "logprobs": True, "top_logprobs": 1}
    whole = ask.chat.completions.create(**knobs).choices[0].logprobs
    assert whole is not None and whole.content is not None
    assert [one.token for one in whole.content] == list("hello")
    assert whole.content[0].bytes == [104] and whole.content[0].top_logprobs[0].token == "h"
    told = [one for part in ask.chat.completions.create(**knobs, stream=True) for one in _told(part)]
    assert told == list("hello")
    text = ask.completions.create(model="tone", prompt="abc", logprobs=0).choices[0].logprobs
    assert text is not None and (text.tokens, text.text_offset) == (["a", "b", "c"], [0, 1, 2])


def _told(part: Any) -> list[str]:
    logprobs = part.choices[0].logprobs
    return [one.token for one in logprobs.content] if logprobs else []


def test_running_text_is_gone_on_with_for_several_prompts_streamed_and_not(ask: openai.OpenAI) -> None:
    answer = ask.completions.create(model="tone", prompt=["ab", "cd"], n=2)
    assert [choice.text for choice in answer.choices] == ["ab", "ab", "cd", "cd"]
    assert answer.object == "text_completion" and answer.usage is not None and answer.usage.prompt_tokens == 6
    parts = ask.completions.create(model="tone", prompt="abc", stream=True)
    assert "".join(part.choices[0].text for part in parts) == "abc"


SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}},
    "required": ["a"],
    "additionalProperties": False,
}


def schema(of: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": of}}


def test_a_complete_answer_that_breaks_its_constraint_is_never_a_200(ask: openai.OpenAI) -> None:
    good = ask.chat.completions.create(model="tone", messages=say('{"a": 1}'), response_format=schema(SCHEMA))
    assert json.loads(good.choices[0].message.content or "") == {"a": 1}
    kinds = [schema(SCHEMA), {"type": "json_object"}, {"type": "regex", "pattern": "^[0-9]+$"}]
    for kind, wrong in zip(kinds, ('{"a": "1"}', "[1]", "12x"), strict=True):
        with pytest.raises(openai.InternalServerError, match="does not keep"):
            ask.chat.completions.create(model="tone", messages=say(wrong), response_format=kind)  # type: ignore[call-overload]
        with pytest.raises(openai.APIError):
            list(ask.chat.completions.create(model="tone", messages=say(wrong), response_format=kind, stream=True))  # type: ignore[call-overload]
    regex = {"type": "regex", "pattern": "^[0-9]+$"}
    assert ask.chat.completions.create(model="tone", messages=say("12"), response_format=regex)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    "refused",
    [
        schema({"type": "array", "uniqueItems": True}),
        schema({"not": {"type": "string"}}),
        schema({"type": "string", "format": "date"}),
        schema({"type": "objekt"}),
        schema({"type": "object", "properties": {"a": {"if": {}}}}),
        schema({"$ref": "https://evil.example/schema"}),
        schema({"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}}),
        schema({"type": "string", "pattern": "(?=x)y"}),
        schema({"anyOf": [{"type": "integer"}, {"bogus": 1}]}),
        schema({"type": "string", "x-guidance": {}}),
        {"type": "regex", "pattern": "(a|b"},
        {"type": "regex", "pattern": r"\bword\b"},
        {"type": "regex", "pattern": r"(a)\1"},
    ],
    ids=range(13),
)
def test_what_the_engine_would_leave_out_is_refused(ask: openai.OpenAI, refused: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError, match="response_format"):
        ask.chat.completions.create(model="tone", messages=HELLO, response_format=refused)  # type: ignore[call-overload]


def test_an_engine_that_cannot_says_so(ask: openai.OpenAI) -> None:
    for knobs in ({"response_format": {"type": "json_object"}}, {"logprobs": True}):
        with pytest.raises(openai.BadRequestError, match="classifier, which gives no"):
            ask.chat.completions.create(model="cheap:1", messages=HELLO, **knobs)  # type: ignore[call-overload]


def test_calls_of_tools_are_read_out_of_the_answer(ask: openai.OpenAI) -> None:
    both = f"Let me see.{CALL}{CALL}"
    whole = ask.chat.completions.create(model="tone", messages=say(both), tools=[WEATHER]).choices[0]  # type: ignore[list-item]
    assert whole.finish_reason == "tool_calls" and whole.message.content == "Let me see."
    assert whole.message.tool_calls is not None and len(whole.message.tool_calls) == 2
    assert json.loads(whole.message.tool_calls[0].function.arguments) == {"city": "Oslo"}  # type: ignore[union-attr]
    one = ask.chat.completions.create(
        model="tone",
        messages=say(both),
        tools=[WEATHER],
        parallel_tool_calls=False,  # type: ignore[list-item]
    )
    assert len(one.choices[0].message.tool_calls or ()) == 1
    parts = list(ask.chat.completions.create(model="tone", messages=say(CALL), tools=[WEATHER], stream=True))  # type: ignore[list-item]
    assert parts[-1].choices[0].finish_reason == "tool_calls"
    called = parts[-1].choices[0].delta.tool_calls
    assert called is not None and called[0].function is not None and called[0].function.name == "weather"


def test_a_call_of_an_unknown_function_and_broken_json_stay_text(ask: openai.OpenAI) -> None:
    for text in (CALL.replace("weather", "rm"), CALL.replace('"Oslo"', "Oslo"), "It rains."):
        answer = ask.chat.completions.create(model="tone", messages=say(text), tools=[WEATHER]).choices[0]  # type: ignore[list-item]
        assert (answer.message.content, answer.finish_reason, answer.message.tool_calls) == (text, "stop", None)


def test_a_tools_answer_may_be_sent_back_and_a_forced_call_is_checked(ask: openai.OpenAI) -> None:
    first = ask.chat.completions.create(model="tone", messages=say(CALL), tools=[WEATHER], tool_choice="required")  # type: ignore[list-item]
    called = first.choices[0].message
    assert called.tool_calls
    back = {"role": "tool", "tool_call_id": called.tool_calls[0].id, "content": "say:Rain."}
    talk = [*say(CALL), called.model_dump(), back]
    answer = ask.chat.completions.create(model="tone", messages=talk, tools=[WEATHER])  # type: ignore[arg-type,list-item]
    assert answer.choices[0].message.content == "Rain."
    named = {"type": "function", "function": {"name": "weather"}}
    with pytest.raises(openai.InternalServerError, match="no call"):
        ask.chat.completions.create(model="tone", messages=say("no"), tools=[WEATHER], tool_choice=named)  # type: ignore[list-item]


def test_what_stood_before_every_conversation_in_training_stands_before_one_with_tools() -> None:
    opening = (Message(role="system", content="Answer in one word."),)
    one = Served("tone:1", (), ScriptedEngine(script, context_tokens=4000), LetterRenderer(), opening, tools=Tools())

    def rendered(*messages: dict[str, str]) -> str:
        asked = ChatRequest.model_validate({"model": "tone:1", "messages": messages, "tools": [WEATHER]})
        tokeniser = Tokeniser()
        try:
            prompt = asyncio.run(tokeniser.chat(one, asked, tool_use(asked, one.tools), None))
        finally:
            tokeniser.close()
        return "".join(chr(id - 3) for id in prompt.ids)

    assert rendered({"role": "user", "content": "hi"}).count("Answer in one word.") == 1
    assert "Answer in" not in rendered({"role": "system", "content": "Own."}, {"role": "user", "content": "hi"})


def test_a_pattern_that_cannot_be_read_is_refused_in_words_and_not_on_the_console(
    ask: openai.OpenAI, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(openai.BadRequestError, match="cannot be read: missing"):
        ask.chat.completions.create(
            model="tone",
            messages=HELLO,
            response_format={"type": "regex", "pattern": "(my secret"},  # type: ignore[arg-type]
        )
    assert "secret" not in capfd.readouterr().err


def test_a_base_without_a_form_for_tools_says_so(ask: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="no form for tools"):
        ask.chat.completions.create(model="bare:1", messages=HELLO, tools=[WEATHER])  # type: ignore[list-item]


def test_embeddings_are_refused_clearly(ask: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="no embeddings"):
        ask.embeddings.create(model="tone", input="x")


def test_every_field_that_clients_send_by_default_is_taken_and_no_other(site: tuple[str, Ledger]) -> None:
    url = f"{site[0]}/v1/chat/completions"
    numbers = {"frequency_penalty": 0.0, "presence_penalty": 0, "logit_bias": {}, "n": 1, "stop": None}
    words = {"user": "u", "metadata": {"a": "b"}, "service_tier": "auto", "modalities": ["text"]}
    neutral = {**numbers, **words, "store": False, "parallel_tool_calls": True}
    text = {"role": "user", "name": "x", "content": [{"type": "text", "text": "hi"}]}
    parts = [{"role": "developer", "content": "d"}, text]
    body = {"model": "tone", "messages": parts, **neutral}
    assert httpx.post(url, json=body, headers=AUTH).status_code == 200
    for odd in ({"frequency_penalty": 0.5}, {"logit_bias": {"1": 2}}, {"guided_regex": "x"}, {"functions": []}):
        answer = httpx.post(url, json={**body, **odd}, headers=AUTH)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, next(iter(odd)))


def classify(url: str, **asked: Any) -> httpx.Response:
    return httpx.post(f"{url}/v1/classify", json=asked, headers=AUTH)


def test_a_label_comes_with_its_probability_and_one_pass_for_each_place_where_labels_part(
    site: tuple[str, Ledger],
) -> None:
    # b or g first: 0.7 for b; then, after "go": n or o, 0.7 for n; "good" and "gone" are not parted further.
    answer = classify(site[0], model="tone", input="x").json()
    (found,) = answer["data"]
    assert found["label"] == "bad" and found["probabilities"] == pytest.approx({"good": 0.09, "gone": 0.21, "bad": 0.7})
    exchange = recorded(site[1], answer["id"])
    assert (exchange.answer, exchange.version, exchange.prompt_tokens) == ("bad", "tone:2", 3)


def test_a_cheap_winner_labels_many_and_abstains_below_what_is_asked(site: tuple[str, Ledger]) -> None:
    data = classify(site[0], model="cheap:1", input=["so good", "meh"], abstain_below=0.7).json()["data"]
    assert [(one["label"], one["abstained"]) for one in data] == [("good", False), (None, True)]
    (sure,) = classify(site[0], model="cheap:1", input="meh").json()["data"]
    assert sure["label"] == "bad"


def test_many_short_texts_are_as_long_as_one_long_text(
    site: tuple[str, Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    """32 of 2,000 characters, each short enough for the event loop, would hold it for all of them in turn."""
    sizes: list[int] = []
    ids = Tokeniser.ids

    async def noted(self: Tokeniser, one: Served, size: int, *what: Any, **more: Any) -> list[int]:
        sizes.append(size)
        return await ids(self, one, size, *what, **more)

    monkeypatch.setattr(Tokeniser, "ids", noted)
    assert classify(site[0], model="cheap:1", input=["x" * 10] * 3).status_code == 200
    assert sizes == [30, 30, 30]


def test_a_model_that_does_not_label_and_too_many_texts_are_refused(site: tuple[str, Ledger]) -> None:
    assert classify(site[0], model="bare:1", input="x").json()["error"]["code"] == "not_a_classifier"
    assert classify(site[0], model="tone", input=["x"] * 33).status_code == 400
    assert classify(site[0], model="tone", input="x" * 5000).json()["error"]["code"] == "context_length_exceeded"


def test_a_label_is_feedback_if_the_version_has_it(site: tuple[str, Ledger]) -> None:
    url, ledger = site
    id = classify(url, model="tone", input="x").json()["id"]
    said = httpx.post(f"{url}/v1/feedback", json={"exchange": id, "label": "good"}, headers=AUTH)
    assert said.status_code == 200
    assert [one.edit for one in ledger.read(Feedback, key=id)] == ["good"]
    wrong = httpx.post(f"{url}/v1/feedback", json={"exchange": id, "label": "nice"}, headers=AUTH)
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "unknown_label")


def test_metrics_count_with_labels_of_few_values(site: tuple[str, Ledger], ask: openai.OpenAI) -> None:
    url = site[0]
    ask.chat.completions.create(model="tone", messages=HELLO)
    for number in range(5):
        httpx.get(f"{url}/v1/secret-{number}", headers=AUTH)
        httpx.post(f"{url}/v1/chat/completions", json={"model": f"m-{number}", "messages": HELLO}, headers=AUTH)
    assert httpx.get(f"{url}/metrics").status_code == 401
    page = httpx.get(f"{url}/metrics", headers=AUTH).text
    assert 'llmops_answers_total{finish="stop",version="tone:2"}' in page
    assert 'llmops_requests_total{route="other",status="404"}' in page
    assert "llmops_first_token_seconds_bucket" in page and "llmops_waiting 0.0" in page
    assert "secret" not in page and "m-1" not in page


def test_the_log_has_one_line_an_answer_and_no_text_and_no_token(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with endpoint(ScriptedEngine(script), tmp_path, log=path, keep_text=True) as (url, _):
        asked = {"model": "tone", "messages": say("a secret"), "user": "ann", "stop": ["hush"]}
        id = httpx.post(f"{url}/v1/chat/completions", json=asked, headers=AUTH).json()["id"]
    (line,) = [json.loads(one) for one in path.read_text().splitlines()]
    assert (line["id"], line["version"], line["finish"], line["answer_tokens"]) == (id, "tone:2", "stop", 1)
    assert line["first_token_s"] <= line["total_s"]
    assert not any(word in path.read_text() for word in ("secret", TOKEN, "ann", "hush"))
