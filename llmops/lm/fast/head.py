"""`Head`: log-probabilities of given tokens without ever holding all logits.

The gradient of log p(target) with respect to a hidden state is (one at the target, less the shares) times the head's
weights: it does not depend on what the loss does with it but for a factor. So it is computed in the forward pass, chunk
by chunk while the logits are there, and the backward pass is one multiplication. This serves every objective.

Axes: N positions, D hidden size, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from llmops.lm.fast.adapt import LANE
from llmops.lm.fast.plain import Plain
from llmops.lm.fast.products import WordProducts
from llmops.lm.mapped import Lying

# Positions at once. SmolLM2's 49,152 logits for 256 positions in bfloat16 are 25 MB and stay in a third-level cache:
# 409 and 383 GFLOP/s forward and back, where 650 positions have 368 and 333. Gemma's 262,144 are held to 122 positions.
CHUNK, CHUNK_BYTES = 256, 64_000_000
STATES = 1024  # at once in C: each thread holds a float32 sum of weights for each, 2.4 MB of SmolLM2
WORDS = 8192  # whose weights are in memory at once, where they are let go of: 19 MB of SmolLM2's 113
CACHED_BYTES = 26_000_000  # of logits that are only summed: they are read twice, and stay in a third-level cache


@dataclass(frozen=True)
class Vocabulary:
    """The frozen head, and the final soft cap of a family that has one (0: none)."""

    passes: Plain
    weight_VD: Tensor
    cap: float
    lying: Lying | None = None  # where the weights shall be let go of as they are gone through

    def bent(self, logits_N: Tensor) -> Tensor:
        """Logits as the family caps them."""
        return self.cap * (logits_N / self.cap).tanh() if self.cap else logits_N


def shared_logprobs(vocabulary: Vocabulary, hidden_UD: Tensor, places_N: Tensor, targets_N: Tensor) -> Tensor:
    """log p(target), N float32, in nats, where target n stands behind hidden state `places_N[n]` of U. No gradient.

    The head goes over each state once, however many targets stand behind it. `places_N` rises.
    """
    if (words := words_of(vocabulary)) is not None:
        found_N = words.target_logits(hidden_UD, vocabulary.weight_VD, vocabulary.cap, places_N, targets_N)
        return found_N - _totals(words, vocabulary, hidden_UD)[places_N]
    head_VD, found_N = vocabulary.weight_VD, torch.empty(len(targets_N), dtype=torch.float32)
    rows = max(1, min(CHUNK, len(hidden_UD), CACHED_BYTES // (head_VD.shape[0] * head_VD.element_size())))
    held_UV = hidden_UD.new_empty(rows, len(head_VD))
    for start in range(0, len(hidden_UD), rows):
        logits_UV = torch.mm(hidden_UD[start : start + rows], head_VD.T, out=held_UV[: len(hidden_UD) - start])
        low, high = torch.searchsorted(places_N, torch.tensor([start, start + rows])).tolist()
        at = places_N[low:high] - start
        keys_M, which_N = torch.unique(at * len(head_VD) + targets_N[low:high], return_inverse=True)
        at_M, word_M = keys_M // len(head_VD), keys_M % len(head_VD)
        total_R = vocabulary.passes.log_total(logits_UV, vocabulary.cap)
        # bfloat16 tells logits of 32 apart in steps of a quarter: those asked for are worked out again, and put into
        # the total in place of the rough ones.
        rough_M = vocabulary.bent(logits_UV[at_M, word_M].float()) - total_R[at_M]
        exact_M = vocabulary.bent((hidden_UD[start + at_M].float() * head_VD[word_M].float()).sum(-1)) - total_R[at_M]
        change_R = torch.zeros_like(total_R).index_add_(0, at_M, exact_M.exp() - rough_M.exp())
        # At -1 nothing would be left of the total, which rounding alone can bring about.
        found_N[low:high] = exact_M[which_N] - change_R.clamp(min=-0.999999).log1p()[at]
    return found_N


def words_of(vocabulary: Vocabulary) -> WordProducts | None:
    """What goes through the vocabulary in C, where it can: in pairs, sixteen numbers at a time."""
    passes = vocabulary.passes
    return None if passes.in_pairs and vocabulary.weight_VD.shape[1] % LANE else passes.words


def _totals(words: WordProducts, vocabulary: Vocabulary, hidden_UD: Tensor) -> Tensor:
    """log of the sum of exp of all logits, U float32, a part of the vocabulary at a time."""
    found: list[Tensor] = []
    for part_VD in vocabulary.weight_VD.split(WORDS):
        found.append(words.log_totals(hidden_UD, part_VD, vocabulary.cap))
        if vocabulary.lying is not None:
            vocabulary.lying.let_go()
    return torch.stack(found).logsumexp(0)


class Head(torch.autograd.Function):  # type: ignore[misc]  # torch is Any to mypy
    """(hidden ND, targets N) to log p(target), N float32, in nats. The head is frozen."""

    @staticmethod
    def forward(ctx: Any, vocabulary: Vocabulary, hidden_ND: Tensor, targets_N: Tensor, learn: bool) -> Tensor:
        head_VD = vocabulary.weight_VD
        found_N = torch.empty(len(targets_N), dtype=torch.float32)
        ctx.slope_ND = torch.empty_like(hidden_ND) if learn else None
        if learn and vocabulary.passes.in_pairs and (words := words_of(vocabulary)) is not None:
            for start in range(0, len(targets_N), STATES):
                part = slice(start, start + STATES)
                given = (hidden_ND[part], head_VD, vocabulary.cap, targets_N[part], ctx.slope_ND[part])
                found_N[part] = words.slopes(*given)
            return found_N
        rows = max(1, min(CHUNK, len(targets_N), CHUNK_BYTES // (head_VD.shape[0] * head_VD.element_size())))
        held_NV = hidden_ND.new_empty(rows, len(head_VD))
        for start in range(0, len(targets_N), rows):
            part = slice(start, start + rows)
            logits_NV = torch.mm(hidden_ND[part], head_VD.T, out=held_NV[: len(targets_N) - start])
            found_N[part] = vocabulary.passes.log_share(logits_NV, targets_N[part], vocabulary.cap)
            if learn:
                torch.mm(logits_NV, head_VD, out=ctx.slope_ND[part])
        return found_N

    @staticmethod
    def backward(ctx: Any, d_N: Tensor) -> tuple[Any, ...]:
        return None, ctx.slope_ND * d_N[:, None].to(ctx.slope_ND.dtype), None, None
