"""Which tokens of a pack look at which: blocks of queries with the keys that they see, grouped for batched products.

A row of a pack (`lm/pack.py`) is a path of places. Its own tokens, those that no earlier row brought, are cut into
blocks of at most `BLOCK` queries; a block sees the path up to its last token. Blocks of like size form a group, padded
on the left to one size, so that in each of them query i sees key j where K - 1 - j >= Q - 1 - i. Long rows pay for half
of the square only, and shared beginnings are keys, not queries, of the rows that share them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

BLOCK = 256
SLACK = 1.15  # a group may hold so many times the scores that its blocks need
SPARE = 2048  # and so many more: a group of its own costs a layer as much time (0.1 ms on 2 cores)
GROUP_SCORES = 1 << 19  # of one head and one group: with 9 heads of bfloat16 9 MB, which stay in a third-level cache


@dataclass(frozen=True)
class Group:
    """S blocks of Q queries and K keys each. Places are rows of the pack; padding repeats a real place."""

    queries_SQ: Tensor
    keys_SK: Tensor
    query_counts: Tensor  # S, int32: how many of the Q are real; they stand at the end
    key_counts: Tensor  # S, int32
    query_places: Tensor  # places of the real queries, in the order of the flattened group
    query_slots: Tensor  # where those stand in the flattened group
    shared_keys: bool  # whether a place occurs in it as a key more than once

    def mask(self, dtype: torch.dtype, window: int | None) -> Tensor:
        """What is added to the scores, SQK: 0 where a query may look, else the lowest number."""
        rows, queries, keys = len(self.queries_SQ), self.queries_SQ.shape[1], self.keys_SK.shape[1]
        age_QK = torch.arange(queries)[:, None] + (keys - queries) - torch.arange(keys)[None, :]
        seen_QK = age_QK >= 0
        if window is not None:
            seen_QK &= age_QK < window
        real_SK = torch.arange(keys)[None, :] >= keys - self.key_counts[:, None]
        mask_SQK = torch.zeros(rows, queries, keys, dtype=dtype)
        return mask_SQK.masked_fill_(~(seen_QK[None] & real_SK[:, None, :]), torch.finfo(dtype).min)


def blocks_of(paths: Sequence[Sequence[int]], known: int, most: int = BLOCK) -> list[tuple[list[int], list[int]]]:
    """(queries, keys) of each block: every place is a query once, but for the first `known`, which are keys only.

    A row that is all shared has no block.
    """
    found = []
    seen = set(range(known))
    for path in paths:
        own = next((place for place, token in enumerate(path) if token not in seen), len(path))
        seen.update(path[own:])
        parts = -(-(len(path) - own) // most)
        for part in range(parts):
            start = own + (len(path) - own) * part // parts
            end = own + (len(path) - own) * (part + 1) // parts
            found.append((list(path[start:end]), list(path[:end])))
    return found


def groups_of(paths: Sequence[Sequence[int]], known: int, most: int = BLOCK) -> list[Group]:
    """The groups of a pack: each block in one of them. The first `known` places were gone through before."""
    blocks = sorted(blocks_of(paths, known, most), key=lambda block: (len(block[1]), len(block[0])))
    groups: list[list[tuple[list[int], list[int]]]] = []
    needed = 0
    for block in blocks:
        size = len(block[0]) * len(block[1])
        if groups:
            members = [*groups[-1], block]
            padded = max(len(queries) for queries, _ in members) * len(block[1]) * len(members)
            if padded <= SLACK * (needed + size) + SPARE and padded <= GROUP_SCORES:
                groups[-1].append(block)
                needed += size
                continue
        groups.append([block])
        needed = size
    return [_group(members) for members in groups]


def _group(members: Sequence[tuple[list[int], list[int]]]) -> Group:
    most_q = max(len(queries) for queries, _ in members)
    most_k = max(len(keys) for _, keys in members)
    queries_SQ = np.array([[queries[0]] * (most_q - len(queries)) + queries for queries, _ in members], dtype=np.int64)
    keys_SK = np.array([[keys[0]] * (most_k - len(keys)) + keys for _, keys in members], dtype=np.int64)
    real_SQ = np.array([[False] * (most_q - len(queries)) + [True] * len(queries) for queries, _ in members])
    slots = np.flatnonzero(real_SQ)
    keys = [place for _, keys in members for place in keys]
    return Group(
        torch.from_numpy(queries_SQ),
        torch.from_numpy(keys_SK),
        torch.tensor([len(queries) for queries, _ in members], dtype=torch.int32),
        torch.tensor([len(keys) for _, keys in members], dtype=torch.int32),
        torch.from_numpy(queries_SQ.reshape(-1)[slots]),
        torch.from_numpy(slots),
        len(set(keys)) < len(keys),
    )
