"""The verbs that make a model: from rows to a trained run."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llmops.core.dataset import DatasetManifest
from llmops.core.errors import Interrupted, LlmopsError, RequestError
from llmops.core.plan import Plan, Wishes
from llmops.core.recipe import Recipe
from llmops.core.run import Run, RunEvent
from llmops.pipeline.gate import check_before_training
from llmops.store.files import building
from llmops.store.workspace import Workspace

if TYPE_CHECKING:
    from llmops.data.new import Look
    from llmops.data.objects import Rows


def new(
    rows: Path | str | Rows, name: str | None, at: Workspace, columns: dict[str, str] | None = None
) -> tuple[Look, str]:
    """Look at rows; (what was found, a recipe for them as YAML). `columns` says which column is what.

    `rows` is a file; or a `datasets.Dataset`, a table or a list of dictionaries, which the workspace then keeps.
    """
    from llmops.data.new import draft, look, recipe_yaml
    from llmops.data.objects import keep_rows

    file = Path(rows) if isinstance(rows, Path | str) else keep_rows(rows, at.root / "uploads")
    found = look(file, **(columns or {}))
    return found, recipe_yaml(draft(found, name))


def load(path_or_name: str, sets: Sequence[str], at: Workspace, search: Sequence[Path] = ()) -> Recipe:
    """The recipe in a YAML file, with `field=value` changes."""
    from llmops.data.recipes import apply_sets, load_recipe

    return apply_sets(load_recipe(path_or_name, search), sets)


def prepare(recipe: Recipe, at: Workspace) -> DatasetManifest:
    """Fetch, read, clean, deal and review the rows of a recipe; their card is written beside them."""
    from llmops.data.prepare import prepare as prepare_rows
    from llmops.pipeline.people import card

    manifest = prepare_rows(recipe, at)
    at.world.say(f"data card: {card(manifest.id, at, recipe)}")
    return manifest


def plan(recipe: Recipe, manifest: DatasetManifest, at: Workspace, wishes: Wishes = Wishes()) -> Plan:
    """Decide every open knob for this machine, and store the plan. What its held-out rows can show is said."""
    made = decided(recipe, manifest, at, wishes)
    say_power(manifest, at)
    return made


def say_power(manifest: DatasetManifest, at: Workspace) -> None:
    """What the held-out rows of a data set can show."""
    from llmops.pipeline.experiments import power

    if manifest.rows_heldout > 1:
        at.world.say(power(manifest.id, at).sentence)


def decided(recipe: Recipe, manifest: DatasetManifest, at: Workspace, wishes: Wishes = Wishes()) -> Plan:
    """The same without a word: a tournament makes a plan for every row."""
    from llmops.planning.look import look
    from llmops.planning.plan import plan as decide
    from llmops.training.trackers import check_tracker

    check_tracker(wishes.tracker)
    asked = recipe.training.start_from
    start = _start(asked, at) if asked else None
    train, heldout = at.rows(manifest.id, "train"), at.rows(manifest.id, "heldout")
    looked = look(recipe, train, heldout, wishes, at.world, start)
    made = decide(recipe, manifest, looked, wishes)
    at.put(made)
    return made


def _start(asked: str, at: Workspace) -> tuple[str, Path]:
    """(its name for good: `tone@production` is `tone:2` today, its folder) of an adapter to start from."""
    from llmops.pipeline.subjects import subject_of

    if asked.startswith("path:"):
        return asked, Path(asked.removeprefix("path:")).expanduser()
    subject, _, folder = subject_of(asked, at)
    return subject.ref, folder


def _keep_start(plan: Plan, at: Workspace, run_id: str) -> None:
    """Give the run its own copy of the adapter that it starts from, so that it can always be resumed."""
    folder = at.run_folder(run_id) / "start"
    if plan.start is None or folder.exists():
        return
    _, adapter = _start(plan.start.name, at)
    with building(folder) as draft:
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copyfile(adapter / name, draft / name)


def train(plan: Plan, at: Workspace, resume: str | None = None) -> Run:
    """Carry out a plan, or go on with the run `resume` of it. Stopped, the run is a valid interrupted one.

    A plan for several processes starts them on this machine, unless this process is one of them (torchrun started it).
    """
    from llmops.planning.bases import open_base
    from llmops.training.processes import is_member, joined
    from llmops.training.train import train as carry_out

    if plan.knobs.processes > 1 and not is_member():
        return _train_together(plan, at, begun(plan, at, resume))
    with joined(plan.knobs) as team:
        run_id = team.from_first(begun(plan, at, resume).encode() if team.first else b"").decode()
        if at.run(run_id).status == "finished":
            return at.run(run_id)
        base = open_base(plan.recipe.base, at.world)
        if base.record.sha256 != plan.base.sha256:
            found, wanted = base.record.sha256[:12], plan.base.sha256[:12]
            raise LlmopsError(
                f"base {plan.recipe.base} is {found} here, but the plan is for {wanted}",
                "take the base that the plan was made with, or make a new plan",
            )
        return carry_out(plan, at.rows(plan.dataset, "train"), base.folder, at, run_id)


def begun(plan: Plan, at: Workspace, resume: str | None) -> str:
    """The id of the run to go on with, or of a new one, which has all that it needs to start."""
    if resume is not None:
        run_id = at.run(resume).id
    else:
        check_before_training(plan, at)
        moment = at.world.clock()
        run_id = f"{moment:%Y%m%d}-{plan.recipe.name}-{moment:%H%M%S}{secrets.token_hex(2)}"
        data = {"name": plan.recipe.name, "plan": plan.id, "dataset": plan.dataset, "steps": plan.knobs.steps}
        at.add_event(run_id, RunEvent(kind="created", at=moment, data=data))
    _keep_start(plan, at, run_id)
    return run_id


def _train_together(plan: Plan, at: Workspace, run_id: str) -> Run:
    """Start the planned number of processes on this machine; each of them is `llmops train --resume RUN`."""
    from llmops.training.processes import launch

    if at.run(run_id).status == "finished":
        return at.run(run_id)
    ended = launch(["-m", "llmops", "train", "--resume", run_id, "--workspace", str(at.root)], plan.knobs)
    run = at.run(run_id)
    if ended is not None and at.events(run_id)[-1].kind != "interrupted":
        said = ended.said or run.note or "it left no word"
        raise LlmopsError(
            f"process {ended.rank} of {plan.knobs.processes} ended with exit code {ended.code}: {said}",
            f"go on with --resume {run_id}",
        )
    return run


def unfinished(run: Run, fix: str) -> LlmopsError:
    """The error of a run that did not reach its end: `Interrupted` where somebody stopped it."""
    kind = Interrupted if run.status == "interrupted" else LlmopsError
    return kind(f"run {run.id} is {run.status} at step {run.step} of {run.steps}", fix)


def stop(run_ref: str, at: Workspace) -> Run:
    """Ask a run to stop after its step. It saves itself and can be resumed."""
    run = at.run(run_ref)
    if run.status not in ("running", "created"):
        raise RequestError(f"run {run.id} is {run.status}, so there is nothing to stop", "see 'llmops list runs'")
    (at.run_folder(run.id) / "stop").touch()
    return run
