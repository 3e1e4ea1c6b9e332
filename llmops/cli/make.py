"""The verbs that make a model: `new run prepare plan train stop`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

import llmops
from llmops.cli.recipes import NewRecipe, find_recipe, recipe_name
from llmops.cli.session import FetchingSession, MachineOptions, Session
from llmops.cli.verbs import INTERRUPTED, complain
from llmops.core.errors import RequestError
from llmops.store.files import writing

if TYPE_CHECKING:
    from llmops.core.plan import Plan

Recipe = Annotated[
    str, Argument(metavar="RECIPE", help="Name of a recipe (tone), or its file (my.yaml, recipes/tone.py).")
]
MACHINE_OPTIONS = "--device, --threads, --max-memory, --processes and --budget"
Resume = Annotated[
    str | None, Option("--resume", metavar="RUN", help="Go on with an interrupted run (its id, or last).")
]
Sets = Annotated[
    list[str] | None, Option("--set", metavar="FIELD=VALUE", help="Change one field of the recipe; repeatable.")
]


@dataclass(frozen=True)
class Changes:
    """What to change in a recipe, and what to try several values of."""

    sets: Sets = None
    vary: Annotated[
        list[str] | None,
        Option("--vary", metavar="FIELD=A,B", help="Train with each of these values; repeatable: every combination."),
    ] = None


@dataclass(frozen=True)
class Columns:
    """Which column of a file is what, where a person knows better than a guess."""

    text: Annotated[str | None, Option("--text", metavar="COLUMN", help="Holds the texts to label.")] = None
    label: Annotated[str | None, Option("--label", metavar="COLUMN", help="Holds their labels.")] = None
    number: Annotated[str | None, Option("--number", metavar="COLUMN", help="Holds a number to predict.")] = None
    prompt: Annotated[str | None, Option("--prompt", metavar="COLUMN", help="Holds the prompts.")] = None
    reply: Annotated[str | None, Option("--reply", metavar="COLUMN", help="Holds their replies.")] = None

    def named(self) -> dict[str, str]:
        """Those that were given."""
        return {what: column for what, column in vars(self).items() if column is not None}


def new(
    file: Annotated[Path, Argument(metavar="FILE", help="A CSV, JSONL, JSON, text, Parquet or Arrow file; .gz too.")],
    name: Annotated[str | None, Option("--name", help="Name of the recipe; the file's own if left out.")] = None,
    columns: Columns = Columns(),
    out: Annotated[
        Path | None, Option("--out", "-o", metavar="FILE", help="Where to write it; NAME.yaml if left out.")
    ] = None,
    session: Session = Session(),
) -> None:
    """Look at a file, map its columns, show five rows as a model would see them, and write a runnable recipe.

    Example: llmops new reviews.csv
    """
    look, text = llmops.new(file, name, session.at, columns.named())
    target = out or Path(f"{recipe_name(text)}.yaml")
    if target.exists():
        raise RequestError(f"{target} exists already", "name another file with --out, or remove it")
    with writing(target) as draft:
        draft.write_text(text, encoding="utf-8")
    session.show(NewRecipe(target, text, look))
    session.say(f"wrote {target}; next: llmops run {target}")


def run(
    recipe: Recipe,
    changes: Changes = Changes(),
    machine: MachineOptions = MachineOptions(),
    resume: Resume = None,
    app: Annotated[bool, Option("--app", help="Open the app on the result.")] = False,
    session: FetchingSession = FetchingSession(),
) -> None:
    """Walk the whole life of a model: prepare, plan, train, evaluate, compare, register, promote; say what came out.

    With --vary it is a sweep instead: every combination is trained and measured, several at a time where the machine
    allows, and ranked. The same command again goes on where it was, and shows the board once all is done.

    Example: llmops run tone --vary method.rank=4,16 --set training.epochs=1
    """
    wishes = machine.wishes()
    value = find_recipe(recipe, changes.sets or [], session.at)
    if changes.vary:
        if resume is not None:
            raise RequestError("a sweep goes on by itself", "leave out --resume, and give the same command again")
        session.show(llmops.sweep(value, changes.vary, session.at, wishes))
    else:
        session.show(llmops.run(value, session.at, wishes, resume))
    if app:
        from llmops.cli.use import open_app

        open_app(session)


def prepare(recipe: Recipe, sets: Sets = None, session: FetchingSession = FetchingSession()) -> None:
    """Fetch the rows of a recipe, drop what cannot be used (each with its reason), deal them into train and held out.

    Example: llmops prepare tone
    """
    session.show(llmops.prepare(find_recipe(recipe, sets or [], session.at), session.at))


def plan(
    recipe: Recipe,
    sets: Sets = None,
    machine: MachineOptions = MachineOptions(),
    session: FetchingSession = FetchingSession(),
) -> None:
    """Look at this machine and decide every open number of a recipe, each with its reason. Nothing is trained.

    Example: llmops plan tone --budget 120
    """
    wishes = machine.wishes()
    value = find_recipe(recipe, sets or [], session.at)
    session.show(llmops.plan(value, llmops.prepare(value, session.at), session.at, wishes))


def train(
    plan: Annotated[str, Argument(metavar="PLAN", help="A stored plan: its id, a prefix of it, or last.")] = "last",
    resume: Resume = None,
    seeds: Annotated[int, Option("--seeds", min=1, max=64, help="Train and evaluate it by so many seeds.")] = 1,
    machine: MachineOptions = MachineOptions(),
    session: FetchingSession = FetchingSession(),
) -> None:
    """Carry out a plan. Ctrl-C or 'llmops stop' leaves a run that --resume continues.

    --processes N trains in N processes of this machine. On several machines: 'llmops plan RECIPE --processes N' for all
    of them together, the workspace on a file system that they share, and on each 'torchrun --nnodes ... -m llmops train
    PLAN'. A process knows its place by RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT, whoever sets them.

    Example: llmops train last
    """
    chosen = planned(plan, resume, machine, session)
    if seeds > 1:
        if resume is not None:
            raise RequestError("--seeds makes new runs, and --resume goes on with one", "leave one of them out")
        session.show(llmops.train_seeds(chosen, seeds, session.at))
        return
    done = llmops.train(chosen, session.at, resume)
    session.show(done)
    if done.status != "finished":
        complain(
            f"run {done.id} is {done.status} at step {done.step} of {done.steps}", f"llmops train --resume {done.id}"
        )
        raise typer.Exit(INTERRUPTED if done.status == "interrupted" else 1)


def planned(ref: str, resume: str | None, machine: MachineOptions, session: Session) -> Plan:
    """The plan to carry out: the resumed run's own; else the stored one, decided anew where options differ."""
    from llmops.core.dataset import DatasetManifest
    from llmops.core.plan import Plan

    wants_other = machine != MachineOptions()
    if resume is not None:
        if wants_other:
            raise RequestError("a resumed run keeps its plan", f"leave out {MACHINE_OPTIONS}")
        return session.at.get(Plan, session.at.run(resume).plan)
    stored = session.at.get(Plan, ref)
    if not wants_other:
        return stored
    if "RANK" in os.environ:  # each would decide by what it measures
        raise RequestError("processes that torchrun started need one plan", f"plan first; leave out {MACHINE_OPTIONS}")
    return llmops.plan(stored.recipe, session.at.get(DatasetManifest, stored.dataset), session.at, machine.wishes())


def stop(
    run: Annotated[str, Argument(metavar="RUN", help="A run: its id, a prefix, a recipe's name, or last.")] = "last",
    session: Session = Session(),
) -> None:
    """Ask a run to stop after its current step. It stays valid and can be resumed.

    Example: llmops stop last
    """
    session.show(llmops.stop(run, session.at))
