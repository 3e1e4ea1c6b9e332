"""What the browser tests share: apps on workspaces made by hand, and pages that are watched."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "a-token-for-tests"
TABS = ("Today", "Chat", "Inspect", "Runs", "Reports")
CHROMIUM_ARGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Every way in that a page has been known to offer: an attribute, a tag, Gradio's two template languages, Markdown.
HOSTILE = (
    '<img src=x onerror="window.pwned=1"><script>window.pwned=2</script>${window.pwned=3}{{pwned}}'
    '`[a](javascript:window.pwned=4)</pre></span>"><svg onload="window.pwned=5">'
)


@dataclass
class Server:
    """A running app: its process and its address."""

    process: subprocess.Popen[str]
    link: str
    folder: Path

    @property
    def address(self) -> str:
        return self.link.split("?")[0]


def start(folder: Path, words: str = "") -> Server:
    """Start the app on a workspace; returns when it has said its link."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.browser.serve", str(folder), TOKEN, words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=(folder / "app.err").open("w"),
        text=True,
    )
    return Server(process, "", folder)


def ready(server: Server) -> Server:
    """Wait for the link of a server that was started."""
    assert server.process.stdout is not None
    line = server.process.stdout.readline()
    assert line.startswith("app at "), (server.folder / "app.err").read_text()
    server.link = line.removeprefix("app at ").strip()
    return server


@dataclass
class Watched:
    """A page, and all that went wrong on it."""

    page: Any
    errors: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name, exact=True).click()

    def injected(self) -> int:
        """How many pieces of hostile text became part of the page: scripts that ran, elements that are theirs."""
        return int(
            self.page.evaluate(
                """() => (window.pwned ? 1 : 0) + document.querySelectorAll(
                'img[src="x"], svg[onload], [onerror], a[href^="javascript"]').length
                + [...document.scripts].filter(s => s.textContent.startsWith('window.pwned')).length"""
            )
        )


def note_host(watched: Watched, url: str) -> None:
    if not url.startswith(("http://127.0.0.1:", "data:", "blob:")):
        watched.elsewhere.append(url)
