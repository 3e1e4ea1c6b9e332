"""Pretraining goes on, on the texts of one domain: newspaper editorials, whole, every token learned.

Run it: `python -m recipes.continue` (or `llmops run continue`); `--app` opens the app on the result.
"""

import sys

from llmops import Continue, Data, Evaluation, PlainText, Recipe, Source
from llmops.cli.main import main

RECIPE = Recipe(
    name="continue",
    about="Editorials cost fewer bits a byte, and sentences go on as an editorial would.",
    base="smollm2-135m-q4",
    # Sentences of one article stay on one side of the split.
    data=Data(
        sources=(Source(from_="vader/nyt", shape=PlainText(text="text"), train_rows=1500, heldout_rows=300),),
    ),
    task=Continue(),
    evaluation=Evaluation(prompts=("The mayor should know that", "Congress has once again", "What the city needs is")),
)

if __name__ == "__main__":
    main(["run", __file__, *sys.argv[1:]])
