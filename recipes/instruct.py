"""Instructions and their answers: supervised fine-tuning on a general set.

Run it: `python -m recipes.instruct` (or `llmops run instruct`); `--app` opens the app on the result.
"""

import sys

from llmops import Data, Evaluation, Recipe, Reply, Source, Training
from llmops.cli.main import main

RECIPE = Recipe(
    name="instruct",
    about="Instructions answered as a larger model answers them.",
    base="smollm2-135m-q4",
    data=Data(sources=(Source(from_="instructions", train_rows=240, heldout_rows=80),)),
    task=Reply(measures=("bits_per_byte",)),
    training=Training(max_tokens=600, epochs=1),
    evaluation=Evaluation(
        prompts=(
            "Name three fruits that are red.",
            "Rewrite in the passive voice: The dog chased the ball.",
            "Give two reasons to learn a second language.",
        )
    ),
)

if __name__ == "__main__":
    main(["run", __file__, *sys.argv[1:]])
