"""Who answers while an endpoint runs: promotions and canaries, followed without a restart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import TYPE_CHECKING

from llmops.core.canary import Canary
from llmops.pipeline.engines import aliases
from llmops.store.workspace import Workspace

if TYPE_CHECKING:
    from llmops.serving.roster import Served
    from llmops.serving.watch import Handover

Wanted = dict[str, "Served"]  # by version


class Successor:
    """Says who answers for these names now, asked again and again: `serving.watch` puts it into effect.

    A promotion moves names to another version, a canary puts one beside production. A version that is served already
    keeps its engine; `load` opens one that is not.
    """

    def __init__(self, refs: Sequence[str], at: Workspace, load: Callable[[str], Served]) -> None:
        from llmops.store.catalogue import BASES

        self._asked = [ref for ref in refs if ref not in BASES]
        self._at = at
        self._load = load
        self._unfit: set[Canary] = set()  # those whose challenger could not be loaded

    def __call__(self, now: Sequence[Served], judged: AbstractSet[str]) -> Handover | None:
        """What has to change, or None. A canary of the models `judged` is read, and rolled back where thumbs say so."""
        from llmops.registry.canary import settle
        from llmops.serving.watch import Handover
        from llmops.store.catalogue import BASES

        for name in sorted(judged - set(BASES)):
            settle(self._at, name)
        before = {one.version: one for one in now}
        wanted = self._production(before)
        for name in dict.fromkeys(ref.split(":")[0] for ref in list(wanted)):
            self._try_beside(name, wanted, before)
        kept = {ref: before[ref] for ref in wanted if ref in before and _alike(before[ref], wanted[ref])}
        fresh = [one for ref, one in wanted.items() if ref not in kept]
        gone = [one for one in now if one.version not in BASES and one is not kept.get(one.version)]
        if not fresh and not gone:
            return None
        return Handover(tuple(fresh), tuple(gone), "; ".join(_news(fresh, before)) or "Names were let go.")

    def _production(self, before: Wanted) -> Wanted:
        """Who answers to the names that were asked for, canaries aside."""
        from llmops.registry.names import resolve

        wanted: Wanted = {}
        for ref in self._asked:
            version = resolve(self._at, ref)
            one = wanted.get(version.ref) or before.get(version.ref) or self._load(ref)
            also = wanted[version.ref].aliases if version.ref in wanted else ()
            names = tuple(dict.fromkeys((*also, *aliases(version, ref, self._at))))
            wanted[version.ref] = replace(one, aliases=names, trial=None)
        return wanted

    def _try_beside(self, name: str, wanted: Wanted, before: Wanted) -> None:
        """Put the version that a canary of `name` tries beside production; said where it cannot be loaded."""
        from llmops.registry.canary import running

        trial = running(self._at, name)
        if trial is None:
            self._unfit = {one for one in self._unfit if one.name != name}
        if trial is None or trial in self._unfit or trial.refs[0] not in wanted:
            return
        control, challenger = trial.refs
        if challenger not in wanted:
            try:
                one = before.get(challenger) or self._load(challenger)
            except Exception as error:  # files and engines raise what they like, and production goes on
                self._unfit.add(trial)
                self._at.world.say(f"{challenger} cannot be tried, so {control} answers everything: {error}")
                return
            wanted[challenger] = replace(one, aliases=(), trial=None)
        wanted[control] = replace(wanted[control], trial=trial)


def _alike(one: Served, other: Served) -> bool:
    return set(one.aliases) == set(other.aliases) and one.trial == other.trial


def _news(fresh: Sequence[Served], before: Wanted) -> list[str]:
    """What changes, in sentences."""
    said = []
    for one in fresh:
        was = before.get(one.version)
        said += [f"{name} is now {one.version}" for name in one.aliases if was is None or name not in was.aliases]
        if one.trial and (was is None or was.trial != one.trial):
            does = "answers" if one.trial.how == "split" else "answers again, unheard,"
            said.append(f"{one.trial.refs[1]} {does} {one.trial.share:.0%} of the conversations of {one.version}")
        elif was is not None and was.trial and one.trial is None:
            said.append(f"{one.version} answers everything again")
    return said
