"""Proof of the leak gate, the repair and the label doctor: leaks injected into real rows, and labels flipped.

Real rows are fetched by the catalogue: tweets and film reviews, questions with their passages, conversations. What
leaks in them by nature is taken out first, by equal words and equal runs of words alone, so that an alarm on what
remains is either a leak that only the gate sees or a false one; it counts as false.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from llmops.core.context import Surroundings
from llmops.core.findings import Leaks
from llmops.core.proof import CheckResult, Size
from llmops.core.review import DropLabels, LeakGate, Relabel
from llmops.core.sources import Source
from llmops.core.tasks import Classify, Reply
from llmops.data.doctor import FOLDS, find_suspects, helps, rank, treated, try_treatment
from llmops.data.features import Features, fit, out_of_fold
from llmops.data.leaks import Spoken, find_leaks
from llmops.data.mapping import Example, fold, map_records
from llmops.data.origin import find_origin
from llmops.data.overlap import Overlap
from llmops.data.readers import read_records
from llmops.store.workspace import Workspace

SEED = 20261126
INJECTED: dict[Size, int] = {"ci": 300, "soak": 1_500}
ROWS: dict[Size, int] = {"ci": 3_000, "soak": 40_000}
FLIPS = (0.05, 0.1, 0.2)  # to be ranked; treated are none and 30 % too
TIMES_CHANCE = 3.0
MOST_FALSE_ALARMS = 0.01


@dataclass(frozen=True)
class Leaking:
    """A way in which a held-out row gets into the training rows, and the share that must be found."""

    name: str
    goal: float
    change: Callable[[str, random.Random, Sequence[str]], str]
    fewest_words: int = 1


def as_it_is(text: str, draw: random.Random, words: Sequence[str]) -> str:
    return text


def other_case(text: str, draw: random.Random, words: Sequence[str]) -> str:
    """Letters in another case, and other punctuation."""
    cased = "".join(letter.swapcase() if draw.random() < 0.3 else letter for letter in text)
    return cased.replace(".", " !").replace(",", " ;") + draw.choice(("", "!", "...", " ?"))


def other_words(text: str, draw: random.Random, words: Sequence[str]) -> str:
    """One word in ten, and at least one, is another."""
    said = text.split()
    for place in draw.sample(range(len(said)), max(1, round(len(said) / 10))):
        said[place] = draw.choice(words)
    return " ".join(said)


LEAKING = (
    Leaking("verbatim", 0.99, as_it_is),
    Leaking("other case and punctuation", 0.99, other_case),
    # In a shorter text one word is more than a tenth: it is another text.
    Leaking("10 % of words changed", 0.9, other_words, fewest_words=7),
)


def checks(size: Size, at: Workspace) -> Iterator[CheckResult]:
    """Every check of this module."""
    for name, texts in real_texts(at.world, ROWS[size]).items():
        yield from leak_checks(name, texts, INJECTED[size])
    yield groups_check()
    yield from flip_checks(tweets(at.world))


def real_texts(world: Surroundings, most: int) -> dict[str, list[str]]:
    """What the gate sees of some real sources, in an order of their own."""
    sides = Classify(question="?", labels=("negative", "positive"))
    sources: dict[str, tuple[str, Classify | Reply]] = {
        "tweets": ("vader/tweets", sides),
        "film reviews": ("vader/movies", sides),
    }
    sources |= {"questions": ("boolq", Reply()), "conversations": ("chitchat", Reply())}
    found = {}
    for name, (source, task) in sources.items():
        rows = examples(source, task, world, 6 * most)
        groups = {row.group: row for row in rows} if name in ("questions", "conversations") else {r.id: r for r in rows}
        texts = list(dict.fromkeys(text_of(row) for row in groups.values()))
        random.Random(SEED).shuffle(texts)
        found[name] = texts[:most]
    return found


def examples(source: str, task: Classify | Reply, world: Surroundings, most: int) -> list[Example]:
    """At most `most` rows of a catalogue source, mapped."""
    found = []
    origin = find_origin(0, Source(from_=source), task, world)
    records = read_records(origin.path, origin.name, origin.reader, origin.columns, world.track)
    for row in map_records(records, origin.name, 0, origin.source, task):
        if isinstance(row, Example):
            found.append(row)
        if len(found) == most:
            break
    return found


def text_of(row: Example) -> str:
    """What is said in a row."""
    return row.text if row.label is not None else "\n".join(text for role, text in row.turns if role != "system")


def leak_checks(name: str, texts: Sequence[str], injected: int) -> Iterator[CheckResult]:
    """Leaks of each kind put among the training rows, and what the gate says of the rows that do not leak."""
    cut = len(texts) * 4 // 5
    train, heldout = without_leaks(texts[:cut], texts[cut:]), texts[cut:]
    draw = random.Random(SEED)
    words = [word for text in train for word in text.split()]
    alarms = len(gate(train, heldout).found)
    for kind in LEAKING:
        fit_rows = [text for text in heldout if len(text.split()) >= kind.fewest_words][:injected]
        put = [kind.change(text, draw, words) for text in fit_rows]
        found = {leak.train for leak in gate([*train, *put], heldout).found}
        caught = sum(f"train {len(train) + place}" in found for place in range(len(put)))
        recall, rate = caught / len(put), alarms / len(train)
        yield CheckResult(
            name=f"leaks in {name}: {kind.name}",
            found=caught,
            of=len(put),
            false_alarms=alarms,
            clean=len(train),
            goal=f"{kind.goal:.0%} found, at most {MOST_FALSE_ALARMS:.0%} false alarms",
            passed=recall >= kind.goal and rate <= MOST_FALSE_ALARMS,
            note=f"recall {recall:.3f}, false alarms {rate:.2%}",
        )


def without_leaks(train: Sequence[str], heldout: Sequence[str]) -> list[str]:
    """The training texts that share neither all their words nor a run of 13 with a held-out one."""
    overlap = Overlap(train, heldout)
    known = set(overlap.normalised().left_P.tolist()) | set(overlap.grams().left_P.tolist())
    return [text for place, text in enumerate(train) if place not in known]


def gate(train: Sequence[str], heldout: Sequence[str], group: str = "") -> Leaks:
    """The gate on plain texts, each a group of its own unless `group` names one for all."""
    sides = [
        [Spoken(f"{side} {place}", text, (group or f"{side} {place}",)) for place, text in enumerate(texts)]
        for side, texts in (("train", train), ("heldout", heldout))
    ]
    return find_leaks(sides[0], sides[1], LeakGate())


def groups_check() -> CheckResult:
    """Rows of one author, document or conversation on both sides, and rows of different ones."""
    made = [Spoken(f"t{number}", f"the {number}th remark", (f"author {number % 40}",)) for number in range(200)]
    asked = [Spoken(f"h{number}", f"another one, no. {number}", (f"author {number}",)) for number in range(20)]
    leaks = find_leaks(made, asked, LeakGate()).found
    caught = {leak.train for leak in leaks if leak.kind == "group"}
    wanted = {row.id for row in made if int(row.sources[0].split()[1]) < 20}
    return CheckResult(
        name="leaks by group",
        found=len(caught & wanted),
        of=len(wanted),
        false_alarms=len(caught - wanted),
        clean=len(made) - len(wanted),
        goal="all, no false alarm",
        passed=caught == wanted,
    )


def tweets(world: Surroundings) -> tuple[list[str], np.ndarray]:
    """(texts, 0 or 1) of the rated tweets, in an order of their own."""
    task = Classify(question="?", labels=("negative", "positive"))
    rows = list({fold(row.text): row for row in examples("vader/tweets", task, world, 10_000)}.values())
    random.Random(SEED).shuffle(rows)
    return [row.text for row in rows], np.array([task.labels.index(str(row.label)) for row in rows])


def flip_checks(rows: tuple[list[str], np.ndarray]) -> Iterator[CheckResult]:
    """Labels flipped: how well they are ranked, and whether a treatment that is given harms clean held-out rows."""
    from sklearn.metrics import average_precision_score

    texts, truth_N = rows
    cut = len(texts) * 4 // 5
    features = Features(texts[:cut])
    heldout_MF, asked_M = features.of(texts[cut:]), truth_N[cut:]
    harmed, given, notes = 0, 0, []
    for share in (0.0, *FLIPS, 0.3):
        flipped_N = np.random.default_rng(SEED).random(cut) < share
        labels_N = np.where(flipped_N, 1 - truth_N[:cut], truth_N[:cut])
        chances_NK = out_of_fold(features.fitted_NF, labels_N, FOLDS)
        if share in FLIPS:
            precision = float(average_precision_score(flipped_N, rank(labels_N, chances_NK)))
            times = precision / float(flipped_N.mean())
            yield CheckResult(
                name=f"{share:.0%} of labels flipped: ranked",
                found=int(flipped_N[np.argsort(-rank(labels_N, chances_NK))[: flipped_N.sum()]].sum()),
                of=int(flipped_N.sum()),
                goal=f"average precision {TIMES_CHANCE:.0f}x chance",
                passed=times >= TIMES_CHANCE,
                note=f"average precision {precision:.3f}, {times:.1f}x chance",
            )
        before = float(fit(features.fitted_NF, labels_N).score(heldout_MF, asked_M))
        for doctor in (DropLabels(), Relabel()):
            tried = try_treatment(features.fitted_NF, labels_N, doctor)
            does = helps(tried)
            suspects = find_suspects(labels_N, chances_NK)[: tried.rows]
            after = before
            if does:
                after = float(fit(*treated(doctor, features.fitted_NF, labels_N, suspects)).score(heldout_MF, asked_M))
            given, harmed = given + does, harmed + (after < before)
            notes.append(f"{share:.0%} {doctor.kind}: {f'{before:.3f} to {after:.3f}' if does else 'left alone'}")
    yield CheckResult(
        name="the doctor does no harm",
        found=given - harmed,
        of=given,
        false_alarms=harmed,
        clean=len(notes),
        goal="held-out accuracy never falls",
        passed=harmed == 0,
        note="; ".join(notes),
    )
