"""Versions of a real workspace behind the endpoint: two on one base, labelled as offline, and a promotion under way."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from llmops import pipeline
from llmops.core.version import Promotion
from llmops.pipeline import engines
from llmops.pipeline.engines import served, served_together
from llmops.pipeline.follow import Successor
from llmops.serving.llamacpp import LlamaCppEngine
from llmops.serving.roster import Served
from llmops.serving.serve import ServeSettings, running
from llmops.store.ledger import Ledger
from llmops.store.workspace import Workspace
from tests.unit.serving_samples import TOKEN
from tests.unit.tiny_life import made_up_rows, tiny_recipe, write_csv

AUTH = {"Authorization": f"Bearer {TOKEN}"}


@dataclass(frozen=True)
class Life:
    """A workspace with two tuned versions, of which the first answers as production."""

    at: Workspace
    rows: Path


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Life:
    folder = tmp_path_factory.mktemp("versions")
    at = Workspace.find(folder / "workspace", environ={})
    rows = write_csv(folder / "rows.csv", made_up_rows(80))
    for epochs in (2, 1):
        recipe = tiny_recipe(tiny_base, rows, epochs=epochs)
        run = pipeline.train(pipeline.plan(recipe, pipeline.prepare(recipe, at), at), at)
        pipeline.register(pipeline.evaluate(run.id, at).id, at)
    put_in_production(1, at)
    return Life(at, rows)


def put_in_production(number: int, at: Workspace) -> None:
    """The event alone, without the gate, which has tests of its own."""
    event = Promotion(name="tiny", version=number, because="a test", author="tester", at=at.world.clock())
    at.ledger.append(event, "tiny")


@pytest.fixture(scope="module")
def both(life: Life) -> Iterator[list[Served]]:
    served = served_together(["tiny:1", "tiny:2"], life.at)
    yield served
    for one in served:
        one.engine.close()


def test_two_versions_on_one_base_share_an_engine_and_only_one_is_production(both: list[Served]) -> None:
    first, second = both
    assert first.engine.pool is second.engine.pool and first.engine is not second.engine
    assert (first.names, second.names) == (("tiny:1", "tiny", "tiny@production"), ("tiny:2",))


def test_versions_that_are_served_in_other_weights_share_nothing(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "served_weights", lambda version, *_: "q8_0" if version.number == 1 else "f16")
    apart = served_together(["tiny:1", "tiny:2"], life.at)
    assert all(isinstance(one.engine, LlamaCppEngine) for one in apart)
    for one in apart:
        one.engine.close()


def test_labels_are_those_that_predict_gives_offline(both: list[Served], life: Life, tmp_path: Path) -> None:
    with running(both, Ledger(f"sqlite:///{tmp_path / 'l.db'}"), ServeSettings(token=TOKEN), life.at.world) as url:
        for one in both:
            pipeline.predict(one.version, life.rows, tmp_path / "out.csv", life.at)
            with (tmp_path / "out.csv").open(newline="") as file:
                offline = list(csv.DictReader(file))[:32]
            asked = {"model": one.version, "input": [row["text"] for row in offline]}
            data = httpx.post(f"{url}/v1/classify", json=asked, headers=AUTH, timeout=60).json()["data"]
            chances = [
                abs(said["probability"] - float(row["probability"])) for said, row in zip(data, offline, strict=True)
            ]
            assert max(chances) < 0.05  # llama.cpp multiplies in 8 bits
            same = [said["label"] == row["predicted_label"] for said, row in zip(data, offline, strict=True)]
            assert sum(same) >= 30


def test_a_promotion_takes_effect_while_the_endpoint_runs(life: Life, tmp_path: Path) -> None:
    refs = ["tiny@production"]
    opened = list(served_together(refs, life.at))
    first = opened[0]

    def load(ref: str) -> Served:
        opened.append(served(ref, life.at))
        return opened[-1]

    follow = Successor(refs, life.at, load)
    ledger = Ledger(f"sqlite:///{tmp_path / 'l.db'}")
    with running(opened[:1], ledger, ServeSettings(token=TOKEN), life.at.world, follow) as url:
        assert models(url) == ["tiny:1", "tiny", "tiny@production"]
        put_in_production(2, life.at)
        statuses, end = [], time.monotonic() + 20
        while models(url)[0] != "tiny:2" and time.monotonic() < end:
            body = {"model": "tiny", "messages": [{"role": "user", "content": "a warm day"}], "max_tokens": 2}
            statuses.append(httpx.post(f"{url}/v1/chat/completions", json=body, headers=AUTH, timeout=30).status_code)
        assert models(url) == ["tiny:2", "tiny", "tiny@production"]
        assert statuses and set(statuses) == {200}
        gone = httpx.post(f"{url}/v1/chat/completions", json={**body, "model": "tiny:1"}, headers=AUTH)
        assert gone.status_code == 404
    assert len(opened) == 2 and first.engine._host is None  # type: ignore[attr-defined]
    for one in opened:
        one.engine.close()


def models(url: str) -> list[str]:
    return [one["id"] for one in httpx.get(f"{url}/v1/models", headers=AUTH).json()["data"]]
