"""Adapters in C: what plain products make of them, whatever the sizes, to the last bit on any number of threads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from llmops.lm.fast import kernels
from llmops.lm.fast.adapt import Adapters, Factors, Gradients, Narrow, Products, Sizes
from llmops.lm.fast.room import Room

GROUPS = {
    "q, k and v": Sizes(64, (64, 32, 32), (8, 8, 8)),
    "small ranks, and a layer without": Sizes(48, (32, 16, 80), (3, 0, 12)),
    "a large rank": Sizes(32, (112,), (40,)),
}


@pytest.fixture(scope="module")
def library() -> Any:
    if not kernels.working_compiler() or not kernels.build(torch.bfloat16).adapts():
        pytest.skip("this processor does not multiply bfloat16 in pairs, or has no C compiler")
    return kernels.build(torch.bfloat16)


def factors_of(sizes: Sizes) -> list[Factors | None]:
    torch.manual_seed(1)
    return [
        Factors(torch.randn(rank, sizes.inputs), torch.randn(outputs, rank), 0.5) if rank else None
        for outputs, rank in zip(sizes.outputs, sizes.ranks, strict=True)
    ]


def results(adapters: Adapters, sizes: Sizes, factors: list[Factors | None], tokens: int) -> list[Tensor]:
    """Outputs, the gradient of the inputs, and the gradients of all factors."""
    torch.manual_seed(2)
    x, dx, y, dy = (torch.randn(tokens, size).bfloat16() for size in [sizes.inputs] * 2 + [sum(sizes.outputs)] * 2)
    adapters.refresh(factors)
    room = Room(10_000, torch.bfloat16)
    ax, dax = adapters.forward(x, y, room), adapters.backward(dy, dx, room)
    into = Gradients([factor for factor in factors if factor])
    adapters.gradients(x, ax, dy, dax, into, room)
    assert into.open == 0
    return [y, dx, *into.each()]


def furthest(ours: list[Tensor], theirs: list[Tensor]) -> float:
    return max(
        float((one.float() - other.float()).norm() / other.float().norm())
        for one, other in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize("tokens", [1, 8, 37])
@pytest.mark.parametrize("name", GROUPS)
def test_they_are_those_of_plain_products_within_rounding(library: Any, name: str, tokens: int) -> None:
    sizes, factors = GROUPS[name], factors_of(GROUPS[name])
    ours = results(Narrow(sizes, library), sizes, factors, tokens)
    theirs = results(Products(sizes, torch.bfloat16), sizes, factors, tokens)
    assert [tensor.shape for tensor in ours] == [tensor.shape for tensor in theirs]
    assert furthest(ours, theirs) < 2**-7


def test_a_factor_that_is_a_little_off_is_noticed(library: Any) -> None:
    sizes, factors = GROUPS["q, k and v"], factors_of(GROUPS["q, k and v"])
    right = results(Products(sizes, torch.bfloat16), sizes, factors, 37)
    assert factors[1] is not None
    factors[1].b_OR[5] *= 1.5
    assert furthest(results(Narrow(sizes, library), sizes, factors, 37), right) > 2**-6


def test_they_give_the_same_bits_on_one_thread_and_on_two(library: Any) -> None:
    sizes, factors = GROUPS["q, k and v"], factors_of(GROUPS["q, k and v"])
    found = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(results(Narrow(sizes, library), sizes, factors, 37))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))


def test_sizes_that_vectors_do_not_divide_are_left_to_plain_products(library: Any) -> None:
    compiled = kernels.Compiled(torch.bfloat16)
    assert isinstance(compiled.adapters(GROUPS["q, k and v"], torch.bfloat16), Narrow)
    assert isinstance(compiled.adapters(Sizes(64, (24,), (8,)), torch.bfloat16), Products)
    assert isinstance(kernels.Compiled(torch.float32).adapters(GROUPS["q, k and v"], torch.float32), Products)


def test_what_the_compiler_says_of_the_processor_is_what_the_kernels_do() -> None:
    if not kernels.working_compiler():
        assert not kernels.multiplies_pairs()
    else:
        assert kernels.multiplies_pairs() == (kernels.Compiled(torch.bfloat16).direct is not None)


def test_a_scale_is_no_reason_to_round_again() -> None:
    sizes = GROUPS["q, k and v"]
    once, more = ([replace(one, scale=scale) for one in factors_of(sizes) if one] for scale in (1.0, 1.5))
    (*_, plain), (*_, scaled) = (results(Products(sizes, torch.bfloat16), sizes, list(f), 37) for f in (once, more))
    assert torch.equal(scaled, 1.5 * plain)
