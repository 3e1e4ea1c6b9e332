"""How likely are these tokens? Exact log-probabilities of the ends of rows, each shared token gone through once.

A row is a context and a target. Rows that begin alike (a question with each of its options) meet in packs (`pack.py`);
a beginning of all rows (examples, a system prompt) is gone through once for all packs. Of a target the last token is
never an input. The head is applied to the states that a token is predicted from, once each, and to no others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from llmops.core.context import Track
from llmops.lm.pack import hidden_states, pack_rows, pack_tokens, remember, shared_logprobs

if TYPE_CHECKING:
    import torch

SPARING_TOKENS = 512  # of so many in all, weights may come from their file with each pack: 3 % of its time
KNOWN_TOKENS = 16  # a shorter beginning is not worth a pass of its own


class End(NamedTuple):
    """Token ids of a context, and of what might follow it."""

    context: Sequence[int]
    target: Sequence[int]


class Seen(NamedTuple):
    """A pack that was gone through: its rows, where their tokens stand, the hidden states TD; whether sparingly."""

    rows: Sequence[int]
    paths: Sequence[Sequence[int]]
    hidden_TD: torch.Tensor
    sparing: bool


def passes(weights: Any, rows: Sequence[list[int]], device: str) -> Iterator[Seen]:
    """Every row once, in packs."""
    import torch

    most = pack_tokens(device)
    beginning, sparing = _beginning(rows, most), spares(rows)
    with torch.inference_mode():
        known = remember(weights, beginning, sparing)
    for pack in pack_rows(rows, most, beginning=beginning):
        with torch.inference_mode():
            hidden_TD = hidden_states(weights, pack, device, known, sparing)
        yield Seen(pack.rows, pack.paths, hidden_TD, sparing)


def spares(rows: Sequence[Sequence[int]]) -> bool:
    """Whether to hold few weights at a time, where they lie in a file."""
    return sum(map(len, rows)) >= SPARING_TOKENS


def _beginning(rows: Sequence[list[int]], most: int) -> list[int]:
    """What all rows begin with, where it is worth remembering: one pack goes through it once by itself."""
    if sum(map(len, rows)) <= most:
        return []
    first, last = min(rows), max(rows)  # in lexical order: what these two share, all share
    shared = next(
        (place for place, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first)
    )
    return list(first[:shared]) if shared >= KNOWN_TOKENS else []


def last_states(
    weights: Any, rows: Sequence[list[int]], device: str, track: Track, what: str
) -> dict[int, torch.Tensor]:
    """The hidden state D at the end of each row, by the row's number."""

    def ends() -> Iterator[tuple[int, torch.Tensor]]:
        for seen in passes(weights, rows, device):
            for row, path in zip(seen.rows, seen.paths, strict=True):
                yield row, seen.hidden_TD[path[-1]].clone()

    return dict(track(ends(), what, len(rows)))


def end_logprobs(weights: Any, ends: Sequence[End], device: str, track: Track, what: str) -> list[float]:
    """Sum of the log-probabilities (nats) of each target after its context, which is not empty."""

    def scored() -> Iterator[tuple[int, float]]:
        for seen in passes(weights, [[*end.context, *end.target[:-1]] for end in ends], device):
            parts = [
                (path[len(ends[row].context) - 1 :], ends[row].target)
                for row, path in zip(seen.rows, seen.paths, strict=True)
            ]
            yield from zip(seen.rows, _sums(weights, seen, parts), strict=True)

    found = dict(track(scored(), what, len(ends)))
    return [found[place] for place in range(len(ends))]


def _sums(weights: Any, seen: Seen, parts: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Sequence[float]:
    """For each (places, targets), the sum of log p(target | the state at its place). Places met twice count once."""
    import numpy as np
    import torch

    sizes = np.array([len(targets) for _, targets in parts])
    if not sizes.sum():
        return [0.0] * len(parts)
    places = np.concatenate([np.asarray(where, dtype=np.int64) for where, _ in parts])
    targets = np.concatenate([np.asarray(ids, dtype=np.int64) for _, ids in parts])
    states_U, of_state_N = np.unique(places, return_inverse=True)
    order = np.argsort(of_state_N, kind="stable")
    with torch.inference_mode():
        at = seen.hidden_TD.device
        nats_N = shared_logprobs(
            weights,
            seen.hidden_TD[torch.from_numpy(states_U).to(at)],
            torch.from_numpy(of_state_N[order]).to(at),
            torch.from_numpy(targets[order]).to(at),
            seen.sparing,
        )
    back = np.empty(len(order))
    back[order] = nats_N.double().cpu().numpy()
    owners = np.repeat(np.arange(len(parts)), sizes)
    return [float(nats) for nats in np.bincount(owners, weights=back, minlength=len(parts))]
