"""Other forms of a version's weights: GGUF for our own engine, kept in `exports/`, and folders for other programs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from llmops.core.certificate import Certificate, StageName
from llmops.core.dataset import Message
from llmops.core.errors import RequestError
from llmops.core.export import HOLDS, EngineName, Export, ExportForm, Weights
from llmops.core.version import ModelVersion
from llmops.registry.register import CERTIFICATE, EXPORTS, verify
from llmops.store.files import building, read_json, sha256_file, sha256_folder, stored, write_json
from llmops.store.workspace import Workspace

MODELFILE, MERGED = "Modelfile", "merged"
ADAPTER = ("adapter_config.json", "adapter_model.safetensors")


class Source(NamedTuple):
    """What is written: a version, its folder, the folder of its base, what stood before every conversation, and some
    held-out prompts for a template to render."""

    version: ModelVersion
    folder: Path
    base: Path
    opening: tuple[Message, ...] = ()
    prompts: tuple[tuple[Message, ...], ...] = ()


def version_gguf(workspace: Workspace, version: ModelVersion, base: Path, weights: Weights) -> Path:
    """The version merged with its base (a folder) as GGUF. Raises `LlmopsError` where its files were changed."""
    verify(workspace, version)
    folder = workspace.version_folder(version.ref)
    path = folder / EXPORTS / f"model-{weights}.gguf"
    if not path.exists():
        workspace.world.say(f"writing {version.ref} as GGUF {weights}, once")
        path.parent.mkdir(exist_ok=True)
        _convert(base, folder, path, weights)
    return path


def version_merged(workspace: Workspace, version: ModelVersion, base: Path) -> Path:
    """The version merged with its base (a folder) as safetensors. Raises `LlmopsError` where its files were changed."""
    from llmops.lm.adapters import merge

    verify(workspace, version)
    folder = workspace.version_folder(version.ref) / EXPORTS / MERGED
    if not folder.exists():
        workspace.world.say(f"merging {version.ref} with its base, once")
        with building(folder) as draft:
            merge(base, workspace.version_folder(version.ref), draft)
    return folder


def export(workspace: Workspace, source: Source, form: ExportForm, out: Path) -> Export:
    """Write `source` as `form` into the folder `out`, which appears whole or not at all, with its `export.json`.

    Raises `RequestError` where `out` holds something, or the version is none of tuned weights.
    """
    version = source.version
    if version.kind != "tuned":
        raise RequestError(f"{version.ref} is a {version.kind} row, which only llmops reads", "serve it as it is")
    if out.exists():
        if not out.is_dir() or any(out.iterdir()):
            raise RequestError(f"{out} is there already, and not empty", "name a new folder with --out")
        out.rmdir()
    verify(workspace, version)
    certificate = certificate_of(workspace, version, HOLDS.get(form))
    with building(out) as draft:
        how = WRITERS[form](source, draft)
        differ = _prompts_differ(source, draft / MODELFILE) if form == "ollama" else 0
        made = Export(
            version=version.ref,
            form=form,
            folder=str(out.resolve()),
            base=version.base,
            base_sha256=version.base_sha256,
            files=sha256_folder(draft),
            certificate=certificate.id if certificate else None,
            certified=_certified(certificate, form, draft) and not differ,
            prompts=len(source.prompts) if form == "ollama" else None,
            prompts_differ=differ,
            system="\n\n".join(message.content for message in source.opening) or None,
            how=how,
        )
        write_json(draft / "export.json", made.to_json())
    return made


def certificate_file(
    workspace: Workspace, version: ModelVersion, weights: Weights | None = None, engine: EngineName = "llama.cpp"
) -> Path:
    """Where a certificate is kept: what promotion asks for beside the version's files, others by what they are of."""
    folder = workspace.version_folder(version.ref)
    if engine != "llama.cpp":
        return folder / EXPORTS / f"certificate-{engine}.json"
    return folder / EXPORTS / f"certificate-{weights}.json" if weights else folder / CERTIFICATE


def certificate_of(
    workspace: Workspace, version: ModelVersion, weights: Weights | None = None, engine: EngineName = "llama.cpp"
) -> Certificate | None:
    """The parity certificate of a version as it is served, or with these weights; None where none was made."""
    first = certificate_file(workspace, version, None, engine)
    for kept in (first, certificate_file(workspace, version, weights, engine)):
        found = stored(Certificate, read_json(kept), kept) if kept.exists() else None
        if found is not None and weights in (None, found.weights):
            return found
    return None


def _certified(certificate: Certificate | None, form: ExportForm, out: Path) -> bool | None:
    """Whether a certificate has this form, and everything before it, unbroken. None where it is of another file."""
    if certificate is None or form == "adapter":
        return None
    name: StageName = "merged" if form == "safetensors" else "converted"
    place = [stage.name for stage in certificate.stages].index(name)
    own = {sha256_file(path) for path in out.glob("*.gguf")}
    if own and certificate.stages[place].sha256 not in own:
        return None
    return all(stage.passed for stage in certificate.stages[: place + 1])


def _convert(base: Path, tuned: Path, out: Path, kind: Weights) -> None:
    from llmops.lm.adapters import merge
    from llmops.lm.gguf import write_gguf

    with tempfile.TemporaryDirectory(prefix="llmops-merge-") as scratch:
        merge(base, tuned, Path(scratch))
        write_gguf(Path(scratch), out, kind)


def _prompts_differ(source: Source, modelfile: Path) -> int:
    from llmops.lm.base import load_tokenizer, template_of
    from llmops.lm.modelfile import differing
    from llmops.lm.render import Renderer

    tokenizer = load_tokenizer(source.base)
    renderer = Renderer(tokenizer, template_of(tokenizer))
    return differing(renderer, modelfile.read_text(encoding="utf-8"), source.prompts)


def _adapter(source: Source, out: Path) -> str:
    if not (source.folder / ADAPTER[0]).is_file():
        raise RequestError(f"{source.version.ref} was tuned whole and has no adapter", "export it --as safetensors")
    for name in ADAPTER:
        shutil.copyfile(source.folder / name, out / name)
    return f"vllm serve BASE --enable-lora --lora-modules {source.version.name}=FOLDER"


def _safetensors(source: Source, out: Path) -> str:
    from llmops.lm.adapters import merge

    merge(source.base, source.folder, out)
    return "AutoModelForCausalLM.from_pretrained(FOLDER)"


def _gguf(kind: Weights) -> Callable[[Source, Path], str]:
    def write(source: Source, out: Path) -> str:
        name = f"{source.version.name}-{source.version.number}-{kind}.gguf"
        _convert(source.base, source.folder, out / name, kind)
        return f"llama-server -m FOLDER/{name} --jinja"

    return write


def _ollama(source: Source, out: Path) -> str:
    """A GGUF and a Modelfile: greedy, as evaluated, the system prompt and the end of a turn as in training."""
    from llmops.lm.base import load_tokenizer, template_of
    from llmops.lm.modelfile import modelfile
    from llmops.lm.render import Renderer

    name = f"{source.version.name}-{source.version.number}-q8_0.gguf"
    tokenizer = load_tokenizer(source.base)
    text = modelfile(Renderer(tokenizer, template_of(tokenizer)), name, source.opening)
    _convert(source.base, source.folder, out / name, "q8_0")
    (out / MODELFILE).write_text(text, encoding="utf-8")
    return f"ollama create {source.version.name} -f FOLDER/Modelfile"


WRITERS: dict[ExportForm, Callable[[Source, Path], str]] = {
    "adapter": _adapter,
    "safetensors": _safetensors,
    **{form: _gguf(weights) for form, weights in HOLDS.items()},
    "ollama": _ollama,
}
