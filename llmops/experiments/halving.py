"""Successive halving: every setting is trained a little, the better ones longer (Jamieson and Talwalkar 2016,
arXiv:1502.07943).

Each rung is a training of its own whose learning rate falls to zero at its end, so that what is compared is what a
training of that length gives. With `KEEP` a third, all rungs below the last together cost at most half of it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

KEEP = 3  # one of so many goes on
# Seven steps of 16 tweets left LoRA at the majority's accuracy (0.69), so a training that short tells nothing.
FEWEST_STEPS = 15


@dataclass(frozen=True)
class Costs:
    """What an entrant costs: seconds of its whole training, the steps of it, and seconds around any training."""

    whole_s: float
    steps: int
    around_s: float


@dataclass(frozen=True)
class Ladder:
    """Who begins, and the share of the whole training that each rung gets; () where the budget allows for none."""

    names: tuple[str, ...]
    shares: tuple[float, ...]

    def sizes(self) -> tuple[int, ...]:
        """How many are trained on each rung."""
        return tuple(max(1, len(self.names) // KEEP**rung) for rung in range(len(self.shares)))


def ladder(costs: Mapping[str, Costs], budget_s: float) -> Ladder:
    """The longest ladder that the budget pays for. The dearest leave first where it is short, then rungs."""
    names = list(costs)
    while names:
        rungs = 1
        while len(names) // KEEP**rungs >= 1 and rungs < 4 and len(names) > 1:
            rungs += 1
        for number in range(rungs, 0, -1):
            made = _fit([costs[name] for name in names], number, budget_s)
            if made and all(_enough(costs[name].steps, made[0]) for name in names):
                return Ladder(tuple(names), made)
        names.remove(max(names, key=lambda name: costs[name].whole_s + costs[name].around_s))
    return Ladder((), ())


def _enough(steps: int, share: float) -> bool:
    """Whether so short a training tells anything; a whole one does."""
    return share >= 1 or share * steps >= FEWEST_STEPS


def _fit(costs: Sequence[Costs], rungs: int, budget_s: float) -> tuple[float, ...]:
    """Shares of `rungs` rungs that fit the budget, supposing that the dearest survive; () where none do."""
    dearest = sorted(costs, key=lambda cost: -(cost.whole_s + cost.around_s))
    relative = [KEEP ** -(rungs - 1 - rung) for rung in range(rungs)]
    training = around = 0.0
    for rung, share in enumerate(relative):
        there = dearest[: max(1, len(costs) // KEEP**rung)]
        training += share * sum(cost.whole_s for cost in there)
        around += sum(cost.around_s for cost in there)
    if around >= budget_s:
        return ()
    top = min(1.0, (budget_s - around) / training)
    return tuple(top * share for share in relative)


def survivors(scores: Mapping[str, float], keep: int) -> tuple[str, ...]:
    """The `keep` names with the highest scores, the best first; the earlier where two are equal."""
    return tuple(sorted(scores, key=lambda name: -scores[name])[:keep])
