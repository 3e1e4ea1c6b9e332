"""Answers with a thumb up or down, no two to the same prompt: learned from one by one (KTO).

Run it: `python -m recipes.thumbs` (or `llmops run thumbs`); `--app` opens the app on the result.
"""

import sys

from llmops import KTO, Data, Duplicates, Normalise, Quality, Recipe, Reply, Source, Training
from llmops.cli.main import main

RECIPE = Recipe(
    name="thumbs",
    about="Answers of the kind that people liked.",
    base="smollm2-135m-q4",
    # Turns of up to 2,500 characters (about 600 tokens), so that a laptop learns a whole pass; half is the exam.
    data=Data(
        sources=(Source(from_="thumbs"),),
        heldout_share=0.5,
        steps=(Normalise(), Duplicates(), Quality(most_characters=2500)),
    ),
    task=Reply(measures=("reward_accuracy",)),
    objective=KTO(beta=0.1),
    training=Training(epochs=1, max_tokens=1600),
)

if __name__ == "__main__":
    main(["run", __file__, *sys.argv[1:]])
