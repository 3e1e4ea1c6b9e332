"""The shipped exams: their files read into questions, the gold of every row checked, examples put in front.

Prompts are those of the task of the same name in EleutherAI's lm-eval 0.4.13, where it has one.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from llmops.core.context import Surroundings
from llmops.core.dataset import Message
from llmops.core.errors import LlmopsError, RequestError
from llmops.core.scorers import Rouge
from llmops.core.serving import Sampling
from llmops.core.suites import (
    Asking,
    Choose,
    DrawnExamples,
    Examples,
    FixedExamples,
    Generate,
    Label,
    NoExamples,
    Question,
    Read,
    make_question,
)
from llmops.core.value import digest
from llmops.store.exams import EXAMS
from llmops.store.sources import fetch

LETTERED = re.compile(r"(?:^|\n)([A-H])\. ")
BETWEEN_EXAMPLES = "\n\n"


CHOICE = Choose()


@dataclass(frozen=True)
class Exam:
    """How one exam is asked: a line of its file to a question; how many lines there are; the fields it is sliced by."""

    render: Callable[[dict[str, Any]], Question]
    lines: int
    asking: Asking = CHOICE
    slices: tuple[str, ...] = ()


def options_of(row: dict[str, Any]) -> tuple[tuple[str, ...], int]:
    """The texts of `A. one\\nB. two`, and which of them is the row's answer (`B. two`, or its text).

    A space at the end, the file's own slip, does not part an option from its answer.
    """
    parts = LETTERED.split(row["options"].strip("\n"))
    letters, texts = parts[1::2], parts[2::2]
    answer = row["answer"][0] if isinstance(row["answer"], list) else row["answer"]
    whole = [f"{letter}. {text}" for letter, text in zip(letters, texts, strict=True)]
    for said in (whole, texts):
        for place, text in enumerate(said):
            if text.rstrip() == answer.rstrip():
                return tuple(texts), place
    raise ValueError(f"{answer!r} is none of {texts}")


def openbookqa(row: dict[str, Any]) -> Question:
    """The stem, gone on with by each answer."""
    options, right = options_of(row)
    return _choice(row["question"].strip(), options, right)


def piqa(row: dict[str, Any]) -> Question:
    """Question and answer."""
    options, right = options_of(row)
    return _choice(f"Question: {row['question']}\nAnswer:", options, right)


def commonsenseqa(row: dict[str, Any]) -> Question:
    """Lettered answers; the letter is the option. (Of one row the file puts the first two behind the question.)"""
    asked, *parts = LETTERED.split(f"{row['question'].strip()}\n{row['options'].strip()}")
    letters, texts = parts[::2], [text.rstrip("?") for text in parts[1::2]]
    listed = "\n".join(f"{letter}. {text}" for letter, text in zip(letters, texts, strict=True))
    right = listed.split("\n").index(row["answer"])
    return _choice(f"Question: {asked}\n{listed}\nAnswer:", letters, right)


def boolq(row: dict[str, Any]) -> Question:
    """A passage, a question, yes or no. Questions to one article are a group."""
    text = f"{row['passage']}\nQuestion: {row['question']}?\nAnswer:"
    return _choice(text, ("no", "yes"), ("False", "True").index(row["answer"]), group=row["title"])


def bbq(row: dict[str, Any]) -> Question:
    """A passage, a question, one of three answers."""
    options, right = options_of(row)
    question = row["question"].removesuffix("\nPlease choose the correct option ").strip()
    options = tuple(option.strip() for option in options)
    return _choice(f"{row['passage']}\n\nQ: {question}\nA:", options, right, group=digest(row["passage"])[:16])


def privacy_policy(row: dict[str, Any]) -> Question:
    """A clause, a question, and whether the one says something of the other. Clauses to one question are a group."""
    text = (
        f"Clause: {row['context']}\nQuestion: {row['question']}\nDoes the clause help to answer the question?\nAnswer:"
    )
    return _choice(text, ("no", "yes"), ("False", "True").index(row["answer"]), group=digest(row["question"])[:16])


def crows_pairs(row: dict[str, Any]) -> Question:
    """Two sentences that differ in whom they are about; the one that does not follow the stereotype is expected."""
    more, less = (row["sentence"].replace("[MASK]", row[mask]) for mask in ("mask1", "mask2"))
    return make_question("", (less,), (more, less), {"bias": row["bias_type"]})


def truthfulqa(row: dict[str, Any]) -> Question:
    """A question with every true answer. The file has no false ones, so the answer is generated."""
    return make_question(f"Q: {row['question']}\nA:", tuple(dict.fromkeys(row["answer"])))


TRUE_ANSWERS = Generate(scorer=Rouge(), sampling=Sampling(max_tokens=48, stop=("\n",)))

# By the names of `store/exams.py`.
RENDERED: dict[str, Exam] = {
    "openbookqa": Exam(openbookqa, 500),
    "commonsenseqa": Exam(commonsenseqa, 1221),
    "piqa": Exam(piqa, 1500),
    "boolq": Exam(boolq, 3270, Label()),
    "truthfulqa": Exam(truthfulqa, 817, TRUE_ANSWERS),
    "bbq": Exam(bbq, 1012),
    "crows-pairs": Exam(crows_pairs, 1018, slices=("bias",)),
    "privacy-policy": Exam(privacy_policy, 10923, Label()),
}


def _choice(text: str, options: Sequence[str], right: int, group: str | None = None) -> Question:
    spaced = tuple(f" {option}" for option in options)
    return make_question(text, (spaced[right],), spaced, group=group)


def exam_named(name: str) -> Exam:
    """An exam by its name, or `RequestError`."""
    if name not in RENDERED:
        raise RequestError(f"there is no suite {name!r}", f"suites: {', '.join(RENDERED)}")
    return RENDERED[name]


def read_exam(name: str, world: Surroundings) -> list[Question]:
    """The questions of a shipped exam, in the order of its file, each once.

    Raises `LlmopsError` where a row has no gold among its options, or the number of rows is another than it should be.
    """
    exam, entry = exam_named(name), EXAMS[name]
    path = fetch(entry.address, entry.sha256, world, entry).path
    questions: dict[str, Question] = {}
    lines = 0
    for lines, row in enumerate(_rows(path), 1):
        try:
            question = exam.render(row)
        except (KeyError, ValueError) as error:
            raise LlmopsError(f"{name}: row {lines} has no gold: {error}", "fetch the exam again") from error
        questions.setdefault(question.id, question)
    if lines != exam.lines:
        raise LlmopsError(f"{name} has {lines} rows, not {exam.lines}", "fetch the exam again")
    return list(questions.values())


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    if path.name.endswith(".csv"):
        yield from csv.DictReader(io.StringIO(text))
    else:
        yield from (json.loads(line) for line in text.split("\n") if line.strip())


def draw(questions: Sequence[Question], number: int | None, seed: int = 0) -> list[Question]:
    """`number` of the questions, in their order, drawn by their ids: fewer are among more. All of them for None."""
    if number is None or number >= len(questions):
        return list(questions)
    kept = sorted(range(len(questions)), key=lambda place: digest(["drawn", seed, questions[place].id]))[:number]
    return [questions[place] for place in sorted(kept)]


def with_examples(questions: Sequence[Question], examples: Examples, number: int | None = None) -> list[Question]:
    """`number` of the questions (all for None), each with its examples in front. No question is its own example, nor is
    one that asks the same and expects something else.

    Fixed examples are drawn once and are not asked; drawn ones are drawn for each question, by its id, from all others.
    Raises `RequestError` where there are too few questions, or they are bare sentences.
    """
    if isinstance(examples, NoExamples):
        return draw(questions, number)
    if len(questions) <= examples.number:
        raise RequestError(f"{len(questions)} questions leave none beside {examples.number} examples", "ask fewer")
    if any(not question.asked for question in questions):
        raise RequestError("these questions are bare sentences, and examples cannot stand before them", "ask for none")
    if isinstance(examples, FixedExamples):
        shots = draw(questions, examples.number, examples.seed)
        kept = {shot.asked for shot in shots}
        return [_behind(shots, one) for one in draw([one for one in questions if one.asked not in kept], number)]
    alike = Counter(question.asked for question in questions)
    if len(questions) < examples.number + max(alike.values()):
        raise RequestError(f"too few questions ask something else to draw {examples.number} examples", "ask for fewer")
    return [_behind(_drawn(questions, one, examples, alike[one.asked]), one) for one in draw(questions, number)]


def _drawn(questions: Sequence[Question], one: Question, examples: DrawnExamples, alike: int) -> list[Question]:
    """The examples before `one`, which `alike` of the questions ask, itself among them."""
    order = Random(f"{examples.seed}/{one.id}").sample(range(len(questions)), examples.number + alike)
    return [questions[place] for place in order if questions[place].asked != one.asked][: examples.number]


def _behind(shots: Sequence[Question], one: Question) -> Question:
    """`one` with answered questions in front: texts with an empty line between, or as earlier turns."""
    if one.messages:
        turns = [
            turn
            for shot in shots
            for turn in (*shot.messages, Message(role="assistant", content=shot.expected[0].strip()))
        ]
        asked: str | tuple[Message, ...] = (*turns, *one.messages)
    else:
        answered = [f"{shot.text}{_spaced(shot.expected[0])}" for shot in shots]
        asked = BETWEEN_EXAMPLES.join([*answered, one.text])
    return make_question(asked, one.expected, one.options, one.fields, one.group)


def _spaced(answer: str) -> str:
    return answer if answer[:1].isspace() else f" {answer}"


def with_asked(asking: Asking, examples: Examples) -> Asking:
    """`asking` with these examples. Raises `RequestError` where it takes none."""
    if isinstance(asking, Read):
        if isinstance(examples, NoExamples):
            return asking
        raise RequestError("running text is read without examples", "leave --examples out")
    return asking.replace(examples=examples)
