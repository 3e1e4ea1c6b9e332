"""Capacity: what is measured under load, the law that is fitted, the replicas that people need."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmops.core.capacity import LoadPoint, Need, ScalabilityLaw
from llmops.core.dataset import Message
from llmops.core.errors import LlmopsError
from llmops.serving.load import ask_all, fit_law, replicas
from llmops.serving.prove_site import TOKEN, site

ASKED = [(Message(role="user", content="hello"),)]


def point(readers: int, answers_s: float, p99_s: float = 0.1, failed: int = 0) -> LoadPoint:
    return LoadPoint(
        readers=readers,
        answers=10,
        failed=failed,
        answers_s=answers_s,
        tokens_s=answers_s * 10,
        first_token_p50_s=p99_s / 2,
        first_token_p99_s=p99_s,
        total_p50_s=1.0,
    )


def test_the_law_is_found_again_from_what_it_says() -> None:
    law = ScalabilityLaw(first=3.0, contention=0.05, crosstalk=0.002, error=0)
    found = fit_law([point(readers, law.answers_s(readers)) for readers in (1, 2, 8, 32, 64)])
    assert found is not None
    assert (found.first, found.contention, found.crosstalk) == pytest.approx((3.0, 0.05, 0.002), rel=1e-3)
    assert found.error < 1e-3 and found.best_readers == law.best_readers == 22
    assert fit_law([point(1, 1.0), point(2, 2.0)]) is None


def test_replicas_are_those_that_keep_to_the_need() -> None:
    points = [point(1, 2.0, 0.1), point(8, 6.0, 0.8), point(32, 9.0, 3.0), point(64, 20.0, 0.5, failed=1)]
    assert replicas(points, Need(users=1000, think_s=20)) == (6.0, 9)  # 50 answers/s at 6 each
    assert replicas(points, Need(users=1000, think_s=20, first_token_s=4)) == (9.0, 6)
    assert replicas(points, Need(users=1, first_token_s=0.01)) == (0.0, None)


def test_throughput_grows_with_readers_up_to_the_slots_and_not_beyond(tmp_path: Path) -> None:
    with site(tmp_path, lambda prompt: ["word "] * 4, pause_s=0.02, slots=4) as one:
        by = {readers: ask_all(one.url, TOKEN, "tone", ASKED, readers) for readers in (1, 4, 16)}
    assert by[1].answers == 8 and by[4].answers == 16 and all(not found.failed for found in by.values())
    assert by[4].answers_s > 2 * by[1].answers_s and by[16].answers_s < 2 * by[4].answers_s
    assert by[16].first_token_p50_s > 2 * by[4].first_token_p50_s
    assert by[1].tokens_s == pytest.approx(4 * by[1].answers_s)


def test_an_endpoint_that_answers_nobody_is_an_error(tmp_path: Path) -> None:
    with site(tmp_path) as one, pytest.raises(LlmopsError, match="none of 8"):
        ask_all(one.url, "wrong", "tone", ASKED, 1)
