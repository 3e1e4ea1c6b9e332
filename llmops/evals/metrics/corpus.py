"""BLEU and chrF of all answers together, as `sacrebleu` computes them: counts are added up, not marks. 0 to 100."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate

from llmops.core.scorers import Bleu as BleuKnobs
from llmops.evals.scorers.overlap import bleu_scorer, chrf_scorer, corpus_score


class Corpus(evaluate.Metric):  # type: ignore[misc]
    """What BLEU and chrF share: answers, and for each of them its expected texts."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="",
            inputs_description="predictions: generated texts; references: for each its expected texts",
            features=datasets.Features(
                {
                    "predictions": datasets.Value("string"),
                    "references": datasets.Sequence(datasets.Value("string")),
                }
            ),
        )


class Bleu(Corpus):
    """Corpus BLEU (Papineni et al. 2002)."""

    def _compute(
        self,
        predictions: Sequence[str],
        references: Sequence[Sequence[str]],
        tokens: str = "13a",
        lowercase: bool = False,
    ) -> dict[str, float]:
        scorer = bleu_scorer(BleuKnobs(tokens=tokens, lowercase=lowercase), of_one=False)
        return {"bleu": corpus_score(scorer, predictions, references)}


class Chrf(Corpus):
    """Corpus chrF (Popović 2015)."""

    def _compute(
        self, predictions: Sequence[str], references: Sequence[Sequence[str]], word_order: int = 0
    ) -> dict[str, float]:
        return {"chrf": corpus_score(chrf_scorer(word_order), predictions, references)}
