"""From a batch of lessons to its loss, pack by pack: which log-probabilities an objective compares.

A loss is a mean over a batch, of which a pack holds a part: each part gives its share, and the shares add up. So memory
is that of one pack, and what a lesson compares is always in one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from llmops.core.method import DPO, KTO, ORPO
from llmops.core.plan import Knobs
from llmops.lm.lessons import Lesson
from llmops.lm.pack import Pack, pack_rows, states_at, token_logprobs
from llmops.lm.render import Example
from llmops.training import objectives
from llmops.training.processes import Team


@dataclass(frozen=True)
class Batch:
    """Lessons, and each example's log-probability before step 0 (`start_BE`) where the objective compares with it."""

    lessons: Sequence[Lesson]
    start_BE: torch.Tensor | None = None

    def at(self, places: Sequence[int]) -> Batch:
        """The lessons at some places."""
        start_BE = None if self.start_BE is None else self.start_BE[list(places)]
        return Batch([self.lessons[place] for place in places], start_BE)

    @property
    def learned_tokens(self) -> int:
        """Tokens of the first example of each lesson that the loss rewards."""
        return sum(len(lesson.examples[0].places) for lesson in self.lessons)


class Part(NamedTuple):
    """Some lessons of a batch, by their places in it, and the log-probabilities of each of their examples' tokens.

    `nothing` is a zero with the graph of the pack: the loss of a process that has no lesson left.
    """

    places: list[int]
    logps: list[tuple[torch.Tensor, ...]]
    nothing: torch.Tensor

    def sums(self) -> torch.Tensor:
        """Of whole replies, one row a lesson, one column an example."""
        return torch.stack([torch.stack([tokens.sum() for tokens in one]) for one in self.logps])


class Share(NamedTuple):
    """A part's share of the batch's loss, and how many of its lessons the model already gets right (NaN: no such)."""

    loss: torch.Tensor
    agreed: float


def packs_of(rows: Sequence[Sequence[int]], together: int, knobs: Knobs, team: Team) -> list[Pack]:
    """The packs of a batch that this process takes.

    Where the base lies in parts, every process must ask for them equally often: who has fewer packs gets an empty one.
    """
    most = min(knobs.pack_tokens, math.ceil(sum(map(len, rows)) / team.size))
    packs = list(team.share(pack_rows(rows, most, together)))
    if knobs.shard == "full":
        packs += [Pack(ids=[0], positions=[0])] * (team.most(len(packs)) - len(packs))
    return packs


def token_logps(model: Any, examples: Sequence[Sequence[Example]], knobs: Knobs, team: Team) -> Iterator[Part]:
    """The log-probabilities of the learned tokens of each example, in parts of one pack each.

    `examples` are those of each lesson, equally many. A token at position t is predicted from position t - 1, and the
    head sees those positions only.
    """
    together = len(examples[0])
    flat = [example for some in examples for example in some]
    for pack in packs_of([example.read for example in flat], together, knobs, team):
        before: list[int] = []
        targets: list[int] = []
        sizes: list[int] = []
        for index, path in zip(pack.rows, pack.paths, strict=True):
            places = flat[index].places
            before += [path[place - 1] for place in places]
            targets += [flat[index].ids[place] for place in places]
            sizes.append(len(places))
        before_ND = states_at(model, pack, before, knobs.device)
        logps_N = token_logprobs(model, before_ND, torch.tensor(targets, dtype=torch.long, device=knobs.device))
        pieces = logps_N.split(sizes) if sizes else ()
        yield Part(
            [index // together for index in pack.rows[::together]],
            [tuple(pieces[start : start + together]) for start in range(0, len(pieces), together)],
            logps_N.sum() * 0,
        )


def sft_share(objective: Any, batch: Batch, part: Part, moved: torch.Tensor | None) -> Share:
    """Mean cross-entropy of the batch's learned tokens."""
    now_N = torch.cat([tokens for (tokens,) in part.logps])
    return Share(objectives.sft(now_N).sum() / batch.learned_tokens, float("nan"))


def dpo_share(objective: DPO, batch: Batch, part: Part, moved: torch.Tensor | None) -> Share:
    """Mean over the batch's pairs; right is a pair whose chosen reply has gained more than the rejected one."""
    assert batch.start_BE is not None and objective.beta is not None and objective.label_smoothing is not None
    now_P2, start_P2 = part.sums(), batch.start_BE[part.places]
    loss_P = objectives.dpo(now_P2, start_P2, objective.beta, objective.label_smoothing)
    gained_P2 = (now_P2 - start_P2).detach()
    return Share(loss_P.sum() / len(batch.lessons), float((gained_P2[:, 0] > gained_P2[:, 1]).sum()))


def kto_share(objective: KTO, batch: Batch, part: Part, moved: torch.Tensor | None) -> Share:
    """Mean over the batch's replies; right is a liked one that has gained more than strangers' have, or neither."""
    assert batch.start_BE is not None and moved is not None and objective.beta is not None
    assert objective.liked_weight is not None and objective.disliked_weight is not None
    now_R, start_R = part.sums()[:, 0], batch.start_BE[part.places, 0]
    liked_R = torch.tensor([batch.lessons[place].liked for place in part.places], device=now_R.device)
    weights = (objective.liked_weight, objective.disliked_weight)
    loss_R = objectives.kto(now_R, start_R, liked_R, moved, objective.beta, weights)
    gained_R = (now_R - start_R - moved).detach() > 0
    return Share(loss_R.sum() / len(batch.lessons), float((gained_R == liked_R).sum()))


def orpo_share(objective: ORPO, batch: Batch, part: Part, moved: torch.Tensor | None) -> Share:
    """Mean cross-entropy of the chosen rows' tokens, and beta times the mean odds-ratio loss of the pairs."""
    assert objective.beta is not None
    replies = [
        (chosen[batch.lessons[place].examples[0].start - 1 :], rejected)
        for place, (chosen, rejected) in zip(part.places, part.logps, strict=True)
    ]
    mean_P2 = torch.stack([torch.stack([tokens.mean() for tokens in pair]) for pair in replies])
    chosen_N = torch.cat([chosen for chosen, _ in part.logps])
    loss = objectives.sft(chosen_N).sum() / batch.learned_tokens
    odds_P = objectives.orpo(mean_P2)
    right = float((mean_P2.detach()[:, 0] > mean_P2.detach()[:, 1]).sum())
    return Share(loss + objective.beta * odds_P.sum() / len(batch.lessons), right)


SHARES: dict[str, Callable[[Any, Batch, Part, torch.Tensor | None], Share]] = {
    "sft": sft_share,
    "dpo": dpo_share,
    "kto": kto_share,
    "orpo": orpo_share,
}
NEEDS_START = frozenset(("dpo", "kto"))


def shares(model: Any, batch: Batch, knobs: Knobs, team: Team) -> Iterator[Share]:
    """This process's shares of a batch's loss. Each holds the graph of its own pack: go backward before the next."""
    objective, moved = knobs.objective, None
    compared = [lesson.examples for lesson in batch.lessons]
    if isinstance(objective, KTO):  # strangers' replies say how far the policy moved, and are not learned from
        moved = _moved(model, batch, knobs, team)
        compared = [examples[:1] for examples in compared]
    for part in token_logps(model, compared, knobs, team):
        if part.places:
            yield SHARES[objective.kind](objective, batch, part, moved)
        else:
            yield Share(part.nothing, 0.0)


def _moved(model: Any, batch: Batch, knobs: Knobs, team: Team) -> torch.Tensor:
    assert batch.start_BE is not None
    now_R = torch.zeros(len(batch.lessons), device=knobs.device)
    with torch.no_grad():
        for part in token_logps(model, [lesson.examples[1:] for lesson in batch.lessons], knobs, team):
            if part.places:
                now_R[part.places] = part.sums()[:, 0]
    team.sum([now_R])
    return objectives.kl_estimate(now_R, batch.start_BE[:, 1])
