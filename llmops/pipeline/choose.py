"""`choose`: a tournament from the commonest label to a tuned model, and the cheapest row that is not worse."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from llmops.core.choice import Choice, Contest, Entrant, Entry, Verdict, choice_id
from llmops.core.errors import RequestError
from llmops.core.plan import Wishes
from llmops.core.recipe import Recipe
from llmops.core.report import LOWER_IS_BETTER, EvalReport
from llmops.core.tasks import Classify, Rate
from llmops.pipeline.arena import Arena
from llmops.pipeline.make import prepare, say_power
from llmops.pipeline.notes import Notes
from llmops.pipeline.playoff import play_off
from llmops.pipeline.tuning import Tuning
from llmops.store.workspace import Workspace

if TYPE_CHECKING:
    from llmops.experiments.choose import Rival

FOLDER = "choices"
ONE_POINT = 0.01


def choose(recipe: Recipe, at: Workspace, contest: Contest = Contest(), wishes: Wishes = Wishes()) -> Choice:
    """Hold a tournament on a part of the training rows, pick the cheapest row that is not worse, judge it once.

    Everything is stored as it is made: asked again, an interrupted tournament goes on, and a finished one is shown.
    Raises `RequestError` for a task without one right answer to a row.
    """
    from llmops.data.part import trial_sets, tried_on

    if not isinstance(recipe.task, Classify | Rate):
        raise RequestError(
            f"task {recipe.task.kind!r} has no linear row to compare with", "choose works for classify and rate"
        )
    began = time.perf_counter()
    manifest = prepare(recipe, at)
    deals = trial_sets(manifest, contest.trial_share, contest.train_rows, recipe.data.leaks, at, contest.deals)
    trial = deals[0]
    notes = Notes(at.root / FOLDER / choice_id(recipe, contest, manifest.id, trial.id))
    if (done := notes.result()) is not None:
        at.world.say(f"{done.id} was held before; remove {notes.folder} to hold it anew")
        return done
    told = tried_on(manifest, deals, at)
    at.world.say(f"tournament {notes.folder.name}: {trial.rows_train:,} rows to learn from; {told}")
    say_power(trial, at)
    bases = contest.bases or at_hand(recipe)
    arena = Arena(recipe, contest, manifest, trial, at, wishes, bases, tuple(deals[1:]))
    entries, absent = _play(arena, notes, began)
    left_s = contest.budget_s - notes.spent_s(began)
    entries = play_off(entries, arena, notes, lambda some: _in_doubt(some, arena), left_s)
    verdict = pick(entries, arena)
    judged = [_judged(entry, arena, notes, verdict) for entry in at.world.track(entries, "judging on held-out rows")]
    choice = _choice(arena, notes, judged, absent, verdict)
    return notes.finish(choice.replace(tried_on=told, seconds=notes.spent_s(began)))


def at_hand(recipe: Recipe) -> tuple[str, ...]:
    """The recipe's base, and those of the catalogue that are on this machine already."""
    from llmops.planning.bases import is_here
    from llmops.store.catalogue import BASES

    return tuple(dict.fromkeys([recipe.base, *(name for name in BASES if is_here(name))]))


def _play(arena: Arena, notes: Notes, began: float) -> tuple[list[Entry], dict[str, str]]:
    """Every entrant's entry; and who did not take part, and why."""
    from llmops.experiments.entrants import entrants

    playing, absent = entrants(arena.recipe, arena.contest, arena.bases)
    cheap = [entrant for entrant in playing if entrant.method is None]
    entries = []
    for entrant in arena.at.world.track(cheap, "rows that need no training", len(cheap)):
        entries.append(notes.entry(entrant.name) or _timed(entrant, arena, notes))
    tuning = Tuning(arena, notes, [entrant for entrant in playing if entrant.method is not None])
    tuned, too_dear = tuning.play(arena.contest.budget_s - notes.spent_s(began), entries)
    return [*entries, *tuned], {**absent, **too_dear}


def _timed(entrant: Entrant, arena: Arena, notes: Notes) -> Entry:
    began = time.perf_counter()
    entry = arena.play(entrant)
    return notes.keep(entrant.name, entry, time.perf_counter() - began)


def pick(entries: Sequence[Entry], arena: Arena) -> Verdict:
    """The verdict on the trial rows."""
    from llmops.experiments.choose import choose as decide

    margin = arena.contest.margin
    suite = arena.suite(heldout=False)
    margin = ONE_POINT * (suite.scale or 1.0) if margin is None else margin
    return decide(rivals_of(entries, arena.at), margin, arena.contest.answers, unit_of(suite.measures[0]))


def _in_doubt(entries: Sequence[Entry], arena: Arena) -> tuple[Entry, ...]:
    """The pick and the best row, where they are tied and the pick is not surely within the margin."""
    from llmops.experiments.choose import behind

    verdict = pick(entries, arena)
    by_name = {entry.entrant.name: entry for entry in entries}
    gaps = dict(zip(by_name, behind(rivals_of(entries, arena.at)), strict=True))
    clear = verdict.pick == verdict.best or gaps[verdict.pick].at_most <= verdict.margin
    return () if clear else (by_name[verdict.best], by_name[verdict.pick])


def unit_of(metric: str) -> str:
    """How a difference by this measure is spelt."""
    return metric.replace("_", " ") if metric in LOWER_IS_BETTER else "points"


def rivals_of(entries: Sequence[Entry], at: Workspace, heldout: bool = False) -> list[Rival]:
    """The marks of each entry, more is better; none (nan) on rows of a deal in which it was not tried."""
    from llmops.experiments.choose import Rival

    marks: list[dict[str, float]] = []
    for entry in entries:
        names = [entry.heldout_report or ""] if heldout else [entry.report, *entry.more]
        reports = [at.get(EvalReport, name) for name in names]
        metric = reports[0].suite.measures[0]
        sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
        marks.append({answer.row: sign * answer.marks[metric] for report in reports for answer in report.answers})
    rows = sorted({row for some in marks for row in some})
    return [
        Rival(entry.entrant.name, np.array([some.get(row, np.nan) for row in rows]), entry.cost)
        for entry, some in zip(entries, marks, strict=True)
    ]


def _judged(entry: Entry, arena: Arena, notes: Notes, verdict: Verdict) -> Entry:
    """The entry with its held-out score; one that successive halving left behind has none, unless it is the pick."""
    last = max((one.rung or 0) for one in notes.tuned()) if entry.run is not None else 0
    wanted = entry.run is None or entry.rung == last or entry.entrant.name in (verdict.pick, verdict.best)
    if not wanted or entry.heldout is not None:
        return entry
    name = entry.entrant.name if entry.rung is None else f"{entry.entrant.name}.{entry.rung}"
    began = time.perf_counter()
    return notes.judged(name, arena.judge(entry), time.perf_counter() - began)


def _choice(arena: Arena, notes: Notes, entries: Sequence[Entry], absent: dict[str, str], verdict: Verdict) -> Choice:
    from llmops.experiments.choose import behind
    from llmops.experiments.pareto import frontier

    pick = next(entry.entrant for entry in entries if entry.entrant.name == verdict.pick)
    final, parts = arena.on_all_rows(pick) if pick.method is None else (None, None)
    if parts is not None:
        notes.keep_parts(parts)
    gaps = behind(rivals_of(entries, arena.at))
    ahead = frontier(entries, arena.contest.answers)
    rows = tuple(
        entry.replace(behind=gap, pareto=entry.entrant.name in ahead) for entry, gap in zip(entries, gaps, strict=True)
    )
    return Choice(
        id=notes.folder.name,
        recipe=arena.recipe,
        contest=arena.contest,
        dataset=arena.manifest.id,
        trial=arena.trial.id,
        entries=rows,
        absent=absent,
        verdict=verdict,
        judged=_verdict_of_heldout(rows, verdict, arena),
        final=final.main if final else None,
        final_report=final.id if final else None,
        then=_then(pick, final.id if parts and final else None, arena.recipe),
        seconds=0.0,
    )


def _verdict_of_heldout(entries: Sequence[Entry], verdict: Verdict, arena: Arena) -> str:
    """What the held-out rows say: the pick against the best on the trial rows, and against the best on them."""
    from llmops.experiments.choose import behind, spell

    seen = [entry for entry in entries if entry.heldout is not None]
    names = [entry.entrant.name for entry in seen]
    picked = seen[names.index(verdict.pick)]
    assert picked.heldout is not None
    unit = unit_of(picked.heldout.metric)
    gap = behind(rivals_of(seen, arena.at, heldout=True))[names.index(verdict.pick)]
    told = "no other one is shown to be better" if gap.tied else f"it is worse by at least {spell(gap.at_least, unit)}"
    return (
        f"On {picked.heldout.n:,} held-out rows {verdict.pick} has {picked.heldout.value:.3f} "
        f"({picked.heldout.low:.3f} to {picked.heldout.high:.3f}), {spell(gap.estimate, unit)} behind the best "
        f"row there; {told}."
    )


def _then(pick: Entrant, final: str | None, recipe: Recipe) -> str:
    """The command that goes on with the winner: kept as it is, trained on all rows, or the base asked as it is."""
    method = pick.method
    if final is not None:
        return f"llmops register {final}"
    if method is None:
        return f"llmops serve {pick.base}"
    knobs = (f"method.{name}={value}" for name, value in method if name != "kind" and value is not None)
    sets = [f"method.kind={method.kind}", *knobs]
    sets += [f"base={pick.base}"] if pick.base != recipe.base else []
    sets += [f"training.learning_rate={pick.learning_rate:g}"] if pick.learning_rate else []
    return " ".join([f"llmops run {recipe.name}", *(f"--set {one}" for one in sets)])
