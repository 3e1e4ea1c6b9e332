"""`keep_watching`: a promotion takes effect while the endpoint runs, and no request is lost over it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llmops.core.context import Surroundings
from llmops.core.errors import LlmopsError
from llmops.serving.roster import Roster, Served

LOOK_EVERY_S = 1.0


@dataclass(frozen=True)
class Handover:
    """Who answers from now on, ready to, and who did until now. `why` is said aloud."""

    fresh: tuple[Served, ...]
    gone: tuple[Served, ...]
    why: str


# Given who is served, says what has to change; None where nothing has. May take long: it loads what is new.
Successor = Callable[[Sequence[Served]], Handover | None]


async def keep_watching(roster: Roster, successor: Successor, world: Surroundings) -> None:
    """Ask once a second. The new engine is ready before names are switched; the old one answers what it has begun.

    What cannot be loaded is said, and whoever answered goes on answering.
    """
    said = ""
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        try:
            handover = await asyncio.to_thread(successor, roster.versions)
        except (LlmopsError, OSError, RuntimeError) as error:
            if str(error) != said:
                said = str(error)
                world.say(f"A promotion could not take effect, and nothing was changed: {said}")
            continue
        if handover is not None:
            roster.switch(handover.fresh, handover.gone)
            said = ""
            world.say(handover.why)
