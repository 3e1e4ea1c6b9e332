"""Answers with a thumb up or down, no two to the same prompt: learned from one by one (KTO).

Run it: `python -m recipes.thumbs` (or `llmops run thumbs`); `--app` opens the app on the result.
"""

import sys

from llmops import KTO, Data, Duplicates, Normalise, Quality, Recipe, Reply, Source
from llmops.cli.main import main

RECIPE = Recipe(
    name="thumbs",
    about="Answers of the kind that people liked.",
    base="smollm2-135m-q4",
    # Turns of up to 1,200 characters (about 300 tokens), so that a laptop learns a whole pass; half is the exam.
    data=Data(
        sources=(Source(from_="thumbs"),),
        heldout_share=0.5,
        steps=(Normalise(), Duplicates(), Quality(most_characters=1200)),
    ),
    task=Reply(measures=("reward_accuracy",)),
    objective=KTO(beta=0.1),
)

if __name__ == "__main__":
    main(["run", __file__, *sys.argv[1:]])
