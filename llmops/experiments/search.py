"""More settings of LoRA, proposed by optuna from those that were tried: base, rank and learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from llmops.core.choice import Entrant
from llmops.core.errors import RequestError
from llmops.core.method import LoRA
from llmops.experiments.entrants import short

RANKS = (1, 2, 4, 8, 16, 32, 64, 128)
RATES = (5e-5, 5e-3)
SEED = 20261126


class Tried(NamedTuple):
    """A setting and the score (more is better) that it came to."""

    base: str
    rank: int
    learning_rate: float
    score: float


def propose(tried: Sequence[Tried], bases: Sequence[str], number: int) -> Entrant:
    """Proposal `number` (from 1), by a tree-structured Parzen estimator (Bergstra et al. 2011) over what was tried.

    The same settings and scores give the same proposal. `RequestError` where optuna is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise RequestError("--search needs optuna", "install it: pip install 'llmops[search]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = {
        "base": optuna.distributions.CategoricalDistribution(tuple(bases)),
        "rank": optuna.distributions.CategoricalDistribution(RANKS),
        "learning_rate": optuna.distributions.FloatDistribution(*RATES, log=True),
    }
    sampler = optuna.samplers.TPESampler(seed=SEED + number, n_startup_trials=3)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for one in tried:
        if one.base in bases and one.rank in RANKS and RATES[0] <= one.learning_rate <= RATES[1]:
            params = {"base": one.base, "rank": one.rank, "learning_rate": one.learning_rate}
            study.add_trial(optuna.trial.create_trial(params=params, distributions=space, value=one.score))
    found = study.ask(space).params
    rate = float(f"{found['learning_rate']:.2g}")
    name = f"search-{number}@{short(found['base'])}"
    return Entrant(name=name, kind="tuned", base=found["base"], method=LoRA(rank=found["rank"]), learning_rate=rate)
