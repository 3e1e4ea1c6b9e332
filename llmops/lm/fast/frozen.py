"""`Frozen`: the weights of some layers that read the same input, for products with all of them.

Axes: T tokens, I inputs, O outputs of all layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from llmops.lm.fast.plain import Plain
from llmops.lm.mapped import lying_of


class Frozen:
    """One below the other in one piece of memory; or, where they lie in a file (`lm/mapped.py`), each where it lies."""

    def __init__(self, layers: Sequence[torch.nn.Linear], passes: Plain) -> None:
        """Take over the weights: put together, each layer's own becomes a view, so that they are there once."""
        weights = [layer.weight.detach() for layer in layers]
        ends = [sum(len(weight) for weight in weights[: place + 1]) for place in range(len(weights))]
        self.passes = passes
        self.inputs, self.outputs = weights[0].shape[1], ends[-1]
        self.rows = [slice(end - len(weight), end) for weight, end in zip(weights, ends, strict=True)]
        found = [lying_of(layer.weight) for layer in layers]
        self.lying = [lying for lying in found if lying] if all(found) else []
        self.parts = list(zip(weights, self.rows, strict=True))
        if not self.lying:
            together = torch.cat(weights) if len(weights) > 1 else weights[0].contiguous()
            for layer, rows in zip(layers, self.rows, strict=True):
                layer.weight.data = together[rows]
            self.parts = [(together, slice(0, self.outputs))]
        self.addresses = [layer.weight.data_ptr() for layer in layers]

    def forward(self, x_TI: Tensor, y_TO: Tensor, onto_TO: Tensor | None = None) -> None:
        """Fill `y_TO` with the outputs, added to `onto_TO` where it is given."""
        for weight, rows in self.parts:
            onto = None if onto_TO is None else onto_TO[:, rows]
            self.passes.product(x_TI, weight, y_TO[:, rows], onto)

    def backward(self, dy_TO: Tensor, dx_TI: Tensor) -> None:
        """Fill `dx_TI` with the gradient of the inputs."""
        for place, (weight, rows) in enumerate(self.parts):
            if place:
                dx_TI.addmm_(dy_TO[:, rows], weight)
            else:
                torch.mm(dy_TO[:, rows], weight, out=dx_TI)

    def let_go(self) -> None:
        """Give back the pages of the file, where they lie in one."""
        for lying in self.lying:
            lying.let_go()
