"""The proof of the ledger of forgetting: a learner that speaks a language, and then learns something narrow.

Benign runs learn it at a rate that fits; induced forgetting learns the same rows at ten times that rate.
"""

from __future__ import annotations

from collections.abc import Iterator

from llmops.core.context import silent
from llmops.core.forgetting import Ability
from llmops.core.proof import CheckResult, Size
from llmops.evals.forgetting import Material, forgotten, try_all
from llmops.evals.prove_exam import LOWEST_AUC, auc
from llmops.evals.prove_learner import copy_of, labelled, new_learner, sentences, teach, text
from llmops.lm.model import LocalModel
from llmops.store.workspace import Workspace

RATE = 0.0003  # at which 64 narrow rows are learned without harm
SEEDS: dict[Size, int] = {"ci": 4, "soak": 20}
GENERAL = ("general text",)


def forgetting_induced(size: Size) -> CheckResult:
    """Ten times the rate on narrow rows, against the rate itself: by how much general text costs more."""
    base = speaker()
    texts = Material(sentences(48, 99))
    lost = {by: [_change(base, texts, seed, by) for seed in range(SEEDS[size])] for by in (1, 10)}
    induced, benign = lost[10], lost[1]
    area = auc([-one.change.value for one in induced], [-one.change.value for one in benign])
    found, alarms = (sum(one.fate == "lost" for one in some) for some in (induced, benign))
    return CheckResult(
        name="forgetting at ten times the rate",
        found=found,
        of=len(induced),
        false_alarms=alarms,
        clean=len(benign),
        goal=f"AUC at least {LOWEST_AUC} against benign runs, none of which is called lost",
        passed=area >= LOWEST_AUC and alarms == 0 and found >= 0.8 * len(induced),
        note=f"AUC {area:.3f}; bits per byte lost {_range(induced)} against {_range(benign)}",
    )


def nothing_forgotten(size: Size) -> CheckResult:
    """The same model twice has forgotten nothing, and a model is not blamed for what it never could do."""
    base, texts = new_learner(0), Material(sentences(24, 99))
    both = try_all(base, texts, silent), try_all(copy_of(base), texts, silent)
    abilities = forgotten(*both)
    wrong = [one.name for one in abilities if one.fate == "lost" or one.change.value != 0]
    return CheckResult(
        name="a model against itself",
        found=0,
        of=0,
        false_alarms=len(wrong),
        clean=len(abilities),
        goal="nothing lost, no change",
        passed=not wrong,
        note=f"{len(abilities)} abilities; {', '.join(wrong) or 'none changed'}",
    )


def speaker() -> LocalModel:
    """A learner that speaks the language of `sentences`."""
    model = new_learner(0)
    teach(model, [text(number, said) for number, said in enumerate(sentences(300, 1))], 60, 0.005, 0, batch_rows=24)
    return model


def _change(base: LocalModel, texts: Material, seed: int, by: int) -> Ability:
    tuned = copy_of(base)
    teach(tuned, labelled(64, 20 + seed, by_rule=True), 20 + 4 * (seed % 3), RATE * by, seed)
    (ability,) = forgotten(try_all(base, texts, silent, GENERAL), try_all(tuned, texts, silent, GENERAL))
    return ability


def _range(abilities: list[Ability]) -> str:
    losses = sorted(-one.change.value for one in abilities)
    return f"{losses[0]:.3f} to {losses[-1]:.3f}"


CHECKS = (forgetting_induced, nothing_forgotten)


def checks(size: Size, at: Workspace) -> Iterator[CheckResult]:
    """Each check in turn. Nothing is written."""
    for check in CHECKS:
        yield check(size)
