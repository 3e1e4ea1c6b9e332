"""What a narrow task costs a model, and how to keep it: the same rows learned twice, then with general rows replayed.

Four minutes or so on two cores. Run it: `python -m recipes.remember` (it keeps what it makes in the nearest workspace,
as the command line does).
"""

import os

import llmops
from llmops import Classify, Data, Forgetting, Recipe, Source, Surroundings, Training, Workspace
from llmops.core.sources import Replay

# Far too high a rate for adapters, on one kind of row: what goes wrong in a first attempt, in a minute.
NARROW = Recipe(
    name="remember",
    about="Tweets are called negative or positive; all else is to stay as it was.",
    base="smollm2-135m-q4",
    data=Data(sources=(Source(from_="vader/tweets", train_rows=120, heldout_rows=50),)),
    task=Classify(question="Positive or negative?", labels=("negative", "positive")),
    training=Training(epochs=2, learning_rate=2e-3, batch_rows=16),
)
# The same, beside instructions and their answers, a third of all rows.
REPLAYED = NARROW.replace(
    data=NARROW.data.replace(replay=Replay(source=Source(from_="instructions"), share=0.33)),
)


def main(at: Workspace | None = None, recipes: tuple[Recipe, ...] = (NARROW, REPLAYED)) -> list[Forgetting]:
    """Learn each recipe, and print what was lost. `at` and `recipes` are for tests; a person needs neither."""
    at = at or Workspace.find(world=Surroundings(say=print))
    ledgers = []
    for recipe in recipes:
        run = llmops.train(llmops.plan(recipe, llmops.prepare(recipe, at), at), at)
        score, ledger = llmops.evaluate(run.id, at).main, llmops.forgotten(run.id, at)
        replay = recipe.data.replay
        print(f"\n--- {f'{replay.share:.0%} of the rows replayed' if replay else 'the narrow rows alone'}")
        print(
            f"{score.metric} {score.value:.2f} ({score.low:.2f} to {score.high:.2f}), {run.seconds:.0f} s of training"
        )
        for one in ledger.abilities:
            change = f"{one.change.value:+.2f} ({one.change.low:+.2f} to {one.change.high:+.2f})"
            print(f"{one.name:13} {one.before:5.2f} to {one.after:5.2f}   {change}   {one.fate}")
        for hint in ledger.suggestions:
            print(f"try {hint.knob}: {hint.now} to {hint.take}, because {hint.because}")
        ledgers.append(ledger)
    return ledgers


if __name__ == "__main__":
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # as the command line does
    main()
