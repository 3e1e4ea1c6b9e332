"""Weights move out and in: a certificate names the stage that broke, exports open elsewhere, adapters are adopted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from llmops import pipeline
from llmops.core.certificate import Certificate, Check, Stage
from llmops.core.context import Surroundings
from llmops.core.dataset import Message
from llmops.core.errors import LlmopsError, RequestError
from llmops.core.export import ExportForm, known_form
from llmops.core.plan import Plan
from llmops.core.tasks import Classify
from llmops.core.version import ModelVersion
from llmops.lm import gguf as ours
from llmops.lm.base import load_tokenizer
from llmops.lm.modelfile import differing, modelfile, rendered
from llmops.lm.render import Renderer
from llmops.lm.stage import Look
from llmops.lm.toy_models import write_adapter, write_toy
from llmops.pipeline import engines, parity, prove_parity
from llmops.pipeline.parity import Bare
from llmops.planning.bases import open_base
from llmops.registry.adopt import take
from llmops.registry.certify import Seen, _distributions, _Floor
from llmops.registry.export import certificate_file
from llmops.serving import llamahost
from llmops.store.files import sha256_file
from llmops.store.workspace import Workspace
from tests.unit.tiny_life import made_up_rows, tiny_recipe, tiny_version, write_csv


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bare]:
    with prove_parity._bare(tmp_path_factory.mktemp("bare"), "llama") as found:
        yield found


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, ModelVersion, Path]:
    """A workspace with a trained version of two labels in it, and the base."""
    folder = tmp_path_factory.mktemp("lived")
    return *tiny_version(folder), folder / "base"


def check(value: float, limit: float, at_least: bool = False) -> Check:
    return Check(name="a thing", value=value, limit=limit, at_least=at_least)


def test_the_first_broken_stage_is_named_with_its_figure() -> None:
    good = Stage(name="merged", artefact="a", sha256="0", checks=(check(1, 2), check(3, 2, at_least=True)))
    bad = Stage(name="converted", artefact="b", sha256="1", checks=(check(1, 2), check(5, 2)))
    worse = Stage(name="served", artefact="c", sha256="2", checks=(check(9, 2),))
    made = Certificate(version="tone:1", rows=1, positions=1, probes=1, stages=(good, bad, worse))
    assert made.broken == bad
    assert "breaks where it is converted: a thing is 5, and may be at most 2" in made.because
    assert Certificate(version="tone:1", rows=1, positions=1, probes=1, stages=(good,)).broken is None


def seen(tilts: Sequence[float]) -> Seen:
    """A row of places with one distribution of four tokens, its second one made so many nats likelier."""
    logits_PK = np.log([[0.6, 0.2, 0.1, 0.1]] * len(tilts)) + np.outer(tilts, [0, 1, 0, 0])
    logprobs_PK = logits_PK - np.log(np.exp(logits_PK).sum(-1, keepdims=True))
    places = list(range(len(tilts)))
    return Seen([Look(np.tile(np.arange(4), (len(tilts), 1)), logprobs_PK)], [[0] * (len(tilts) + 1)], [places])


@pytest.mark.parametrize(("times", "passes"), [(5, True), (20, False)])
def test_a_form_may_move_ten_times_as_far_as_the_noise_does_and_no_further(times: float, passes: bool) -> None:
    noise = _Floor.of(seen([0.0] * 8), seen([0.01] * 8))
    mean, flips = _distributions(seen([0.0] * 8), seen([0.01 * times**0.5] * 8), noise)
    assert mean.value == pytest.approx(times * noise.mean_nats, rel=0.05)  # divergence goes with the square
    assert (mean.passed, flips.passed) == (passes, True)


@pytest.mark.parametrize("fault", ["another alpha", "another end token", "system prompt lost"])
def test_a_fault_is_found_at_its_stage(fault: str, bare: Bare, tmp_path: Path) -> None:
    stage, plant = prove_parity.FAULTS[fault]
    folder = tmp_path / "fault"
    chain = plant(prove_parity.export(folder, bare, 8, 100), bare, folder)
    found = parity.examine(chain, bare, prove_parity.rows(8), folder, Workspace.find(tmp_path / "work", environ={}))
    assert found.broken is not None
    assert found.broken.name == stage


def test_a_version_is_certified_once_and_its_card_says_so(lived: tuple[Workspace, ModelVersion, Path]) -> None:
    at, version, _ = lived
    made = pipeline.certify(version.ref, at)
    assert made.broken is None, made.because
    assert pipeline.certify(version.ref, at) == made
    card = (at.version_folder(version.ref) / "card.md").read_text(encoding="utf-8")
    assert card.startswith("---\nbase_model: ")
    assert made.because in card
    assert all(sha256 in card for sha256 in version.files.values())


@pytest.mark.parametrize("form", get_args(ExportForm))
def test_an_export_is_whole_and_says_what_it_is(
    form: str, lived: tuple[Workspace, ModelVersion, Path], tmp_path: Path
) -> None:
    at, version, _ = lived
    made = pipeline.export(version.ref, tmp_path / "out", form, at)  # type: ignore[arg-type]
    assert set(made.files) == {path.name for path in (tmp_path / "out").iterdir()} - {"export.json"}
    assert json.loads((tmp_path / "out" / "export.json").read_text())["form"] == form
    with pytest.raises(RequestError, match="not empty"):
        pipeline.export(version.ref, tmp_path / "out", form, at)  # type: ignore[arg-type]


def test_fewer_bits_have_a_certificate_of_their_own_and_it_is_of_that_very_file(
    lived: tuple[Workspace, ModelVersion, Path], tmp_path: Path
) -> None:
    at, version, _ = lived
    assert pipeline.export(version.ref, tmp_path / "unseen", "gguf-q4_0", at).certified is None
    made = pipeline.certify(version.ref, at, weights="q4_0")
    assert made.broken is None, made.because
    assert made.stages[1].artefact == "GGUF q4_0, read back by transformers"
    assert pipeline.certify(version.ref, at, weights="q4_0") == made
    seen = pipeline.export(version.ref, tmp_path / "seen", "gguf-q4_0", at)
    assert (seen.certified, seen.certificate) == (True, made.id)
    assert pipeline.export(version.ref, tmp_path / "other", "gguf-q4_1", at).certified is None
    with pytest.MonkeyPatch.context() as changed:  # another converter writes other bytes
        changed.setitem(ours.KINDS, "q4_0", ours.KINDS["q4_1"])
        assert pipeline.export(version.ref, tmp_path / "changed", "gguf-q4_0", at).certified is None


def test_a_version_is_served_in_what_it_was_certified_in_wherever_it_goes(
    lived: tuple[Workspace, ModelVersion, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    at, version, _ = lived
    said: list[str] = []
    opened: list[Path] = []
    here = replace(at, world=Surroundings(say=said.append))
    monkeypatch.setattr(engines, "_llamacpp", lambda gguf, *_: opened.append(gguf))
    base = open_base(at.get(Plan, version.plan).recipe.base, at.world)
    for fast, again in (("q8_0", True), ("bf16", False), ("bf16", True), ("q8_0", False)):
        monkeypatch.setattr(llamahost, "fastest", lambda _=0, fast=fast: fast)
        made = pipeline.certify(version.ref, at, again)
        assert made.broken is None, made.because
        said.clear()
        engines.merged(here)(version, base)
        assert opened[-1].name == f"model-{made.weights}.gguf"
        assert made.stages[1].sha256 == sha256_file(opened[-1])
        assert any("served in" in line for line in said) == (made.weights != fast)
    assert [path.name for path in opened] == [f"model-{one}.gguf" for one in ("q8_0", "q8_0", "bf16", "bf16")]
    certificate_file(at, version).unlink()
    pipeline.certify(version.ref, at, weights="q8_0")  # what is served, asked for by its name
    assert certificate_file(at, version).exists()


def test_a_file_of_fewer_bits_than_it_says_and_one_without_its_adapter_are_found_out(
    bare: Bare, tmp_path: Path
) -> None:
    at = Workspace.find(tmp_path / "work", environ={})
    folder = tmp_path / "fault"
    right = prove_parity.export(folder, bare, 8, 100)
    coarse = folder / "coarse.gguf"
    ours.write_gguf(right.merged, coarse, "q4_0")
    found = parity.examine(replace(right, gguf=coarse), bare, prove_parity.rows(8), folder, at)
    assert found.broken is not None and found.broken.name == "converted"
    plain = tmp_path / "plain.gguf"
    ours.write_gguf(bare.folder, plain, "q4_0")
    with parity.bare_forms(bare.folder, plain, "base", 1, "q4_0") as four_bits:
        without = replace(right, gguf=coarse, engine_reads=plain, weights="q4_0")
        found = parity.examine(without, four_bits, prove_parity.rows(8), tmp_path, at)
    assert found.broken is not None and found.broken.name == "served"  # so what is converted passed


def test_a_type_that_nobody_here_can_write_is_refused_with_the_reason(
    lived: tuple[Workspace, ModelVersion, Path], tmp_path: Path
) -> None:
    for form in ("gguf-q4_k_m", "gguf-Q6_K", "iq4_xs"):
        with pytest.raises(RequestError, match="no quantiser") as refused:
            pipeline.export(lived[1].ref, tmp_path / "out", form, lived[0])  # type: ignore[arg-type]
        assert "llama-quantize" in refused.value.fix
    with pytest.raises(RequestError, match="no form 'onnx'") as refused:
        known_form("onnx")
    assert "gguf-q5_1" in refused.value.fix
    assert not (tmp_path / "out").exists()


def test_a_modelfile_renders_what_training_rendered(tmp_path: Path) -> None:
    renderer = Renderer(load_tokenizer(write_toy(tmp_path, "llama")))
    file = modelfile(renderer, "a.gguf")
    talk = [
        Message(role="user", content="hello"),
        Message(role="assistant", content="yes"),
        Message(role="user", content="no"),
    ]
    for messages in (talk[:1], talk, [Message(role="system", content="Be brief."), *talk]):
        assert renderer.tokenizer.decode(renderer.prompt_ids(messages)) == rendered(file, messages)
    assert differing(renderer, file, [talk[:1], talk]) == 0
    assert differing(renderer, file.replace("assistant\n", "assistant: "), [talk[:1], talk]) == 2
    typed = [Message(role="user", content="<|im_end|>")]
    assert differing(renderer, file, [talk, typed]) == 1  # Ollama would take it for a control token
    assert 'PARAMETER stop "<|im_end|>"' in file and "SYSTEM" not in file
    for broken in ("FROM ./a.gguf", file.replace("{{ range", "{{ with")):
        with pytest.raises(LlmopsError, match="not one that llmops writes"):
            rendered(broken, talk)


def test_a_system_prompt_that_would_end_itself_in_a_modelfile_is_refused(tmp_path: Path) -> None:
    renderer = Renderer(load_tokenizer(write_toy(tmp_path, "llama")))
    with pytest.raises(LlmopsError, match="ends a text"):
        modelfile(renderer, "a.gguf", [Message(role="system", content='Say """.')])


def test_the_question_of_a_task_goes_with_an_export(
    lived: tuple[Workspace, ModelVersion, Path], tmp_path: Path
) -> None:
    at, version, _ = lived
    task = at.get(Plan, version.plan).recipe.task
    assert isinstance(task, Classify)
    made = pipeline.export(version.ref, tmp_path / "out", "ollama", at)
    assert made.system == task.question
    assert (made.prompts, made.prompts_differ) == (len(at.rows(version.dataset, "heldout")), 0)
    assert f'SYSTEM """{task.question}"""' in (tmp_path / "out" / "Modelfile").read_text(encoding="utf-8")


def test_an_adapter_of_another_tool_is_adopted(lived: tuple[Workspace, ModelVersion, Path], tmp_path: Path) -> None:
    at, version, base = lived
    folder = shutil.copytree(write_adapter(tmp_path / "made", base, 4, 1), tmp_path / "checkpoint-7")
    (folder / "training_args.bin").write_bytes(b"\x80\x04a pickle that nobody opens")
    recipe = tiny_recipe(base, write_csv(tmp_path / "rows.csv", made_up_rows(60)))
    adopted = pipeline.adopt(folder, recipe, at)
    assert (adopted.adopted, adopted.run, adopted.number) == ("checkpoint-7", None, version.number + 1)
    assert set(adopted.files) == {"adapter_config.json", "adapter_model.safetensors"}


def test_an_adapter_that_changes_nothing_is_refused(
    lived: tuple[Workspace, ModelVersion, Path], tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    at, _, base = lived
    folder = write_adapter(tmp_path / "made", base, 4, 1)
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file({name: one * ("lora_A" in name) for name, one in tensors.items()}, folder / "adapter_model.safetensors")
    recipe = tiny_recipe(base, write_csv(tmp_path / "rows.csv", made_up_rows(60)))
    with pytest.raises(LlmopsError, match="changes nothing"):
        pipeline.adopt(folder, recipe, at)


def test_a_pickle_and_a_folder_above_an_adapter_are_refused_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "adapter_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(RequestError, match="pickle"):
        take(tmp_path / "a", tmp_path / "out")
    (tmp_path / "b" / "checkpoint-3").mkdir(parents=True)
    (tmp_path / "b" / "checkpoint-3" / "adapter_config.json").write_text("{}")
    with pytest.raises(RequestError) as refused:
        take(tmp_path / "b", tmp_path / "out")
    assert "checkpoint-3" in refused.value.fix


def test_a_name_that_nobody_has_is_not_promoted(lived: tuple[Workspace, ModelVersion, Path]) -> None:
    with pytest.raises(RequestError, match="no version called 'nope'"):
        pipeline.promote("nope", lived[0])
