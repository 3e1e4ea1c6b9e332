"""Is this sentence positive or negative? Tweets, film reviews, product reviews and newspaper editorials.

Run it: `python -m recipes.tone` (or `llmops run tone`); `--app` opens the app on the result.
"""

import sys

from llmops import Baselines, Classify, Data, Evaluation, Recipe, Source
from llmops.cli.main import main

DOMAINS = ("tweets", "movies", "amazon", "nyt")

RECIPE = Recipe(
    name="tone",
    about="Is this sentence positive or negative, in four domains?",
    base="smollm2-135m-q4",
    data=Data(
        sources=tuple(Source(from_=f"vader/{domain}", train_rows=300, heldout_rows=150) for domain in DOMAINS),
        heldout_share=0.2,
    ),
    task=Classify(question="Positive or negative?", labels=("negative", "positive")),
    baselines=Baselines(word_list="vader/lexicon"),
    evaluation=Evaluation(slices=("domain",)),
)

if __name__ == "__main__":
    main(["run", __file__, *sys.argv[1:]])
