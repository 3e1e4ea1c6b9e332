"""What the workspace holds, by kind or by name: for `llmops list` and `llmops show`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

from llmops.core.canary import CanaryEnded, CanaryStarted
from llmops.core.choice import Choice
from llmops.core.comparison import Comparison
from llmops.core.dataset import DatasetManifest
from llmops.core.errors import RequestError
from llmops.core.experiments import Sweep
from llmops.core.health import HealthReport
from llmops.core.people import Corrected, Note
from llmops.core.plan import Plan
from llmops.core.report import EvalReport
from llmops.core.scorers import Scorer
from llmops.core.serving import Endpoint, Exchange, Feedback
from llmops.core.value import Fact, Value
from llmops.core.version import Promotion, RefusedPromotion
from llmops.store.catalogue import BASES, DATA
from llmops.store.exams import EXAMS
from llmops.store.files import read_json, stored
from llmops.store.workspace import Workspace, pick

WINNER = "winner"  # in the folder of a tournament: the files of the row that won


class CatalogueLine(Value):
    """A shipped source by the name that a recipe uses."""

    name: str
    kind: str
    licence: str
    about: str


class ScorerLine(Value):
    """A scorer by the name that `--scorer` takes, and its knobs as `--set scorer.KNOB=VALUE` takes them."""

    name: str
    knobs: str
    about: str


def scorers(at: Workspace) -> list[Value]:
    """What marks generated answers."""
    kinds: tuple[type[Value], ...] = get_args(get_args(Scorer)[0])
    return [
        ScorerLine(
            name=kind.model_fields["kind"].default,
            knobs=", ".join(name for name in kind.model_fields if name != "kind"),
            about=(kind.__doc__ or "").partition("\n")[0],
        )
        for kind in kinds
    ]


def catalogue(at: Workspace) -> list[Value]:
    """The shipped sources, bases and exams."""
    shelves = (("base", BASES), ("data", DATA), ("exam", EXAMS))
    return [
        CatalogueLine(name=name, kind=kind, licence=entry.licence, about=entry.about)
        for kind, entries in shelves
        for name, entry in entries.items()
    ]


def choices(at: Workspace) -> list[Choice]:
    """The finished tournaments, oldest first."""
    paths = sorted((at.root / "choices").glob("*/choice.json"), key=lambda path: path.stat().st_mtime_ns)
    return [stored(Choice, read_json(path), path) for path in paths]


def winner(report: str, at: Workspace) -> Path | None:
    """The folder of the row that won a tournament, by the report on it; None where no tournament made that."""
    folders = (at.root / "choices" / choice.id / WINNER for choice in choices(at) if choice.final_report == report)
    return next((folder for folder in folders if folder.is_dir()), None)


def canaries(at: Workspace) -> list[Value]:
    """Each beginning and each end, oldest first."""
    events: list[CanaryStarted | CanaryEnded] = [*at.ledger.read(CanaryStarted), *at.ledger.read(CanaryEnded)]
    return [*sorted(events, key=lambda event: event.at)]


KINDS: dict[str, Callable[[Workspace], list[Value]]] = {
    "versions": lambda at: list(at.versions()),
    "runs": lambda at: [at.run(run_id) for run_id in at.run_ids()],
    "datasets": lambda at: list(at.all(DatasetManifest)),
    "plans": lambda at: list(at.all(Plan)),
    "reports": lambda at: list(at.all(EvalReport)),
    "comparisons": lambda at: list(at.all(Comparison)),
    "sweeps": lambda at: list(at.all(Sweep)),
    "choices": lambda at: list(choices(at)),
    "health": lambda at: list(at.all(HealthReport)),
    "promotions": lambda at: list(at.ledger.read(Promotion)),
    "canaries": canaries,
    "refusals": lambda at: list(at.ledger.read(RefusedPromotion)),
    "endpoints": lambda at: list(at.ledger.read(Endpoint)),
    "exchanges": lambda at: list(at.ledger.read(Exchange)),
    "feedback": lambda at: list(at.ledger.read(Feedback)),
    "corrections": lambda at: list(at.ledger.read(Corrected)),
    "notes": lambda at: list(at.ledger.read(Note)),
    "catalogue": catalogue,
    "scorers": scorers,
    "suites": lambda at: [line for line in catalogue(at) if isinstance(line, CatalogueLine) and line.kind == "exam"],
}

BY_PREFIX: dict[str, type[Fact]] = {
    kind.prefix: kind for kind in (DatasetManifest, Plan, EvalReport, Comparison, HealthReport, Sweep)
}


def listing(kind: str, at: Workspace) -> list[Value]:
    """Everything of one kind, oldest first; `RequestError` where there is no such kind."""
    if kind not in KINDS:
        raise RequestError(f"there is no kind {kind!r}", f"kinds: {', '.join(KINDS)}")
    return KINDS[kind](at)


def find(ref: str, at: Workspace) -> Value:
    """A version (`tone:2`), a fact by its id (`rp-3f...`), or a run by its id, its recipe's name or `last`."""
    prefix = ref.split("-", maxsplit=1)[0]
    if prefix in BY_PREFIX:
        return at.get(BY_PREFIX[prefix], ref)
    if prefix == "ch":
        held = {choice.id: choice for choice in choices(at)}
        return held[pick(ref, list(held), "choice")]
    versions = [version for version in at.versions() if ref in (version.ref, version.id)]
    if versions:
        return versions[0]
    try:
        return at.run(ref)
    except RequestError as error:
        names = ", ".join(version.ref for version in at.versions()[-8:])
        raise RequestError(
            f"there is no version or run {ref!r}", f"versions: {names or 'none yet'}; {error.fix}"
        ) from error
