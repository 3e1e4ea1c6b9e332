"""Stop strings in generation: a row is done once one of them is in its text. B rows, T positions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# A stop string of b bytes spans at most b tokens, if every byte is one; characters before it may take some of theirs.
MORE_TOKENS = 4


def stop_criteria(stops: Sequence[str], decode: Callable[[Sequence[int]], str], start: int) -> Any:
    """What `generate` asks after each token: which rows hold one of `stops` at or after position `start`; or None.

    Only the last tokens are decoded, since earlier ones were looked at when they were last.
    """
    wanted = [stop for stop in stops if stop]
    if not wanted:
        return None
    import torch
    from transformers import StoppingCriteria, StoppingCriteriaList

    tail = max(len(stop.encode("utf-8", "surrogatepass")) for stop in wanted) + MORE_TOKENS

    class Stops(StoppingCriteria):  # type: ignore[misc]
        def __call__(self, ids_BT: torch.Tensor, scores: Any, **more: Any) -> torch.Tensor:
            ends_BT = ids_BT[:, max(start, ids_BT.shape[1] - tail) :].tolist()
            done = [any(stop in text for stop in wanted) for text in map(decode, ends_BT)]
            return torch.tensor(done, device=ids_BT.device)

    return StoppingCriteriaList([Stops()])
