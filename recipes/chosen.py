"""Long answers, one chosen and one rejected: does a small base learn which is which? (DPO)

Run it: `python -m recipes.chosen` (or `llmops run chosen`); `--app` opens the app on the result.
"""

import sys

from llmops import DPO, Data, Recipe, Reply, Source, Training
from llmops.cli.main import main

RECIPE = Recipe(
    name="chosen",
    about="Answers that people chose rather than those they rejected.",
    base="smollm2-135m-q4",
    data=Data(sources=(Source(from_="preferences"),), heldout_share=0.4),
    # By itself the base finds the shorter answer likelier, whatever it says; what training changed is asked first.
    task=Reply(measures=("reward_accuracy", "preference")),
    objective=DPO(beta=0.1),
    # Pairs of up to 800 tokens, prompt included: longer ones are left out of training, not of the exam.
    training=Training(max_tokens=800, epochs=2),
)

if __name__ == "__main__":
    main(["run", __file__, *sys.argv[1:]])
