"""Private data: found where it is, not where it only looks like it, and in linear time."""

from __future__ import annotations

import time
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops.core import private
from llmops.core.private import KINDS, Kind, find_private, may_hold_private, replace_spans
from llmops.data import prove_cleaning
from llmops.data.prove_private import MADE, look_alike


def masked(text: str) -> str:
    return replace_spans(text, find_private(text))


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_found_among_look_alikes(kind: Kind) -> None:
    result = prove_cleaning.private_data(kind, 100)
    assert result.passed, result.note


@pytest.mark.parametrize("kind", KINDS)
def test_the_proof_fails_a_finder_that_finds_nothing_and_one_that_finds_too_much(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prove_cleaning, "find_private", lambda text: [])
    assert not prove_cleaning.private_data(kind, 20).passed
    monkeypatch.setattr(prove_cleaning, "find_private", lambda text: [private.Span(0, len(text), kind)])
    assert not prove_cleaning.private_data(kind, 20).passed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<zoë@exämple.de>, ann.b+c@mail.example.org.", "<[EMAIL]>, [EMAIL]."),
        ("IBAN DE89 3704 0044 0532 0130 00 BIC COBADEFF", "IBAN [IBAN] BIC COBADEFF"),
        ("GB82WEST12345698765432 and GB82WEST12345698765433", "[IBAN] and GB82WEST12345698765433"),
        ("4111 1111 1111 1111, not 4111 1111 1111 1112", "[CARD], not 4111 1111 1111 1112"),
        ("ring 6502530000, order 6502530000", "ring [PHONE], order 6502530000"),
        ("host 10.20.30.40, version 10.20.30.40", "host [IP], version 10.20.30.40"),
        ("localhost is 127.0.0.1, mask 255.255.255.0", "localhost is 127.0.0.1, mask 255.255.255.0"),
        ("https://user:pa55word@host.org/x", "https://user:[KEY]@host.org/x"),
        ('api_key = "0123456789abcdef0"', 'api_key = "[KEY]"'),
        ("password: required, password: $PASSWORD1", "password: required, password: $PASSWORD1"),
        ("1914-1918, 15:30, 3.14159265, 10,000,000", "1914-1918, 15:30, 3.14159265, 10,000,000"),
        ("nothing here", "nothing here"),
    ],
)
def test_private_data_is_masked_and_what_looks_like_it_is_not(text: str, expected: str) -> None:
    assert masked(text) == expected
    assert masked(expected) == expected


@given(st.text(st.sampled_from("ab1.@:+- ()/4GB\n[]"), max_size=60), st.integers(0, 10**6))
def test_spans_are_in_order_without_overlap_and_the_rest_stays(noise: str, seed: int) -> None:
    rng = Random(seed)
    text = f"{noise} {MADE[rng.choice(KINDS)](rng)} {noise}"
    spans = find_private(text)
    assert all(one.end <= other.start for one, other in pairwise(spans))
    rest, at = replace_spans(text, spans), 0
    for span in spans:
        assert rest.startswith(text[at : span.start] + f"[{span.kind}]")
        rest, at = rest[span.start - at + len(span.kind) + 2 :], span.end
    assert rest == text[at:]


@given(st.lists(st.integers(0, 10**6), max_size=8))
def test_the_quick_look_misses_no_text_with_private_data(seeds: list[int]) -> None:
    texts = []
    for seed in seeds:
        rng = Random(seed)
        texts.append(rng.choice([MADE[rng.choice(KINDS)], look_alike])(rng))
    assert {at for at, text in enumerate(texts) if find_private(text)} <= set(may_hold_private(texts))


@pytest.mark.parametrize(
    "piece",
    ["a", "a.", "a@", "a@a.", "1 ", "1(((", "AA11", "1.1.", "::", "password=", "sk-", "eyJ", "+1 ", "-----BEGIN "],
)
def test_hostile_text_takes_linear_time(piece: str) -> None:
    text = piece * (131_072 // len(piece))
    began = time.perf_counter()
    find_private(text)
    assert time.perf_counter() - began < 5
