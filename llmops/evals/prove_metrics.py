"""Proof of the metrics: on random cases they are scikit-learn's, sacrebleu's and rouge-score's; a faulty one is not.

A fault is a metric that is nearly right: a mean over labels weighed by their number, BLEU as the mean of its sentences,
ROUGE that does not fold case, an F1 that leaves out labels nobody predicted. Each must differ somewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any, NamedTuple

from llmops.core.proof import CheckResult, Size
from llmops.core.scorers import Bleu, Chrf, Rouge
from llmops.core.suites import make_question
from llmops.evals import metrics
from llmops.evals.scorers.mark import Tools
from llmops.evals.scorers.table import marker
from llmops.store.workspace import Workspace

CASES = {"ci": 1000, "soak": 5000}
TOLERANCE = 1e-9
WORDS = (
    *("the", "a", "cat", "dog", "sat", "on", "mat", "ran", "away"),
    *("quickly,", "house.", "It's", "3.5", "Über", "naïve", "東京", "?!", "(so)", "far-off"),
)


class Case(NamedTuple):
    """One random case: labels of a task, and texts with one to three references each."""

    truth: list[int]
    predicted: list[int]
    answers: list[str]
    expected: list[list[str]]


def case(random: Random) -> Case:
    """2 to 40 rows of 2 to 6 labels; 1 to 6 texts of up to 12 words, some of them empty or equal to a reference."""
    labels, rows, texts = random.randint(2, 6), random.randint(2, 40), random.randint(1, 6)
    truth = [random.randrange(labels) for _ in range(rows)]
    predicted = [one if random.random() < 0.6 else random.randrange(labels) for one in truth]
    expected = [[_text(random, 1) for _ in range(random.randint(1, 3))] for _ in range(texts)]
    answers = [random.choice(some) if random.random() < 0.2 else _text(random, 0) for some in expected]
    return Case(truth, predicted, answers, expected)


def _text(random: Random, fewest: int) -> str:
    return " ".join(random.choices(WORDS, k=random.randint(fewest, 12)))


Measure = Callable[[Case], float]


def accuracy(one: Case) -> float:
    return metrics.compute("accuracy", one.predicted, one.truth)


def accuracy_by_sklearn(one: Case) -> float:
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(one.truth, one.predicted))


def macro_f1(one: Case) -> float:
    return metrics.compute("macro_f1", one.predicted, one.truth)


def f1_by_sklearn(average: str, labels: Callable[[Case], Sequence[int] | None] = lambda one: None) -> Measure:
    """scikit-learn's F1, averaged in one way, over some labels."""

    def measure(one: Case) -> float:
        from sklearn.metrics import f1_score

        return float(f1_score(one.truth, one.predicted, average=average, labels=labels(one), zero_division=0))

    return measure


def bleu(one: Case) -> float:
    return metrics.compute("bleu", one.answers, one.expected)


def chrf(one: Case) -> float:
    return metrics.compute("chrf", one.answers, one.expected, word_order=2)


def _columns(one: Case) -> Any:
    """References as sacrebleu wants them: a list for each place, `None` where a text has fewer."""
    most = max(map(len, one.expected))
    return [[texts[place] if place < len(texts) else None for texts in one.expected] for place in range(most)]


def bleu_by_sacrebleu(one: Case) -> float:
    from sacrebleu import corpus_bleu

    return float(corpus_bleu(one.answers, _columns(one)).score)


def chrf_by_sacrebleu(one: Case) -> float:
    from sacrebleu import corpus_chrf

    return float(corpus_chrf(one.answers, _columns(one), word_order=2).score)


def mean_of_marks(knobs: Any, metric: str) -> Measure:
    """The score of a scorer whose score is the mean of its marks."""

    def measure(one: Case) -> float:
        asked = [make_question("?", tuple(dict.fromkeys(texts))) for texts in one.expected]
        marks = [mark.mark for mark in marker(knobs, Tools())(list(zip(one.answers, asked, strict=True)))]
        return metrics.compute(metric, marks, [0.0] * len(marks))

    return measure


def rouge_by_library(folded: bool = True) -> Measure:
    """The mean over texts of rouge-score's best F measure over references; not `folded` is the fault."""

    def measure(one: Case) -> float:
        from rouge_score.rouge_scorer import RougeScorer

        library = RougeScorer(["rougeL"], tokenizer=None if folded else _Split())
        best = [
            max(library.score(text, answer)["rougeL"].fmeasure for text in texts)
            for answer, texts in zip(one.answers, one.expected, strict=True)
        ]
        return float(sum(best) / len(best))

    return measure


class _Split:
    def tokenize(self, text: str) -> list[str]:
        return text.split()


class Claim(NamedTuple):
    """A metric of ours, whose numbers are those of a library, and metrics that are nearly right."""

    ours: Measure
    theirs: Measure
    faults: tuple[Measure, ...]


CLAIMS: dict[str, Claim] = {
    "accuracy is scikit-learn's": Claim(accuracy, accuracy_by_sklearn, (macro_f1,)),
    "macro F1 is scikit-learn's": Claim(
        macro_f1,
        f1_by_sklearn("macro"),
        (
            f1_by_sklearn("weighted"),
            f1_by_sklearn("micro"),
            f1_by_sklearn("macro", lambda one: sorted(set(one.predicted))),
        ),
    ),
    "BLEU is sacrebleu's": Claim(bleu, bleu_by_sacrebleu, (mean_of_marks(Bleu(), "bleu_answer"),)),
    "chrF++ is sacrebleu's": Claim(chrf, chrf_by_sacrebleu, (mean_of_marks(Chrf(word_order=2), "chrf_answer"),)),
    "ROUGE-L is rouge-score's": Claim(
        mean_of_marks(Rouge(), "rougeL"), rouge_by_library(), (rouge_by_library(folded=False),)
    ),
}


def checks(size: Size, at: Workspace) -> Iterator[CheckResult]:
    """Each claim on random cases: no case may differ, and each fault must."""
    for name, claim in CLAIMS.items():
        yield check(name, claim, CASES[size])


def check(name: str, claim: Claim, cases: int) -> CheckResult:
    """One claim: `false_alarms` counts the cases in which the two differ, `found` the faults that differ somewhere."""
    random = Random(name)
    drawn = [case(random) for _ in range(cases)]
    ours = [claim.ours(one) for one in drawn]
    gaps = [abs(mine - claim.theirs(one)) for mine, one in zip(ours, drawn, strict=True)]
    found = sum(
        any(abs(mine - fault(one)) > TOLERANCE for mine, one in zip(ours, drawn, strict=True)) for fault in claim.faults
    )
    differ = sum(gap > TOLERANCE for gap in gaps)
    return CheckResult(
        name=name,
        found=found,
        of=len(claim.faults),
        false_alarms=differ,
        clean=cases,
        goal=f"equal within {TOLERANCE:g} on {cases:,} random cases; every faulty metric differs",
        passed=found == len(claim.faults) and not differ,
        note=f"largest difference {max(gaps):.1e}",
    )
