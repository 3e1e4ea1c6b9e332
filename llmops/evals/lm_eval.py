"""EleutherAI's lm-eval and back: its results read as reports, our likelihood suites written as its tasks. N questions.

Neither needs lm-eval itself. A task that was written here carries the suite's name and how it is asked, so that the
results of it have the same suite, and `compare` pairs them with ours.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import TypeAdapter, ValidationError

from llmops.core.errors import LlmopsError, RequestError
from llmops.core.report import EvalReport, Subject, Suite
from llmops.core.scorers import Exact
from llmops.core.suites import Asking, Choose, Generate, Label, Question, make_question
from llmops.evals.evaluate import softmax
from llmops.evals.score import Measured, Said, asked_question, grade
from llmops.evals.suite import question_suite
from llmops.store.files import read_json, read_jsonl

OWN = "llmops"  # the key of our own entry in a task's metadata
ASKING: TypeAdapter[Asking] = TypeAdapter(Asking)
# What lm-eval marks each sample with, and the measure here that means the same.
MEASURES = {"acc": "accuracy", "acc_norm": "accuracy_norm", "exact_match": "exact"}


def write_task(suite: Suite, questions: Sequence[Question], folder: Path) -> Path:
    """Write the suite as a task of lm-eval: its YAML, which is returned, and its questions beside it as JSONL.

    `lm_eval --include_path FOLDER --tasks llmops-NAME` asks it. Examples stand in the prompts. Raises `RequestError`
    where the suite is no text with options.
    """
    if not isinstance(suite.asking, Choose | Label) or any(one.messages or not one.options for one in questions):
        raise RequestError(
            f"{suite.dataset} is no multiple choice of texts", "write a suite that chooses among options"
        )
    spaced = all(option.startswith(" ") for one in questions for option in one.options)
    folder.mkdir(parents=True, exist_ok=True)
    rows, task = folder / f"{suite.dataset}.jsonl", folder / f"{suite.dataset}.yaml"
    with rows.open("w", encoding="utf-8") as file:
        for one in questions:
            doc = {
                "text": one.text,
                "options": [option[1:] if spaced else option for option in one.options],
                "gold": one.options.index(one.expected[0]),
                "fields": json.dumps(one.fields),
                "group": one.group,
            }
            file.write(json.dumps(doc, ensure_ascii=False) + "\n")
    own = {"suite": suite.dataset, "asking": suite.asking.to_json(), "slices": list(suite.slices)}
    measures = [name for name, measure in MEASURES.items() if measure in suite.measures]
    made = {
        "task": f"llmops-{suite.dataset}",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(rows.resolve())}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "text",
        "doc_to_choice": "options",
        "doc_to_target": "gold",
        "target_delimiter": " " if spaced else "",
        "num_fewshot": 0,
        "metric_list": [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in measures],
        "metadata": {"version": 1, OWN: own},
    }
    task.write_text(yaml.safe_dump(made, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return task


def read_results(path: Path) -> list[EvalReport]:
    """The reports of a run of lm-eval: of its `results_DATE.json`, and the `samples_TASK_DATE.jsonl` beside it.

    One report for each task that has samples and a measure known here (`MEASURES`). Raises `RequestError` where there
    is none, `LlmopsError` where a file is damaged.
    """
    results = read_json(path)
    if not isinstance(results, dict) or not isinstance(results.get("configs"), dict):
        raise RequestError(f"{path} holds no results of lm-eval", "name the results_DATE.json that lm_eval wrote")
    date = path.stem.removeprefix("results_")
    subject = Subject(kind="base", ref=str(results.get("model_name") or results.get("model_source") or "lm-eval"))
    found = []
    for task, config in results["configs"].items():
        samples = path.with_name(f"samples_{task}_{date}.jsonl")
        if samples.exists():
            found.append(_report(subject, task, config, list(read_jsonl(samples)), samples))
            _check_whole(found[-1], results, task, samples)
    if not found:
        raise RequestError(f"there are no samples beside {path}", "run lm_eval with --log_samples")
    return found


def _check_whole(report: EvalReport, results: dict[str, Any], task: str, path: Path) -> None:
    """Raise `LlmopsError` where the results count other samples than there are: a file that ends early has a score."""
    counts = results.get("n-samples")
    asked = counts[task].get("effective") if isinstance(counts, dict) and isinstance(counts.get(task), dict) else None
    if asked is not None and asked != len(report.answers):
        what = f"{path} has {len(report.answers):,} samples, and its results were made of {asked:,}"
        raise LlmopsError(what, "restore the file from a copy, or run lm_eval again")


def _report(subject: Subject, task: str, config: dict[str, Any], rows: list[dict[str, Any]], path: Path) -> EvalReport:
    try:
        first = rows[0].get("filter")
        rows = [row for row in rows if row.get("filter") == first]
        names = [name for name in MEASURES if all(isinstance(row.get(name), int | float) for row in rows)]
        if not names:
            raise RequestError(f"{path} has no measure that is known here", f"known: {', '.join(MEASURES)}")
        questions = _told_apart([_question(row) for row in rows])
        nats = [_nats(row, one) for row, one in zip(rows, questions, strict=True)]
        marks = {name: [float(row[name]) for row in rows] for name in names}
        if not all(isfinite(mark) for some in marks.values() for mark in some):
            raise ValueError("a mark is no number")
        suite = _suite(task, config, questions)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError, ValidationError) as error:
        raise LlmopsError(f"{path} is not as lm-eval 0.4 writes it: {error!r}", "run lm_eval again") from error
    measured = [
        Measured(MEASURES[name], [int(mark) for mark in some], [1] * len(some), some)
        for name, some in marks.items()
        if MEASURES[name] in suite.measures
    ]
    if "macro_f1" in suite.measures:
        measured.append(_macro_f1(questions, nats))
    said = [_said(row, one, some) for row, one, some in zip(rows, questions, nats, strict=True)]
    return grade(subject, suite, [asked_question(one) for one in questions], measured, said)


def _question(row: dict[str, Any]) -> Question:
    """The question of a sample, from what the model was asked, word for word."""
    asked = [row["arguments"][f"gen_args_{place}"] for place in range(len(row["arguments"]))]
    text, doc = asked[0]["arg_0"], row["doc"]
    fields = {name: str(value) for name, value in json.loads(doc.get("fields") or "{}").items()}
    group = doc.get("group")
    if isinstance(asked[0]["arg_1"], str):
        options = tuple(one["arg_1"] for one in asked)
        return make_question(text, (options[int(row["target"])],), options, fields, group)
    return make_question(text, (str(row["target"]),), (), fields, group)


def _told_apart(questions: Sequence[Question]) -> list[Question]:
    """The same, with a number behind the id of one that was asked before."""
    seen: Counter[str] = Counter()
    found = []
    for one in questions:
        seen[one.id] += 1
        found.append(one if seen[one.id] == 1 else one.replace(id=f"{one.id}-{seen[one.id]}"))
    return found


def _nats(row: dict[str, Any], question: Question) -> list[float]:
    """The log-probability of each option; none where an answer was generated."""
    if not question.options:
        return []
    nats = [float(one[0]) for one in row["filtered_resps"]]
    if len(nats) != len(question.options) or not all(map(isfinite, nats)):
        raise ValueError(f"sample {row['doc_id']} has no log-probability for each option")
    return nats


def _said(row: dict[str, Any], question: Question, nats: Sequence[float]) -> Said:
    if not nats:
        return Said(str(row["filtered_resps"][0]))
    best = int(np.argmax(nats))
    return Said(question.options[best].strip(), float(softmax(np.array(nats))[best]))


def _macro_f1(questions: Sequence[Question], nats: Sequence[Sequence[float]]) -> Measured:
    labels = list(dict.fromkeys(option for one in questions for option in one.options))
    truth = [labels.index(one.expected[0]) for one in questions]
    best = [labels.index(one.options[int(np.argmax(some))]) for one, some in zip(questions, nats, strict=True)]
    return Measured("macro_f1", best, truth)


def _suite(task: str, config: dict[str, Any], questions: Sequence[Question]) -> Suite:
    """The suite that we wrote the task from; else one of the task's own name."""
    own = (config.get("metadata") or {}).get(OWN)
    if own:
        return question_suite(own["suite"], ASKING.validate_python(own["asking"]), questions, own["slices"])
    asking: Asking = Choose() if questions[0].options else Generate(scorer=Exact())
    return question_suite(f"lm-eval/{task}", asking, questions)
