"""The tuned part of a tournament: successive halving, each rung a plan and a run like any other."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmops.core.choice import Entrant, Entry
from llmops.core.errors import Interrupted, LlmopsError
from llmops.core.method import LoRA
from llmops.core.plan import Decision, Plan
from llmops.core.report import LOWER_IS_BETTER
from llmops.pipeline.make import decided, train
from llmops.store.files import read_json, write_json

if TYPE_CHECKING:
    from llmops.experiments.halving import Costs, Ladder
    from llmops.pipeline.arena import Arena
    from llmops.pipeline.notes import Notes

LOADING_S = 4.0
ROW_S = 0.03  # to score one row, where no other row of the base was measured
# Behind a tuned prompt rows are read one by one through transformers: 54 s against 11 s for 300 tweets.
PROMPT_SLOWER = 5.0


class Tuning:
    """Trains entrants a little, the better ones longer."""

    def __init__(self, arena: Arena, notes: Notes, entrants: Sequence[Entrant]) -> None:
        self.arena = arena
        self.notes = notes
        self.entrants = {entrant.name: entrant for entrant in entrants}
        self.absent: dict[str, str] = {}

    def play(self, left_s: float, measured: Sequence[Entry]) -> tuple[list[Entry], dict[str, str]]:
        """(the last entry of each entrant that was trained; who was not, and why)."""
        from llmops.experiments.halving import survivors

        if not self.entrants:
            return [], {}
        until = time.perf_counter() + left_s
        costs = {name: self._cost(self._whole(name), measured) for name in self.entrants if self._planned(name)}
        steps = self._ladder(costs, left_s)
        dear = f"not in the {self.arena.contest.budget_s:,.0f} s of the budget"
        self.absent |= {name: dear for name in costs if name not in steps.names}
        last: dict[str, Entry] = {}
        names, sizes = steps.names, steps.sizes()
        for rung, planned in enumerate(steps.shares):
            share = planned if rung == 0 else self._affordable(planned, names, costs, until)
            if rung and share <= steps.shares[rung - 1]:
                self.arena.at.world.say(f"the budget ends here: rung {rung + 1} of {len(sizes)} is left out")
                break
            for name in self.arena.at.world.track(names, f"rung {rung + 1} of {len(sizes)}", len(names)):
                if (entry := self._entry(name, rung, share)) is not None:
                    last[name] = entry
            there = {name: self._score(last[name]) for name in names if name in last and name not in self.absent}
            names = survivors(there, sizes[rung + 1]) if rung + 1 < len(sizes) else ()
        self._search(last, until)
        return list(last.values()), self.absent

    def as_long_as(self, entry: Entry) -> Entry | None:
        """The same entrant, trained for the same share of its whole training as `entry`; None where that fails."""
        name = entry.entrant.name
        if not self._planned(name):
            return None
        passes = self.arena.at.get(Plan, entry.plan).knobs.epochs
        return self._entry(name, entry.rung or 0, min(1.0, passes / self._whole(name).knobs.epochs))

    def _search(self, last: dict[str, Entry], until: float) -> None:
        """As many more settings as were asked for and the budget pays for, trained as long as the longest so far."""
        from llmops.experiments.search import Tried, propose

        rung = max((entry.rung or 0 for entry in last.values()), default=0)
        for number in range(1, self.arena.contest.searches + 1):
            longest = [entry for entry in last.values() if entry.rung == rung]
            if not longest:
                return
            plans = [self.arena.at.get(Plan, entry.plan) for entry in longest]
            tried = [
                Tried(plan.recipe.base, plan.knobs.method.rank or 0, plan.knobs.learning_rate, self._score(entry))
                for plan, entry in zip(plans, longest, strict=True)
                if isinstance(plan.knobs.method, LoRA)
            ]
            entrant = propose(tried, self.arena.bases, number)
            self.entrants[entrant.name] = entrant
            takes_s = max(entry.cost.training_s for entry in longest) + LOADING_S
            noted = self.notes.entry(f"{entrant.name}.{rung}")
            if noted is None and time.perf_counter() + takes_s > until:
                self.arena.at.world.say(f"the budget ends here: {number - 1} settings were searched")
                return
            steps = max(entry.steps or 0 for entry in longest)
            if self._planned(entrant.name):
                whole = self._whole(entrant.name)
                entry = self._entry(entrant.name, rung, min(1.0, steps / whole.knobs.steps))
                if entry is not None:
                    last[entrant.name] = entry

    def _planned(self, name: str) -> bool:
        """Whether an entrant can be planned at all; if not, it is noted why."""
        try:
            self._whole(name)
        except LlmopsError as error:
            self.absent[name] = error.what
        return name not in self.absent

    def _whole(self, name: str) -> Plan:
        """The plan of an entrant's whole training; made once, because a plan holds what was measured."""
        entrant, arena = self.entrants[name], self.arena
        path = self.notes.folder / "plans" / f"{name}.json"
        if path.exists():
            return arena.at.get(Plan, read_json(path)["plan"])
        training = arena.recipe.training.replace(start_from=None)
        if entrant.learning_rate is not None:
            training = training.replace(learning_rate=entrant.learning_rate)
        recipe = arena.recipe.replace(base=entrant.base, method=entrant.method, training=training)
        made = decided(recipe, arena.trial, arena.at, arena.wishes)
        write_json(path, {"plan": made.id})
        return made

    def _cost(self, whole: Plan, measured: Sequence[Entry]) -> Costs:
        from llmops.experiments.halving import Costs

        same = [one for one in measured if one.entrant.base == whole.recipe.base and one.entrant.kind == "zero_shot"]
        row_s = same[0].cost.thousand_s / 1000 if same else ROW_S
        slower = PROMPT_SLOWER if whole.recipe.method.kind == "prompt_tuning" else 1.0
        scoring_s = slower * row_s * len(self.arena.trial_rows)
        return Costs(slower**0.5 * whole.seconds_expected, whole.knobs.steps, LOADING_S + scoring_s)

    def _ladder(self, costs: dict[str, Costs], left_s: float) -> Ladder:
        """The ladder, decided once."""
        from llmops.experiments.halving import Ladder, ladder

        path = self.notes.folder / "ladder.json"
        if not path.exists():
            made = ladder(costs, left_s)
            write_json(path, {"names": made.names, "shares": made.shares})
        kept = read_json(path)
        return Ladder(tuple(kept["names"]), tuple(kept["shares"]))

    def _affordable(self, share: float, names: Sequence[str], costs: dict[str, Costs], until: float) -> float:
        """The share that the time left pays for, by what the trainings so far took."""
        left_s = until - time.perf_counter() - sum(costs[name].around_s for name in names)
        took = {name: self._took(name) for name in names}
        whole_s = sum(took[name] * costs[name].whole_s for name in names)
        return min(share, max(0.0, left_s / max(whole_s, 1e-9)))

    def _took(self, name: str) -> float:
        """How much longer than expected an entrant's first rung took."""
        entry = self.notes.entry(f"{name}.0")
        if entry is None or entry.steps is None:
            return 1.0
        whole = self._whole(name)
        return entry.cost.training_s / max(1e-9, entry.steps / whole.knobs.steps * whole.seconds_expected)

    def _entry(self, name: str, rung: int, share: float) -> Entry | None:
        """An entrant trained on a rung and measured; None, noted, where its training fails."""
        if name in self.absent:
            return None
        noted = self.notes.entry(f"{name}.{rung}")
        if noted is not None:
            return noted
        began, arena = time.perf_counter(), self.arena
        plan = self._rung(name, rung, share)
        try:
            run = train(plan, arena.at, self._begun(plan))
        except LlmopsError as error:
            self.absent[name] = f"its training failed: {error.what}"
            return None
        if run.status != "finished":
            raise Interrupted(f"the tournament was stopped in {name} ({run.id})", "the same command goes on with it")
        report, cost = arena.grade_tuned(plan, run.id, heldout=False)
        entry = Entry(
            entrant=self.entrants[name],
            plan=plan.id,
            run=run.id,
            report=report.id,
            trial=report.main,
            cost=cost,
            steps=plan.knobs.steps,
            rung=rung,
        )
        return self.notes.keep(f"{name}.{rung}", entry, time.perf_counter() - began)

    def _rung(self, name: str, rung: int, share: float) -> Plan:
        """The plan of a rung, made once: a share of the whole plan's steps, the rate falling to zero at its end."""
        path = self.notes.folder / "plans" / f"{name}.{rung}.json"
        if path.exists():
            return self.arena.at.get(Plan, read_json(path)["plan"])
        whole = self._whole(name)
        steps = max(1, round(share * whole.knobs.steps))
        because = f"rung {rung + 1} of a tournament: {steps} of the {whole.knobs.steps} steps of {whole.id}"
        changes = {
            "steps": steps,
            "epochs": whole.knobs.epochs * steps / whole.knobs.steps,
            "checkpoint_every": max(5, math.ceil(steps / 10)),
            "look_every": 0,
        }
        decisions = tuple(
            Decision(field=one.field, value=changes[one.field], because=because) if one.field in changes else one
            for one in whole.decisions
        )
        made = whole.replace(
            knobs=whole.knobs.replace(**changes),
            decisions=decisions,
            watched=(),
            seconds_expected=whole.seconds_expected * steps / whole.knobs.steps,
        )
        self.arena.at.put(made)
        write_json(path, {"plan": made.id})
        return made

    def _begun(self, plan: Plan) -> str | None:
        """The run of this plan that an earlier start began, if it did."""
        at = self.arena.at
        runs = [at.run(run_id) for run_id in at.run_ids()]
        return next((run.id for run in reversed(runs) if run.plan == plan.id and run.status != "failed"), None)

    def _score(self, entry: Entry) -> float:
        return -entry.trial.value if entry.trial.metric in LOWER_IS_BETTER else entry.trial.value
