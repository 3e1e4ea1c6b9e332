"""Close reading: of every learned token of a row, how likely it was, and whether greedy decoding would have said it.

One pass over the whole row answers for every beginning of it at once: as long as each token is the likeliest one after
those before it, greedy decoding from any earlier place writes the same tokens. So nothing is generated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from llmops.core.context import Track, silent
from llmops.lm.model import LocalModel
from llmops.lm.pack import HEAD_STATES, hidden_states, logits_of, pack_rows, pack_tokens
from llmops.lm.render import Example


class Reading(NamedTuple):
    """The learned tokens of one row: log-probability (nats) of each, and whether it was the likeliest."""

    ids: list[int]
    logprobs: list[float]
    likeliest: list[bool]

    @property
    def nats(self) -> float:
        return -sum(self.logprobs)

    def recited(self, prefix: int) -> int:
        """How many tokens greedy decoding reproduces behind the first `prefix` ones, before it goes another way."""
        rest = self.likeliest[prefix:]
        return rest.index(False) if False in rest else len(rest)

    def longest_run(self) -> tuple[int, int]:
        """(start, length) of the longest run of tokens that greedy decoding reproduces."""
        best, start = (0, 0), 0
        for place, same in enumerate([*self.likeliest, False]):
            if not same:
                best = max(best, (start, place - start), key=lambda run: run[1])
                start = place + 1
        return best


def read_closely(model: LocalModel, examples: Sequence[Example], track: Track = silent) -> list[Reading]:
    """The reading of each example, in their order."""
    import torch

    found: list[Reading] = [Reading([], [], [])] * len(examples)
    rows = [example.ids for example in examples]
    packs = list(pack_rows(rows, pack_tokens(model.device)))
    for pack in track(packs, "reading rows closely", len(packs)):
        with torch.inference_mode():
            hidden_TD = hidden_states(model.weights, pack, model.device)
            before, sizes, targets = [], [], []
            for index, path in zip(pack.rows, pack.paths, strict=True):
                places = examples[index].places
                before += [path[place - 1] for place in places]
                targets += [rows[index][place] for place in places]
                sizes.append(len(places))
            logprobs, likeliest = _judge(model, hidden_TD[before], targets)
        start = 0
        for index, size in zip(pack.rows, sizes, strict=True):
            part = slice(start, start + size)
            found[index] = Reading(targets[part], logprobs[part], likeliest[part])
            start += size
    return found


def _judge(model: LocalModel, hidden_ND: object, targets: list[int]) -> tuple[list[float], list[bool]]:
    """Log-probability of each target after its hidden state, and whether no other token was likelier."""
    import torch

    logprobs: list[float] = []
    likeliest: list[bool] = []
    target_N = torch.tensor(targets, device=model.device)
    for part_ND, part_N in zip(torch.split(hidden_ND, HEAD_STATES), target_N.split(HEAD_STATES), strict=True):
        logits_NV = logits_of(model.weights, part_ND)
        own_N = logits_NV.gather(1, part_N[:, None])[:, 0]
        logprobs += (own_N - logits_NV.logsumexp(-1)).double().tolist()
        likeliest += (logits_NV.argmax(-1) == part_N).tolist()
    return logprobs, likeliest
