"""Proof of the cleaning: injected duplicates and private data, and clean cases that look like them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from llmops.core.cleaning import Duplicates, NearDuplicates, Normalise, Step
from llmops.core.dataset import DroppedRow
from llmops.core.private import KINDS, Kind, find_private
from llmops.core.proof import CheckResult, Size
from llmops.core.sources import Data, Labelled, PromptReply, Source
from llmops.core.tasks import Classify, Reply, Task
from llmops.data.mapping import map_records
from llmops.data.prove_private import BODIES, MADE, SENTENCES, look_alike
from llmops.data.record import Record
from llmops.data.split import Dealt, deal
from llmops.store.workspace import Workspace

CASES: dict[Size, int] = {"ci": 200, "soak": 5_000}
SYLLABLES = ("ba", "de", "fi", "go", "ku", "la", "me", "ni", "po", "ru", "sa", "te", "vi", "zo", "shi", "tan")
RECALL, PRECISION = 0.95, 0.95


def checks(size: Size, at: Workspace) -> Iterator[CheckResult]:
    """Every check of the cleaning steps."""
    cases = CASES[size]
    for kind in KINDS:
        yield private_data(kind, cases)
    for name, spoil, goal in SPOILT:
        yield duplicates(name, spoil, goal, cases)
    yield contradictions(cases)


def private_data(kind: Kind, cases: int) -> CheckResult:
    """Made-up private data of one kind in sentences, look-alikes in others: recall and precision."""
    rng = Random(f"private {kind}")
    found = wrong = alarms = 0
    for _ in range(cases):
        instance = MADE[kind](rng)
        before, _, behind = rng.choice(SENTENCES).partition("{}")
        spans = [span for span in find_private(f"{before}{instance}{behind}") if span.kind == kind]
        hits = [span for span in spans if span.start < len(before) + len(instance) and span.end > len(before)]
        found += bool(hits)
        wrong += len(spans) - bool(hits)
        text = rng.choice(BODIES).format(look_alike(rng))
        alarms += any(span.kind == kind for span in find_private(text))
    recall, precision = found / cases, found / max(1, found + wrong + alarms)
    return CheckResult(
        name=f"private data: {kind.lower()}",
        found=found,
        of=cases,
        false_alarms=alarms,
        clean=cases,
        goal=f"recall {RECALL} at precision {PRECISION}",
        passed=recall >= RECALL and precision >= PRECISION,
        note=f"recall {recall:.3f}, precision {precision:.3f}",
    )


def sentence(rng: Random, words: int) -> str:
    """Words of a language that nobody speaks."""
    return " ".join("".join(rng.choices(SYLLABLES, k=rng.randint(1, 3))) for _ in range(words))


def shouted(rng: Random, text: str) -> str:
    """The text with other case and punctuation."""
    words = [word.upper() if rng.random() < 0.5 else word + rng.choice(",.!;") for word in text.split()]
    return " ".join(words) + "!!"


def spaced(rng: Random, text: str) -> str:
    """The text with other white space, and in decomposed Unicode."""
    return "  ".join(text.split()) + rng.choice((" ", "\n", "\u00a0"))


def reworded(rng: Random, text: str) -> str:
    """The text with a tenth of its words changed."""
    words = text.split()
    for place in rng.sample(range(len(words)), len(words) // 10):
        words[place] = sentence(rng, 1) + "x"
    return " ".join(words)


def unchanged(rng: Random, text: str) -> str:
    return text


# What is done to a row to make its duplicate, and the share that must be found.
SPOILT: tuple[tuple[str, Callable[[Random, str], str], float], ...] = (
    ("duplicates: verbatim", unchanged, 1.0),
    ("duplicates: white space", spaced, 1.0),
    ("duplicates: case and punctuation", shouted, 0.99),
    ("duplicates: a tenth of the words changed", reworded, 0.95),
)
STEPS: tuple[Step, ...] = (Normalise(), Duplicates(), NearDuplicates())


def duplicates(name: str, spoil: Callable[[Random, str], str], goal: float, cases: int) -> CheckResult:
    """Replies with their duplicates, among others that only begin alike: of each pair one must go, of those none."""
    rng = Random(name)
    rows = []
    for number in range(cases):
        prompt, reply = sentence(rng, rng.randint(10, 40)), sentence(rng, rng.randint(10, 40))
        rows += [("pair", number, prompt, reply), ("pair", number, spoil(rng, prompt), spoil(rng, reply))]
        opening = sentence(rng, 8)
        rows += [("single", 2 * number + at, f"{opening} {sentence(rng, 20)}", sentence(rng, 12)) for at in range(2)]
    rng.shuffle(rows)
    dealt = _dealt([{"prompt": prompt, "reply": reply} for *_, prompt, reply in rows], Reply(), PromptReply())
    gone = [rows[row.line - 1] for row in dealt.dropped if row.step != "split"]
    pairs = [number for kind, number, *_ in gone if kind == "pair"]
    alarms = sum(kind == "single" for kind, *_ in gone) + len(pairs) - len(set(pairs))
    return CheckResult(
        name=name,
        found=len(set(pairs)),
        of=cases,
        false_alarms=alarms,
        clean=2 * cases,
        goal=f"recall {goal}, at most 1 % false alarms",
        passed=len(set(pairs)) >= goal * cases and alarms <= 0.01 * 2 * cases,
        note=f"recall {len(set(pairs)) / cases:.3f}",
    )


def contradictions(cases: int) -> CheckResult:
    """Equal texts with two labels: both go; near duplicates of another label stay."""
    rng = Random("contradictions")
    task = Classify(question="Which?", labels=("a", "b"))
    texts = [sentence(rng, 12) for _ in range(cases)]
    torn = [{"text": text, "label": label} for text in texts for label in task.labels]
    fine = [
        {"text": said, "label": label}
        for text in (sentence(rng, 20) for _ in range(cases))
        for said, label in ((text, "a"), (reworded(rng, text), "b"))
    ]
    dealt = _dealt([*torn, *fine], task, Labelled())
    gone = [row for row in dealt.dropped if row.step != "split"]
    found = sum(row.line <= len(torn) for row in gone)
    return CheckResult(
        name="contradictory labels",
        found=found,
        of=len(torn),
        false_alarms=len(gone) - found,
        clean=len(fine),
        goal="all, no false alarm",
        passed=found == len(torn) and len(gone) == found,
    )


def _dealt(cells: list[dict[str, str]], task: Task, shape: PromptReply | Labelled) -> Dealt:
    source = Source(from_="path:made-up", shape=shape)
    records = (Record(line, dict(row)) for line, row in enumerate(cells, 1))
    mapped = [row for row in map_records(records, "made-up", 0, source, task) if not isinstance(row, DroppedRow)]
    return deal(mapped, Data(sources=(source,), steps=STEPS))
