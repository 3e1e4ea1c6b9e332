"""A workspace made by hand from core values: a finished run with its plan, rows, reports, versions and promotion."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from pathlib import Path

from llmops.core.comparison import Pick
from llmops.core.dataset import DatasetManifest, Message, Row, SourceRecord
from llmops.core.made_up import KNOBS, made_up_plan
from llmops.core.method import LoRA
from llmops.core.outcome import ComparisonLine, EndpointCheck, Outcome, SideBySide
from llmops.core.plan import BaseModelRecord, Decision, Plan, leaves
from llmops.core.recipe import Evaluation, Recipe
from llmops.core.report import Answer, EvalReport, Score, Subject, Suite
from llmops.core.run import RunEvent, StepRecord
from llmops.core.sources import Data, Source
from llmops.core.tasks import Classify
from llmops.core.version import ModelVersion, Promotion
from llmops.store.files import write_json, write_jsonl
from llmops.store.workspace import Workspace

SHA = "0" * 64
BASE = "smollm2-135m-q4"
KINDS = ("majority", "word_list", "tfidf", "frozen", "base", "tuned")
VALUES = dict(zip(KINDS, (0.52, 0.88, 0.79, 0.87, 0.68, 0.90), strict=True))
DOMAINS = ("tweets", "movies")


def rows_of(words: str, count: int) -> list[Row]:
    """Rows that carry `words` in every field a person sees."""
    made = []
    for number in range(count):
        label = ("negative", "positive")[number % 2]
        text = f"{words} sentence {number}"
        asked = Message(role="user", content=f"Positive or negative?\n{text}")
        made.append(
            Row(
                id=hashlib.sha256(text.encode()).hexdigest()[:16],
                messages=(asked, Message(role="assistant", content=label)),
                text=text,
                label=label,
                fields={"domain": DOMAINS[number % 2]},
                group=text,
                source=f"path:{words}.csv",
                line=number + 2,
            )
        )
    return made


def score(value: float, n: int, words: str) -> Score:
    def one(middle: float, rows: int) -> Score:
        return Score(metric="accuracy", value=middle, low=middle - 0.04, high=min(1.0, middle + 0.03), n=rows)

    slices = {f"domain={domain}": one(value - 0.05 * number, n // 2) for number, domain in enumerate(DOMAINS)}
    return one(value, n).replace(slices={**slices, f"domain={words}": one(value - 0.1, 3)})


def plan_of(recipe: Recipe, dataset: str, why: str) -> Plan:
    knobs = KNOBS.replace(
        method=LoRA(rank=8, alpha=16.0, dropout=0.0, rank_stabilised=False, initialisation="default"),
        targets=("q_proj", "v_proj"),
        batch_rows=8,
        steps=60,
        max_tokens=128,
        template="base",
        threads=2,
        checkpoint_every=20,
    )
    base = BaseModelRecord(name=BASE, sha256=SHA, family="llama", parameters=134_515_008, licence="Apache-2.0")
    decisions = tuple(Decision(field=name, value=value, because=f"{why} {name}") for name, value in leaves(knobs))
    return made_up_plan(recipe, dataset, knobs, base).replace(
        decisions=decisions, train_tokens=40_000, seconds_expected=120.0, memory_bytes_expected=10**9
    )


def report_of(kind: str, suite: Suite, rows: list[Row], words: str) -> EvalReport:
    right = round(VALUES[kind] * len(rows))
    answers = []
    for number, row in enumerate(rows):
        ok = number < right
        other = "negative" if row.label == "positive" else "positive"
        answers.append(
            Answer(
                row=row.id,
                prompt=row.text,
                expected=str(row.label),
                answered=f"{row.label if ok else other} {words}".strip(),
                marks={"accuracy": float(ok)},
                probability=0.5 + 0.4 * ok,
                fields=row.fields,
            )
        )
    subject = Subject(kind=kind, ref={"base": BASE, "tuned": "tone:2"}.get(kind, kind))  # type: ignore[arg-type]
    return EvalReport(
        subject=subject, suite=suite, scores={"accuracy": score(VALUES[kind], len(rows), words)}, answers=tuple(answers)
    )


def fill(at: Workspace, name: str = "tone", words: str = "An ordinary") -> str:
    """What a finished run leaves behind; `words` stand in every text that comes from data. Returns its id."""
    task = Classify(question=f"{words} Positive or negative?", labels=("negative", "positive"))
    rows, heldout = rows_of(words, 40), rows_of(f"{words} unseen", 60)
    manifest = DatasetManifest(
        name=name,
        task=task,
        sources=(SourceRecord(from_="path:x.csv", sha256=SHA, licence=None, rows_read=100),),
        rows_read=100,
        rows_train=40,
        rows_heldout=60,
        dropped={},
        files={},
    )
    at.put(manifest)
    write_jsonl(at.folder(DatasetManifest, manifest.id) / "train.jsonl", (row.to_json() for row in rows))
    write_jsonl(at.folder(DatasetManifest, manifest.id) / "heldout.jsonl", (row.to_json() for row in heldout))
    asked = tuple(f"{words} {question}" for question in ("question one?", "question two?", "What a lovely day."))
    recipe = Recipe(
        name=name, data=Data(sources=(Source(from_="path:x.csv"),)), task=task, evaluation=Evaluation(prompts=asked)
    )
    plan = plan_of(recipe, manifest.id, words)
    at.put(plan)
    # A row that cannot give the measure that decides, as a TF-IDF cosine cannot give bits per byte.
    undecided = Suite(dataset=manifest.id, rows_sha256=SHA, measures=("bits_per_byte", "accuracy"), slices=("domain",))
    at.put(report_of("tfidf", undecided, heldout, words))
    suite = Suite(dataset=manifest.id, rows_sha256=SHA, measures=("accuracy",), slices=("domain",))
    reports = {kind: report_of(kind, suite, heldout, words) for kind in KINDS}
    for report in reports.values():
        at.put(report)
    moment = at.world.clock() - timedelta(hours=3)
    run_id = train(at, name, plan, moment, words)
    train(at, name, plan, moment - timedelta(hours=1), words, "interrupted")
    _versions(at, plan, run_id, reports)
    at.ledger.append(
        Promotion(name=name, version=2, because=f"{words} better than TF-IDF", author=words, at=moment),
        name,
        f"{name}:2",
    )
    write_json(at.run_folder(run_id) / "outcome.json", outcome_of(plan, run_id, reports, words).to_json())
    return run_id


def train(at: Workspace, name: str, plan: Plan, moment: datetime, words: str, status: str = "finished") -> str:
    """A run of 60 steps, and its metrics."""
    run_id = f"{moment:%Y%m%d}-{name}-{hashlib.sha256(status.encode()).hexdigest()[:6]}"
    data = {
        "name": name if status == "finished" else f"{name} {words}",
        "plan": plan.id,
        "dataset": plan.dataset,
        "steps": 60,
    }
    at.add_event(run_id, RunEvent(kind="created", at=moment, data=data))
    at.add_event(run_id, RunEvent(kind="started", at=moment))
    steps = 60 if status == "finished" else 35
    if status != "running":
        at.add_event(run_id, RunEvent(kind=status, at=moment, step=steps, note=words, data={"seconds": 95.0}))  # type: ignore[arg-type]
    records = [
        StepRecord(
            step=step,
            of=60,
            loss_nats=0.7 * 0.96**step + 0.05 * (step % 3),
            learning_rate=1e-3,
            gradient_norm=1.0,
            tokens=600,
            trained_tokens=8,
            seconds=1.5,
            memory_bytes=10**9,
            samples=((f"{words} prompt", f"{words} answer {step}"),) if step % 30 == 0 else (),
        ).to_json()
        for step in range(1, steps + 1)
    ]
    write_jsonl(at.run_folder(run_id) / "metrics.jsonl", records)
    return run_id


def _versions(at: Workspace, plan: Plan, run_id: str, reports: dict[str, EvalReport]) -> None:
    for number, kind in ((1, "tfidf"), (2, "tuned")):
        version = ModelVersion(
            name=plan.recipe.name,
            number=number,
            kind=kind,
            task=plan.recipe.task,
            base=BASE,
            base_sha256=SHA,  # type: ignore[arg-type]
            recipe=plan.recipe.id,
            dataset=plan.dataset,
            plan=plan.id,
            run=run_id,
            report=reports[kind].id,
            packages={},
            files={},
        )
        write_json(at.version_folder(version.ref) / "version.json", version.to_json())


def outcome_of(plan: Plan, run_id: str, reports: dict[str, EvalReport], words: str) -> Outcome:
    tuned = VALUES["tuned"]
    lines = tuple(
        ComparisonLine(
            baseline=kind,
            metric="accuracy",
            delta=tuned - value,
            low=tuned - value - 0.035,
            high=tuned - value + 0.035,
            p=0.0001 if tuned - value > 0.1 else 0.31,
            verdict="better" if tuned - value > 0.035 else "cannot tell",
        )
        for kind, value in VALUES.items()
        if kind != "tuned"
    )
    name = plan.recipe.name
    return Outcome(
        name=name,
        version=f"{name}:2",
        tuned_version=f"{name}:2",
        promoted=f"{words} {name}:2 answers as production.",
        run=run_id,
        plan=plan.id,
        dataset=plan.dataset,
        seconds={"prepare": 4.1, "plan": 6.0, "train": 151.0, "evaluate": 62.0},
        scores={kind: report.main for kind, report in reports.items()},
        comparisons=lines,
        pick=Pick(
            subject=reports["tuned"].subject, because=f"{words} tuned is the cheapest that is not worse.", margin=0.01
        ),
        endpoint=EndpointCheck(version=f"{name}:2", offline=0.9, endpoint=0.9, differ=2, n=60),
        answers=(SideBySide(prompt=words, base=words, tuned=words),),
        reports={kind: item.id for kind, item in reports.items()},
    )


def workspace(folder: Path) -> Workspace:
    """An empty workspace at `folder`."""
    return Workspace.find(folder, environ={})
