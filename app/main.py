"""The app's door: `open_app` serves the five tabs on this machine, behind the same guard as the gateway."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from llmops.core.errors import LlmopsError, RequestError
from llmops.serving.security import LOOPBACK, Guard, Rules, sha256
from llmops.store.workspace import Workspace

from . import chat, inspect, people, reports, runs, theme, today
from .jobs import Jobs
from .markup import el
from .talk import Engines

LLMOPS = (sys.executable, "-m", "llmops")
TABS = ("today", "chat", "inspect", "runs", "reports")
TAB_IN_ADDRESS = "() => new URLSearchParams(window.location.search).get('tab')"
COOKIE = "llmops_app"
LARGEST_UPLOAD = "512mb"
# The page may load and ask its own server only. Gradio's page needs inline and evaluated scripts of its own.
CONTENT_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; connect-src 'self'; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", CONTENT_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
)
# Gradio serves these besides the page; nothing of ours uses them.
CLOSED = ("/gradio_api/info", "/gradio_api/openapi", "/gradio_api/proxy", "/gradio_api/runs", "/gradio_api/run-history",
          "/gradio_api/vibe", "/gradio_api/undo-vibe", "/gradio_api/deep_link", "/gradio_api/call", "/gradio_api/run/",
          "/gradio_api/api/", "/gradio_api/startup", "/monitoring", "/svelte", "/login", "/logout")  # fmt: skip


@dataclass(frozen=True)
class App:
    """What a built app holds on to: its page, its engines."""

    blocks: Any
    engines: Engines


def build(at: Workspace, llmops: Sequence[str] = LLMOPS) -> Any:
    """The page as Gradio Blocks. `llmops` is the command that its jobs begin with."""
    return _build(at, llmops).blocks


def _build(at: Workspace, llmops: Sequence[str]) -> App:
    import gradio as gr

    engines, jobs = Engines(at), Jobs(at, tuple(llmops))
    with gr.Blocks(title="llmops", analytics_enabled=False) as blocks:
        head = el("div", el("h1", "llmops"), el("code", str(at.root)), class_="lo-head")
        theme.html_box(el("div", head, class_="lo-scope"))
        draws: dict[str, Callable[[], Any]] = {
            "today": lambda: today.draw(at, jobs, lambda: gr.update(selected="runs"), tabs),
            "chat": lambda: chat.draw(at, engines),
            "inspect": lambda: inspect.draw(at),
            "runs": lambda: runs.draw(at, jobs),
            "reports": lambda: reports.draw(at),
        }
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap") as tabs:
            for key in TABS:
                with gr.Tab(key.capitalize(), id=key) as tab:
                    panel = draws[key]()
                gr.on(
                    [blocks.load, tab.select], panel.refresh, list(panel.inputs), panel.outputs, show_progress="hidden"
                )
        asked = gr.Textbox(visible=False)
        blocks.load(_known_tab, asked, tabs, show_progress="hidden", js=TAB_IN_ADDRESS)
    for function in blocks.fns.values():
        function.api_visibility = "private"
    blocks.queue(default_concurrency_limit=8)
    return App(blocks, engines)


def _known_tab(asked: str | None) -> Any:
    """Turn to the tab that the address names (`?tab=chat`); else leave it to whoever is clicking already."""
    import gradio as gr

    return gr.update(selected=asked) if asked in TABS else gr.skip()


def guarded(at: Workspace, app: App, rules: Rules) -> Any:
    """The page, its download, and the guard in front, as one ASGI app."""
    import gradio as gr
    from fastapi import FastAPI, Response

    server = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @server.get("/download/{report}")
    def download(report: str, wrong: int = 0, slice: str = reports.ALL) -> Response:
        try:
            text = reports.as_csv(at, report, bool(wrong), slice)
        except LlmopsError as error:
            return Response(str(error), 404, media_type="text/plain")
        return Response(text, media_type="text/csv", headers={"content-disposition": "attachment"})

    @server.get("/card/{dataset}")
    def card(dataset: str) -> Response:
        try:
            return Response(people.card_page(at, dataset), media_type="text/html")
        except LlmopsError as error:
            return Response(str(error), 404, media_type="text/plain")

    page = gr.mount_gradio_app(
        server,
        app.blocks,
        path="/",
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=LARGEST_UPLOAD,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=theme.theme(),
        css=theme.CSS,
    )
    return Guard(Shell(page), rules)


class Shell:
    """Plain ASGI around Gradio: closes the routes nobody uses, sets the content policy, and drops every CORS header."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].startswith(CLOSED):
            await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
            return

        async def send_ours(message: Any) -> None:
            if message["type"] == "http.response.start":
                kept = [
                    pair for pair in message.get("headers", []) if not pair[0].lower().startswith(b"access-control-")
                ]
                message = {**message, "headers": [*kept, *HEADERS]}
            await send(message)

        await self.app(scope, receive, send_ours)


def open_app(
    at: Workspace, host: str, port: int, token: str | None, allowed_hosts: Collection[str] = (), tab: str = ""
) -> None:
    """Serve the app until it is stopped. Once the port is held, says the link, which opens on `tab`; 0 is any free one.

    Raises `RequestError` for an address other than this machine's own without a token and an allowed host, and where
    the port is taken.
    """
    if host not in LOOPBACK and (token is None or not allowed_hosts):
        raise RequestError(
            f"the app would be reachable from outside on {host} without a token and an allowed host",
            "leave --host away and tunnel (ssh -L), or give a token and --allowed-host",
        )
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported, in a process of our own
    import uvicorn

    listener = _listen(host, port)
    app = _build(at, LLMOPS)
    rules = Rules(None if token is None else sha256(token), LOOPBACK | frozenset(allowed_hosts), cookie=COOKIE)
    config = uvicorn.Config(
        guarded(at, app, rules), log_level="warning", access_log=False, timeout_graceful_shutdown=2, server_header=False
    )
    shown = f"[{host}]" if ":" in host else host
    asked = {name: value for name, value in (("token", token), ("tab", tab)) if value}
    query = "/?" + "&".join(f"{name}={value}" for name, value in asked.items()) if asked else "/"
    at.world.say(f"app at http://{shown}:{listener.getsockname()[1]}{query}")
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        app.engines.close()


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket, so that the link works from the moment it is said."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise RequestError(
            f"{host}:{port} cannot be used: {error.strerror}", "choose another port with --port"
        ) from error
    listener.listen(128)
    return listener
