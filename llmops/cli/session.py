"""`Session`: what every verb is given besides its own arguments: the workspace, and the two streams to speak on."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.console import Console, RenderableType
from typer import Option

if TYPE_CHECKING:
    from llmops.core.plan import Wishes
    from llmops.core.value import Value
    from llmops.store.workspace import Workspace


@dataclass(frozen=True)
class Session:
    """The options of every verb. What was asked for goes to stdout, everything else to stderr."""

    folder: Annotated[
        Path | None,
        Option(
            "--workspace",
            metavar="DIR",
            help="Where everything is kept; if left out $LLMOPS_HOME, else .llmops.",
            show_default=False,
        ),
    ] = None
    as_json: Annotated[bool, Option("--json", help="Print one JSON document and nothing else on standard output.")] = (
        False
    )
    debug: Annotated[bool, Option("--debug", help="Show the traceback of an error.")] = False

    @property
    def downloads(self) -> bool:
        """Whether sources may be fetched from a hub."""
        return False

    @cached_property
    def out(self) -> Console:
        """Standard output. No emoji: `:x:` in a person's text is a text."""
        return Console(emoji=False)

    @cached_property
    def err(self) -> Console:
        """Standard error."""
        return Console(stderr=True, emoji=False)

    @cached_property
    def at(self) -> Workspace:
        """The workspace, found (or made) and named on stderr when it is first needed."""
        from llmops.cli.progress import ProgressDisplay
        from llmops.core.context import Surroundings
        from llmops.store.workspace import Workspace

        world = Surroundings(say=self.say, track=ProgressDisplay(self.err), allow_download=self.downloads)
        workspace = Workspace.find(self.folder, world)
        self.say(f"workspace {workspace.root}")
        return workspace

    def say(self, line: str) -> None:
        """One remark on stderr."""
        from llmops.cli.words import clean

        self.err.print(clean(line), markup=False, highlight=False, soft_wrap=True)

    def show(self, value: object, picture: Callable[[Any], RenderableType] | None = None) -> None:
        """Print what a verb returned: as JSON where that was asked for, else as `picture` (by default, of its type)."""
        if self.as_json:
            sys.stdout.write(json.dumps(plain(value), indent=2, allow_nan=False) + "\n")
            return
        from llmops.cli.render import render

        self.out.print((picture or render)(value))

    def write(self, text: str) -> None:
        """Print a piece of streamed text at once; on stderr where stdout is kept for JSON."""
        from llmops.cli.words import clean

        stream = sys.stderr if self.as_json else sys.stdout
        stream.write(clean(text))
        stream.flush()


@dataclass(frozen=True)
class FetchingSession(Session):
    """A session of a verb that may fetch sources."""

    allow_download: Annotated[
        bool, Option("--allow-download", envvar="LLMOPS_ALLOW_DOWNLOAD", help="Let hub: sources be downloaded.")
    ] = False

    @property
    def downloads(self) -> bool:
        return self.allow_download


@dataclass(frozen=True)
class MachineOptions:
    """Machine matters, kept out of the recipe; `Wishes` checks them, and `plan` records them as decisions."""

    device: Annotated[str | None, Option("--device", help="cpu or cuda; left out, plan decides.")] = None
    threads: Annotated[int | None, Option("--threads", help="Number of threads; left out, plan decides.")] = None
    max_memory_gb: Annotated[
        float | None, Option("--max-memory", metavar="GB", help="Use at most this much memory.")
    ] = None
    processes: Annotated[
        int | None, Option("--processes", metavar="N", help="Processes that train together; left out, plan says one.")
    ] = None
    tracker: Annotated[
        str | None,
        Option("--tracker", metavar="NAME", help="Show the records in mlflow, tensorboard, trackio or wandb too."),
    ] = None
    budget_s: Annotated[
        float | None, Option("--budget", metavar="SECONDS", help="Training should take at most this long.")
    ] = None

    def wishes(self) -> Wishes:
        """The same as a value. Raises `RequestError` for a number that makes no sense."""
        from pydantic import ValidationError

        from llmops.core.errors import RequestError
        from llmops.core.plan import Wishes
        from llmops.training.trackers import check_tracker

        check_tracker(self.tracker)
        try:
            return Wishes(**vars(self))
        except ValidationError as error:
            first = error.errors()[0]
            field = str(first["loc"][0])
            option = f"--{field.removesuffix('_s').removesuffix('_gb').replace('_', '-')}"
            why = first["msg"].replace("Input should", "it should")
            about = Wishes.model_fields[field].description
            raise RequestError(f"{option} {getattr(self, field)}: {why}", f"{option} takes: {about}") from error


def plain(value: object) -> Any:
    """`value` as JSON data. A fact also says its `id`, a version its `ref`: what other commands call it by."""
    from llmops.core.value import Value

    if isinstance(value, Value):
        return {**names(value), **value.to_json()}
    if is_dataclass(value) and not isinstance(value, type):
        return {name: plain(part) for name, part in vars(value).items()}
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)


def names(value: Value) -> dict[str, str]:
    """The names by which a value is found again, where it has any besides its fields."""
    found = {name: getattr(value, name, None) for name in ("id", "ref")}
    return {
        name: str(text) for name, text in found.items() if text is not None and name not in type(value).model_fields
    }
