"""Rows of a pack side by side, padded on the right: what a GPU is fast at.

A causal model needs no mask for padding on the right, and without a mask the fused kernels run (FlashAttention in
SDPA), which a pack's mask over all pairs of tokens keeps out. A beginning that rows share is computed once a row here.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from llmops.lm.pack import Pack

STEP = 32  # lengths are rounded up to a multiple, so that kernels and compiled code meet few shapes


def padded_states(inner: Any, pack: Pack, device: str) -> torch.Tensor:
    """Last hidden states (after the final norm) of a pack, TD, as `hidden_states` gives them.

    Of a token that rows share, the state is taken from the last of them: all have the same, and the same gradient.
    """
    import torch

    paths = pack.paths or [[0]]  # the pack of a process that has no row left
    longest = max(map(len, paths))
    width = -(-longest // STEP) * STEP
    ids_BT = torch.zeros(len(paths), width, dtype=torch.long)
    row_T = torch.zeros(len(pack.ids), dtype=torch.long)
    place_T = torch.zeros(len(pack.ids), dtype=torch.long)
    ids_T = torch.tensor(pack.ids)
    for row, path in enumerate(paths):
        at = torch.tensor(path)
        ids_BT[row, : len(path)] = ids_T[at]
        row_T[at] = row
        place_T[at] = torch.arange(len(path))
    with adapters_in(inner.dtype, device):
        states_BTD = inner.get_decoder()(input_ids=ids_BT.to(device), use_cache=False).last_hidden_state
    return states_BTD[row_T.to(device), place_T.to(device)]


def adapters_in(dtype: torch.dtype, device: str) -> Any:
    """A context: autocast on a GPU in bfloat16, so that float32 adapters take part in its products as they are."""
    import torch

    if dtype != torch.bfloat16 or not device.startswith("cuda"):
        return nullcontext()
    return torch.autocast("cuda", torch.bfloat16)
