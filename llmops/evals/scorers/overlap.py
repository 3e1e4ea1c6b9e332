"""Scorers by overlap, each computed by the library that papers quote: ROUGE, BLEU and chrF."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from llmops.core.scorers import Bleu, Chrf, Rouge
from llmops.core.suites import Question
from llmops.evals.scorers.mark import Marked, Marker, Tools, each


class AnyWords:
    """Tokens of every script, where `rouge-score` by itself knows a to z only and marks a Greek text 0."""

    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"\w+", text.casefold())


@cache
def rouge_scorer(variant: str, words: str, stem: bool) -> Any:
    """The library's scorer."""
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([variant], use_stemmer=stem, tokenizer=AnyWords() if words == "any" else None)


def bleu_scorer(knobs: Bleu, of_one: bool = True) -> Any:
    """The library's scorer, of single sentences (effective order) or of a corpus."""
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(tokenize=knobs.tokens, lowercase=knobs.lowercase, effective_order=of_one)


def chrf_scorer(word_order: int) -> Any:
    """The library's scorer."""
    from sacrebleu.metrics.chrf import CHRF

    return CHRF(word_order=word_order)


def rouge(knobs: Rouge, tools: Tools) -> Marker:
    """The F measure, 0 to 1, against the expected text that fits best."""
    scorer = rouge_scorer(knobs.variant, knobs.words, knobs.stem)

    def mark(answer: str, question: Question) -> Marked:
        return Marked(float(scorer.score_multi(list(question.expected), answer)[knobs.variant].fmeasure))

    return each(mark)


def bleu(knobs: Bleu, tools: Tools) -> Marker:
    """BLEU of each answer, 0 to 100."""
    scorer = bleu_scorer(knobs)
    return each(lambda answer, question: Marked(float(scorer.sentence_score(answer, list(question.expected)).score)))


def chrf(knobs: Chrf, tools: Tools) -> Marker:
    """chrF of each answer, 0 to 100."""
    scorer = chrf_scorer(knobs.word_order)
    return each(lambda answer, question: Marked(float(scorer.sentence_score(answer, list(question.expected)).score)))


RESAMPLES = 1000


def columns_of(expected: Sequence[Sequence[str]]) -> list[list[str | None]]:
    """References as the library wants them: a list for each place, `None` for a text that has fewer."""
    most = max(len(texts) for texts in expected)
    return [[texts[place] if place < len(texts) else None for texts in expected] for place in range(most)]


def corpus_score(scorer: Any, answers: Sequence[str], expected: Sequence[Sequence[str]]) -> float:
    """The library's score of all answers together."""
    return float(scorer.corpus_score(list(answers), columns_of(expected)).score)


def corpus_interval(
    scorer: Any, answers: Sequence[str], expected: Sequence[Sequence[str]], seed: int
) -> tuple[float, float]:
    """The 95 % interval of a corpus score when rows are drawn again (Koehn 2004), by the library's own counts.

    N rows, S counts, R resamples. A resample is a weight for each row, so that no text is counted twice.
    """
    counts_NS = np.array(scorer._extract_corpus_statistics(list(answers), columns_of(expected)))
    n = len(answers)
    drawn_RN = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    scores = [scorer._compute_score_from_stats(counts.tolist()).score for counts in drawn_RN @ counts_NS]
    low, high = np.quantile(scores, [0.025, 0.975])
    return float(low), float(high)
