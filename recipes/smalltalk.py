"""Small talk between strangers: a base that lectures learns to chat. Judged on conversations it has not seen.

Run it: `python -m recipes.smalltalk` (or `llmops run smalltalk`); `--app` opens the app on the result.
"""

import sys

from llmops import Data, Evaluation, Recipe, Reply, Source
from llmops.cli.main import main

RECIPE = Recipe(
    name="smalltalk",
    about="Short human conversations: the voice, and the right reply.",
    base="smollm2-135m-q4",
    data=Data(sources=(Source(from_="chitchat", train_rows=300, heldout_rows=80),), heldout_share=0.1),
    task=Reply(system="You are chatting with a stranger.", measures=("bits_per_byte", "pick_reply"), opening="opening"),
    evaluation=Evaluation(
        prompts=(
            "Hi! How are you doing today?",
            "What did you do last weekend?",
            "Do you have any pets?",
            "I just got back from a long run and I am so tired.",
            "What superpower would you like to have?",
            "My sister is getting married next month.",
            "What is your favourite film?",
            "I can't decide what to have for dinner.",
            "Are you more of a morning person or a night owl?",
            "It has been raining here all week.",
            "If money were no object, what would you do?",
            "Sorry, I have to go now.",
        )
    ),
)

if __name__ == "__main__":
    main(["run", __file__, *sys.argv[1:]])
