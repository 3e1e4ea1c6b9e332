"""Padded rows: the same hidden states and gradients as a pack, which is what a GPU computes instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmops.lm.base import load_weights
from llmops.lm.pack import hidden_states, pack_rows
from llmops.lm.padded import padded_states

ROWS = [[1, 5, 6, 7], [1, 5, 6, 8, 9], [1, 5], [3, 4, *range(10, 60)]]


@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], [[1, 5, 6], [1, 5, 6]]])
def test_padded_rows_have_the_states_and_the_gradient_of_a_pack(tiny_base: Path, rows: list[list[int]]) -> None:
    import torch

    model = load_weights(tiny_base)
    weight = model.get_decoder().layers[0].mlp.up_proj.weight.requires_grad_(True)
    (pack,) = pack_rows(rows, 1000)
    draw = torch.randn(len(pack.ids), model.config.hidden_size, generator=torch.Generator().manual_seed(0))
    found = []
    for states_TD in (hidden_states(model, pack, "cpu"), padded_states(model, pack, "cpu")):
        (states_TD * draw).sum().backward()
        found.append((states_TD.detach(), weight.grad.clone()))
        weight.grad = None
    (packed, gradient), (padded, other) = found
    assert torch.allclose(packed, padded, atol=1e-5)
    assert torch.allclose(gradient, other, atol=1e-4 * float(gradient.abs().max()))
    # The planted fault: states taken from the wrong row differ.
    assert not torch.allclose(packed, padded.roll(1, 0), atol=1e-5) or len(packed) == 1
