"""Several seeds: the same plan trained by other draws of chance, side by side. How much of a score is luck?"""

from __future__ import annotations

from statistics import fmean, stdev

from llmops.core.outcome import SeedRun, Seeds
from llmops.core.plan import Decision, Plan
from llmops.pipeline.judge import evaluate
from llmops.pipeline.make import train, unfinished
from llmops.store.workspace import Workspace


def train_seeds(plan: Plan, number: int, at: Workspace) -> Seeds:
    """Train and evaluate `plan` by its own seed and the `number - 1` after it. Each is a plan and a run of its own.

    Raises `LlmopsError` where one is stopped; what was finished stays.
    """
    from scipy.stats import t

    done: list[SeedRun] = []
    for step in range(number):
        planned = reseeded(plan, plan.knobs.seed + step)
        at.put(planned)
        run = train(planned, at)
        if run.status != "finished":
            raise unfinished(run, f"go on with seed {planned.knobs.seed}: llmops train --resume {run.id}")
        looks = [record.heldout_loss_nats for record in at.steps(run.id) if record.heldout_loss_nats is not None]
        report = evaluate(run.id, at)
        done.append(
            SeedRun(
                seed=planned.knobs.seed,
                run=run.id,
                heldout_loss_nats=looks[-1] if looks else None,
                score=report.main.replace(slices={}),
            )
        )
    values = [one.score.value for one in done]
    if len(values) == 1:
        return Seeds(plan=plan.id, runs=tuple(done), mean=values[0], deviation=0.0)
    mean, spread = fmean(values), stdev(values)
    reach = float(t.ppf(0.975, len(values) - 1)) * spread / len(values) ** 0.5
    return Seeds(plan=plan.id, runs=tuple(done), mean=mean, deviation=spread, low=mean - reach, high=mean + reach)


def reseeded(plan: Plan, seed: int) -> Plan:
    """The same plan by another seed; the plan itself by its own."""
    if seed == plan.knobs.seed:
        return plan
    drawn = Decision(field="seed", value=seed, because=f"one of several seeds of {plan.id}")
    decisions = tuple(drawn if decision.field == "seed" else decision for decision in plan.decisions)
    return plan.replace(knobs=plan.knobs.replace(seed=seed), decisions=decisions)
