"""Every measure by its name. Importing this loads `evaluate`, and with it torch: import it late."""

from __future__ import annotations

import evaluate

from llmops.evals.metrics.absolute_error import AbsoluteError
from llmops.evals.metrics.accuracy import Accuracy
from llmops.evals.metrics.accuracy_norm import AccuracyNorm
from llmops.evals.metrics.bits_per_byte import BitsPerByte
from llmops.evals.metrics.corpus import Bleu, Chrf
from llmops.evals.metrics.exact_match import ExactMatch
from llmops.evals.metrics.macro_f1 import MacroF1
from llmops.evals.metrics.mean_mark import mean_of
from llmops.evals.metrics.perplexity import Perplexity
from llmops.evals.metrics.pick_reply import PickReply
from llmops.evals.metrics.preference import Preference, RewardAccuracy

# Scorers (`core/scorers.py`) whose score is the mean of their marks.
MEANS = (
    *("exact", "includes", "number", "choice", "json", "schema", "regex", "code", "judge", "function"),
    *("rouge1", "rouge2", "rougeL", "rougeLsum", "bleu_answer", "chrf_answer"),
)

METRICS: dict[str, type[evaluate.Metric]] = {
    "accuracy": Accuracy,
    "accuracy_norm": AccuracyNorm,
    "macro_f1": MacroF1,
    "bits_per_byte": BitsPerByte,
    "perplexity": Perplexity,
    "exact_match": ExactMatch,
    "pick_reply": PickReply,
    "preference": Preference,
    "reward_accuracy": RewardAccuracy,
    "absolute_error": AbsoluteError,
    "bleu": Bleu,
    "chrf": Chrf,
    **{name: mean_of(name) for name in MEANS},
}
