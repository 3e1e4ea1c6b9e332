"""Which engine and which weights answer for a version, by the machine, the readers and the certificates."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from llmops import pipeline
from llmops.core.certificate import Check
from llmops.core.context import Surroundings
from llmops.core.errors import RequestError
from llmops.core.export import EngineName, Weights
from llmops.core.version import ModelVersion
from llmops.pipeline import engines, use
from llmops.registry import names
from llmops.registry.export import MERGED, certificate_file
from llmops.registry.register import EXPORTS
from llmops.serving import llamahost, serve, vllm
from llmops.serving.vllm import VLLM, VllmEngine
from llmops.store.files import write_json
from llmops.store.workspace import Workspace
from tests.unit.fake_vllm import stand_in
from tests.unit.tiny_life import tiny_version


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A python that has the stand-in for vLLM."""
    return stand_in(tmp_path_factory.mktemp("python"))


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, ModelVersion]:
    return tiny_version(tmp_path_factory.mktemp("life"))


def test_readers_and_machine_choose_the_engine_and_its_weights(
    lived: tuple[Workspace, ModelVersion], python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at, version = lived
    monkeypatch.setattr(vllm, "find_spec", lambda _: None)
    monkeypatch.delenv(VLLM, raising=False)
    few, many = engines.MANY - 1, engines.MANY

    def picked(names: Sequence[str], readers: int) -> EngineName:
        name, why = engines.pick(names, at, readers)
        assert name in why
        return name

    assert picked(["smollm2-135m-q4"], many) == "llama.cpp" and VLLM in engines.pick(["smollm2-135m-q4"], at, many)[1]
    monkeypatch.setenv(VLLM, str(python))
    assert picked(["smollm2-135m-q4"], many) == "vLLM"
    assert picked(["smollm2-135m-q4"], few) == "llama.cpp"
    assert picked(["smollm2-135m-q4", version.ref], many) == "llama.cpp"
    assert picked([version.ref], many) == "llama.cpp" and "certif" in engines.pick([version.ref], at, many)[1]
    made = pipeline.certify(version.ref, at, engine="vLLM")
    assert made.broken is None, made.because
    assert [stage.name for stage in made.stages] == ["merged", "served"] and made.engine == "vLLM"
    assert picked([version.ref], many) == "vLLM"
    served = engines.served(version.ref, at, engines.vllm_engine(at))
    assert isinstance(served.engine, VllmEngine) and served.labels is not None
    served.engine.close()

    monkeypatch.setenv("FAKE_VLLM_FAULT", "halved")
    broken = pipeline.certify(version.ref, at, again=True, engine="vLLM")
    assert broken.broken is not None and broken.broken.name == "served", broken.because
    assert picked([version.ref], many) == "llama.cpp" and "breaks where" in engines.pick([version.ref], at, many)[1]
    said: list[str] = []
    here = replace(at, world=Surroundings(say=said.append))
    monkeypatch.setattr(vllm, "VllmEngine", SimpleNamespace)
    with suppress(TypeError):  # which takes no folder
        engines.served(version.ref, here, engines.vllm_engine(here))
    assert any("breaks where" in line for line in said)


def test_no_certificate_is_made_of_what_is_not_served(lived: tuple[Workspace, ModelVersion]) -> None:
    at, version = lived
    with pytest.raises(RequestError, match="no GGUF"):
        pipeline.certify(version.ref, at, weights="q8_0", engine="vLLM")
    with pytest.raises(RequestError, match="the adapter itself"):
        pipeline.certify(version.ref, at, engine="transformers")


def test_vllm_that_is_not_there_is_missed_before_anything_is_merged(
    tmp_path: Path, lived: tuple[Workspace, ModelVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    at, version = lived
    monkeypatch.setattr(vllm, "find_spec", lambda _: None)
    monkeypatch.delenv(VLLM, raising=False)
    merged = at.version_folder(version.ref) / EXPORTS / MERGED
    shutil.rmtree(merged, ignore_errors=True)
    with pytest.raises(RequestError, match="no vLLM"):
        pipeline.certify(version.ref, at, again=True, engine="vLLM")
    assert not merged.exists()


def test_a_cheap_row_is_answered_by_neither(
    lived: tuple[Workspace, ModelVersion], python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at, version = lived
    monkeypatch.setenv(VLLM, str(python))
    monkeypatch.setattr(names, "resolve", lambda *_: version.replace(kind="tfidf"))
    engine, why = engines.pick([version.ref], at, engines.MANY)
    assert engine == "llama.cpp" and "vLLM" not in why


@pytest.mark.parametrize(("engine", "taken"), [(None, "llama.cpp"), ("vLLM", "vLLM")])
def test_who_takes_over_on_vllm_has_a_certificate_of_its_own_unless_it_was_named(
    lived: tuple[Workspace, ModelVersion],
    python: Path,
    monkeypatch: pytest.MonkeyPatch,
    engine: EngineName | None,
    taken: EngineName,
) -> None:
    at, version = lived
    certificate_file(at, version, engine="vLLM").unlink(missing_ok=True)
    monkeypatch.setenv(VLLM, str(python))
    first = lambda names, *more: ("vLLM", "") if names == ["first"] else engines.pick(names, *more)  # noqa: E731
    monkeypatch.setattr(use, "pick", first)
    monkeypatch.setattr(use, "served_together", lambda *_: [])
    monkeypatch.setattr(use, "vllm_engine", lambda _: "vLLM")
    monkeypatch.setattr(use, "merged", lambda *_, **__: "llama.cpp")
    loaded: list[str] = []

    def load(ref: str, at: Workspace, make: str) -> SimpleNamespace:
        loaded.append(make)
        return SimpleNamespace(engine=SimpleNamespace(close=lambda: None))

    monkeypatch.setattr(use, "served", load)
    monkeypatch.setattr(use, "Successor", lambda _, __, load: load)
    monkeypatch.setattr(serve, "serve", lambda *given: given[-1](version.ref))
    pipeline.serve(["first"], at, serve.ServeSettings(), engine=engine, readers=engines.MANY)
    assert loaded == [taken]


def test_a_lone_reader_has_smaller_weights_where_they_are_certified(
    lived: tuple[Workspace, ModelVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    at, version = lived
    first = pipeline.certify(version.ref, at)
    monkeypatch.setattr(llamahost, "native_server", lambda: Path("/llama-server"))
    monkeypatch.setattr(llamahost, "_processor", lambda: [llamahost.PAIRS])
    assert [llamahost.fastest(readers) for readers in (1, 2, 3, 64)] == ["q8_0", "q8_0", "bf16", "bf16"]

    def kept(weights: Weights, passes: bool) -> None:
        broken = first.stages[0].replace(checks=(Check(name="x", value=1.0, limit=0.0),))
        stages = first.stages if passes else (broken, *first.stages[1:])
        write_json(certificate_file(at, version, weights), first.replace(weights=weights, stages=stages).to_json())

    write_json(certificate_file(at, version), first.replace(weights="bf16").to_json())
    assert engines.served_weights(version, at, 1) == "bf16"
    kept("q8_0", passes=False)
    assert engines.served_weights(version, at, 1) == "bf16"
    kept("q8_0", passes=True)
    assert engines.served_weights(version, at, 1) == "q8_0"
    assert engines.served_weights(version, at, 8) == "bf16"
