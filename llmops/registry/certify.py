"""`certify`: is each form of a version's weights still what was trained? Asked the same held-out rows, stage by stage.

Every limit is a multiple of a noise floor that is measured, not guessed: what the same change of form (merging in
float32, q8_0, another engine) does to weights that are known to be right, which is the bare base. Axes: P places, K
tokens of a place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from llmops.core.certificate import Certificate, Check, Stage, StageName
from llmops.core.dataset import Message
from llmops.lm.stage import Look, Row, Speaker, Spoken

# How many times the floor a limit is. What clean exports reached is in recipes/LOG.md.
TIMES = 4.0
# The mean divergence hangs on how sure a model is of its answers: `tone` moves 0.07 times as far as the bare base, an
# adapter that TRL made in 16 steps 4.05 times.
MEAN_TIMES = 10.0
ROUNDING_NATS = 1e-6  # of a float32 log-probability: nothing finer is told apart
HALF = 0.5  # of what the adapter does must be shown to survive, where noise leaves that much room
GREEDY_TOKENS = 8

Interval = Callable[[np.ndarray], tuple[float, float]]


@dataclass(frozen=True)
class Question:
    """A held-out row: what was said before the reply, and the tokens of the reply with its end token. Of running text,
    its first half (`text`), and the tokens that go on from there."""

    messages: tuple[Message, ...]
    reply_ids: tuple[int, ...]
    text: str = ""

    def prompt_ids(self, speaker: Speaker) -> list[int]:
        """What a stage makes of all that stands before the reply."""
        return speaker.text_ids(self.text) if self.text else speaker.prompt_ids(self.messages)


@dataclass(frozen=True)
class Form:
    """One stage to ask, and two speakers that differ by its change of form alone: they give the noise floor.

    `places` is how many places of a reply are looked at, at most.
    """

    name: StageName
    artefact: str
    sha256: str
    speaker: Speaker
    floor: tuple[Speaker, Speaker]
    places: int = 8


class Seen(NamedTuple):
    """The distributions of every row, and the probability (nats) of what stands there."""

    looks: list[Look]
    rows: list[list[int]]
    places: list[list[int]]

    def targets(self) -> list[np.ndarray]:
        """log p of the token that stands after each place; NaN where the stage did not name it."""
        return [
            np.array([_of(look, place, row[where[place] + 1]) for place in range(len(where))])
            for look, row, where in zip(self.looks, self.rows, self.places, strict=True)
        ]


def certify(
    version: str,
    trained: Speaker,
    bare: Speaker,
    forms: Iterable[Form],
    questions: Sequence[Question],
    spread: Interval,
) -> Certificate:
    """The certificate of `version`: every form against `trained`, the adapter on its base as it was evaluated.

    `bare` is the base without the adapter; `spread` gives the 95 % interval of the mean of paired differences.
    """
    prompts = [question.prompt_ids(trained) for question in questions]
    said = trained.greedy(prompts, GREEDY_TOKENS)
    asked = _Asked(trained, bare, questions, prompts, said, spread)
    stages, most = [], [0]
    for form in forms:
        checks = tuple(asked.checks(form))
        stages.append(Stage(name=form.name, artefact=form.artefact, sha256=form.sha256, checks=checks))
        most.append(sum(len(where) for where in asked.places(form)))
    return Certificate(version=version, rows=len(questions), positions=max(most), probes=most[-1], stages=tuple(stages))


@dataclass
class _Asked:
    """What every form is held against."""

    trained: Speaker
    bare: Speaker
    questions: Sequence[Question]
    prompts: list[list[int]]
    said: list[Spoken]
    spread: Interval

    def places(self, form: Form) -> list[list[int]]:
        """Where to look in each row: from before the reply's first token to before its last, evenly."""
        found = []
        for prompt, question in zip(self.prompts, self.questions, strict=True):
            first, last = len(prompt) - 1, len(prompt) + len(question.reply_ids) - 2
            found.append(sorted({int(place) for place in np.linspace(first, last, form.places)}))
        return found

    def see(self, speaker: Speaker, form: Form) -> Seen:
        rows = [[*prompt, *question.reply_ids] for prompt, question in zip(self.prompts, self.questions, strict=True)]
        places = self.places(form)
        return Seen(speaker.look(rows, places), rows, places)

    def checks(self, form: Form) -> list[Check]:
        """Every check of one form. Where it reads other tokens, nothing behind that can be compared."""
        own = [question.prompt_ids(form.speaker) for question in self.questions]
        texts = [_same_prompts(self.prompts, own), _same_ends(self.trained.end_ids, form.speaker.end_ids)]
        if not all(check.passed for check in texts):
            return texts
        floor = _Floor.of(self.see(form.floor[0], form), self.see(form.floor[1], form))
        before, after = self.see(self.trained, form), self.see(form.speaker, form)
        without = self.see(self.bare, form)
        spoken = form.speaker.greedy(self.prompts, GREEDY_TOKENS)
        return [
            *texts,
            *_distributions(before, after, floor),
            self._effect(before, after, without, floor),
            self._greedy(spoken, floor),
            self._right(spoken),
            *self._cost(before, after, floor),
        ]

    def _effect(self, before: Seen, after: Seen, without: Seen, floor: _Floor) -> Check:
        effect, lost = _divergence(before, without).mean(), _divergence(before, after).mean()
        limit = max(HALF, 1 - MEAN_TIMES * max(floor.mean_nats, ROUNDING_NATS**2) / effect) if effect else HALF
        why = f"The adapter moves the base by {effect:.3g} nats a token; that much of it must be left."
        return Check(
            name="share of the adapter's effect that is left",
            value=float(1 - lost / effect) if effect else 0.0,
            limit=float(limit),
            at_least=True,
            why=why,
        )

    def _greedy(self, spoken: Sequence[Spoken], floor: _Floor) -> Check:
        """How much likelier another token was, by the trained model, where an answer took its own."""
        rows = [[*prompt, *one.ids, *self._end(one)] for prompt, one in zip(self.prompts, spoken, strict=True)]
        places = [list(range(len(prompt) - 1, len(row) - 1)) for prompt, row in zip(self.prompts, rows, strict=True)]
        seen = Seen(self.trained.look(rows, places), rows, places)
        regrets = [
            float((look.logprobs_PK.max(-1) - target).max(initial=0.0))
            for look, target in zip(seen.looks, seen.targets(), strict=True)
        ]
        same = sum(one == other for one, other in zip(spoken, self.said, strict=True))
        worst = int(np.argmax(regrets))
        return Check(
            name="greedy answers: nats by which a token was not the likeliest",
            value=regrets[worst],
            limit=floor.reach_nats,
            why=f"{same} of {len(spoken)} answers are the same to the last token; the worst is of row {worst}.",
        )

    def _end(self, spoken: Spoken) -> list[int]:
        return [min(self.trained.end_ids)] if spoken.ended and len(self.trained.end_ids) == 1 else []

    def _right(self, spoken: Sequence[Spoken]) -> Check:
        """The task's own measure, on answers: as many right as before, as far as these rows can tell."""
        truth = [question.reply_ids[:-1] for question in self.questions]
        were = np.array([one.ids == right for one, right in zip(self.said, truth, strict=True)], float)
        are = np.array([one.ids == right for one, right in zip(spoken, truth, strict=True)], float)
        _, high = self.spread(are - were)
        return Check(
            name="right answers more than before, upper end",
            value=high,
            limit=0.0,
            at_least=True,
            why=f"{int(are.sum())} of {len(are)} answers are right, and {int(were.sum())} were.",
        )

    def _cost(self, before: Seen, after: Seen, floor: _Floor) -> list[Check]:
        """The likelihood of the held-out replies: no lower than before, beyond noise."""
        changes = _changes(before, after)
        if floor.cost_nats is None or len(changes) < 2:
            return []
        _, high = self.spread(changes)
        return [
            Check(
                name="nats a token gained on held-out replies, upper end",
                value=high,
                limit=-TIMES * max(floor.cost_nats, ROUNDING_NATS),
                at_least=True,
                why=f"The mean change is {changes.mean():+.3g}.",
            )
        ]


@dataclass(frozen=True)
class _Floor:
    """What the change of form does to weights that are right: mean divergence, largest move of a likely token, and
    largest change of a reply's likelihood a token, all in nats; None where the stage named too few of them."""

    mean_nats: float
    reach_nats: float
    cost_nats: float | None

    @classmethod
    def of(cls, before: Seen, after: Seen) -> _Floor:
        moves = [
            abs(_of(one, place, best) - _of(two, place, best))
            for one, two in zip(before.looks, after.looks, strict=True)
            for place in range(len(one.ids_PK))
            for best in two.ids_PK[place][np.argsort(-two.logprobs_PK[place])[:3]]
        ]
        changes = _changes(before, after)
        return cls(
            mean_nats=float(_divergence(before, after).mean()),
            reach_nats=TIMES * max(float(np.nanmax(moves)), ROUNDING_NATS),
            cost_nats=float(np.abs(changes).max()) if 2 * len(changes) >= len(before.rows) else None,
        )


def _distributions(before: Seen, after: Seen, floor: _Floor) -> list[Check]:
    found = _divergence(before, after)
    worst = int(np.argmax(found))
    flips = _flips(before, after)
    return [
        Check(
            name="mean divergence in nats a token",
            value=float(found.mean()),
            limit=MEAN_TIMES * max(floor.mean_nats, ROUNDING_NATS**2),
            why=f"The same change of form moves the bare base by {floor.mean_nats:.3g}; the worst place, {worst}, "
            f"by {found[worst]:.3g}.",
        ),
        Check(
            name="likeliest tokens that changed: nats between them",
            value=float(flips.max(initial=0.0)),
            limit=floor.reach_nats,
            why=f"{int((flips > 0).sum())} of {len(flips)} likeliest tokens changed.",
        ),
    ]


def _divergence(before: Seen, after: Seen) -> np.ndarray:
    """KL(before || after) in nats of every place. Tokens that `after` does not name count as one."""
    found = []
    for one, two in zip(before.looks, after.looks, strict=True):
        p_PK = np.exp(np.take_along_axis(_by_id(one), two.ids_PK, -1))
        q_PK = np.exp(two.logprobs_PK.astype(np.float64))
        ratio_PK = np.log(np.maximum(p_PK, 1e-300)) - np.log(np.maximum(q_PK, 1e-300))
        p_rest, q_rest = np.clip(1 - p_PK.sum(-1), 0, 1), np.clip(1 - q_PK.sum(-1), 1e-12, 1)
        whole = two.ids_PK.shape[-1] == one.ids_PK.shape[-1]
        rest_P = 0.0 if whole else p_rest * np.log(np.maximum(p_rest, 1e-12) / q_rest)
        found.append(np.maximum((p_PK * ratio_PK).sum(-1) + rest_P, 0.0))
    return np.concatenate(found)


def _flips(before: Seen, after: Seen) -> np.ndarray:
    """By how many nats `before` prefers its own likeliest token to that of `after`, for every place."""
    found = []
    for one, two in zip(before.looks, after.looks, strict=True):
        logprobs_PV = _by_id(one)
        chosen_P = np.take_along_axis(two.ids_PK, two.logprobs_PK.argmax(-1)[:, None], -1)
        found.append(logprobs_PV.max(-1) - np.take_along_axis(logprobs_PV, chosen_P, -1)[:, 0])
    return np.concatenate(found)


def _changes(before: Seen, after: Seen) -> np.ndarray:
    """Mean change of log p of what stands there, by row, nats a token."""
    pairs = zip(before.targets(), after.targets(), strict=True)
    rows = [after_P - before_P for before_P, after_P in pairs]
    return np.array([np.nanmean(row) for row in rows if not np.isnan(row).all()])


def _by_id(look: Look) -> np.ndarray:
    """Log-probabilities by token id, of a stage that gives whole distributions."""
    return np.asarray(look.logprobs_PK, np.float64)


def _of(look: Look, place: int, token: int) -> float:
    """log p of one token at one place; NaN where it was not named."""
    if look.ids_PK.shape[-1] > token and look.ids_PK[place, token] == token:
        return float(look.logprobs_PK[place, token])
    found = np.flatnonzero(look.ids_PK[place] == token)
    return float(look.logprobs_PK[place, found[0]]) if len(found) else float("nan")


def _same_prompts(trained: Sequence[Row], own: Sequence[Row]) -> Check:
    different = [place for place, (one, two) in enumerate(zip(trained, own, strict=True)) if list(one) != list(two)]
    why = ""
    if different:
        one, two = trained[different[0]], own[different[0]]
        same = next((at for at, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
        why = (
            f"Prompt {different[0]} was {len(one)} tokens and is {len(two)}: they part at token {same} "
            f"({list(one[same : same + 4])} before, {list(two[same : same + 4])} now)."
        )
    return Check(name="prompts that are other tokens", value=len(different), limit=0, why=why)


def _same_ends(trained: frozenset[int], own: frozenset[int]) -> Check:
    why = f"An answer ended with {sorted(trained)}, and now with {sorted(own)}." if trained != own else ""
    return Check(
        name="tokens that end an answer and did not, or no longer do", value=len(trained ^ own), limit=0, why=why
    )
