"""Scorers by overlap, each computed by the library that papers quote: ROUGE, BLEU and chrF."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

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
    from sacrebleu.metrics import BLEU

    return BLEU(tokenize=knobs.tokens, lowercase=knobs.lowercase, effective_order=of_one)


def chrf_scorer(word_order: int) -> Any:
    """The library's scorer."""
    from sacrebleu.metrics import CHRF

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
