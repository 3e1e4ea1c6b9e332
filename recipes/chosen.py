"""Long answers, one chosen and one rejected: does a small base learn which is which? (DPO)

Run it: `python -m recipes.chosen` (or `llmops run chosen`); `--app` opens the app on the result.
"""

import sys

from llmops import DPO, Data, Duplicates, Normalise, Quality, Recipe, Reply, Source, Training
from llmops.cli.main import main

RECIPE = Recipe(
    name="chosen",
    about="Answers that people chose rather than those they rejected.",
    base="smollm2-135m-q4",
    # Turns of up to 2,500 characters (about 600 tokens), so that a laptop learns a whole pass; half is the exam.
    data=Data(
        sources=(Source(from_="preferences"),),
        heldout_share=0.5,
        steps=(Normalise(), Duplicates(), Quality(most_characters=2500)),
    ),
    # By itself the base finds the shorter answer likelier, whatever it says; what training changed is asked first.
    task=Reply(measures=("reward_accuracy", "preference")),
    objective=DPO(beta=0.1),
    training=Training(epochs=1, max_tokens=1600),
)

if __name__ == "__main__":
    main(["run", __file__, *sys.argv[1:]])
