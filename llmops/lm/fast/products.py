"""`FrozenProducts`: what `products.c` does, by its arguments. Float32.

Axes: T tokens, I inputs, O outputs; U states, N targets, D hidden size, V vocabulary.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

LEAST_ROWS = 96  # of fewer, torch's products are faster: to lay weights across costs as much as 12 rows


@dataclass(frozen=True)
class FrozenProducts:
    """FrozenProducts with frozen weights, and log-probabilities of which no logits are written."""

    library: Any

    def product(self, x_TI: Tensor, weight_OI: Tensor, out_TO: Tensor, onto_TO: Tensor | None) -> None:
        """out = x W', added to `onto_TO` where it is given. Rows may be apart; W is dense."""
        onto_stride = 0 if onto_TO is None else onto_TO.stride(0)
        self.library.product(
            _at(x_TI), ctypes.c_long(x_TI.stride(0)), _at(weight_OI), _at(onto_TO), ctypes.c_long(onto_stride),
            _at(out_TO), *map(ctypes.c_long, (out_TO.stride(0), *x_TI.shape, len(weight_OI))),
        )  # fmt: skip

    def log_totals(self, hidden_UD: Tensor, weight_VD: Tensor, cap: float) -> Tensor:
        """log of the sum of exp of the logits of each state, U; a final soft `cap` (0 none) bends them first."""
        rows, found = len(hidden_UD), torch.empty(len(hidden_UD))
        held = torch.empty(torch.get_num_threads() * rows * 2)
        self.library.log_totals(
            _at(hidden_UD), ctypes.c_long(hidden_UD.stride(0)), _at(weight_VD), ctypes.c_float(cap), _at(found),
            _at(held), *map(ctypes.c_long, (rows, hidden_UD.shape[1], len(weight_VD))),
        )  # fmt: skip
        return found

    def target_logits(
        self, hidden_UD: Tensor, weight_VD: Tensor, cap: float, places_N: Tensor, targets_N: Tensor
    ) -> Tensor:
        """The logit of each target behind the state at its place, N."""
        found = torch.empty(len(targets_N))
        self.library.target_logits(
            _at(hidden_UD), ctypes.c_long(hidden_UD.stride(0)), _at(weight_VD), ctypes.c_float(cap), _at(places_N),
            _at(targets_N), _at(found), *map(ctypes.c_long, (len(targets_N), hidden_UD.shape[1])),
        )  # fmt: skip
        return found


def _at(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())
