"""Which engine answers for whom: a version behind llama.cpp, or several on one base."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llmops.core.export import EngineName, Weights
from llmops.core.plan import Plan
from llmops.core.serving import READERS
from llmops.core.tasks import Classify
from llmops.core.version import ModelVersion
from llmops.pipeline.subjects import STATE_ONLY
from llmops.store.workspace import Workspace

if TYPE_CHECKING:
    from llmops.planning.bases import Base
    from llmops.serving.engine import Engine
    from llmops.serving.llamacpp import LlamaCppEngine
    from llmops.serving.roster import Labels, Served
    from llmops.serving.upstream import Upstream

CONTEXT_TOKENS = 2048
# From so many readers at once on vLLM is the faster one; it answers 64 at once in a tenth of the memory that is free.
MANY, VLLM_SLOTS, KEYS_SHARE = 32, 64, 0.1
ADAPTER = "adapter-f32.gguf"
# Makes the engine of a version that speaks, or of its base by itself.
MakeEngine = Callable[["ModelVersion | None", "Base"], "Engine"]


def pick(names: Sequence[str], at: Workspace, readers: int) -> tuple[EngineName, str]:
    """Which engine so many readers at once are answered fastest by on this machine, and why.

    SmolLM2-135M on two cores, tokens a second behind the gateway: at 32 readers vLLM 361, llama.cpp in bf16 300; at 64
    432 and some 370; at 8 the two are level. vLLM takes up to a minute to load.
    """
    from llmops.registry.export import certificate_of
    from llmops.registry.names import resolve
    from llmops.serving.llamahost import about
    from llmops.serving.vllm import VLLM, vllm_python
    from llmops.store.catalogue import BASES

    if readers < MANY or len(names) > 1:
        return "llama.cpp", about(readers)
    version = None if names[0] in BASES else resolve(at, names[0])
    if version is not None and version.kind != "tuned":  # which neither answers for
        return "llama.cpp", about(readers)
    if vllm_python() is None:
        return "llama.cpp", f"{about(readers)}; vLLM, which {VLLM} may name the python of, answers {readers} faster"
    if version is not None:
        made = certificate_of(at, version, engine="vLLM")
        if made is None or made.broken:
            how = (
                f"nobody has looked whether it is there what was trained: 'llmops certify {version.ref} --engine vLLM'"
            )
            why = made.because if made else how
            return "llama.cpp", f"llama.cpp, though vLLM answers {readers} faster: {why}"
    return (
        "vLLM",
        f"vLLM, which answers {readers} readers at once faster than llama.cpp; it takes up to a minute to load",
    )


def served(ref: str, at: Workspace, make: MakeEngine | None = None, answers: int | None = None) -> Served:
    """A version, or a base by its name, behind the engine that answers for it. Close the engine when done.

    llama.cpp holds room for `answers` at once; left out, for as many as this machine's free memory allows.
    """
    from llmops.lm.base import load_tokenizer, template_of
    from llmops.lm.render import Renderer
    from llmops.lm.tools import tool_renderer
    from llmops.planning.bases import open_base
    from llmops.registry.names import resolve
    from llmops.serving.roster import Served
    from llmops.store.catalogue import BASES

    make = make or merged(at, answers)
    if ref in BASES:
        base = open_base(ref, at.world)
        engine = make(None, base)
        tokenizer = load_tokenizer(base.folder)
        renderer = Renderer(tokenizer, template_of(tokenizer))
        return Served(ref, (), engine, renderer, tools=tool_renderer(renderer))
    version = resolve(at, ref)
    plan = at.get(Plan, version.plan)
    if version.kind != "tuned":
        return _cheap(version, plan, ref, at)
    return _tuned(version, plan, ref, at, make(version, open_base(plan.recipe.base, at.world)))


def merged(at: Workspace, answers: int | None = None, readers: int = READERS) -> MakeEngine:
    """llama.cpp on the version merged with its base, in what so many `readers` at once are answered fastest in."""
    from llmops.planning.bases import base_gguf
    from llmops.registry.export import version_gguf
    from llmops.serving.llamahost import fastest

    def make(version: ModelVersion | None, base: Base) -> Engine:
        if version is None:
            return _llamacpp(base_gguf(base, at.world, fastest(readers)), base, answers)
        weights, best = served_weights(version, at, readers), fastest(readers)
        if weights != best:
            at.world.say(
                f"{version.ref} is served in {weights}, as it was certified; this machine answers {readers} readers "
                f"faster in {best}, which 'llmops certify {version.ref} --as gguf-{best}' would allow"
            )
        return _llamacpp(version_gguf(at, version, base.folder, weights), base, answers)

    return make


def served_weights(version: ModelVersion, at: Workspace, readers: int = READERS) -> Weights:
    """What an endpoint serves a version in: what this machine answers fastest in, among what it was certified in.

    Without a certificate, the fastest of all.
    """
    from llmops.registry.export import certificate_of
    from llmops.serving.llamahost import fastest

    best = fastest(readers)
    first, wanted = certificate_of(at, version), certificate_of(at, version, best)
    return best if first is None or (wanted is not None and not wanted.broken) else first.weights


def _llamacpp(gguf: Path, base: Base, answers: int | None = None, adapters: Sequence[Path] = ()) -> LlamaCppEngine:
    """llama.cpp on a file in the shape of `base`."""
    from llmops.planning.slots import slots
    from llmops.serving.llamacpp import LlamaCppEngine

    room = answers or slots(base.shape, CONTEXT_TOKENS)
    return LlamaCppEngine(gguf, len(os.sched_getaffinity(0)), CONTEXT_TOKENS, room, adapters)


def vllm_engine(at: Workspace) -> MakeEngine:
    """vLLM on the version merged with its base, in bfloat16. Raises `RequestError` where there is no vLLM."""
    from llmops.lm.memory import free_bytes
    from llmops.registry.export import certificate_of, version_merged
    from llmops.serving.vllm import VllmEngine, needed_python

    python = needed_python()

    def make(version: ModelVersion | None, base: Base) -> Engine:
        folder = base.folder if version is None else version_merged(at, version, base.folder)
        made = None if version is None else certificate_of(at, version, engine="vLLM")
        if version is not None and made is None:
            at.world.say(
                f"nobody has looked whether {version.ref} is in vLLM what was trained: "
                f"'llmops certify {version.ref} --engine vLLM' does"
            )
        if made is not None and made.broken:
            at.world.say(f"in vLLM it is not what was trained: {made.because}")
        at.world.say("loading vLLM, up to a minute")
        gib = max(1, int(KEYS_SHARE * free_bytes() / 2**30))
        return VllmEngine(folder, python, CONTEXT_TOKENS, VLLM_SLOTS, gib)

    return make


def transformers_engine(at: Workspace) -> MakeEngine:
    """PyTorch and transformers on the adapter itself, one answer at a time: what was trained, to look at."""
    from llmops.lm.steps import token_steps
    from llmops.planning.bases import open_bare, open_model
    from llmops.serving.stepping import SteppingEngine

    def make(version: ModelVersion | None, base: Base) -> Engine:
        if version is None:
            model = open_bare(base.record.name, at.world)
        else:
            model = open_model(at.get(Plan, version.plan), at.version_folder(version.ref), at.world, "float32")
        return SteppingEngine(
            "transformers",
            lambda ids, sampling: token_steps(model, ids, sampling),
            model.renderer.decode,
            CONTEXT_TOKENS,
        )

    return make


def upstream_engine(upstream: Upstream) -> MakeEngine:
    """Another server, which holds the weights itself."""
    from llmops.serving.upstream import UpstreamEngine

    return lambda version, base: UpstreamEngine(upstream, context_tokens=CONTEXT_TOKENS)


def served_together(
    refs: Sequence[str], at: Workspace, make: MakeEngine | None = None, readers: int = READERS
) -> list[Served]:
    """Several names served at once. LoRA versions of one base share an engine: its weights once, an adapter each.

    They share where they are served in the same weights (`served_weights`). Nothing is shared where `make` makes the
    engines.
    """
    from llmops.planning.bases import open_base
    from llmops.registry.names import resolve
    from llmops.store.catalogue import BASES

    versions = {ref: resolve(at, ref) for ref in refs if ref not in BASES}
    groups: dict[tuple[str, Weights], list[str]] = {}
    for ref, version in versions.items():
        if make is None and _is_adapter(version, at):
            groups.setdefault((version.base_sha256, served_weights(version, at, readers)), []).append(ref)
    found: dict[str, Served] = {}
    for (_, weights), group in groups.items():
        distinct = {versions[ref].ref: versions[ref] for ref in group}
        if len(distinct) < 2:
            continue
        base = open_base(at.get(Plan, next(iter(distinct.values())).plan).recipe.base, at.world)
        engine = _with_adapters(list(distinct.values()), base, weights, at)
        for number, version in enumerate(distinct.values()):
            for ref in (ref for ref in group if versions[ref].ref == version.ref):
                found[ref] = _tuned(version, at.get(Plan, version.plan), ref, at, engine.adapter(number))
    make = make or merged(at, readers=readers)
    return [found[ref] if ref in found else served(ref, at, make) for ref in refs]


def _is_adapter(version: ModelVersion, at: Workspace) -> bool:
    from llmops.lm.gguf_adapter import is_plain_lora

    return version.kind == "tuned" and is_plain_lora(at.version_folder(version.ref))


def _with_adapters(versions: Sequence[ModelVersion], base: Base, weights: Weights, at: Workspace) -> LlamaCppEngine:
    """One engine on the base in these weights, with an adapter for each version."""
    from llmops.lm.gguf_adapter import write_lora_gguf
    from llmops.planning.bases import base_gguf
    from llmops.registry.register import EXPORTS, verify

    paths = []
    for version in versions:
        verify(at, version)
        folder = at.version_folder(version.ref)
        path = folder / EXPORTS / ADAPTER
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            write_lora_gguf(base.folder, folder, path)
        paths.append(path)
    at.world.say(f"{', '.join(version.ref for version in versions)} share one engine on {base.record.name}")
    return _llamacpp(base_gguf(base, at.world, weights), base, adapters=paths)


def aliases(version: ModelVersion, ref: str, at: Workspace) -> tuple[str, ...]:
    """The names besides its own that a version answers to: the model's where it is production or was asked for so."""
    from llmops.registry.names import answering

    champion = answering(at, version.name)
    if champion is not None and champion.version == version.number:
        return (version.name, f"{version.name}@production")
    if "@" in ref:
        return (ref,)
    return (version.name,) if ref == version.name else ()


def _tuned(version: ModelVersion, plan: Plan, ref: str, at: Workspace, engine: Engine) -> Served:
    from llmops.data.mapping import ask
    from llmops.lm.base import load_tokenizer
    from llmops.lm.render import Renderer
    from llmops.lm.tools import tool_renderer
    from llmops.planning.bases import open_base
    from llmops.serving.classify import LabelReader
    from llmops.serving.roster import Served

    task = plan.recipe.task
    base = open_base(plan.recipe.base, at.world)
    renderer = Renderer(load_tokenizer(base.folder), plan.knobs.template)
    labels: Labels | None = None
    if isinstance(task, Classify) and engine.chooses:
        labels = LabelReader(engine, renderer, task.labels, lambda text: ask(task, text))
    opening = ask(task, "")[:-1]
    tools = tool_renderer(renderer)
    return Served(
        version.ref,
        aliases(version, ref, at),
        engine,
        renderer,
        opening,
        labels,
        tools=tools,
        temperature=version.temperature or 1.0,
        abstain_below=version.abstention.threshold if version.abstention else None,
    )


def _cheap(version: ModelVersion, plan: Plan, ref: str, at: Workspace) -> Served:
    """A cheap version: everything it needs is loaded once, here."""
    from llmops.data.mapping import ask
    from llmops.experiments.baselines import load as load_baseline
    from llmops.experiments.raters import load_rater
    from llmops.planning.bases import open_model
    from llmops.registry.register import verify
    from llmops.serving.classify import CheapLabels
    from llmops.serving.engine import ClassifierEngine, RaterEngine
    from llmops.serving.roster import Served

    verify(at, version)
    task, folder, names = plan.recipe.task, at.version_folder(version.ref), aliases(version, ref, at)
    opening = ask(task, "")[:-1]
    if not isinstance(task, Classify):
        rater = load_rater(folder)
        reader = open_model(plan, None, at.world) if rater.needs_probe else None

        def number(text: str) -> float:
            return float(rater.numbers([text], reader.probe([ask(task, text)], STATE_ONLY) if reader else None)[0])

        return Served(version.ref, names, RaterEngine(number), None, opening)
    baseline = load_baseline(folder)
    model = open_model(plan, None, at.world) if baseline.needs_probe else None

    def chances(text: str) -> Sequence[float]:
        probe = model.probe([baseline.asked(ask(task, text))], task.labels) if model else None
        return [float(one) for one in baseline.probabilities([text], probe)[0]]

    engine = ClassifierEngine(task.labels, chances)
    return Served(
        version.ref,
        names,
        engine,
        None,
        opening,
        CheapLabels(engine),
        temperature=version.temperature or 1.0,
        abstain_below=version.abstention.threshold if version.abstention else None,
    )
