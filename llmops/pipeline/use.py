"""The verbs that use a model: asked, served, watched, and turned into the next rows."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llmops.core.calibration import Abstention
from llmops.core.errors import RequestError
from llmops.core.export import EngineName
from llmops.core.health import HealthReport
from llmops.core.outcome import EndpointCheck, SideBySide
from llmops.core.plan import Plan
from llmops.core.report import EvalReport
from llmops.core.serving import READERS, Exchange, Feedback, Sampling
from llmops.core.tasks import Classify, Continue, Task
from llmops.core.version import ModelVersion
from llmops.pipeline.engines import (
    MakeEngine,
    merged,
    pick,
    served,
    served_together,
    transformers_engine,
    upstream_engine,
    vllm_engine,
)
from llmops.pipeline.follow import Successor
from llmops.pipeline.subjects import label_chances, numbers_said, subject_of
from llmops.store.ledger import Ledger
from llmops.store.workspace import Workspace

if TYPE_CHECKING:
    from llmops.lm.model import LocalModel
    from llmops.serving.roster import Served
    from llmops.serving.serve import ServeSettings
    from llmops.serving.session import ChatSession
    from llmops.serving.upstream import Upstream

Door = Literal["chat", "classify"]


def predict(
    ref: str, in_path: Path, out_path: Path, at: Workspace, column: str | None = None, error: float | None = None
) -> int:
    """Answer every row of a file into a CSV: label or answer, probability, version. Returns the number of rows.

    Probabilities of labels are tempered as the version says. With `error`, or for a version that was registered with
    one, a label is given only where at most that share of such answers is wrong, with 95 % confidence; the others are
    left empty, and `answered` says no. Raises `LlmopsError` where no threshold promises that.
    """
    from llmops.data.mapping import ask
    from llmops.data.table import read_texts, text_column, write_predictions
    from llmops.planning.bases import open_model

    rows = read_texts(in_path, column)
    texts = [row[text_column(in_path, rows, column)] for row in rows]
    subject, plan, folder = subject_of(ref, at)
    task = plan.recipe.task
    answers: list[dict[str, str | float]] = []
    if isinstance(task, Classify):
        prompts = [ask(task, text) for text in texts]
        chances_NK = label_chances(subject, plan, folder, texts, prompts, at)
        version = next((version for version in at.versions() if version.ref == subject.ref), None)
        temperature = (version and version.temperature) or 1.0
        own = version.abstention if version else None
        answers = _labels(chances_NK, task.labels, temperature, _threshold(ref, error, own, at))
    elif error is not None:
        raise RequestError("only a model that picks labels can abstain", "leave out the error")
    elif subject.kind != "tuned":
        prompts = [ask(task, text) for text in texts]
        answers = [{"answer": f"{number:.6g}"} for number in numbers_said(plan, folder, texts, prompts, at)]
    else:
        model = open_model(plan, folder, at.world, "float32")
        answers = [{"answer": text} for text in _answers(model, task, texts, Sampling(), at)]
    write_predictions(out_path, rows, [{**answer, "version": subject.ref} for answer in answers])
    return len(rows)


def _labels(
    chances_NK: Any, labels: Sequence[str], temperature: float, threshold: float | None
) -> list[dict[str, str | float]]:
    """The likeliest label of each row with its tempered probability; none below the threshold of the untempered one."""
    from llmops.evals.calibration import tempered

    found: list[dict[str, str | float]] = []
    for raw_K, chances_K in zip(chances_NK, tempered(chances_NK, temperature), strict=True):
        best = int(raw_K.argmax())
        answered = threshold is None or bool(raw_K[best] >= threshold)
        said: dict[str, str | float] = {"label": labels[best] if answered else ""}
        said["probability"] = round(float(chances_K[best]), 4)
        found.append(said if threshold is None else {**said, "answered": "yes" if answered else "no"})
    return found


def _threshold(ref: str, error: float | None, own: Abstention | None, at: Workspace) -> float | None:
    """The probability below which no answer is given, where a share of wrong ones is promised: here or by a version."""
    from llmops.pipeline.experiments import abstention, promised

    found = own if error is None else promised(abstention(ref, error, at))
    if found is None:
        return None
    at.world.say(
        f"answers from {found.threshold:.3f} on: {100 * found.answered:.0f} % of the held-out rows, "
        f"{found.wrong} of {found.n_answered} wrong (at most {100 * (found.bound or 0):.1f} %, with 95 % confidence)"
    )
    return found.threshold


def serve(
    names: Sequence[str],
    at: Workspace,
    settings: ServeSettings,
    token_at: Path | None = None,
    engine: EngineName | Upstream | None = None,
    readers: int = READERS,
) -> None:
    """Answer for these versions until Ctrl-C or SIGTERM. A promotion or a canary takes effect while it runs.

    `readers` is how many are expected to ask at once: engine and weights are chosen by that and by the machine, and the
    reason is said. An `engine` that is named is taken. transformers is for inspection: what was trained, not merged and
    not quantised, one answer at a time. An `Upstream` is another OpenAI-compatible server that holds the weights.
    """
    from llmops.serving.serve import serve as answer

    named, make = engine is not None, None if engine is None else _maker(engine, at)
    if engine is None:
        engine, make = _picked(names, at, readers)
    answering = served_together(names, at, make, readers)
    opened = list(answering)

    def load(ref: str) -> Served:
        # Who takes over has a certificate of its own, or none.
        then = make if named or engine != "vLLM" else _picked([ref], at, readers)[1]
        opened.append(served(ref, at, then or merged(at, readers=readers)))
        return opened[-1]

    try:
        answer(answering, at.ledger, settings, at.world, token_at, Successor(names, at, load))
    finally:
        for one in opened:
            one.engine.close()


def _picked(names: Sequence[str], at: Workspace, readers: int) -> tuple[EngineName, MakeEngine | None]:
    """The engine for these names and this machine, the reason said aloud, and what makes it."""
    engine, why = pick(names, at, readers)
    at.world.say(why)
    return engine, _maker(engine, at)


def _maker(engine: EngineName | Upstream, at: Workspace) -> MakeEngine | None:
    """What makes the engine of a version; None for llama.cpp, on which versions of one base share their weights."""
    if engine == "llama.cpp":
        return None
    if engine == "vLLM":
        return vllm_engine(at)
    return transformers_engine(at) if engine == "transformers" else upstream_engine(engine)


def chat(ref: str, at: Workspace) -> ChatSession:
    """A version, or a base by its name, ready to talk in this process. Close it when done."""
    from llmops.serving.session import ChatSession

    return ChatSession(served(ref, at, answers=1), at.ledger, at.world)


def feedback(exchange: str, thumb: str | None, edit: str | None, at: Workspace) -> Feedback:
    """Put on record what a person said of an answer; an edit is redacted first."""
    from llmops.serving.redact import redact

    name = at.ledger.name_of(Exchange, exchange)
    if name is None:
        raise RequestError(f"there is no answer {exchange!r}", "name the id of an answer in this workspace")
    said = {
        "exchange": exchange,
        "thumb": thumb,
        "edit": redact(edit) if edit else None,
        "author": at.world.author,
        "at": at.world.clock(),
    }
    event = Feedback.model_validate(said)
    at.ledger.append(event, name, exchange)
    return event


def ask_held_out(version_ref: str, at: Workspace, readers: int = 32, door: Door = "chat") -> EndpointCheck:
    """Ask a served version its own held-out rows through the endpoint, and count the answers that differ.

    So many `readers` ask at once: in `chat`, or to `classify`, which picks a label as evaluation does.
    """
    from llmops.registry.names import resolve

    version = resolve(at, version_ref)
    return asked_through(served(version.ref, at), version, at, readers, door)


def asked_through(one: Served, version: ModelVersion, at: Workspace, readers: int, door: Door) -> EndpointCheck:
    """The same through whatever engine is given, which is closed."""
    from llmops.serving.ask import Readers
    from llmops.serving.serve import ServeSettings, running

    report, rows = at.get(EvalReport, version.report), at.rows(version.dataset, "heldout")
    token = secrets.token_urlsafe(32)
    try:
        # A self-test is no traffic: its exchanges go into a ledger that is thrown away.
        with (
            tempfile.TemporaryDirectory(prefix="llmops-check-") as scratch,
            running([one], Ledger(f"sqlite:///{scratch}/ledger.db"), ServeSettings(token=token), at.world) as url,
        ):
            several = Readers(url, version.ref, token, readers)
            if door == "classify":
                heard = several.labels([row.text for row in rows], at.world.track)
            else:
                prompts = [row.prompt for row in rows]
                heard = several.replies(prompts, Sampling(max_tokens=16), at.world.track)
    finally:
        one.engine.close()
    offline = {answer.row: answer.answered for answer in report.answers}
    return EndpointCheck(
        version=version.ref,
        offline=report.main.value,
        endpoint=sum(answer.strip() == row.reply for answer, row in zip(heard, rows, strict=True)) / len(rows),
        differ=sum(answer.strip() != offline[row.id] for answer, row in zip(heard, rows, strict=True)),
        n=len(rows),
    )


def side_by_side(run_ref: str, at: Workspace) -> list[SideBySide]:
    """The recipe's prompts, answered greedily by the base and by the tuned model."""
    from llmops.planning.bases import open_model

    run = at.run(run_ref)
    plan = at.get(Plan, run.plan)
    task, prompts = plan.recipe.task, plan.recipe.evaluation.prompts
    sides = [
        _answers(open_model(plan, tuned, at.world, "float32"), task, prompts, Sampling(max_tokens=48), at)
        for tuned in (None, at.run_folder(run.id) / "adapter")
    ]
    rows = zip(prompts, *sides, strict=True)
    return [SideBySide(prompt=prompt, base=base, tuned=tuned) for prompt, base, tuned in rows]


def _answers(model: LocalModel, task: Task, texts: Sequence[str], sampling: Sampling, at: Workspace) -> list[str]:
    """What a model says to each text, in the form that it was trained on."""
    from llmops.data.mapping import ask

    if isinstance(task, Continue):
        return model.go_on(texts, sampling, at.world.track)
    return model.reply([ask(task, text) for text in texts], sampling, at.world.track)


def health(name: str, at: Workspace, keep: bool = True) -> HealthReport:
    """How is it since its last promotion, against the window before? The report is stored unless it is a glance."""
    from llmops.monitoring.health import health as look

    report = look(at, name)
    if keep:
        at.put(report)
    return report


def curate(name: str, out: Path, at: Workspace) -> int:
    """Turn edits and thumbs into rows with their lineage. Returns the number of rows."""
    from llmops.monitoring.curate import curate as gather

    return gather(at, name, out)
