"""The verbs that use a model: `serve chat predict health curate app`."""

from __future__ import annotations

import importlib
import secrets
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

import llmops
from llmops.cli.bundled import bundled, load_package
from llmops.cli.session import Session
from llmops.core.export import EngineName
from llmops.core.serving import READERS

if TYPE_CHECKING:
    from llmops.core.dataset import Message
    from llmops.serving.upstream import Upstream

Name = Annotated[str, Argument(metavar="NAME", help="A model's name, tone:2, or tone@production.")]


@dataclass(frozen=True)
class Door:
    """Where a server listens and whom it answers."""

    port: Annotated[
        int | None,
        Option("--port", min=0, max=65535, help="Port to listen on; 0 takes a free one.", show_default=False),
    ] = None
    host: Annotated[str, Option("--host", help="Address to listen on; another needs --allowed-host.")] = "127.0.0.1"
    allowed_host: Annotated[
        list[str] | None, Option("--allowed-host", metavar="NAME", help="Answer to this name too; repeatable.")
    ] = None
    token_file: Annotated[
        Path | None, Option("--token-file", metavar="FILE", help="Holds the token; made where it is missing.")
    ] = None
    no_token: Annotated[bool, Option("--no-token", help="Ask for no token; only on 127.0.0.1.")] = False


def chat(name: Name, session: Session = Session()) -> None:
    """Talk to a version in the terminal. An empty line, Ctrl-D or Ctrl-C ends it; /new forgets what was said.

    Example: llmops chat smalltalk
    """
    from llmops.core.dataset import Message
    from llmops.core.serving import Sampling

    talk = llmops.chat(name, session.at)
    said: list[Message] = []
    try:
        while line := ask(session):
            if line == "/new":
                said.clear()
                continue
            said.append(Message(role="user", content=line))
            reply = spoken(session, talk.say(tuple(said), Sampling()))
            said.append(Message(role="assistant", content=reply))
    finally:
        talk.close()
    if session.as_json:
        session.show({"version": talk.version, "messages": said})


def spoken(session: Session, pieces: Iterable[str]) -> str:
    """A reply, written as it comes; returns the whole of it."""
    heard = []
    for piece in pieces:
        session.write(piece)
        heard.append(piece)
    session.write("\n")
    return "".join(heard)


def ask(session: Session) -> str:
    """The next line from the person; nothing at the end of the input."""
    if sys.stdin.isatty():
        session.err.print("you> ", end="", style="bold")
    return sys.stdin.readline().strip()


@dataclass(frozen=True)
class EngineOptions:
    """What stands behind the endpoint."""

    readers: Annotated[
        int,
        Option("--readers", min=1, help="How many will ask at once: engine and weights are chosen for so many."),
    ] = READERS
    engine: Annotated[
        EngineName | None,
        Option(
            "--engine", help="Left out: chosen for the readers. transformers is slow, and what was trained: to look at."
        ),
    ] = None
    upstream: Annotated[
        str | None, Option("--upstream", metavar="URL", help="Another server that holds the weights, such as vLLM.")
    ] = None
    upstream_model: Annotated[
        str | None, Option("--upstream-model", metavar="NAME", help="What the upstream calls the model.")
    ] = None
    upstream_token_file: Annotated[
        Path | None, Option("--upstream-token-file", metavar="FILE", help="Holds the upstream's token.")
    ] = None

    def chosen(self) -> EngineName | Upstream | None:
        """The same as a value. Raises `RequestError` where an upstream lacks a name or its file cannot be read."""
        from llmops.core.errors import RequestError
        from llmops.serving.upstream import Upstream

        if self.upstream is None:
            return self.engine
        if self.upstream_model is None:
            raise RequestError("an upstream calls its model by a name", "add --upstream-model NAME")
        url = self.upstream.rstrip("/").removesuffix("/v1")
        if self.upstream_token_file is None:
            return Upstream(url, self.upstream_model)
        try:
            secret = self.upstream_token_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            fix = "give another --upstream-token-file"
            raise RequestError(f"{self.upstream_token_file} cannot be read: {error.strerror}", fix) from error
        return Upstream(url, self.upstream_model, secret)


def serve(
    names: Annotated[list[str], Argument(metavar="NAME...", help="Versions to serve: tone, tone:2, tone@production.")],
    door: Door = Door(),
    keep_text: Annotated[bool, Option("--keep-text", help="Keep questions and answers, redacted.")] = False,
    log: Annotated[
        Path | None, Option("--log", metavar="FILE", help="Append a line of JSON for each answer: numbers, no text.")
    ] = None,
    behind: EngineOptions = EngineOptions(),
    session: Session = Session(),
) -> None:
    """Serve versions on an OpenAI-compatible address, and print a curl line that works. Ctrl-C drains and ends it.

    The machine and how many will ask at once decide on engine and weights, and it says why: llama.cpp,
    or for many vLLM, where LLMOPS_VLLM names its python. Several versions of one base share its weights.
    A promotion or a canary ('llmops canary') takes effect while it runs; thumbs come in at POST /v1/feedback.

    Example: llmops serve tone --port 8000
    """
    from llmops.serving.serve import ServeSettings

    where = token_path(door, session, "endpoint.token")
    settings = ServeSettings(
        host=door.host,
        port=8000 if door.port is None else door.port,
        token=token(where),
        allowed_hosts=tuple(door.allowed_host or ()),
        keep_text=keep_text,
        log=log,
    )
    llmops.serve(names, session.at, settings, where, behind.chosen(), behind.readers)


def token_path(door: Door, session: Session, default: str) -> Path | None:
    """The file of the token: the one that was named, else one in the workspace; None where no token is wanted."""
    if door.no_token:
        return None
    return door.token_file or session.at.root / default


def token(path: Path | None) -> str | None:
    """The token in a file, which is made with a fresh one where it is missing."""
    from llmops.serving.serve import token_file

    return None if path is None else token_file(path)


def predict(
    name: Name,
    file: Annotated[Path, Argument(metavar="FILE", help="A CSV, JSONL or Parquet file with a column of texts.")],
    out: Annotated[Path, Option("--out", "-o", metavar="FILE", help="The CSV to write.")],
    column: Annotated[str | None, Option("--column", help="Column that holds the text; found if left out.")] = None,
    error: Annotated[
        float | None,
        Option("--error", metavar="SHARE", help="Abstain, so that at most this share of the answers is wrong."),
    ] = None,
    session: Session = Session(),
) -> None:
    """Answer every row of a file: the label or answer, its probability, and the version that gave it.

    Probabilities are tempered, so that of the answers given with 0.9 about 90 of 100 are right. A version that was
    registered with --abstain-error abstains by itself.

    Example: llmops predict tone in.csv -o out.csv --error 0.05
    """
    rows = llmops.predict(name, file, out, session.at, column, error)
    session.show({"version": name, "rows": rows, "file": out})


def health(
    name: Annotated[str, Argument(metavar="NAME", help="Name of a model.")], session: Session = Session()
) -> None:
    """How is it since its last promotion? Requests, errors, latency, lengths, feedback, against the window before.

    Example: llmops health tone
    """
    session.show(llmops.health(name, session.at))


def curate(
    name: Annotated[str, Argument(metavar="NAME", help="Name of a model.")],
    out: Annotated[Path, Option("--out", "-o", metavar="FILE", help="The JSONL to write.")],
    session: Session = Session(),
) -> None:
    """Turn edits and thumbs into rows with their lineage, ready as a source of the next recipe.

    Example: llmops curate tone -o corrections.jsonl
    """
    rows = llmops.curate(name, out, session.at)
    session.show({"name": name, "rows": rows, "file": out})


def app(
    door: Door = Door(),
    tab: Annotated[
        str, Option("--tab", help="What the link opens on: today, chat, inspect, runs or reports.")
    ] = "today",
    session: Session = Session(),
) -> None:
    """Open the app in a browser: today, chat, inspect, runs, reports. It views the workspace and starts detached runs.

    Example: llmops app --port 7860
    """
    open_app(session, door, tab)


def open_app(session: Session, door: Door = Door(), tab: str = "today") -> None:
    """Load the app from the folder that came with llmops, and let it serve the workspace. Its link has the token."""
    load_package(bundled("app"), "llmops_app")
    front = importlib.import_module("llmops_app.main")
    secret = None if door.no_token else token(door.token_file) or secrets.token_urlsafe(32)
    port = 7860 if door.port is None else door.port
    front.open_app(session.at, door.host, port, secret, tuple(door.allowed_host or ()), tab)
