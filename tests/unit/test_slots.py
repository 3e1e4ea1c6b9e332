"""How many answers an engine holds room for at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmops.planning.cost import BaseShape
from llmops.planning.slots import room_bytes, slots

GIB = 2**30
SHAPE = BaseShape(
    layers=30,
    hidden=576,
    inner=1536,
    heads=9,
    vocabulary=49152,
    positions=8192,
    block_parameters=106_000_000,
    parameters=134_515_008,
    key_heads=3,
)


def test_the_room_of_an_answer_is_what_llama_cpp_says_of_smollm2() -> None:
    # "llama_kv_cache: size = 90.00 MiB (2048 cells, 30 layers, 2/2 seqs)", K and V in 16 bits.
    assert room_bytes(SHAPE, 2048) == 45 * 2**20


@pytest.mark.parametrize(("free", "expected"), [(1 * GIB, 4), (8 * GIB, 18), (24 * GIB, 32), (500 * GIB, 32)])
def test_a_tenth_of_the_free_memory_is_filled_within_bounds(free: int, expected: int) -> None:
    assert slots(SHAPE, 2048, free) == expected


def test_wider_keys_leave_room_for_fewer() -> None:
    assert slots(replace(SHAPE, key_heads=9), 2048, 8 * GIB) == 6
