"""The scorers of generated answers, each with its knobs: what a suite says about how an answer becomes a mark."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from llmops.core.value import Value

Fold = Literal["case", "spaces", "punctuation"]
Mark = Annotated[float, Field(allow_inf_nan=False)]

JUDGE_PROMPT = """You mark an answer to a question.

Question:
{question}

Right answer:
{expected}

Given answer:
{answer}

Does the given answer say the same as the right answer? Say only: right, or wrong."""


class Exact(Value):
    """1 where the answer is an expected text, case and signs aside."""

    kind: Literal["exact"] = "exact"
    folds: tuple[Fold, ...] = Field(("case", "spaces", "punctuation"), description="what makes no difference")


class Includes(Value):
    """1 where an expected text stands in the answer, as whole words."""

    kind: Literal["includes"] = "includes"
    folds: tuple[Fold, ...] = Field(("case", "spaces", "punctuation"), description="what makes no difference")


class Number(Value):
    """1 where the answer's number is the expected one, or near enough.

    Near is within the larger tolerance. Reads 1,234.5 and 1e3; a percentage means its share or the number before
    its sign, so 50 % is 0.5 and 50.
    """

    kind: Literal["number"] = "number"
    take: Literal["first", "last"] = Field("last", description="which number of the answer counts")
    decimal: Literal[".", ","] = Field(".", description="the sign before decimals; the other one groups thousands")
    tolerance: float = Field(0.0, ge=0, allow_inf_nan=False, description="largest difference")
    relative: float = Field(1e-9, ge=0, lt=1, description="largest difference, as a share of the expected number")


class PickedOption(Value):
    """1 where the answer names the expected option, by letter or text."""

    kind: Literal["choice"] = "choice"


class Json(Value):
    """1 where the answer is a JSON document, or the expected one.

    Strict: no NaN, no key twice.
    """

    kind: Literal["json"] = "json"
    wants: Literal["any", "expected"] = Field("any", description="any document, or one equal to the expected answer")
    around: Literal["nothing", "fence"] = Field("fence", description="what may stand around it: nothing, a code fence")


class Schema(Value):
    """1 where the answer is a JSON document that a schema takes.

    No reference leaves the schema.
    """

    kind: Literal["schema"] = "schema"
    wanted: dict[str, Any] = Field(description="the JSON schema, or its text; draft 2020-12 unless it says another")
    around: Literal["nothing", "fence"] = Field("fence", description="what may stand around it: nothing, a code fence")

    @field_validator("wanted", mode="before")
    @classmethod
    def _may_be_text(cls, wanted: Any) -> Any:
        if not isinstance(wanted, str):
            return wanted
        try:
            return json.loads(wanted)
        except ValueError as error:
            raise ValueError(f"the schema is no JSON: {error}") from error


class Rouge(Value):
    """ROUGE as rouge-score computes it: F, against the nearest expected text."""

    kind: Literal["rouge"] = "rouge"
    variant: Literal["rouge1", "rouge2", "rougeL", "rougeLsum"] = "rougeL"
    words: Literal["english", "any"] = Field("english", description="english: a-z and 0-9 only; any: of every script")
    stem: bool = Field(False, description="compare English stems (Porter)")

    @model_validator(mode="after")
    def _stems_are_english(self) -> Rouge:
        if self.stem and self.words != "english":
            raise ValueError("stems are English: leave stem out, or take words: english")
        return self


class Bleu(Value):
    """BLEU as sacrebleu computes it, of each answer and of all of them.

    0 to 100; of one answer with effective order.
    """

    kind: Literal["bleu"] = "bleu"
    tokens: Literal["13a", "intl", "char", "zh", "none"] = Field("13a", description="how texts become tokens")
    lowercase: bool = False


class Chrf(Value):
    """chrF as sacrebleu computes it, of each answer and of all of them.

    0 to 100; word order 2 is chrF++.
    """

    kind: Literal["chrf"] = "chrf"
    word_order: int = Field(0, ge=0, le=4)


class Regex(Value):
    """1 where a pattern is found; a group in it must be the expected text.

    Patterns are RE2's, which take linear time.
    """

    kind: Literal["regex"] = "regex"
    pattern: str | None = Field(
        None, min_length=1, max_length=10_000, description="left out, each expected text is one"
    )
    whole: bool = Field(False, description="the pattern must fit the whole answer")


class Code(Value):
    """The mark that a program of your own gives, in a process for each answer.

    The process is limited in time and memory. The program is named where the evaluation is asked for; here stand
    its name and sha256.
    """

    kind: Literal["code"] = "code"
    program: str = Field(min_length=1, description="file name of the program")
    sha256: str = Field("", pattern="^([0-9a-f]{64})?$", description="of the program; filled in where it is named")
    seconds: float = Field(10.0, gt=0, le=3600, description="for one answer")
    memory_mb: int = Field(1024, ge=16, le=65_536, description="address space of the program")


class Judge(Value):
    """The verdict of a model; one that cannot be read is no mark."""

    kind: Literal["judge"] = "judge"
    model: str = Field(description="who judges: a base, a version or a run")
    prompt: str = Field(JUDGE_PROMPT, description="with {question}, {expected} and {answer}")
    verdicts: dict[str, Mark] = Field({"right": 1.0, "wrong": 0.0}, min_length=2, description="word: its mark")
    max_tokens: int = Field(16, ge=1, le=4096)

    @field_validator("prompt")
    @classmethod
    def _shows_the_answer(cls, prompt: str) -> str:
        if "{answer}" not in prompt:
            raise ValueError("a judge must see the answer: put {answer} into the prompt")
        return prompt

    @field_validator("verdicts")
    @classmethod
    def _verdicts_differ(cls, verdicts: dict[str, float]) -> dict[str, float]:
        words = [word.strip().casefold() for word in verdicts]
        if not all(words) or len(set(words)) != len(words):
            raise ValueError("verdicts must be different words")
        return verdicts


class Function(Value):
    """The mark that a function of your own gives: FILE.py:name.

    The file runs only if you name it yourself.
    """

    kind: Literal["function"] = "function"
    function: str = Field(pattern=r"^[^:]+:[^:]+$", description="file name (or module) and function")
    sha256: str = Field("", pattern="^([0-9a-f]{64})?$", description="of the file; filled in where it is named")


Scorer = Annotated[
    Exact | Includes | Number | PickedOption | Json | Schema | Rouge | Bleu | Chrf | Regex | Code | Judge | Function,
    Field(discriminator="kind"),
]


def measures_of_scorer(scorer: Scorer) -> tuple[str, ...]:
    """What a scorer measures; the first decides. BLEU and chrF have a mark for each answer, and one for all of them."""
    if isinstance(scorer, Rouge):
        return (scorer.variant,)
    return (f"{scorer.kind}_answer", scorer.kind) if isinstance(scorer, Bleu | Chrf) else (scorer.kind,)
