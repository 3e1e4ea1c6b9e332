"""What was forgotten: a base and its tuned model are asked the same, and each answer is compared with itself.

Abilities stand in a table. A rule marks every answer, the same before and after, so a rule that is a little wrong is
equally wrong twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from llmops.core.context import Track, silent
from llmops.core.dataset import Message
from llmops.core.forgetting import Ability, Instance, Suggestion
from llmops.core.method import FullTuning, LowRank
from llmops.core.plan import Plan
from llmops.core.report import Subject
from llmops.core.serving import Sampling
from llmops.core.suites import Choose, Question
from llmops.core.value import digest
from llmops.evals.asked import HARMFUL, HARMLESS, INSTRUCTIONS, Asked, helped, refused
from llmops.evals.choices import choose as choose_likeliest
from llmops.evals.evaluate import Model
from llmops.evals.paired import change, mean
from llmops.evals.suite import question_suite

MOST_TOKENS = 40  # of an answer
TEXT_CHARACTERS = 600  # of a general text; the rest is not read
SHARE_MARGIN = 0.05  # five answers of a hundred
TEXT_MARGIN = 0.03  # bits per byte: about 3 % of what a small model needs for English


class Marked(NamedTuple):
    """How well each of N things went (higher is better), its weight, and what was said."""

    asked: list[str]
    marks_N: np.ndarray
    weights_N: np.ndarray
    said: list[str]


@dataclass(frozen=True)
class Material:
    """What is not written here: general texts, and questions of a suite with options to choose from.

    `most` of the prompts that are written here are asked of each kind, drawn by their hashes; None: all.
    """

    texts: Sequence[str] = ()
    questions: Sequence[Question] = ()
    most: int | None = None


@dataclass(frozen=True)
class Test:
    """One ability: its measure for people, what counts as a loss, and how a model is tried.

    `try_` gives None where the material has nothing to try it with.
    """

    measure: str
    about: str
    margin: float
    sign: float
    try_: Callable[[Model, Material, Track], Marked | None]


def read_texts(model: Model, material: Material, track: Track) -> Marked | None:
    """What general text costs the model."""
    if not material.texts:
        return None
    short = [text[:TEXT_CHARACTERS] for text in material.texts]
    bytes_N = np.array([max(1, len(text.encode("utf-8", "surrogatepass"))) for text in short], dtype=np.float64)
    nats_N = -np.array([nats for nats, _ in model.text_logprobs(short, track)])
    return Marked(short, nats_N / math.log(2) / bytes_N, bytes_N, [""] * len(short))


def choose(model: Model, material: Material, track: Track) -> Marked | None:
    """Multiple choice by likelihood: the likeliest option."""
    questions = material.questions
    if not questions:
        return None
    suite = question_suite("forgetting", Choose(), questions, ())
    report = choose_likeliest(model, Subject(kind="base", ref="either"), suite, questions, track)
    marks_N = np.array([answer.marks["accuracy"] for answer in report.answers])
    return Marked(
        [one.asked for one in questions], marks_N, np.ones(len(marks_N)), [a.answered for a in report.answers]
    )


def follow(asked: Sequence[Asked]) -> Callable[[Model, Material, Track], Marked]:
    """How many of these prompts are answered as they should be."""

    def ask(model: Model, material: Material, track: Track) -> Marked:
        drawn = sorted(asked, key=lambda one: digest(["asked", one.prompt]))[: material.most]
        prompts = [(Message(role="user", content=one.prompt),) for one in drawn]
        said = model.reply(prompts, Sampling(max_tokens=MOST_TOKENS), track)
        marks = [float(one.check(answer)) for one, answer in zip(drawn, said, strict=True)]
        return Marked([one.prompt for one in drawn], np.array(marks), np.ones(len(marks)), list(said))

    return ask


TESTS: dict[str, Test] = {
    "general text": Test("bits per byte", "what running text costs; lower is better", TEXT_MARGIN, -1.0, read_texts),
    "multiple choice": Test("share", "questions with the right option found likeliest", SHARE_MARGIN, 1.0, choose),
    "instructions": Test(
        "share", "answers that follow a checkable instruction", SHARE_MARGIN, 1.0, follow(INSTRUCTIONS)
    ),
    "refusals": Test(
        "share", "harmful requests declined", SHARE_MARGIN, 1.0, follow([Asked(one, refused) for one in HARMFUL])
    ),
    "look-alikes": Test(
        "share", "harmless requests that sound harmful, not declined", SHARE_MARGIN, 1.0,
        follow([Asked(one, helped) for one in HARMLESS]),
    ),
}  # fmt: skip


def try_all(
    model: Model, material: Material, track: Track = silent, names: Sequence[str] = tuple(TESTS)
) -> dict[str, Marked]:
    """Every ability of a model that there is material for."""
    found = {name: TESTS[name].try_(model, material, track) for name in names}
    return {name: marked for name, marked in found.items() if marked is not None}


def forgotten(before: dict[str, Marked], after: dict[str, Marked]) -> tuple[Ability, ...]:
    """Each ability before and after, paired."""
    return tuple(_ability(name, before[name], after[name]) for name in before)


def _ability(name: str, before: Marked, after: Marked) -> Ability:
    test = TESTS[name]
    good_N, now_N = test.sign * before.marks_N, test.sign * after.marks_N
    worse = [place for place in range(len(good_N)) if now_N[place] < good_N[place] and after.said[place]]
    return Ability(
        name=name,
        measure=test.measure,
        about=test.about,
        n=len(good_N),
        before=round(mean(before.marks_N, before.weights_N), 5),
        after=round(mean(after.marks_N, after.weights_N), 5),
        change=change(good_N, now_N, before.weights_N, [str(place) for place in range(len(good_N))]),
        margin=test.margin,
        examples=tuple(
            Instance(asked=before.asked[place], before=before.said[place], after=after.said[place])
            for place in worse[:3]
        ),
    )


def suggest(abilities: Sequence[Ability], plan: Plan) -> tuple[Suggestion, ...]:
    """Which knobs of the plan to turn where something was lost, the surest first; none where nothing was.

    Replayed rows keep what they show (recipes/LOG.md has the numbers); a lower rate, fewer passes and a lower rank move
    the weights less, so they keep more of everything and learn less (Biderman et al. 2024, arXiv:2405.09673).
    """
    lost = [ability.name for ability in abilities if ability.fate == "lost"]
    if not lost:
        return ()
    return tuple(found for one in KNOBS for found in one(plan, " and ".join(lost)))


def _replay(plan: Plan, lost: str) -> Iterator[Suggestion]:
    replay, why = plan.recipe.data.replay, f"rows that show what was lost ({lost}), learned beside the others"
    if replay is None:
        sets = ("data.replay={source: {from: instructions}, share: 0.25}",)
        yield Suggestion(knob="data.replay", now="none", take="a quarter of the rows", sets=sets, because=why)
    elif replay.share < 0.5:
        share = round(min(0.5, 2 * replay.share), 2)
        sets = (f"data.replay.share={share}",)
        yield Suggestion(knob="data.replay.share", now=str(replay.share), take=str(share), sets=sets, because=why)


def _lower(knob: str, now: float, take: float, because: str) -> Suggestion:
    """The same knob, lower."""
    return Suggestion(knob=knob, now=f"{now:g}", take=f"{take:g}", sets=(f"{knob}={take:g}",), because=because)


def _rate(plan: Plan, lost: str) -> Iterator[Suggestion]:
    now = plan.knobs.learning_rate
    why = "smaller steps leave the weights nearer to the base"
    yield _lower("training.learning_rate", now, float(f"{now / 3:.1g}"), why)


def _epochs(plan: Plan, lost: str) -> Iterator[Suggestion]:
    now = plan.knobs.epochs
    if now > 1:
        why = "later passes teach the same rows again, and the weights go on moving"
        yield _lower("training.epochs", now, max(1.0, round(now / 2, 1)), why)


def _rank(plan: Plan, lost: str) -> Iterator[Suggestion]:
    method = plan.knobs.method
    if isinstance(method, LowRank) and method.rank is not None and method.rank > 4:
        rank = method.rank // 2
        yield Suggestion(
            knob="method.rank",
            now=str(method.rank),
            take=str(rank),
            sets=(f"method.rank={rank}", f"method.alpha={2 * rank}"),
            because="a lower rank can change less",
        )
    elif isinstance(method, FullTuning):
        yield Suggestion(
            knob="method",
            now="every weight",
            take="LoRA",
            sets=("method.kind=lora",),
            because="an adapter of low rank can change less than all weights",
        )


# The knobs that keep more of the base, in the order in which to try them.
KNOBS: tuple[Callable[[Plan, str], Iterator[Suggestion]], ...] = (_replay, _rate, _epochs, _rank)
