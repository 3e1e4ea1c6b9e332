"""Objectives: pure functions of tensors, from log-probabilities to losses. Nothing here knows a model or a row.

Axes: N learned tokens, P pairs, R replies. Log-probabilities are in nats, float32; a reply's is the sum over its tokens
and end token. `start` is the policy as it stood before step 0, `now` as it stands. Every loss is checked against TRL's
on the same batch (`tests/benchmarks/objectives.py`).
"""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid


def sft(now_N: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of each learned token, N."""
    return -now_N


def dpo(now_P2: torch.Tensor, start_P2: torch.Tensor, beta: float, label_smoothing: float = 0.0) -> torch.Tensor:
    """Loss of each pair (chosen, rejected), P: equation 7 of Rafailov et al. 2023, arXiv:2305.18290.

    With `label_smoothing`, its unbiased form for pairs of which that share is the wrong way round: equation 12 of
    Chowdhury et al. 2024, arXiv:2403.00409.
    """
    rewards_P2 = beta * (now_P2 - start_P2)
    margin_P = rewards_P2[:, 0] - rewards_P2[:, 1]
    right_P, flipped_P = -logsigmoid(margin_P), -logsigmoid(-margin_P)
    return ((1 - label_smoothing) * right_P - label_smoothing * flipped_P) / (1 - 2 * label_smoothing)


def kl_estimate(now_R: torch.Tensor, start_R: torch.Tensor) -> torch.Tensor:
    """How far the policy has moved, from the replies of strangers: section 4.1 of the KTO paper. Never below 0."""
    return (now_R - start_R).mean().clamp(min=0).detach()


def kto(
    now_R: torch.Tensor,
    start_R: torch.Tensor,
    liked_R: torch.Tensor,
    moved: torch.Tensor,
    beta: float,
    weights: tuple[float, float] = (1.0, 1.0),
) -> torch.Tensor:
    """Loss of each reply, R: equations 7 and 8 of Ethayarajh et al. 2024, arXiv:2402.01306.

    `liked_R` is boolean; `moved` is the `kl_estimate`, a constant here; `weights` are those of (liked, disliked).
    """
    gained_R = now_R - start_R - moved
    liked, disliked = weights
    return torch.where(
        liked_R, liked * (1 - torch.sigmoid(beta * gained_R)), disliked * (1 - torch.sigmoid(-beta * gained_R))
    )


def orpo(mean_P2: torch.Tensor) -> torch.Tensor:
    """The odds-ratio loss of each pair, P: equations 4 and 7 of Hong et al. 2024, arXiv:2403.07691.

    From the mean log-probability of a token of the chosen and of the rejected reply. Cross-entropy on the chosen row,
    prompt included as in the authors' code, stands beside it.
    """
    mean_P2 = mean_P2.clamp(max=-1e-6)  # a certain reply would have endless odds
    odds_P2 = mean_P2 - torch.log(-torch.expm1(mean_P2))
    return -logsigmoid(odds_P2[:, 0] - odds_P2[:, 1])
