"""The shipped exams as they are: every row of every file has its gold, and the prompt of lm-eval's task."""

from __future__ import annotations

import pytest

from llmops.core.context import Surroundings
from llmops.evals.exams import RENDERED, read_exam


@pytest.mark.journey
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", RENDERED)
def test_every_row_of_an_exam_has_its_gold(name: str) -> None:
    """`read_exam` refuses a row without gold, and another number of rows."""
    questions = read_exam(name, Surroundings())
    assert len(questions) == RENDERED[name].lines - (name == "crows-pairs"), "crows-pairs asks one pair twice"
    assert len({question.id for question in questions}) == len(questions)
    assert all(len(question.options) in (0, 2, 3, 4, 5) for question in questions)


@pytest.mark.journey
@pytest.mark.timeout(300)
def test_prompts_are_those_of_lm_eval() -> None:
    first = {name: read_exam(name, Surroundings())[0] for name in ("openbookqa", "piqa", "boolq", "commonsenseqa")}
    assert first["openbookqa"].text.endswith("the best way to save money is to")
    assert first["piqa"].text == "Question: dresser\nAnswer:"
    assert first["boolq"].text.endswith("\nQuestion: does ethanol take more energy make that produces?\nAnswer:")
    assert first["boolq"].options == (" no", " yes")
    assert first["commonsenseqa"].text.endswith("\nD. mall\nE. new york\nAnswer:")
    assert first["commonsenseqa"].options == (" A", " B", " C", " D", " E")
