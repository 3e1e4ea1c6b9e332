"""Answers with a thumb up or down, no two to the same prompt: learned from one by one (KTO).

What `chosen` does with pairs, with thumbs; only the difference stands here. Run it: `python -m recipes.thumbs` (or
`llmops run thumbs`); `--app` opens the app on the result.
"""

import sys
from pathlib import Path

from llmops import KTO, Reply, Source
from llmops.cli.bundled import load_file
from llmops.cli.main import main

CHOSEN = load_file(Path(__file__).with_name("chosen.py")).RECIPE
RECIPE = CHOSEN.replace(
    name="thumbs",
    about="Answers of the kind that people liked.",
    data=CHOSEN.data.replace(sources=(Source(from_="thumbs"),)),
    # A thumb has no partner, so nothing asks which of two answers is likelier.
    task=Reply(measures=("reward_accuracy",)),
    objective=KTO(beta=0.1),
    # Chosen on a third of the training half (LOG.md): a fifth of this rate showed nothing, and a second pass
    # learns the rows by heart.
    training=CHOSEN.training.replace(learning_rate=5e-4, batch_rows=8),
)

if __name__ == "__main__":
    main(["run", __file__, *sys.argv[1:]])
