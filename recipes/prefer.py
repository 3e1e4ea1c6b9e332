"""Which summary is true to its sentence? Pairs of a true and a false one teach a base to side with the true one (DPO).

Run it: `python -m recipes.prefer` (or `llmops run prefer`); `--app` opens the app on the result.
"""

import sys

from llmops import DPO, Data, Duplicates, Evaluation, Normalise, Recipe, Reply, Source, Training
from llmops.cli.main import main

RECIPE = Recipe(
    name="prefer",
    about="A summary that is true to its sentence rather than one that is not.",
    base="smollm2-135m-q4",
    # Several pairs share a sentence; the catalogue's entry keeps those on one side of the split. They are near
    # duplicates of each other, and meant to be: that step is left out.
    data=Data(sources=(Source(from_="factual-summaries"),), heldout_share=0.35, steps=(Normalise(), Duplicates())),
    task=Reply(
        system="Summarise the sentence. Change no fact.", measures=("preference", "reward_accuracy", "bits_per_byte")
    ),
    objective=DPO(beta=0.1),
    training=Training(epochs=3),
    evaluation=Evaluation(
        prompts=(
            "the council said on monday that the bridge, closed since march, will reopen to buses before cars.",
            "she won her third title in five years after her rival withdrew with an injured knee.",
        )
    ),
)

if __name__ == "__main__":
    main(["run", __file__, *sys.argv[1:]])
