"""The endpoint, asked by the openai client and by hand, answered by a script."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import httpx
import openai
import pytest
from starlette.routing import Route

from llmops.core.context import Surroundings
from llmops.core.errors import LlmopsError, RequestError
from llmops.core.serving import Endpoint, Exchange, Feedback
from llmops.serving.engine import ClassifierEngine, Prompt, ScriptedEngine
from llmops.serving.gateway import OPEN_PATHS, Served, ServeSettings, build_app
from llmops.serving.intake import BODY_BYTES
from llmops.serving.prepare import PROMPT_CHARACTERS, SHORT
from llmops.serving.serve import running
from llmops.store.ledger import Ledger
from tests.unit.serving_samples import TOKEN, LetterRenderer, endpoint

AUTH = {"Authorization": f"Bearer {TOKEN}"}
MESSAGES = [{"role": "user", "content": "hello"}]
CHAT = "/v1/chat/completions"


def echo(prompt: Prompt) -> Iterable[str]:
    """Every letter of the last message, twice."""
    return (letter * 2 for letter in prompt.text)


def client(url: str, token: str = TOKEN) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=token, max_retries=0)


def until(holds: Callable[[], bool], within_s: float = 5.0) -> bool:
    """Whether `holds` comes true in time."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.01)
    return False


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Ledger, ScriptedEngine]]:
    engine = ScriptedEngine(echo, context_tokens=1000)
    with endpoint(engine, tmp_path_factory.mktemp("site")) as (url, ledger):
        yield url, ledger, engine


@pytest.fixture()
def url(site: tuple[str, Ledger, ScriptedEngine]) -> str:
    return site[0]


def test_twenty_parallel_requests_streamed_and_not_are_neither_lost_nor_mixed(url: str) -> None:
    def ask(number: int) -> str:
        words = f"question {number} 🐈"
        if number % 2:
            whole = client(url).chat.completions.create(model="tone", messages=[{"role": "user", "content": words}])
            return whole.choices[0].message.content or ""
        parts = client(url).chat.completions.create(
            model="tone:2", messages=[{"role": "user", "content": words}], stream=True
        )
        return "".join(part.choices[0].delta.content or "" for part in parts)

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(ask, range(20)))
    assert answers == ["".join(letter * 2 for letter in f"question {number} 🐈") for number in range(20)]


def test_usage_and_finish_reason_are_told_both_ways(url: str) -> None:
    whole = client(url).chat.completions.create(model="tone", messages=MESSAGES, max_tokens=3)
    assert whole.choices[0].message.content == "hheell"
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage is not None and (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (7, 3)
    parts = list(
        client(url).chat.completions.create(
            model="tone", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
    )
    assert parts[0].choices[0].delta.role == "assistant"
    assert [part.choices[0].finish_reason for part in parts[:-1]][-1] == "stop"
    assert parts[-1].usage is not None and parts[-1].usage.total_tokens == 12
    assert len({part.id for part in parts}) == 1


def test_every_name_is_listed(url: str) -> None:
    assert [model.id for model in client(url).models.list()] == ["tone:2", "tone", "tone@production"]


def test_a_model_that_is_not_served_is_named_with_those_that_are(url: str) -> None:
    with pytest.raises(openai.NotFoundError, match="tone@production"):
        client(url).chat.completions.create(model="gpt-4", messages=MESSAGES)


def test_without_the_token_there_is_no_answer(url: str) -> None:
    with pytest.raises(openai.AuthenticationError):
        client(url, "wrong").chat.completions.create(model="tone", messages=MESSAGES)
    assert httpx.post(url + CHAT, json={}).status_code == 401
    assert httpx.post(f"{url}{CHAT}?token={TOKEN}", json={}).status_code == 401


def test_only_the_open_routes_answer_without_a_token(tmp_path: Path, url: str) -> None:
    served = Served("tone:2", (), ScriptedEngine(echo), LetterRenderer())
    app = build_app([served], Ledger(f"sqlite:///{tmp_path / 'l.db'}"), ServeSettings(token=TOKEN), Surroundings())
    routes = [(route.path, method) for route in app.routes if isinstance(route, Route) for method in route.methods]
    assert (len(app.routes), len(routes)) == (9, 13)  # what can be got has a head
    opened = {path for path, method in routes if httpx.request(method, url + path).status_code != 401}
    assert opened == OPEN_PATHS == {"/healthz"}


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/healthz/", "//healthz", "/healthz/../v1/models", "/x"])
def test_a_path_beside_the_open_one_is_not_open(url: str, path: str) -> None:
    assert httpx.get(url + path).status_code == 401


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "evil@127.0.0.1", "", "127.0.0.1:x"])
def test_a_foreign_host_is_refused_even_with_the_token(url: str, host: str) -> None:
    for path in ("/healthz", "/v1/models"):
        assert httpx.get(url + path, headers={**AUTH, "Host": host}).status_code == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1.evil.example"])
def test_a_page_of_another_origin_is_refused_and_gets_no_cors(url: str, origin: str) -> None:
    answer = httpx.get(f"{url}/v1/models", headers={**AUTH, "Origin": origin})
    assert answer.status_code == 403
    assert not any(name.startswith("access-control") for name in answer.headers)
    assert httpx.get(f"{url}/v1/models", headers={**AUTH, "Origin": url}).status_code == 200


MALFORMED = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff\xfe",
    b'"\\ud800"',
    b"[" * 100_000,
    b"1" * 5000,
    b'{"model": "tone", "messages": NaN}',
    b'{"model": "tone", "model": "tone", "messages": []}',
    *(
        json.dumps({"model": "tone", "messages": MESSAGES, "x": 0}).replace('"x": 0', odd).encode()
        for odd in (
            '"temperature": NaN',
            '"temperature": 1e999',
            '"temperature": -Infinity',
            '"temperature": 2.1',
            '"temperature": "1"',
            '"max_tokens": 0',
            '"max_tokens": 1e3',
            '"max_tokens": 99999999999999999999',
            '"max_tokens": true',
            '"max_tokens": 1, "max_completion_tokens": 1',
            '"seed": -1',
            '"n": 5',
            '"stop": ["a", "b", "c", "d", "e"]',
            '"stop": ""',
            '"stream": "yes"',
            '"stream_options": {"include_usage": true}',
            '"chat_template": "x"',
            '"messages": []',
            '"user": "\\udc00"',
            '"logit_bias": {"1": 100}',
        )
    ),
    *(
        json.dumps({"model": "tone", "messages": [message]}).encode()
        for message in (
            {"role": "tool", "content": "x"},
            {"role": "user"},
            {"role": "user", "content": None},
            {"role": "user", "content": ["x"]},
            {"role": "user", "content": "x", "weight": 1},
            {"role": "user", "content": "\ud83d"},
            "hello",
        )
    ),
]


@pytest.mark.parametrize("body", MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_request_is_refused_with_400_in_openais_shape(url: str, body: bytes) -> None:
    answer = httpx.post(url + CHAT, content=body, headers={**AUTH, "Content-Type": "application/json"})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["type"] == "invalid_request_error"


def test_another_content_type_another_method_and_another_path_are_refused(url: str) -> None:
    assert httpx.post(url + CHAT, content="{}", headers={**AUTH, "Content-Type": "text/plain"}).status_code == 415
    assert httpx.get(url + CHAT, headers=AUTH).status_code == 405
    assert httpx.get(f"{url}/v1/nothing", headers=AUTH).status_code == 404


def test_a_body_above_one_mebibyte_is_refused_with_and_without_its_length(url: str) -> None:
    kind = {**AUTH, "Content-Type": "application/json"}

    def parts() -> Iterator[bytes]:
        for _ in range(17):
            yield b" " * (BODY_BYTES // 16)

    assert httpx.post(url + CHAT, content=b" " * (BODY_BYTES + 1), headers=kind).status_code == 413
    assert httpx.post(url + CHAT, content=parts(), headers=kind).status_code == 413


def test_a_prompt_of_too_many_characters_is_refused_before_it_is_tokenised(tmp_path: Path) -> None:
    class Untouched(LetterRenderer):
        def prompt_ids(self, messages: object) -> list[int]:
            raise AssertionError("tokenised")

    with endpoint(ScriptedEngine(echo), tmp_path, Untouched()) as (url, _):
        long = [{"role": "user", "content": "x" * (PROMPT_CHARACTERS + 1)}]
        answer = httpx.post(url + CHAT, json={"model": "tone", "messages": long}, headers=AUTH)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "string_above_max_length")


def test_a_prompt_beyond_the_context_is_refused_with_what_to_do(url: str) -> None:
    with pytest.raises(openai.BadRequestError, match=r"1,002 tokens; this model takes 999\. Drop"):
        client(url).chat.completions.create(model="tone", messages=[{"role": "user", "content": "x" * 1000}])


def test_roles_that_a_template_refuses_are_a_bad_request(tmp_path: Path) -> None:
    class Picky(LetterRenderer):
        def prompt_ids(self, messages: object) -> list[int]:
            raise LlmopsError("the template refuses system, user.", "Change the roles.")

    with endpoint(ScriptedEngine(echo), tmp_path, Picky()) as (url, _), pytest.raises(openai.BadRequestError):
        client(url).chat.completions.create(model="tone", messages=MESSAGES)


def test_the_65th_waiting_request_is_sent_away_and_the_others_are_answered(tmp_path: Path) -> None:
    goes_on = threading.Event()

    def wait(prompt: Prompt) -> Iterable[str]:
        return iter(lambda: "" if not goes_on.is_set() else "done", "done")

    engine = ScriptedEngine(wait, pause_s=0.01, slots=1)
    with endpoint(engine, tmp_path, queue=64) as (url, _), ThreadPoolExecutor(66) as pool:
        body = {"model": "tone", "messages": MESSAGES, "max_tokens": 4096}
        asked = [pool.submit(httpx.post, url + CHAT, json=body, headers=AUTH, timeout=60) for _ in range(66)]
        refused = next(as_completed(asked)).result()
        goes_on.set()
        statuses = [one.result().status_code for one in asked]
    assert sorted(statuses) == [200] * 65 + [429]
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"


def leave_while_streaming(url: str) -> None:
    body = {"model": "tone", "messages": MESSAGES, "stream": True, "max_tokens": 4096}
    with httpx.stream("POST", url + CHAT, json=body, headers=AUTH) as answer:
        next(answer.iter_bytes())


def leave_while_waiting(url: str) -> None:
    body = {"model": "tone", "messages": MESSAGES, "max_tokens": 4096}
    with pytest.raises(httpx.TimeoutException):
        httpx.post(url + CHAT, json=body, headers=AUTH, timeout=0.2)


@pytest.mark.parametrize("leave", [leave_while_streaming, leave_while_waiting])
def test_a_reader_who_leaves_frees_the_slot_and_is_on_record(tmp_path: Path, leave: Callable[[str], None]) -> None:
    engine = ScriptedEngine(lambda prompt: iter(lambda: "x", ""), pause_s=0.01, slots=1)
    with endpoint(engine, tmp_path) as (url, ledger):
        for count in (1, 2, 3):
            leave(url)
            assert until(lambda n=count: engine.left == n and engine.running == 0, 2)
        assert httpx.post(url + CHAT, json={"model": "tone", "messages": MESSAGES}, headers=AUTH).status_code == 200
    assert [one.finish for one in ledger.read(Exchange)] == ["cancelled"] * 3 + ["length"]


def test_an_engine_that_fails_is_told_and_recorded_and_the_next_question_is_answered(tmp_path: Path) -> None:
    def breaks(prompt: Prompt) -> Iterable[str]:
        yield "half"
        if "break" in prompt.text:
            raise LlmopsError("out of order", "restart")

    engine = ScriptedEngine(breaks, slots=1)
    with endpoint(engine, tmp_path) as (url, ledger):
        broken = [{"role": "user", "content": "break"}]
        with pytest.raises(openai.InternalServerError):
            client(url).chat.completions.create(model="tone", messages=broken)
        with pytest.raises(openai.APIError):
            list(client(url).chat.completions.create(model="tone", messages=broken, stream=True))
        assert client(url).chat.completions.create(model="tone", messages=MESSAGES).choices[0].message.content == "half"
    assert [one.finish for one in ledger.read(Exchange)] == ["error", "error", "stop"]


def test_an_exchange_holds_numbers_only_and_a_start_is_an_event(tmp_path: Path) -> None:
    with endpoint(ScriptedEngine(echo), tmp_path) as (url, ledger):
        answer = client(url).chat.completions.create(model="tone", messages=MESSAGES, temperature=0.5, stop=["z"])
    (found,) = ledger.read(Exchange, "tone")
    assert (found.id, found.version, found.finish) == (answer.id, "tone:2", "stop")
    assert (found.prompt_tokens, found.answer_tokens) == (7, 5)
    assert (found.sampling.temperature, found.sampling.stop) == (0.5, ("z",))
    assert found.messages == () and found.answer is None
    assert found.first_token_s is not None and 0 < found.first_token_s <= found.total_s
    (start,) = ledger.read(Endpoint, "tone")
    assert (start.url, start.versions, start.engine) == (url, ("tone:2",), "script")


def test_text_that_is_kept_is_redacted_first(tmp_path: Path) -> None:
    with endpoint(ScriptedEngine(echo), tmp_path, keep_text=True) as (url, ledger):
        words = "I am ann@example.org, call +44 20 7946 0958"
        client(url).chat.completions.create(model="tone", messages=[{"role": "user", "content": words}])
    (found,) = ledger.read(Exchange)
    assert found.messages[0].content == "I am [EMAIL], call [PHONE]"
    assert found.answer is not None and "II" in found.answer and "4444" not in found.answer


def test_feedback_finds_its_exchange_and_an_unknown_one_is_404(site: tuple[str, Ledger, ScriptedEngine]) -> None:
    url, ledger, _ = site
    answer = client(url).chat.completions.create(model="tone", messages=MESSAGES)
    said = {"exchange": answer.id, "thumb": "down", "edit": "write to bob@example.org"}
    assert httpx.post(f"{url}/v1/feedback", json=said, headers=AUTH).status_code == 200
    (found,) = ledger.read(Feedback, "tone", answer.id)
    assert (found.thumb, found.edit) == ("down", "write to [EMAIL]")
    unknown = httpx.post(f"{url}/v1/feedback", json={**said, "exchange": "chatcmpl-0"}, headers=AUTH)
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "exchange_not_found")
    empty = httpx.post(f"{url}/v1/feedback", json={"exchange": answer.id}, headers=AUTH)
    assert empty.status_code == 400


def test_a_classifier_answers_its_label(tmp_path: Path) -> None:
    engine = ClassifierEngine(("positive", "negative"), lambda text: (0.9, 0.1) if "good" in text else (0.2, 0.8))
    ledger = Ledger(f"sqlite:///{tmp_path / 'l.db'}")
    served = Served("tone:1", ("tone",), engine, None)
    with running([served], ledger, ServeSettings(token=TOKEN), Surroundings()) as url:
        good = client(url).chat.completions.create(model="tone", messages=[{"role": "user", "content": "a good day"}])
        assert good.choices[0].message.content == "positive"


def test_a_long_prompt_does_not_stall_the_others(tmp_path: Path) -> None:
    class Slow(LetterRenderer):
        def prompt_ids(self, messages: object) -> list[int]:
            time.sleep(1.5)
            return [1]

    async def ask(url: str) -> float:
        async with httpx.AsyncClient(headers=AUTH) as asker:
            body = {"model": "tone", "messages": [{"role": "user", "content": "x" * (SHORT + 1)}]}
            slow = asyncio.create_task(asker.post(url + CHAT, json=body, timeout=30))
            await asyncio.sleep(0.3)
            began = time.monotonic()
            assert (await asker.get(f"{url}/healthz")).status_code == 200
            waited = time.monotonic() - began
            assert (await slow).status_code == 200
            return waited

    with endpoint(ScriptedEngine(echo), tmp_path, Slow()) as (url, _):
        assert asyncio.run(ask(url)) < 1.0


@pytest.mark.parametrize("settings", [{"token": None}, {"allowed_hosts": ()}])
def test_another_address_than_loopback_needs_a_token_and_an_allowed_host(
    tmp_path: Path, settings: dict[str, object]
) -> None:
    asked = {"host": "0.0.0.0", "allowed_hosts": ("box.example",), **settings}
    with pytest.raises(RequestError), endpoint(ScriptedEngine(echo), tmp_path, **asked):
        pass


def test_a_port_that_is_taken_is_a_bad_request(tmp_path: Path, url: str) -> None:
    taken = int(url.rpartition(":")[2])
    with pytest.raises(RequestError, match="cannot be opened"), endpoint(ScriptedEngine(echo), tmp_path, port=taken):
        pass


def test_without_a_token_on_loopback_the_host_check_stays(tmp_path: Path) -> None:
    with endpoint(ScriptedEngine(echo), tmp_path, token=None) as (url, _):
        assert httpx.get(f"{url}/v1/models").status_code == 200
        assert httpx.get(f"{url}/v1/models", headers={"Host": "evil.example"}).status_code == 403
