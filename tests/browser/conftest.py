"""A browser, and the app behind it with a workspace made by hand and a fake pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.browser.apps import CHROMIUM_ARGS, HOSTILE, Server, Watched, note_host, ready, start
from tests.browser.workspace import fill, workspace


@pytest.fixture(scope="package")
def servers(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """Two apps, started at the same time: one on a workspace full of hostile text, one on an empty one."""
    full, bare = tmp_path_factory.mktemp("full"), tmp_path_factory.mktemp("bare")
    fill(workspace(full), words=HOSTILE)
    found = {"full": start(full, HOSTILE), "bare": start(bare)}
    yield {name: ready(server) for name, server in found.items()}
    for server in found.values():
        server.process.kill()
        server.process.wait()


@pytest.fixture(scope="package")
def browser(chromium: str, servers: dict[str, Server]) -> Iterator[Any]:
    """One browser for all tests here. Playwright keeps an event loop running, so it must be gone for the others."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGS)
        yield opened
        opened.close()


@pytest.fixture(scope="package")
def context(browser: Any) -> Any:
    """One profile for all tests, so that the page's scripts are fetched once."""
    opened = browser.new_context()
    opened.set_default_timeout(30_000)
    return opened


@pytest.fixture
def visit(context: Any) -> Iterator[Callable[..., Watched]]:
    """Open an address on a new page and watch it."""
    pages = []

    def open_page(link: str, width: int = 1280, height: int = 800) -> Watched:
        page = context.new_page()
        pages.append(page)
        page.set_viewport_size({"width": width, "height": height})
        watched = Watched(page)
        page.on("console", lambda said: watched.errors.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: watched.errors.append(str(error)))
        page.on("request", lambda request: note_host(watched, request.url))
        page.goto(link)
        page.get_by_role("tab", name="Today", exact=True).wait_for()
        return watched

    yield open_page
    for page in pages:
        page.close()
