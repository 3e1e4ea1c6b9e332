"""The verb `load`: how many people a version serves on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from typer import Option

import llmops
from llmops.cli.session import Session
from llmops.cli.use import Name

if TYPE_CHECKING:
    from rich.console import RenderableType

    from llmops.core.capacity import Capacity


def load(
    name: Name,
    users: Annotated[int, Option("--users", min=1, help="People who shall be served.")] = 100,
    think_s: Annotated[float, Option("--think", metavar="SECONDS", help="Each asks once in so many seconds.")] = 30.0,
    first_token_s: Annotated[
        float, Option("--first-token", metavar="SECONDS", help="99 of 100 first tokens shall come within this.")
    ] = 1.0,
    readers: Annotated[
        list[int] | None,
        Option("--readers", metavar="N", help="Readers at once; repeatable. 1, 8, 32, 64 by default."),
    ] = None,
    session: Session = Session(),
) -> None:
    """Measure a version under load on this machine, and say how many replicas a number of people needs.

    Example: llmops load tone --users 500
    """
    from llmops.core.capacity import Need
    from llmops.core.errors import RequestError

    if think_s <= 0 or first_token_s <= 0 or min(readers or (1,)) < 1:
        raise RequestError("a number of seconds or readers is not above 0", "leave it out, or give a larger one")
    need = Need(users=users, think_s=think_s, first_token_s=first_token_s)
    session.show(llmops.measure_load(name, session.at, need, tuple(readers or (1, 8, 32, 64))), load_table)


def load_table(found: Capacity) -> RenderableType:
    """A line for each number of readers, and what follows from them."""
    from rich.console import Group
    from rich.table import Table

    table = Table(title=f"{found.version} on {found.engine}, {found.machine}")
    for head in ("readers", "answers/s", "tokens/s", "first token p50", "p99", "failed"):
        table.add_column(head, justify="right")
    for one in found.points:
        first = (f"{one.first_token_p50_s:.2f} s", f"{one.first_token_p99_s:.2f} s")
        table.add_row(str(one.readers), f"{one.answers_s:.2f}", f"{one.tokens_s:.0f}", *first, str(one.failed))
    need, lines = found.need, []
    if (law := found.law) is not None:
        best = f"most at {law.best_readers} readers" if law.best_readers else "more readers never hurt"
        shape = f"contention {law.contention:.3f}, crosstalk {law.crosstalk:.5f}"
        lines.append(f"Scalability law: {shape}; {best}; off by {100 * law.error:.0f} % on average.")
    asked = f"{need.users} people who ask every {need.think_s:g} s"
    if found.replicas is None:
        lines.append(
            f"No replica here gives 99 of 100 first tokens within {need.first_token_s:g} s, even to one reader."
        )
    else:
        within = f"{found.replica_answers_s:.2f} answers/s each within {need.first_token_s:g} s"
        lines.append(f"{asked} need {found.replicas} such replicas ({within}).")
    return Group(table, *lines)
