"""What measures are called, for people, and how their numbers are spelt."""

from __future__ import annotations

MEASURE_NAMES = {
    "accuracy": "accuracy",
    "accuracy_norm": "accuracy, options weighed by their length",
    "macro_f1": "macro F1",
    "bits_per_byte": "bits per byte (lower is better)",
    "perplexity": "perplexity per token (lower is better)",
    "exact_match": "exact match",
    "absolute_error": "absolute error (lower is better)",
    "pick_reply": "real reply picked out of four",
    "preference": "chosen reply found likelier",
    "reward_accuracy": "implicit reward agrees with people",
    "exact": "the expected text",
    "includes": "the expected text is included",
    "number": "the expected number",
    "choice": "the expected option",
    "json": "a JSON document",
    "schema": "a JSON document of the schema",
    "regex": "the pattern is found",
    "code": "mark by a program",
    "judge": "mark by a judge",
    "function": "mark by a function",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "rougeLsum": "ROUGE-Lsum",
    "bleu_answer": "BLEU, mean over answers",
    "bleu": "BLEU of all answers",
    "chrf_answer": "chrF, mean over answers",
    "chrf": "chrF of all answers",
}
# Where 1 is right and 0 wrong, so that an answer can be called so.
RIGHT_OR_WRONG = frozenset(
    {"accuracy", "accuracy_norm", "exact_match", "pick_reply", "preference", "reward_accuracy"}
    | {"exact", "includes", "number", "choice", "json", "schema", "regex"}
)
# One number of all rows: none of them has a mark of its own, so there is nothing to pair.
OF_ALL_ROWS = frozenset({"macro_f1", "bleu", "chrf"})
OF_100 = frozenset({"bleu", "bleu_answer", "chrf", "chrf_answer"})


def top_of(metric: str) -> float:
    """The highest mark by a measure whose marks end somewhere."""
    return 100.0 if metric in OF_100 else 1.0


def measure_name(metric: str) -> str:
    """A measure's name for people."""
    return MEASURE_NAMES.get(metric, metric)


def spelt(metric: str, value: float) -> str:
    """A score as it is shown: three decimals, and one where the scale ends at 100."""
    return f"{value:.1f}" if metric in OF_100 else f"{value:.3f}"
