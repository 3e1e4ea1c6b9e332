"""`llmops`: the table of verbs, in the order of a model's life, and the way in."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from llmops.cli import judge, keep, load, look, make, power, prove, use
from llmops.cli.canary import canary
from llmops.cli.choose import choose, forecast
from llmops.cli.verbs import INTERRUPTED, add_verb, complain

VERBS: dict[str, tuple[Callable[..., None], ...]] = {
    "Make a model": (make.new, make.run, make.prepare, make.plan, choose, forecast, make.train, make.stop),
    "Judge it": (
        judge.evaluate,
        judge.compare,
        power.power,
        judge.register,
        keep.adopt,
        keep.certify,
        judge.promote,
        canary,
        judge.rollback,
        prove.prove,
    ),
    "Use it": (keep.export, use.serve, use.chat, use.predict, use.health, load.load, use.curate, use.app),
    "Look": (look.inspect, look.show, look.list_),
}

# What is wrong with a request, whichever release of typer (and of the click inside it) says so.
UsageError: type[Any] = typer.BadParameter.__mro__[1]


def build() -> typer.Typer:
    """The command line as a typer application."""
    cli = typer.Typer(
        name="llmops",
        help="Operate small language models with proof at every step: rows in; a tuned, compared, served model out.",
        epilog="Start with: llmops run tone, or llmops new FILE. 'llmops VERB --help' shows an example of each.",
        no_args_is_help=False,
        add_completion=False,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
    )

    @cli.callback(invoke_without_command=True)
    def top(
        context: typer.Context,
        version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
    ) -> None:
        if version:
            from llmops import __version__

            typer.echo(__version__)
        elif context.invoked_subcommand is None:
            typer.echo(context.get_help())

    for panel, verbs in VERBS.items():
        for verb in verbs:
            add_verb(cli, verb, panel)
    return cli


def run(arguments: Sequence[str]) -> int:
    """Carry out one command line. Returns 0 (done), 1 (failed, or a gate refused) or 2 (a wrong request)."""
    command = typer.main.get_command(build())
    try:
        code = command.main(args=list(arguments), prog_name="llmops", standalone_mode=False)
    except UsageError as error:
        context = getattr(error, "ctx", None)
        complain(error.format_message(), f"{context.command_path if context else 'llmops'} --help shows what it takes")
        return 2
    except (KeyboardInterrupt, typer.Abort):
        complain("stopped by Ctrl-C", "nothing more was done")
        return INTERRUPTED
    return code if isinstance(code, int) else 0


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script, on what was typed unless `arguments` are given. Ends the process with the exit code."""
    # Threads of OpenMP that spin long while they wait starve whatever else runs (recipes/LOG.md has the numbers).
    # The library reads this once, when torch loads it.
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    # Large tensors in large pages: training 672 tokens/s against 597 to 655, in noisy runs. Read once by torch, too.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    try:
        code = run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read our output has gone, as with `| head`
        sys.stdout = None
        code = 1
    sys.exit(code)
