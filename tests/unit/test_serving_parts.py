"""The parts of serving: strict JSON, redaction, the guard's cookie, the token file, the queue."""

from __future__ import annotations

import asyncio
import json
import stat
import time
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from llmops.core.dataset import Message
from llmops.core.errors import RequestError
from llmops.core.serving import Sampling
from llmops.serving import strict_json
from llmops.serving.admission import Gate
from llmops.serving.chat import stream_reply
from llmops.serving.engine import ScriptedEngine
from llmops.serving.prepare import SHORT, Tokeniser
from llmops.serving.redact import redact
from llmops.serving.roster import Served
from llmops.serving.security import Guard, Rules, sha256
from llmops.serving.serve import token_file
from llmops.serving.wire import ApiError, AsciiJSON
from tests.unit.serving_samples import LetterRenderer

TOKEN = "a-token-for-tests-only-0123456789"


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.text(st.characters(exclude_categories=("Cs",)))
        | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=("Cs",))), inner),
        max_leaves=8,
    )
)
def test_every_json_value_is_read_as_it_is(value: object) -> None:
    assert strict_json.parse(json.dumps(value).encode()) == value


@example(b"NaN")
@example(b"[1e999]")
@example(b'"\\ud800"')
@given(st.binary(max_size=40))
def test_any_bytes_are_refused_with_a_value_error_or_read_as_what_can_be_said_again(body: bytes) -> None:
    try:
        value = strict_json.parse(body)
    except ValueError:
        return
    assert strict_json.parse(json.dumps(value, ensure_ascii=False, allow_nan=False).encode()) == value


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("write to ann.b+c@mail.example.org.", "write to [EMAIL]."),
        ("<zoë@exämple.de>", "<[EMAIL]>"),
        ("call 020 7946 0958 now", "call [PHONE] now"),
        ("+1 (555) 010-9999", "[PHONE]"),
        ("card 4111-1111-1111-1111", "card [CARD]"),
        ("٠٢٠٧٩٤٦٠٩٥٨", "[NUMBER]"),
        ("in 2026 we had 12,345 rows @ 3 a.m.", "in 2026 we had 12,345 rows @ 3 a.m."),
    ],
)
def test_addresses_and_long_digit_runs_are_redacted_and_the_rest_is_not(text: str, redacted: str) -> None:
    assert redact(text) == redacted


@pytest.mark.parametrize(
    "text", ["a" * 131_072, "a." * 65_536, "a@" * 65_536, "a@a." * 32_768, "1 " * 65_536, "1(((" * 32_768]
)
def test_redaction_takes_linear_time_on_hostile_text(text: str) -> None:
    began = time.thread_time()
    redact(text)
    assert time.thread_time() - began < 2


def test_a_token_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    made = token_file(tmp_path / "token")
    assert len(made) >= 43 and token_file(tmp_path / "token") == made
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600
    (tmp_path / "token").write_text("short\n")
    with pytest.raises(RequestError, match="holds no token"):
        token_file(tmp_path / "token")
    with pytest.raises(RequestError, match="cannot be written"):
        token_file(tmp_path / "no such folder" / "token")


def test_a_place_in_the_queue_is_given_back_once() -> None:
    async def through() -> None:
        gate = Gate(slots=1, queue=64)
        tickets = [gate.enter()[0] for _ in range(65)]
        with pytest.raises(ApiError, match="full"):
            gate.enter()
        await tickets[0].slot()
        tickets[0].leave()
        tickets[0].leave()
        assert gate.inside == 64
        await asyncio.wait_for(tickets[1].slot(), 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(tickets[2].slot(), 0.01)
        for ticket in tickets:
            ticket.leave()
        assert gate.inside == 0
        await asyncio.wait_for(gate.enter()[0].slot(), 1)

    asyncio.run(through())


def test_an_answer_streams_where_an_event_loop_runs_already_as_in_a_notebook() -> None:
    engine = ScriptedEngine(lambda prompt: ["You ", "said ", prompt.text])

    async def cell() -> tuple[str, str]:
        whole = "".join(stream_reply(engine, None, [Message(role="user", content="hi")], Sampling()))
        reply = stream_reply(engine, None, [Message(role="user", content="hi")], Sampling())
        first = next(reply)
        reply.close()
        return whole, first

    assert asyncio.run(cell()) == ("You said hi", "You ")
    assert (engine.running, engine.left) == (0, 1), "closing the reply stops the engine"


def browser(rules: Rules) -> httpx.AsyncClient:
    async def page(scope, receive, send):  # type: ignore[no-untyped-def]
        await AsciiJSON({"page": scope["path"]})(scope, receive, send)

    return httpx.AsyncClient(transport=httpx.ASGITransport(Guard(page, rules)), base_url="http://127.0.0.1:1")


def test_an_app_takes_the_token_from_its_address_once_and_keeps_a_cookie() -> None:
    async def visit() -> None:
        async with browser(Rules(sha256(TOKEN), cookie="llmops")) as asker:
            assert (await asker.get("/chat")).status_code == 401
            assert (await asker.get("/chat?token=wrong")).status_code == 401
            welcome = await asker.get(f"/chat?tab=1&token={TOKEN}")
            assert (welcome.status_code, welcome.headers["location"]) == (303, "/chat?tab=1")
            cookie = welcome.headers["set-cookie"]
            assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and TOKEN not in cookie
            assert (await asker.get("/chat?tab=1")).json() == {"page": "/chat"}
            assert (await asker.get("/chat", headers={"Host": "evil.example"})).status_code == 403
            assert (await asker.post("/chat", headers={"Origin": "http://127.0.0.1:2"})).status_code == 403
            asker.cookies.clear()
            asker.cookies.set("llmops", "0" * 64)
            assert (await asker.get("/chat")).status_code == 401
            away = await asker.get(f"http://127.0.0.1:1//evil.example/?token={TOKEN}")
            assert away.headers["location"].startswith("/evil.example")

    asyncio.run(visit())


def test_a_gateway_knows_no_cookie_and_no_token_in_the_address() -> None:
    async def visit() -> None:
        async with browser(Rules(sha256(TOKEN))) as asker:
            assert (await asker.get(f"/?token={TOKEN}")).status_code == 401
            assert (await asker.get("/", headers={"Authorization": f"Basic {TOKEN}"})).status_code == 401
            assert (await asker.get("/", headers={"Authorization": f"bearer {TOKEN}"})).status_code == 200

    asyncio.run(visit())


def test_a_websocket_from_elsewhere_is_closed() -> None:
    sent: list[dict[str, object]] = []

    async def knock() -> None:
        async def page(scope, receive, send):  # type: ignore[no-untyped-def]
            raise AssertionError("let in")

        async def receive() -> dict[str, object]:
            return {"type": "websocket.connect"}

        async def send(message) -> None:  # type: ignore[no-untyped-def]
            sent.append(message)

        scope = {"type": "websocket", "path": "/", "query_string": b"", "headers": [(b"host", b"evil.example")]}
        await Guard(page, Rules(None))(scope, receive, send)  # type: ignore[arg-type]

    asyncio.run(knock())
    assert sent[0]["type"] == "websocket.close"


def test_one_text_is_tokenised_at_a_time_whatever_its_length_and_whoever_leaves() -> None:
    inside: list[int] = []
    most: list[int] = []

    def render(text: str) -> list[int]:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.002 if len(text) > SHORT else 0)
        inside.pop()
        return [ord(letter) for letter in text]

    one = Served("tone:1", (), ScriptedEngine(lambda prompt: [], context_tokens=100_000), LetterRenderer())

    async def work() -> list[object]:
        tokeniser = Tokeniser()

        async def ask(number: int) -> int:
            await asyncio.sleep(0.001 * (number % 5))
            text = "x" * (SHORT + 1 if number % 3 == 0 else 10)
            return len(await tokeniser.ids(one, len(text), render, text))

        tasks = [asyncio.create_task(ask(number)) for number in range(60)]
        await asyncio.sleep(0.003)
        for task in tasks[::6]:
            task.cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        tokeniser.close()
        return found

    found = asyncio.run(work())
    assert len(most) >= 50 and max(most) == 1
    assert {one for one in found if isinstance(one, int)} == {10, SHORT + 1}
