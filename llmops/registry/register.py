"""`register`: stand behind a set of files. They get the next number of their name and are never changed again."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import NamedTuple

from llmops.core.calibration import Abstention
from llmops.core.errors import LlmopsError, RequestError
from llmops.core.plan import Plan
from llmops.core.report import EvalReport
from llmops.core.version import ModelVersion, Promotion
from llmops.store.files import building, locked, sha256_folder, verify_folder, write_json
from llmops.store.workspace import Workspace

PACKAGES = ("llmops", "torch", "transformers", "tokenizers", "peft", "accelerate", "safetensors", "scikit-learn")
CARD = "version.json"
# Made later from the version's files, so no part of what it is.
EXPORTS = "exports"
CERTIFICATE = "certificate.json"
MODEL_CARD = "card.md"
MADE_LATER = (EXPORTS, CERTIFICATE, MODEL_CARD)
CLONE = Path(__file__).resolve().parents[2]


class Origin(NamedTuple):
    """What a version came from besides its plan: the run that trained it, or the folder of another tool that was
    adopted; the temperature that its probabilities were calibrated with, and below which of them it gives no label."""

    run: str | None = None
    adopted: str | None = None
    temperature: float | None = None
    abstention: Abstention | None = None


def register(
    workspace: Workspace,
    plan: Plan,
    report: EvalReport,
    files: Callable[[Path], None],
    origin: Origin = Origin(),
) -> ModelVersion:
    """Make the next version of `plan.recipe.name` from what `files` writes into an empty folder. Returns it.

    Writes `versions/<name>/<number>/` with its `version.json`, by one rename: a crash leaves no version. Several
    processes may register at once; a number is never given twice, not even after its folder was deleted, if it was
    ever promoted. Raises `RequestError` where the report is of other rows than the plan's.
    """
    if report.suite.dataset != plan.dataset:
        raise RequestError(
            f"report {report.id} is on data set {report.suite.dataset}, but plan {plan.id} is on {plan.dataset}",
            "evaluate on the rows that the plan was made for",
        )
    name = plan.recipe.name
    shelf = workspace.version_folder(f"{name}:1").parent
    with locked(shelf / ".lock"):
        for abandoned in shelf.glob(".*/"):  # of a process that died: whoever lives holds the lock
            shutil.rmtree(abandoned, ignore_errors=True)
        number = next_number(workspace, name)
        with building(shelf / str(number)) as draft:
            files(draft)
            version = ModelVersion(
                name=name,
                number=number,
                kind=report.subject.kind,
                task=plan.recipe.task,
                base=plan.base.name,
                base_sha256=plan.base.sha256,
                recipe=plan.recipe.id,
                dataset=plan.dataset,
                plan=plan.id,
                run=origin.run,
                adopted=origin.adopted,
                report=report.id,
                code_commit=our_commit(),
                packages=packages(),
                files=sha256_folder(draft),
                temperature=origin.temperature,
                abstention=origin.abstention,
            )
            if not version.files:
                raise LlmopsError(f"there are no files to register as {version.ref}", "train or fit the model again")
            write_json(draft / CARD, version.to_json())
    return version


def verify(workspace: Workspace, version: ModelVersion) -> None:
    """Raise `LlmopsError` unless the version's folder holds its files, unchanged, and nothing else but exports."""
    folder = workspace.version_folder(version.ref)
    verify_folder(folder, version.files)
    found = {path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir()}
    known = {Path(name) for name in (*version.files, CARD)}
    strange = sorted(path.as_posix() for path in found - known if path.parts[0] not in MADE_LATER)
    if strange:
        raise LlmopsError(f"{folder / strange[0]} was added after {version.ref} was registered", "move it elsewhere")


def next_number(workspace: Workspace, name: str) -> int:
    """One above every number that this name ever had, as far as folders and promotions remember."""
    shelf = workspace.version_folder(f"{name}:1").parent
    numbers = [int(path.name) for path in shelf.iterdir() if path.name.isdecimal()] if shelf.is_dir() else []
    promoted = [event.version for event in workspace.ledger.read(Promotion, name)]
    return max([0, *numbers, *promoted]) + 1


def code_commit(clone: Path) -> str | None:
    """The git commit of `clone`, with `-dirty` behind it where files differ from it; None outside a clone."""
    if not (clone / ".git").exists():
        return None
    command = ["git", "-C", str(clone), "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:  # there is no git
        return None
    return done.stdout.strip() or None


@cache
def our_commit() -> str | None:
    """The commit of the code that runs here: what was loaded stays, so git is asked once."""
    return code_commit(CLONE)


def packages() -> dict[str, str]:
    """The installed version of each package that a model's numbers depend on."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = installed_version(package)
        except PackageNotFoundError:
            continue
    return found
