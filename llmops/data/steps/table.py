"""The table of steps: by the `kind` of a step's type, what it does to rows one by one, or to all of them together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from llmops.data.mapping import Example
from llmops.data.steps import deal, duplicates, near_duplicates
from llmops.data.steps.change import Change
from llmops.data.steps.language import language
from llmops.data.steps.normalise import normalise
from llmops.data.steps.private import private
from llmops.data.steps.quality import quality
from llmops.data.steps.signs import Signs
from llmops.data.steps.terms import terms

# (step, rows) to what became of those that did not stay as they were. A row's fate depends on that row only.
RowStep = Callable[[Any, Sequence[Example]], Iterator[Change]]


class SetStep(NamedTuple):
    """A step that looks at all rows: `sign` keeps some bytes of each, and `decide` says from them which rows go.

    `sign(step, rows)` gives columns of equal meaning for every chunk of rows; `decide(step, signs, spared)` gives
    (place among all signed rows, reason). A row whose id (as a number) is in `spared` stays.
    """

    sign: Callable[[Any, Sequence[Example]], dict[str, np.ndarray]]
    decide: Callable[[Any, Signs, Collection[int]], Iterator[tuple[int, str]]]


ROW_STEPS: dict[str, RowStep] = {
    "normalise": normalise,
    "quality": quality,
    "language": language,
    "private": private,
    "terms": terms,
}

SET_STEPS: dict[str, SetStep] = {
    "duplicates": SetStep(duplicates.sign, duplicates.decide),
    "near_duplicates": SetStep(near_duplicates.sign, near_duplicates.decide),
    "split": SetStep(deal.sign, deal.decide),
}
