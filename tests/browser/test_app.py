"""The app in a real browser, on a workspace whose every text tries to break out."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmops.core.serving import Exchange, Feedback
from tests.browser.apps import HOSTILE, TABS, TOKEN, Server, Watched, ready, start
from tests.browser.serve import HOLD
from tests.browser.workspace import workspace

Visit = Callable[..., Watched]
pytestmark = pytest.mark.browser
RECIPE = "name: mine\ndata:\n  sources:\n  - from: path:x.csv\ntask:\n  kind: reply\n"


def wait_for(true: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
    """What `true` returns as soon as it is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = true()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {seconds} s")


def ask(server: Server, path: str = "/", **headers: str) -> tuple[int, dict[str, str]]:
    """Status and headers of one GET, without a browser's own ideas."""
    host = server.address.removeprefix("http://").rstrip("/")
    connection = http.client.HTTPConnection(host, timeout=20)
    connection.request("GET", path, headers={key.replace("_", "-"): value for key, value in headers.items()})
    answer = connection.getresponse()
    found = answer.status, {key.lower(): value for key, value in answer.getheaders()}
    connection.close()
    return found


def test_every_tab_opens_without_an_error_or_a_request_to_another_host(
    servers: dict[str, Server], visit: Visit
) -> None:
    watched = visit(servers["full"].link)
    for name, mark in zip(
        TABS, ("Answers as production", "ready prompts", "Prompt", "Decisions", "Whose answers"), strict=True
    ):
        watched.tab(name)
        watched.page.get_by_text(mark).locator("visible=true").first.wait_for()
    assert watched.errors == []
    assert watched.elsewhere == []
    assert TOKEN not in watched.page.url


def test_both_versions_answer_side_by_side_and_feedback_is_stored(servers: dict[str, Server], visit: Visit) -> None:
    server = servers["full"]
    page = visit(f"{server.link}&tab=chat").page
    talks = [page.locator("#talk-left .lo-assistant"), page.locator("#talk-right .lo-assistant")]
    hold = server.folder / HOLD
    hold.touch()
    page.locator("#question textarea").fill("Hello")
    page.locator("#send").click()
    for talk, ref in zip(talks, ("smollm2-135m-q4", "tone:2"), strict=True):
        talk.filter(has_text=f"I am {ref}.").wait_for()
        assert "You said" not in talk.inner_text(), "what is there is shown before the rest has come"
    hold.unlink()
    for talk in talks:
        talk.filter(has_text="You said: Hello").wait_for()
    assert page.locator("#talk-right .lo-by").inner_text() == "tone:2"
    page.locator("#talk-right .lo-by .lo-chip:not(.lo-busy)").wait_for()
    page.locator("#good-right").click()
    page.locator("#said-right").get_by_text("Noted as good").wait_for()
    page.locator("#better-left button").first.click()
    edit = page.locator("#edit-left textarea")
    wait_for(lambda: "You said: Hello" in edit.input_value(), "the answer, ready to be edited")
    edit.fill("A better answer")
    page.locator("#save-left").click()
    page.locator("#said-left").get_by_text("Saved").wait_for()
    ledger = workspace(server.folder).ledger
    exchanges = {exchange.id: exchange for exchange in ledger.read(Exchange)}
    said = [(exchanges[event.exchange].version, event.thumb, event.edit) for event in ledger.read(Feedback)]
    assert said == [("tone:2", "up", None), ("smollm2-135m-q4", None, "A better answer")]
    assert all(exchange.messages for exchange in exchanges.values()), "text is kept by default"


def test_text_is_not_kept_when_the_switch_is_off(servers: dict[str, Server], visit: Visit) -> None:
    server = servers["full"]
    page = visit(f"{server.link}&tab=chat").page
    before = len(workspace(server.folder).ledger.read(Exchange))
    page.locator("#keep input").uncheck()
    page.locator("#ready-0").click()
    found = wait_for(lambda: workspace(server.folder).ledger.read(Exchange)[before + 1 :], "two exchanges")
    assert not any(exchange.messages or exchange.answer for exchange in found)


def test_hostile_text_is_shown_as_text_in_every_field(servers: dict[str, Server], visit: Visit, tmp_path: Path) -> None:
    watched = visit(servers["full"].link)
    page = watched.page

    def shown(where: str) -> None:
        page.locator(where).filter(has_text=HOSTILE).locator("visible=true").first.wait_for()
        assert watched.injected() == 0, where

    shown(".lo-card")
    watched.tab("Chat")
    shown("#ready-0")
    page.locator("#ready-0").click()
    shown("#talk-left .lo-user")
    shown("#talk-right .lo-assistant")
    page.locator("#talk-right .lo-by .lo-chip:not(.lo-busy)").wait_for()
    watched.tab("Inspect")
    page.locator("#inspect-prompt textarea").fill(HOSTILE)
    page.locator("#inspect-reply").click()
    page.locator("#reply-tokens .lo-token").first.hover()
    shown("#reply-tokens .lo-tip")
    page.get_by_role("tab", name="A training row").click()
    page.locator("#inspect-row").click()
    shown("#row-tokens")
    page.locator("#inspect-set").click()
    shown("#set-counts td")
    watched.tab("Runs")
    page.locator("#run-list label").filter(has_text=HOSTILE).first.click()
    page.locator("#run-about").filter(has_text="interrupted").wait_for()
    shown("#run-about")
    shown("#run-details td")
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\na,b\n")
    page.locator("#new-run button").first.click()
    page.locator("#new-file input[type=file]").set_input_files(rows)
    page.locator("#new-file").get_by_text("rows.csv").first.wait_for()
    page.locator("#new-look").click()
    shown("#new-seen")
    page.locator("#new-yaml .cm-content").fill(HOSTILE)
    page.locator("#new-start").click()
    page.locator("#new-seen").get_by_text("the recipe has no name").wait_for()
    shown("#new-seen")
    watched.tab("Reports")
    shown("#report-answers td")
    shown("#report-scores td")
    shown("#report-learned td")
    page.locator("#report-slice input").click()
    shown("[role=option]")
    assert watched.injected() == 0


def test_the_check_for_hostile_text_finds_what_a_careless_page_would_do(context: Any) -> None:
    careless = Watched(context.new_page())
    careless.page.set_content(f"<p>{HOSTILE}</p>")
    assert careless.injected() > 0
    careless.page.close()


def test_wrong_answers_can_be_filtered_and_downloaded_without_formulas(
    servers: dict[str, Server], visit: Visit
) -> None:
    watched = visit(servers["full"].link)
    page = watched.page
    watched.tab("Reports")
    page.locator("#report-answers").get_by_text("60 of 60 answers").wait_for()
    page.locator("#only-wrong input").check()
    page.locator("#report-answers").get_by_text("6 of 60 answers").wait_for()
    assert page.locator("#report-answers .lo-chip.lo-good").count() == 0
    with page.expect_download() as download:
        page.locator("#report-answers a").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert len(lines) == 7
    assert lines[0].startswith("row,prompt,expected,answered,probability,accuracy")


def test_nobody_gets_in_without_the_token_or_under_another_name(servers: dict[str, Server]) -> None:
    server = servers["full"]
    port = server.address.rstrip("/").rsplit(":", 1)[1]
    for path in ("/", "/config", "/gradio_api/queue/data", "/download/last", "/theme.css"):
        assert ask(server, path)[0] == 401, path
    assert ask(server, "/?token=wrong")[0] == 401
    assert ask(server, f"/?token={TOKEN}", Host=f"evil.example:{port}")[0] == 403
    assert ask(server, "/", Origin="http://evil.example", Authorization=f"Bearer {TOKEN}")[0] == 403
    status, headers = ask(server, f"/?token={TOKEN}")
    assert (status, headers["location"]) == (303, "/")
    assert "HttpOnly" in headers["set-cookie"]


def test_no_foreign_page_is_invited_and_unused_routes_are_closed(servers: dict[str, Server]) -> None:
    server = servers["full"]
    status, headers = ask(server, "/", Authorization=f"Bearer {TOKEN}", Origin=server.address.rstrip("/"))
    assert status == 200
    assert "default-src 'self'" in headers["content-security-policy"]
    assert not [key for key in headers if key.startswith("access-control")]
    for path in (
        "/gradio_api/info",
        "/gradio_api/openapi.json",
        "/monitoring",
        "/docs",
        "/gradio_api/proxy=http://evil",
    ):
        assert ask(server, path, Authorization=f"Bearer {TOKEN}")[0] == 404, path


def test_an_empty_workspace_says_what_to_do(servers: dict[str, Server], visit: Visit) -> None:
    watched = visit(servers["bare"].link)
    watched.page.get_by_text("This workspace is empty").wait_for()
    watched.page.locator("#run-demo").wait_for()
    for name, hint in (("Chat", "nobody to talk to"), ("Inspect", "nothing to look at"), ("Reports", "No report yet")):
        watched.tab(name)
        watched.page.get_by_text(hint).wait_for()
    watched.tab("Today")
    watched.page.wait_for_timeout(1000)  # the page is drawn afresh when its tab opens, and a click before that is lost
    watched.page.locator("#start-own").click()
    watched.page.locator("#new-file").wait_for()
    assert watched.errors == []


def test_every_tab_fits_a_telephone(servers: dict[str, Server], visit: Visit) -> None:
    watched = visit(servers["full"].link, width=390, height=800)
    for name in TABS:
        watched.tab(name)
        watched.page.wait_for_timeout(400)
        assert watched.page.evaluate("document.documentElement.scrollWidth") <= 390, name


def test_a_job_outlives_refresh_and_a_killed_app(tmp_path: Path, visit: Visit) -> None:
    import psutil

    server = ready(start(tmp_path))
    watched = visit(f"{server.link}&tab=runs")
    page = watched.page
    page.locator("#new-run button").first.click()
    page.locator("#new-yaml .cm-content").fill(RECIPE)
    page.locator("#new-start").click()
    page.locator("#run-log").get_by_text("working on run").wait_for()
    page.reload()
    watched.tab("Runs")
    page.locator("#run-about").get_by_text("starting").wait_for()
    second = visit(f"{server.link}&tab=runs").page
    second.locator("#run-list").get_by_text("mine").wait_for()

    job = wait_for(lambda: list((tmp_path / "jobs").glob("*/job.json")), "the job's file")[0]
    pid = int(job.read_text().split('"pid": ')[1].split(",")[0])
    server.process.kill()
    server.process.wait()
    before = (job.parent / "log.txt").stat().st_size
    wait_for(lambda: (job.parent / "log.txt").stat().st_size > before, "the job works on without the app")

    again = ready(start(tmp_path))
    try:
        third = visit(f"{again.link}&tab=runs").page
        third.locator("#run-log").get_by_text("working on run").wait_for()
        third.locator("#run-stop").click()
        wait_for(
            lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie", "the job stops when asked"
        )
        third.locator("#run-about").get_by_text("failed").wait_for()
    finally:
        again.process.kill()
        again.process.wait()
        if psutil.pid_exists(pid):
            psutil.Process(pid).kill()
