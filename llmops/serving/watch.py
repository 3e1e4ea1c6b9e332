"""`keep_watching`: a promotion or a canary takes effect while the endpoint runs, and no request is lost over it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from llmops.core.context import Surroundings
from llmops.serving.roster import Roster, Served

LOOK_EVERY_S = 1.0


@dataclass(frozen=True)
class Handover:
    """Who answers from now on, ready to, and who did until now. `why` is said aloud."""

    fresh: tuple[Served, ...]
    gone: tuple[Served, ...]
    why: str


# Given who is served and the models that a thumb came in for since it was asked last, says what has to change; None
# where nothing has. May take long: it loads what is new.
Successor = Callable[[Sequence[Served], AbstractSet[str]], Handover | None]


async def keep_watching(roster: Roster, successor: Successor, world: Surroundings, judged: set[str]) -> None:
    """Ask once a second. The new engine is ready before names are switched; the old one answers what it has begun.

    `judged` fills with models whose canary was given a thumb, and is emptied here. What cannot be loaded is said, and
    whoever answered goes on answering.
    """
    said = ""
    judged |= {one.version.split(":")[0] for one in roster.versions}  # thumbs that came while nobody watched
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        names = frozenset(judged)
        judged -= names
        try:
            handover = await asyncio.to_thread(successor, roster.versions, names)
        except Exception as error:  # files, engines and databases raise what they like, and a watch goes on
            judged |= names
            if str(error) != said:
                said = str(error)
                world.say(f"A promotion could not take effect, and nothing was changed: {said}")
            continue
        if handover is not None:
            roster.switch(handover.fresh, handover.gone)
            said = ""
            world.say(handover.why)
