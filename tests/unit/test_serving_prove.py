"""The proof of serving, and the endpoint against requests that schemathesis thinks of."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings

from llmops.core.context import Surroundings
from llmops.serving import prove
from llmops.serving.describe import GETS, POSTS, openapi
from llmops.serving.gateway import ServeSettings, build_app
from llmops.serving.prove_site import TOKEN, Site, site
from llmops.store.ledger import Ledger


@pytest.fixture(autouse=True)
def _nothing_old_is_collected() -> Iterator[None]:
    """Behind 1,800 tests a full collection stops this process, and the endpoint in it, longer than a proof allows."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("check", prove.CHECKS, ids=lambda check: check.__name__)
def test_a_check_of_serving_finds_its_planted_fault_and_raises_no_false_alarm(check, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    result = check("ci", tmp_path)
    assert result.passed, (
        f"{result.name}: {result.found}/{result.of}, {result.false_alarms} false alarms. {result.note}"
    )


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("fuzz")) as one:
        yield one


described = schemathesis.openapi.from_dict(openapi())


@described.parametrize()
@settings(
    max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate]
)
def test_no_request_that_schemathesis_thinks_of_gets_a_5xx(busy: Site, case: schemathesis.Case) -> None:
    if isinstance(case.body, dict) and "model" in case.body:
        case.body["model"] = "tone"  # a random name would be a 404, and nothing behind it tried
    answer = case.call(base_url=busy.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=20)
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400 and case.path in POSTS:
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_the_description_names_every_route(tmp_path: Path) -> None:
    app = build_app([], Ledger(f"sqlite:///{tmp_path / 'l.db'}"), ServeSettings(), Surroundings())
    assert {route.path for route in app.routes} - {"/v1/embeddings"} == {*POSTS, *GETS} == set(openapi()["paths"])  # type: ignore[attr-defined]
