"""`look` at a file of rows, `draft` a recipe for it, and write the recipe as some lines of YAML."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from llmops.core.dataset import Message
from llmops.core.errors import RequestError
from llmops.core.method import DPO, KTO, SFT, Objective
from llmops.core.recipe import Evaluation, Recipe
from llmops.core.sources import Data, Labelled, PlainText, Rated, Shape, Source
from llmops.core.tasks import Classify, Continue, Rate, Reply, Task
from llmops.core.value import Value
from llmops.data.columns import LABEL_NAMES, Column, as_columns, opened
from llmops.data.guess import guess, slices
from llmops.data.mapping import Example, map_records
from llmops.data.readers import BY_SUFFIX, columns_of, read_records
from llmops.data.record import Record
from llmops.data.split import FEWEST_ROWS, Dealt, deal

SHOWN_ROWS = 5
# What is learned from rows that compare; every other shape shows what to say.
OBJECTIVES: dict[str, Objective] = {"preference": DPO(), "thumbs": KTO()}
MOST_DECIMALS = 3  # each costs a token, and raters mean no more
COMMENTS = {
    "base": "the model to tune: a catalogue name, path:FOLDER or hub:ORG/NAME",
    "data": "where the rows come from, and which columns are what",
    "task": "what the model shall do",
    "evaluation": "scores are reported by these columns too",
}


class Look(Value):
    """What was found in a file: its shape and why, some rows as the model would see them, and what to mind."""

    file: str
    rows: int
    columns: tuple[str, ...]
    shape: Shape
    task: Task
    keep_fields: tuple[str, ...] = ()
    why: tuple[str, ...]
    labels: dict[str, int] = Field(default_factory=dict, description="label: number of rows")
    rows_train: int
    rows_heldout: int
    rendered: tuple[tuple[Message, ...], ...]
    warnings: tuple[str, ...] = ()


def look(
    file: Path,
    text: str | None = None,
    label: str | None = None,
    number: str | None = None,
    prompt: str | None = None,
    reply: str | None = None,
) -> Look:
    """Look at a file of rows with an ending in `readers.BY_SUFFIX`. Names choose columns where a person knows better.

    Raises `RequestError` where the file cannot be read, or it is not clear which column is what.
    """
    if not file.is_file():
        raise RequestError(f"there is no file {file}", f"name a file that ends in one of: {', '.join(BY_SUFFIX)}")
    records = list(read_records(file, str(file)))
    names = columns_of(records)
    _check_header(file, names, records)
    names = opened(names, records)
    flags = {"text": text, "label": label, "number": number, "prompt": prompt, "reply": reply}
    found = guess(str(file), records, {flag: column for flag, column in flags.items() if column})
    shape = found.shape
    columns = as_columns(names, records)
    keep = slices(columns, [value for field, value in shape if field != "kind"])
    labels: dict[str, int] = {}
    task = task_for(shape, columns)
    if isinstance(shape, Labelled):
        labels = dict(sorted(next(column for column in columns if column.name == shape.label).counts.items()))
    dealt = _deal(file, records, shape, task, keep)
    if not dealt.train and not dealt.heldout:
        first = dealt.dropped[0]
        raise RequestError(
            f"{file}: not one of {len(records):,} rows can be used; line {first.line}: {first.reason}",
            "mend or export the file again, or choose other columns",
        )
    warnings = _warnings(dealt, labels)
    if isinstance(task, Classify):
        task, more = _with_enough_rows(task, dealt)
        if more:
            dealt = _deal(file, records, shape, task, keep)
        warnings += more
    return Look(
        file=file.as_posix(),
        rows=len(records),
        columns=tuple(names),
        shape=shape,
        task=task,
        keep_fields=keep,
        why=(*found.why, *(f"{name!r} has few values: kept, to report by" for name in keep)),
        labels=labels,
        rows_train=len(dealt.train),
        rows_heldout=len(dealt.heldout),
        rendered=tuple(_rendered(example) for example in (*dealt.train, *dealt.heldout)[:SHOWN_ROWS]),
        warnings=tuple(warnings),
    )


def task_for(shape: Shape, columns: Sequence[Column]) -> Task:
    """What a model shall do with rows of a shape: their labels and numbers are those in `columns`."""
    if isinstance(shape, Rated):
        return _rate(next(column for column in columns if column.name == shape.number))
    if isinstance(shape, Labelled):
        return _classify(shape.label, tuple(sorted(next(c for c in columns if c.name == shape.label).counts)))
    return Continue() if isinstance(shape, PlainText) else Reply()


def draft(seen: Look, name: str | None = None) -> Recipe:
    """A recipe that runs on what was seen, named `name` or after the file."""
    if name is not None and name_for(name) != name:
        raise RequestError(
            f"{name!r} is no name for a recipe", f"use lower-case letters, digits and hyphens: {name_for(name)}"
        )
    source = Source(from_=f"path:{seen.file}", shape=seen.shape, keep_fields=seen.keep_fields)
    return Recipe(
        name=name or name_for(seen.file),
        data=Data(sources=(source,)),
        task=seen.task,
        objective=OBJECTIVES.get(seen.shape.kind, SFT()),
        evaluation=Evaluation(slices=seen.keep_fields),
    )


def name_for(file: str) -> str:
    """A recipe's name from a file's: lower-case letters, digits and hyphens."""
    stem = Path(file).stem.lower()
    return re.sub(r"[^a-z0-9]+", "-", stem).lstrip("0123456789-")[:63].rstrip("-") or "my-rows"


def recipe_yaml(recipe: Recipe) -> str:
    """The recipe as YAML that loads back to the same recipe: only what differs from the defaults, with comments."""
    data = {"name": recipe.name, "base": recipe.base, **lean(recipe)}
    lines = [f"# Run it: llmops run {recipe.name}.yaml      See its rows: llmops prepare {recipe.name}.yaml"]
    for key, value in data.items():
        if key in COMMENTS:
            lines.append(f"# {COMMENTS[key]}")
        style = None if isinstance(value, dict | list) else False
        text = yaml.safe_dump({key: value}, default_flow_style=style, allow_unicode=True, sort_keys=False, width=110)
        lines.append(text.rstrip("\n"))
    # Short enough for a terminal of 80 columns: where it broke, its second line would read as a part of the recipe.
    lines += [
        "# Every knob left out is decided by 'llmops plan', with its reason.",
        "# To fix one: training: {epochs: 2}",
    ]
    return "\n".join(lines) + "\n"


def lean(value: Value) -> dict[str, Any]:
    """The fields of a value that differ from their defaults, and `kind`, by which its type is known."""
    found: dict[str, Any] = {}
    for name, info in type(value).model_fields.items():
        here = getattr(value, name)
        if name != "kind" and here == info.get_default(call_default_factory=True):
            continue
        found[info.alias or name] = _plain(here)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Value):
        return lean(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _check_header(file: Path, names: Sequence[str], records: Sequence[Record]) -> None:
    """Raise `RequestError` where the first line of a table looks like a row."""
    if file.suffix.lower() not in (".csv", ".tsv", ".tab"):
        return
    if names and not names[0] and [str((record.cells or {}).get("")) for record in records[:2]] == ["0", "1"]:
        names = names[1:]  # pandas writes its index so
    seen = {name: {str(record.cells[name]) for record in records if record.cells is not None} for name in names}
    for name in names:
        if name in seen[name] or len(name.split()) > 6 or not name:
            what = "has no name for a column" if not name else f"begins with {name[:60]!r}, which looks like a row"
            raise RequestError(f"{file} {what}", "put a first line with the names of the columns, such as: text,label")


def _classify(column: str, labels: tuple[str, ...]) -> Classify:
    by_word: dict[str, str] = {}
    for label in labels:
        other = by_word.setdefault(label.lower(), label)
        if other != label:
            raise RequestError(
                f"labels {other!r} and {label!r} of column {column!r} differ in case only", "spell them the same"
            )
    listed = ", ".join(labels[:-1]) + f" or {labels[-1]}"
    return Classify(question=f"Which {_asked(column)} fits this text: {listed}?", labels=labels)


def _asked(column: str) -> str:
    """What a question calls a column: of a path such as `annotations.0.choices.0`, the end where it names a label."""
    *path, last = [part for part in column.split(".") if not part.isdigit()] or [column]
    return "label" if path and last.lower() not in LABEL_NAMES else last.replace("_", " ").strip()


def _rate(column: Column) -> Rate:
    decimals = max((len(re.split("[.,]", value)[1]) for value in column.counts if re.search("[.,]", value)), default=0)
    about = column.name.replace("_", " ").strip()
    return Rate(question=f"Which {about} fits this text? Answer with a number.", decimals=min(MOST_DECIMALS, decimals))


def _rendered(example: Example) -> tuple[Message, ...]:
    """A row's turns; all of a running text is the model's to say."""
    return example.row().messages or (Message(role="assistant", content=example.text),)


def _deal(file: Path, records: Sequence[Record], shape: Shape, task: Task, keep: tuple[str, ...]) -> Dealt:
    """The rows on their sides, exactly as `prepare` would deal them."""
    source = Source(from_=f"path:{file.as_posix()}", shape=shape, keep_fields=keep)
    return deal(list(map_records(records, str(file), 0, source, task)), Data(sources=(source,)))


def _warnings(dealt: Dealt, labels: dict[str, int]) -> list[str]:
    found = [_would_drop(dealt, reason, count) for reason, count in dealt.reasons.items()]
    once = [label for label, count in labels.items() if count == 1]
    found += [f"label {label!r} occurs once" for label in once[:5]]
    most, fewest = max(labels.values(), default=0), min(labels.values(), default=0)
    if most > 10 * fewest:
        found.append(f"the labels are out of balance: from {fewest:,} to {most:,} rows")
    if len(dealt.train) < 50:
        found.append(f"only {_rows(len(dealt.train))} to train on: a few hundred are a good start")
    return found


def _would_drop(dealt: Dealt, reason: str, count: int) -> str:
    """How many rows go for a reason, and the first of them."""
    first = next(row for row in dealt.dropped if row.reason.partition(":")[0] == reason)
    detail = first.reason.partition(": ")[2]
    return f"{_rows(count)} would be dropped: {reason} (the first is line {first.line}{detail and ': '}{detail[:100]})"


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _with_enough_rows(task: Classify, dealt: Dealt) -> tuple[Classify, list[str]]:
    """The task without labels that are too rare to learn and to measure, where two others are left."""
    train = Counter(example.label for example in dealt.train)
    heldout = Counter(example.label for example in dealt.heldout)
    enough = tuple(label for label in task.labels if min(train[label], heldout[label]) >= FEWEST_ROWS)
    rare = [label for label in task.labels if label not in enough]
    if not rare:
        return task, []
    said = ", ".join(map(repr, rare[:8]))
    if len(enough) < 2:
        return task, [f"too few rows of {said} on one side of the split: 'prepare' will refuse; bring more rows"]
    column = task.question.removeprefix("Which ").partition(" fits this text")[0]
    return _classify(column, enough), [f"left out of the labels, because too few rows have them: {said}"]
