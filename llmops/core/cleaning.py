"""The steps that clean rows, each a type with its own knobs, in the order in which a recipe lists them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from llmops.core.private import KINDS, LONGEST_SCANNED, REGIONS, Kind
from llmops.core.value import Value

LanguageCode = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}$")]
RegionCode = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]


class Normalise(Value):
    """Unicode in its composed form (NFC), control and invisible characters out, one kind of line end and space.

    Indentation and inner runs of spaces stay: they may mean something.
    """

    kind: Literal["normalise"] = "normalise"


class Duplicates(Value):
    """Of equal rows one stays; of equal texts with two labels none."""

    kind: Literal["duplicates"] = "duplicates"
    ignore: Literal["white space", "case and punctuation"] = Field(
        "white space", description="what two texts may differ in and still be equal"
    )


class Quality(Value):
    """Rows that repeat themselves, hold mostly symbols, or are too long go; lines of a web page's frame are cut."""

    kind: Literal["quality"] = "quality"
    most_repeated: float = Field(
        0.6, gt=0, le=1, description="share of a text's runs of three words that stood in it before; from 20 words on"
    )
    most_symbols: float = Field(
        0.6, gt=0, le=1, description="share of characters that are no letter, digit or space; from 20 characters on"
    )
    fewest_words: int = Field(0, ge=0, description="words in the whole row")
    most_characters: int = Field(1_000_000, ge=1, description="in one text of the row")
    frame_lines: bool = Field(True, description="cut lines such as 'Accept all cookies' and 'All rights reserved'")


class Language(Value):
    """Rows in another language go. A text too short to tell, or of which the model is unsure, stays."""

    kind: Literal["language"] = "language"
    keep: tuple[LanguageCode, ...] = Field(min_length=1, description="ISO 639-1 codes, such as en")
    fewest_characters: int = Field(40, ge=1, description="letters below which nothing is told")
    confidence: float = Field(0.9, gt=0, lt=1, description="how sure the model must be that it is another language")


class Private(Value):
    """Private data is replaced by `[EMAIL]`, `[PHONE]`, …; a text too long to scan goes."""

    kind: Literal["private"] = "private"
    find: tuple[Kind, ...] = Field(KINDS, min_length=1, description="what is looked for")
    regions: tuple[RegionCode, ...] = Field(REGIONS, description="whose national telephone numbers are known")
    longest: int = Field(LONGEST_SCANNED, ge=1, le=LONGEST_SCANNED, description="characters; a longer text goes")


class Terms(Value):
    """Rows with terms of a list go: toxic ones by default. A list knows no context: look at what it dropped."""

    kind: Literal["terms"] = "terms"
    list_: str | None = Field(
        "better-profanity", alias="list", description="catalogue name or path:FILE of a list, one term a line"
    )
    words: tuple[str, ...] = Field((), description="more terms")
    most: int = Field(0, ge=0, description="how many of them a row may hold")


class NearDuplicates(Value):
    """Of rows that say nearly the same, in prompt and in reply, with the same label, one stays: smallest id first.

    `alike` is the Jaccard index of their pairs of neighbouring words, case and punctuation aside. Where one word in
    ten differs it is from 0.67 to 0.69; where one in eight does, 0.64.
    """

    kind: Literal["near_duplicates"] = "near_duplicates"
    alike: float = Field(0.65, ge=0.4, le=1, description="Jaccard index of word pairs from which on a row goes")


Step = Annotated[
    Normalise | Duplicates | Quality | Language | Private | Terms | NearDuplicates, Field(discriminator="kind")
]

# What is done where a recipe names no steps. No language: which ones are wanted, only a person knows. Near duplicates
# are bounded more strictly than a step that somebody asks for: of 352 short support questions that differ in one or
# two words, 212 went at 0.65.
DEFAULT_STEPS: tuple[Step, ...] = (Normalise(), Duplicates(), Quality(), Private(), NearDuplicates(alike=0.8))


class StepCount(Value):
    """What a step did to the rows: in + made = out + dropped. `read`, `map` and `split` are steps too."""

    step: str
    rows_in: int = Field(ge=0)
    rows_out: int = Field(ge=0)
    dropped: dict[str, int] = Field(default_factory=dict, description="reason: number of rows")
    altered: dict[str, int] = Field(default_factory=dict, description="what was altered: number of rows")
    made: int = Field(0, ge=0, description="rows that it added: counterfactuals of kept ones")
    examples: tuple[str, ...] = Field((), description="ids of some rows that it dropped or altered")


class Alteration(Value):
    """What one step changed in one text of a row. It holds counts and places, never what stood there."""

    field: str = Field(description="text, turn 1, fields.author …")
    what: dict[str, int] = Field(description="what was changed: how often")
    characters_before: int
    characters_after: int
    spans: tuple[tuple[int, int, str], ...] = Field((), description="[start, end, kind] in the text before")


class AlteredRow(Value):
    """A row that a step altered, and how."""

    id: str
    source: str
    line: int
    step: str
    changes: tuple[Alteration, ...]
