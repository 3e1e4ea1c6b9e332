"""How a function becomes a verb of the command line: its groups of options laid flat, its errors in two lines."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_type_hints

import typer

from llmops.cli.session import Session
from llmops.core.errors import Interrupted, LlmopsError

INTERRUPTED = Interrupted.exit_code
# What a person can do whose Ctrl-C has ended a verb.
RESUME = "what was finished is kept; 'llmops list runs' shows what can be resumed"
GOES_ON = "the same command goes on where it was"
STOPPED = {"run": RESUME, "train": RESUME, "choose": GOES_ON}
EXAMPLE = "\n    Example:"


def add_verb(to: typer.Typer, verb: Callable[..., None], panel: str) -> None:
    """Add `verb` under its own name. Its docstring is the help; what follows `Example:` is shown at the end."""
    about, _, example = (verb.__doc__ or "").partition(EXAMPLE)
    to.command(
        verb.__name__.rstrip("_"),
        help=inspect.cleandoc(about),
        short_help=inspect.cleandoc(about).partition(". ")[0].rstrip("."),
        epilog=f"Example: {' '.join(example.split())}" if example else None,
        rich_help_panel=panel,
    )(guarded(flat(verb)))


def flat(verb: Callable[..., None]) -> Callable[..., None]:
    """`verb` with every parameter that is a dataclass replaced by that dataclass's fields, each of them an option."""
    hints = get_type_hints(verb, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if isinstance(hint, type) and is_dataclass(hint)}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(verb).parameters.items():
        if name in groups:
            parameters += options(groups[name])
        else:
            parameters.append(parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(verb)
    def laid_flat(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        verb(**given)

    laid_flat.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    laid_flat.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return laid_flat


def options(group: type[Any]) -> list[inspect.Parameter]:
    """The fields of a dataclass as parameters."""
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(group)
    ]


def guarded(verb: Callable[..., None]) -> Callable[..., None]:
    """`verb` with its errors told in two lines on stderr, and the exit code that they carry."""

    @functools.wraps(verb)
    def safe(**given: Any) -> None:
        try:
            verb(**given)
        except (typer.Exit, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            complain("stopped by Ctrl-C", STOPPED.get(verb.__name__, "what was written before is kept; ask again"))
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            if given.get("debug"):
                raise
            raise typer.Exit(explain(error)) from None

    return safe


def explain(error: Exception) -> int:
    """Say on stderr what happened and what to do. Returns the exit code."""
    if isinstance(error, LlmopsError):
        complain(error.what, error.fix)
        return error.exit_code
    if isinstance(error, OSError) and error.filename:
        complain(f"{error.filename}: {error.strerror}", "check the path, its rights and the room on its disk")
        return 1
    complain(f"unexpected {type(error).__name__}: {error}", "run it again with --debug for the traceback")
    return 1


def complain(what: str, fix: str) -> None:
    """Two lines on stderr, whatever the two texts hold."""
    from llmops.cli.words import one_line

    console = Session().err
    console.print(f"error: {one_line(what, 400)}", style="red", markup=False, highlight=False, soft_wrap=True)
    console.print(f"fix: {one_line(fix, 400)}", markup=False, highlight=False, soft_wrap=True)
