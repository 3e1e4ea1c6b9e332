"""`certify`: the parity certificate of a version, made from its files and stored beside it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from llmops.core.certificate import Certificate
from llmops.core.dataset import Message, Row
from llmops.core.errors import RequestError
from llmops.core.export import EngineName, Weights
from llmops.core.method import PromptTuning
from llmops.core.plan import Plan
from llmops.core.serving import Sampling
from llmops.core.value import digest
from llmops.core.version import ModelVersion
from llmops.store.files import building, sha256_file, sha256_folder, write_json
from llmops.store.workspace import Workspace

if TYPE_CHECKING:
    from llmops.lm.render import Renderer
    from llmops.lm.stage import LocalSpeaker, Speaker
    from llmops.registry.certify import Question
    from llmops.serving.gateway import PromptRenderer

ROWS = 32
SERVED_PLACES = 2  # places of a reply at which the engine is asked: a request each
CONTEXT_TOKENS = 2048
TEXT_TOKENS = 24  # of running text, behind its first half


@dataclass(frozen=True)
class Chain:
    """Every form of one version. `template` and `opening` are those of training; `renderer` is the gateway's.

    `engine_reads` is a GGUF file, which `gguf` is then too, or the merged folder, which vLLM reads.
    """

    version: str
    tuned: Path
    template: str
    opening: tuple[Message, ...]
    merged: Path
    gguf: Path | None
    engine_reads: Path
    renderer: PromptRenderer
    served_opening: tuple[Message, ...]
    sampling: Sampling = field(default_factory=Sampling)
    weights: Weights = "q8_0"


@dataclass(frozen=True)
class Bare:
    """The base without an adapter in every form: it is known to be right, and gives the noise floors."""

    folder: Path
    plain: LocalSpeaker
    rounded: LocalSpeaker
    served: Speaker
    threads: int


def certify(
    ref: str, at: Workspace, again: bool = False, weights: Weights | None = None, engine: EngineName = "llama.cpp"
) -> Certificate:
    """The certificate of a version (`tone`, `tone:2`), made where there is none yet, or `again`. Stored beside it.

    Without `weights` it is the one that promotion asks for, of those that this machine answers fastest in; an endpoint
    serves the version in them from then on. Others are exported. vLLM reads the merged weights and rounds them to
    bfloat16 itself; an endpoint for many readers asks for that certificate. Raises `RequestError` for a cheap version,
    which is served by the code that measured it, for a tuned prompt, which no engine can hold, and without vLLM.
    """
    from llmops.data.mapping import ask
    from llmops.lm.base import load_tokenizer
    from llmops.lm.render import Renderer
    from llmops.planning.bases import base_gguf, open_base
    from llmops.registry.card import write_card
    from llmops.registry.export import certificate_file, certificate_of, version_gguf, version_merged
    from llmops.registry.names import resolve
    from llmops.serving.llamahost import fastest

    _refuse_impossible(engine, weights)
    version = resolve(at, ref)
    plan, folder = at.get(Plan, version.plan), at.version_folder(version.ref)
    made = certificate_of(at, version, weights, engine)
    if made is not None and not again:
        return made
    _refuse_formless(version, plan, engine)
    base = open_base(plan.recipe.base, at.world)
    first = certificate_of(at, version)
    kept = certificate_file(
        at, version, None if weights == (first.weights if first else fastest()) else weights, engine
    )
    opening = ask(plan.recipe.task, "")[:-1]
    with tempfile.TemporaryDirectory(prefix="llmops-parity-") as scratch:
        if engine == "vLLM":
            weights, gguf, bare_reads = "bf16", None, base.folder
            merged = reads = version_merged(at, version, base.folder)
        else:
            weights = weights or fastest()
            gguf = reads = version_gguf(at, version, base.folder, weights)
            bare_reads = base_gguf(base, at.world, weights)
            merged = merge_into(Path(scratch) / "merged", base.folder, folder)
        chain = Chain(
            version=version.ref,
            tuned=folder,
            template=plan.knobs.template,
            opening=opening,
            merged=merged,
            gguf=gguf,
            engine_reads=reads,
            renderer=Renderer(load_tokenizer(base.folder), plan.knobs.template),
            served_opening=opening,
            weights=weights,
        )
        with bare_forms(base.folder, bare_reads, chain.template, plan.knobs.threads, weights) as bare:
            rows = at.rows(version.dataset, "heldout")[:ROWS]
            found = examine(chain, bare, rows, Path(scratch), at)
    write_json(kept, found.to_json())
    write_card(at, version)
    return found


def _refuse_impossible(engine: EngineName, weights: Weights | None) -> None:
    if engine == "transformers":
        raise RequestError("transformers serves the adapter itself, in no other form", "certify llama.cpp or vLLM")
    if engine == "vLLM" and weights is not None:
        raise RequestError("vLLM reads the merged weights, and no GGUF file", "leave the form out, or take llama.cpp")


def _refuse_formless(version: ModelVersion, plan: Plan, engine: EngineName) -> None:
    from llmops.serving.vllm import needed_python

    if version.kind != "tuned" or isinstance(plan.recipe.method, PromptTuning):
        what = "a cheap row" if version.kind != "tuned" else "a tuned prompt"
        raise RequestError(f"{version.ref} is {what}: it has no other form", "certify a version with tuned weights")
    if engine == "vLLM":
        needed_python()  # missed before anything is merged


def merge_into(out: Path, base: Path, tuned: Path) -> Path:
    """`out`, with the base and what was tuned in it as one plain model."""
    from llmops.lm.adapters import merge

    out.mkdir()
    merge(base, tuned, out)
    return out


@contextmanager
def bare_forms(
    folder: Path, engine_reads: Path, template: str, threads: int, weights: Weights = "q8_0"
) -> Iterator[Bare]:
    """The base in every form, its engine running."""
    from llmops.lm.base import load_tokenizer
    from llmops.lm.render import Renderer
    from llmops.lm.stage import rounded

    plain, coarse = (_local(folder, None, template, threads) for _ in range(2))
    with _engine(engine_reads, Renderer(load_tokenizer(folder), template), (), (), Sampling(), threads) as served:
        yield Bare(folder, plain, rounded(coarse, weights), served, threads)


def examine(chain: Chain, bare: Bare, rows: Sequence[Row], scratch: Path, at: Workspace) -> Certificate:
    """The certificate of a chain, asked `rows`. `scratch` takes the GGUF read back."""
    from llmops.lm.stage import merged_and_back
    from llmops.registry.certify import Form
    from llmops.registry.certify import certify as against

    trained = _local(bare.folder, chain.tuned, chain.template, bare.threads)
    merged = _local(chain.merged, None, chain.template, bare.threads)
    back = merged_and_back(bare.folder, chain.tuned, trained.model.renderer)
    questions = [_question(row, trained.model.renderer) for row in rows]
    asked = chain.renderer, chain.opening, chain.served_opening, chain.sampling
    forms = [Form("merged", "merged safetensors, float32", _sha256(chain.merged), merged, (bare.plain, back))]
    if chain.gguf is not None:
        read = _local(_read_back(chain.gguf, scratch), None, chain.template, bare.threads)
        what = f"GGUF {chain.weights}, read back by transformers"
        forms.append(Form("converted", what, _sha256(chain.gguf), read, (bare.plain, bare.rounded)))
    engine: EngineName = "vLLM" if chain.engine_reads.is_dir() else "llama.cpp"
    with _engine(chain.engine_reads, *asked, bare.threads) as served:
        what, artefact = f"{engine} and gateway", _sha256(chain.engine_reads)
        forms.append(Form("served", what, artefact, served, (bare.plain, bare.served), SERVED_PLACES))
        watched = at.world.track(forms, f"certifying {chain.version}", len(forms))
        found = against(chain.version, trained, bare.plain, watched, questions, paired_interval)
    return found.replace(weights=chain.weights, engine=engine)


def _sha256(artefact: Path) -> str:
    """Of a file, or of a folder's files."""
    return digest(sha256_folder(artefact)) if artefact.is_dir() else sha256_file(artefact)


def _question(row: Row, renderer: Renderer) -> Question:
    from llmops.registry.certify import Question

    if row.messages:
        return Question(tuple(row.prompt), tuple(renderer.reply_ids(row.reply)))
    half = len(row.text) // 2
    return Question((), tuple(renderer.content_ids(row.text[half:])[:TEXT_TOKENS]), row.text[:half])


def paired_interval(changes_N: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the mean of paired differences: exact for right and wrong, else by bootstrap."""
    from llmops.experiments.tests import bootstrap, mcnemar

    if set(np.unique(changes_N)) <= {-1.0, 0.0, 1.0}:
        found = mcnemar(len(changes_N), int((changes_N > 0).sum()), int((changes_N < 0).sum()))
    else:
        found = bootstrap(changes_N, np.ones(len(changes_N)))
    return found.low, found.high


def _local(folder: Path, tuned: Path | None, template: str, threads: int) -> LocalSpeaker:
    from llmops.lm.model import LocalModel
    from llmops.lm.stage import LocalSpeaker

    return LocalSpeaker(LocalModel.open(folder, tuned, "float32", "cpu", template, threads))


def _read_back(gguf: Path, scratch: Path) -> Path:
    from llmops.lm.base import convert_gguf

    folder = scratch / "read-back"
    with building(folder) as draft:
        for _ in convert_gguf(gguf, draft):
            pass
    return folder


@contextmanager
def _engine(
    reads: Path,
    renderer: PromptRenderer,
    opening: tuple[Message, ...],
    served_opening: tuple[Message, ...],
    sampling: Sampling,
    threads: int,
) -> Iterator[Speaker]:
    """llama.cpp on a GGUF file or vLLM on a folder, and the gateway's rendering.

    `opening` is what stood before every conversation in training.
    """
    from llmops.serving.gateway import Served
    from llmops.serving.llamacpp import LlamaCppEngine
    from llmops.serving.probe import EngineSpeaker
    from llmops.serving.vllm import VllmEngine, needed_python

    engine: LlamaCppEngine | VllmEngine
    if reads.is_dir():
        engine = VllmEngine(reads, needed_python(), CONTEXT_TOKENS, 1)
    else:
        engine = LlamaCppEngine(reads, threads, CONTEXT_TOKENS, 1)
    try:
        yield EngineSpeaker(Served("certified", (), engine, renderer, served_opening), engine, opening, sampling)
    finally:
        engine.close()
