"""The verb `prove`: do the checks find what they are there to find?"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from typer import Argument, Option

import llmops
from llmops.cli.session import Session


class ProofSize(StrEnum):
    """How much is tried."""

    ci = "ci"
    soak = "soak"


def prove(
    what: Annotated[
        list[str] | None, Argument(metavar="[ROOM]...", help="data, training ...; all if left out.")
    ] = None,
    size: Annotated[ProofSize, Option("--size", help="soak takes an hour and proves more.")] = ProofSize.ci,
    session: Session = Session(),
) -> None:
    """Inject faults into the checks of a room: found of injected, false alarms on clean cases, and the goal of each.

    Example: llmops prove data
    """
    proof = llmops.prove(what or [], session.at, size.value)
    session.show(proof)
    if not proof.passed:
        raise typer.Exit(1)
