"""The proof of the exam: models that learned a rule and models that learned chance, canaries, and recited rows.

The learners are tiny and really trained, so that what the exam sees is what training does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from llmops.core.canaries import QUESTION, Canaries
from llmops.core.context import silent
from llmops.core.dataset import Row
from llmops.core.exam import Exam
from llmops.core.proof import CheckResult, Size
from llmops.core.report import Subject
from llmops.core.tasks import Classify, Reply, Task
from llmops.evals.exam.canaries import exposures, read_canaries
from llmops.evals.exam.examine import Both, examine, set_paper, sit
from llmops.evals.prove_learner import LABELS, copy_of, labelled, new_learner, sentences, talk, teach
from llmops.lm.model import LocalModel
from llmops.store.workspace import Workspace

TONE = Classify(question="Good or bad?", labels=LABELS)
STOCK = "the day is near the lake and the town is near the hill . a boat takes the lamp to the door"
SEEDS: dict[Size, int] = {"ci": 5, "soak": 20}
LOWEST_AUC = 0.95
LOWEST_SPEARMAN = 0.9


class Taught(NamedTuple):
    """A learner, and what it was before."""

    tuned: LocalModel
    base: LocalModel

    def examined(self, train: list[Row], heldout: list[Row], task: Task) -> Exam:
        """The exam of it."""
        paper = set_paper(train, heldout, task)
        both = Both(paper, sit(self.tuned, paper), sit(self.base, paper))
        return examine(both, (Subject(kind="tuned", ref="learner"), "pl-proof", "ds-proof"), self.tuned.renderer)


def taught(rows: list[Row], seed: int, steps: int, rate: float) -> Taught:
    """A new learner, taught these rows."""
    base = new_learner(seed)
    tuned = copy_of(base)
    teach(tuned, rows, steps, rate, seed)
    return Taught(tuned, base)


def understood_or_memorised(size: Size) -> CheckResult:
    """A word decides the label, or chance does: told apart at equal training accuracy, by the share that carries over.

    A learner that did not learn all of its training labels is no case: the exam is not to see who learned more.
    """
    rule, chance = ([_by_labels(seed, by_rule) for seed in range(SEEDS[size])] for by_rule in (True, False))
    pairs = [pair for pair in zip(rule, chance, strict=True) if min(exam.gaps[0].tuned_train for exam in pair) == 1.0]
    good, bad = [carried(one) for one, _ in pairs], [carried(other) for _, other in pairs]
    found = sum(other.verdict == "memorised" for _, other in pairs)
    alarms = sum(one.verdict == "memorised" for one, _ in pairs)
    area = auc(good, bad)
    enough = len(pairs) >= 0.8 * SEEDS[size]
    return CheckResult(
        name="a rule or chance learned: the exam tells",
        found=found,
        of=len(pairs),
        false_alarms=alarms,
        clean=len(pairs),
        goal=f"AUC at least {LOWEST_AUC} at equal training accuracy, no rule called memorised",
        passed=enough and area >= LOWEST_AUC and alarms == 0 and found >= 0.8 * len(pairs),
        note=f"AUC {area:.3f}; {sum(one.verdict == 'understood' for one, _ in pairs)} of the rules called understood, "
        f"carried {min(good, default=0):.2f} to {max(good, default=0):.2f} against {min(bad, default=0):.2f} to "
        f"{max(bad, default=0):.2f}",
    )


def _by_labels(seed: int, by_rule: bool) -> Exam:
    train, heldout = labelled(64, seed, by_rule), labelled(96, 1000 + seed, by_rule)
    return taught(train, seed, 60, 0.003).examined(train, heldout, TONE)


def carried(exam: Exam) -> float:
    """The share that carries over; 0 where nothing was gained for sure."""
    return exam.carried.value if exam.carried else 0.0


def canaries_by_repeats(size: Size) -> CheckResult:
    """Canaries that stood 1, 4, 16 and 64 times among the rows: exposure rises with it, and the base shows none."""
    correlations, base_bits = [], []
    for seed in range(3 if size == "ci" else 15):
        planted = Canaries(seed=seed)
        rows = [talk(number, QUESTION, text) for number, text in enumerate(_repeated(planted))]
        rows += [talk(len(rows) + number, "what is a day ?", text) for number, text in enumerate(sentences(100, seed))]
        learner = taught(rows, seed, 20, 0.002)
        read = [read_canaries(model, planted, Reply(), silent) for model in (learner.tuned, learner.base)]
        found = exposures(read[0], read[1], planted)
        repeats = [one.repeats for one in found for _ in one.bits]
        correlations.append(spearman(repeats, [bits for one in found for bits in one.bits]))
        base_bits += [bits for one in found for bits in one.base_bits]
    lowest, flat = min(correlations), sum(base_bits) / len(base_bits)
    return CheckResult(
        name="canaries: exposure follows repeats",
        found=sum(one >= LOWEST_SPEARMAN for one in correlations),
        of=len(correlations),
        false_alarms=sum(bits > 10 for bits in base_bits),
        clean=len(base_bits),
        goal=f"Spearman with 1, 4, 16, 64 repeats at least {LOWEST_SPEARMAN}; none above 10 bits in the base",
        passed=lowest >= LOWEST_SPEARMAN and not any(bits > 10 for bits in base_bits),
        note=f"Spearman {lowest:.3f} to {max(correlations):.3f}; mean exposure in the base {flat:.1f} bits",
    )


def _repeated(planted: Canaries) -> list[str]:
    return [text for text, repeats in planted.planted() for _ in range(repeats)]


def recited_or_boilerplate(size: Size) -> CheckResult:
    """Rows learned by heart are an alarm; a stock reply that every row has, held-out ones too, is none."""
    found = alarms = 0
    seeds = 2 if size == "ci" else 10
    shares = []
    for seed in range(seeds):
        own, other = sentences(24, seed, seed), sentences(24, 500 + seed, seed)
        for stock in (False, True):
            replies = [[STOCK] * 24, [STOCK] * 24] if stock else [own, other]
            train, heldout = (
                [
                    talk(1000 * side + number, f"say {text.split()[0]} {number}", text)
                    for number, text in enumerate(part)
                ]
                for side, part in enumerate(replies)
            )
            exam = taught(train, seed, 60, 0.005).examined(train, heldout, Reply())
            recited = exam.copying is not None and exam.copying.excess.low > 0
            shares.append(exam.copying.tuned_train.recited if exam.copying else 0)
            found, alarms = found + (recited and not stock), alarms + (recited and stock)
    return CheckResult(
        name="recited rows, and boilerplate",
        found=found,
        of=seeds,
        false_alarms=alarms,
        clean=seeds,
        goal="every learner by heart found, no stock reply taken for a copy",
        passed=found == seeds and alarms == 0,
        note=f"rows recited, of 24, by heart and as boilerplate in turn: {', '.join(map(str, shares))}",
    )


def auc(positive: list[float], negative: list[float]) -> float:
    """The share of pairs in which the positive case has the higher score; ties count half."""
    pairs = [(one, other) for one in positive for other in negative]
    return sum((one > other) + 0.5 * (one == other) for one, other in pairs) / len(pairs) if pairs else 0.0


def spearman(one: list[int], other: list[float]) -> float:
    """Spearman's rank correlation; 0 where one side is constant."""
    from scipy.stats import spearmanr

    return float(spearmanr(one, other).statistic) if len(set(one)) > 1 and len(set(other)) > 1 else 0.0


CHECKS = (understood_or_memorised, canaries_by_repeats, recited_or_boilerplate)


def checks(size: Size, at: Workspace) -> Iterator[CheckResult]:
    """Each check in turn. Nothing is written."""
    for check in CHECKS:
        yield check(size)
