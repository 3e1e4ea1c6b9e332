"""`certify`: the parity certificate of a version, made from its files and stored beside it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llmops.core.certificate import Certificate
from llmops.core.dataset import Message, Row
from llmops.core.errors import RequestError
from llmops.core.plan import Plan
from llmops.core.value import digest
from llmops.lm.stage import LocalSpeaker, Row as Ids
from llmops.registry.parity import Form, Interval, Question
from llmops.registry.parity import certify as examine_stages
from llmops.store.files import building, read_json, sha256_file, sha256_folder, stored, write_json
from llmops.store.workspace import Workspace

CERTIFICATE = "certificate.json"
ROWS = 32
SERVED_PLACES = 2  # places of a reply at which the engine is asked: a request each
CONTEXT_TOKENS = 2048


@dataclass(frozen=True)
class Chain:
    """Every form of one version: the base and what was tuned, what was merged, the GGUF, and the GGUF of the base.

    `template` and `opening` are those of training; `engine_reads` is the folder whose tokenizer the gateway uses.
    """

    version: str
    base: Path
    tuned: Path
    template: str
    opening: tuple[Message, ...]
    merged: Path
    gguf: Path
    base_gguf: Path
    threads: int = 2


def certificate_of(ref: str, at: Workspace, again: bool = False) -> Certificate:
    """The certificate of a version (`tone`, `tone:2`), made where there is none yet, or `again`. Stored beside it.

    Raises `RequestError` for a cheap version, which is served by the code that measured it, and for a tuned prompt,
    which no engine can hold.
    """
    from llmops.core.method import PromptTuning
    from llmops.data.mapping import ask
    from llmops.planning.bases import base_gguf, open_base
    from llmops.registry.export import version_gguf
    from llmops.registry.names import resolve

    version = resolve(at, ref)
    plan, folder = at.get(Plan, version.plan), at.version_folder(version.ref)
    kept = folder / CERTIFICATE
    if kept.exists() and not again:
        return stored(Certificate, read_json(kept), kept)
    if version.kind != "tuned" or isinstance(plan.recipe.method, PromptTuning):
        what = "a cheap row" if version.kind != "tuned" else "a tuned prompt"
        raise RequestError(f"{version.ref} is {what}: no form of it is served but its own", "certify a tuned version")
    base = open_base(plan.recipe.base, at.world)
    with tempfile.TemporaryDirectory(prefix="llmops-parity-") as scratch:
        chain = Chain(
            version=version.ref,
            base=base.folder,
            tuned=folder,
            template=plan.knobs.template,
            opening=ask(plan.recipe.task, "")[:-1],
            merged=merge_into(Path(scratch) / "merged", base.folder, folder),
            gguf=version_gguf(at, version, base.folder),
            base_gguf=base_gguf(base, at.world),
            threads=plan.knobs.threads,
        )
        found = examine(chain, at.rows(version.dataset, "heldout")[:ROWS], Path(scratch), at)
    write_json(kept, found.to_json())
    return found


def merge_into(out: Path, base: Path, tuned: Path) -> Path:
    from llmops.lm.adapters import merge

    out.mkdir()
    merge(base, tuned, out)
    return out


def examine(chain: Chain, rows: Sequence[Row], scratch: Path, at: Workspace) -> Certificate:
    """The certificate of a chain, asked `rows`. `scratch` takes the GGUF read back."""
    from llmops.lm.stage import merged_and_back, rounded_to_q8
    from llmops.serving.probe import EngineSpeaker

    with ExitStack() as closing:
        trained, merged = _local(chain.base, chain.tuned, chain), _local(chain.merged, None, chain)
        bare, read_back = _local(chain.base, None, chain), _local(_read_back(chain.gguf, scratch), None, chain)
        merged_back = merged_and_back(chain.base, chain.tuned, trained.model.renderer)
        served = closing.enter_context(_engine(chain.gguf, chain))
        served_bare = closing.enter_context(_engine(chain.base_gguf, chain))
        rounded = rounded_to_q8(_local(chain.base, None, chain))
        sums = digest(sha256_folder(chain.merged)), sha256_file(chain.gguf)
        forms = [
            Form("merged", "merged safetensors, float32", sums[0], merged, (bare, merged_back)),
            Form("converted", "GGUF q8_0, read back by transformers", sums[1], read_back, (bare, rounded)),
            Form("served", "llama.cpp behind the gateway", sums[1], served, (bare, served_bare), SERVED_PLACES),
        ]
        questions = [_question(row, trained) for row in rows if row.messages]
        watched = list(at.world.track(forms, "certifying", len(forms)))
        return examine_stages(chain.version, trained, bare, watched, questions, paired_interval)
    raise AssertionError("ExitStack never swallows")


def paired_interval(changes_N: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the mean of paired differences: exact for right and wrong, else by bootstrap."""
    from llmops.experiments.compare import bootstrap, mcnemar

    if set(np.unique(changes_N)) <= {-1.0, 0.0, 1.0}:
        found = mcnemar(len(changes_N), int((changes_N > 0).sum()), int((changes_N < 0).sum()))
    else:
        found = bootstrap(changes_N, np.ones(len(changes_N)))
    return found.low, found.high


def _local(folder: Path, tuned: Path | None, chain: Chain) -> LocalSpeaker:
    from llmops.lm.model import LocalModel

    return LocalSpeaker(LocalModel.open(folder, tuned, "float32", "cpu", chain.template, chain.threads))


def _read_back(gguf: Path, scratch: Path) -> Path:
    from llmops.lm.base import convert_gguf

    folder = scratch / "read-back"
    with building(folder) as draft:
        for _ in convert_gguf(gguf, draft):
            pass
    return folder


@contextmanager
def _engine(gguf: Path, chain: Chain) -> Iterator[EngineSpeaker]:
    from llmops.lm.base import load_tokenizer
    from llmops.lm.render import Renderer
    from llmops.serving.engine import LlamaCppEngine
    from llmops.serving.gateway import Served
    from llmops.serving.probe import EngineSpeaker

    engine = LlamaCppEngine(gguf, chain.threads, CONTEXT_TOKENS, 1)
    try:
        renderer = Renderer(load_tokenizer(chain.base), chain.template)
        yield EngineSpeaker(Served(chain.version, (), engine, renderer, chain.opening), engine)
    finally:
        engine.close()


def _question(row: Row, trained: LocalSpeaker) -> Question:
    return Question(tuple(row.prompt), tuple(trained.model.renderer.reply_ids(row.reply)))
