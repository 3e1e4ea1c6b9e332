"""`llmops prove parity`: twelve ways in which a good model is served badly, and exports that are as they should be."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmops.core.certificate import Certificate, StageName
from llmops.core.dataset import Message, Row
from llmops.core.proof import CheckResult, Size
from llmops.core.serving import Sampling
from llmops.lm.toy_models import FAMILIES, write_adapter, write_toy
from llmops.pipeline import parity
from llmops.pipeline.parity import Bare, Chain
from llmops.store.workspace import Workspace

OPENING = (Message(role="system", content="Be brief and kind."),)
ROWS = 16
RANKS = (2, 4, 8, 16)


def checks(size: Size, at: Workspace) -> Iterator[CheckResult]:
    """Faults found and named at the right stage, and false alarms of clean exports over both families."""
    clean = 20 if size == "soak" else 4
    with tempfile.TemporaryDirectory(prefix="llmops-parity-") as scratch, ExitStack() as closing:
        bares = {family: closing.enter_context(_bare(Path(scratch), family)) for family in FAMILIES}
        alarms = []
        for number in range(clean):
            family = FAMILIES[number % 2]
            folder = Path(scratch) / f"clean-{number}"
            found = _examined(export(folder, bares[family], RANKS[number // 2 % 4], number), bares[family], folder, at)
            alarms += [f"{family} {number}: {found.because}"] if found.broken else []
        named: dict[str, tuple[StageName, Certificate]] = {}
        for name, (stage, plant) in FAULTS.items():
            folder = Path(scratch) / name.replace(" ", "-")
            chain = plant(export(folder, bares["llama"], 8, 100), bares["llama"], folder)
            named[name] = stage, _examined(chain, bares["llama"], folder, at)
    missed = [name for name, (_, found) in named.items() if not found.broken]
    misplaced = [
        f"{name} ({found.broken.name})"
        for name, (stage, found) in named.items()
        if found.broken and found.broken.name != stage
    ]
    yield CheckResult(
        name="parity: faults between training and serving",
        found=len(named) - len(missed),
        of=len(named),
        false_alarms=len(alarms),
        clean=clean,
        goal=f"{len(named)}/{len(named)}, 0 false alarms of {clean}",
        passed=not missed and not alarms,
        note=" ".join([*(f"missed: {name}." for name in missed), *alarms]),
    )
    right = len(named) - len(missed) - len(misplaced)
    yield CheckResult(
        name="parity: the stage that is named is the one that broke",
        found=right,
        of=len(named),
        goal=f"at least 11 of {len(named)}",
        passed=right >= 11,
        note=", ".join(misplaced),
    )


def _bare(scratch: Path, family: str) -> Any:
    from llmops.lm.gguf import write_gguf

    folder = write_toy(scratch / family, family)
    write_gguf(folder, scratch / f"{family}.gguf")
    return parity.bare_forms(folder, scratch / f"{family}.gguf", "base", threads=1)


def export(folder: Path, bare: Bare, rank: int, seed: int) -> Chain:
    """An adapter with an effect on `bare`, and every form of it, made by the code that makes them for a version."""
    folder.mkdir()
    tuned = write_adapter(folder / "tuned", bare.folder, rank, seed)
    return forms_of(
        Chain("toy:1", tuned, "base", OPENING, folder, folder, folder, bare.plain.model.renderer, OPENING), bare
    )


def forms_of(chain: Chain, bare: Bare) -> Chain:
    """The chain with its adapter merged and converted."""
    merged = parity.merge_into(chain.tuned.parent / "merged", bare.folder, chain.tuned)
    return with_gguf(replace(chain, merged=merged))


def with_gguf(chain: Chain, name: str = "model.gguf") -> Chain:
    """The chain with what is merged converted, and that served."""
    from llmops.lm.gguf import write_gguf

    out = chain.tuned.parent / name
    write_gguf(chain.merged, out)
    return replace(chain, gguf=out, engine_reads=out)


def rows(number: int) -> list[Row]:
    """Held-out rows: a question, and a label."""
    found = []
    for index in range(number):
        text, label = (
            f"a {('kind', 'rude', 'warm', 'cold')[index % 4]} day, number {index * 7}",
            ("good", "bad")[index % 2],
        )
        messages = (*OPENING, Message(role="user", content=text), Message(role="assistant", content=label))
        row = {"id": f"r{index}", "text": text, "label": label, "messages": messages, "group": str(index)}
        found.append(Row.model_validate({**row, "source": "made up", "line": index + 1}))
    return found


def _examined(chain: Chain, bare: Bare, folder: Path, at: Workspace) -> Certificate:
    return parity.examine(chain, bare, rows(ROWS), folder, at)


# The faults. Each gets a chain that is right, and gives one that is not.


def lose_opening(chain: Chain, bare: Bare, folder: Path) -> Chain:
    return replace(chain, served_opening=())


class _Other:
    """A renderer that changes what another one made."""

    def __init__(self, renderer: Any, change: Callable[[list[int]], list[int]]) -> None:
        self.end_ids, self.content_ids, self.text_ids = renderer.end_ids, renderer.content_ids, renderer.text_ids
        self._renderer, self._change = renderer, change

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        return self._change(self._renderer.prompt_ids(messages))


def double_bos(chain: Chain, bare: Bare, folder: Path) -> Chain:
    bos = bare.plain.model.renderer.tokenizer.bos_token_id
    return replace(chain, renderer=_Other(chain.renderer, lambda ids: [bos, *ids]))


def truncate_left(chain: Chain, bare: Bare, folder: Path) -> Chain:
    return replace(chain, renderer=_Other(chain.renderer, lambda ids: ids[-48:]))


def change_template(chain: Chain, bare: Bare, folder: Path) -> Chain:
    _rewrite_tokenizer(
        chain.merged,
        lambda tokenizer: setattr(
            tokenizer, "chat_template", tokenizer.chat_template.replace("assistant\n", "assistant: ")
        ),
    )
    return with_gguf(chain)


def change_end(chain: Chain, bare: Bare, folder: Path) -> Chain:
    broken = shutil.copytree(chain.merged, folder / "other-end")
    _rewrite_tokenizer(broken, lambda tokenizer: setattr(tokenizer, "eos_token", "<bos>"))
    return replace(with_gguf(replace(chain, merged=broken)), merged=chain.merged)


def _rewrite_tokenizer(folder: Path, change: Callable[[Any], None]) -> None:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    change(tokenizer)
    tokenizer.save_pretrained(folder)


def serve_base(chain: Chain, bare: Bare, folder: Path) -> Chain:
    return replace(chain, engine_reads=bare.folder.with_suffix(".gguf"))


def double_alpha(chain: Chain, bare: Bare, folder: Path) -> Chain:
    tuned = shutil.copytree(chain.tuned, folder / "other-alpha")
    config = json.loads((tuned / "adapter_config.json").read_text(encoding="utf-8"))
    config["lora_alpha"] *= 2
    (tuned / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return _merged_from(chain, bare, tuned)


def transpose(chain: Chain, bare: Bare, folder: Path) -> Chain:
    from safetensors.numpy import load_file, save_file

    tuned = shutil.copytree(chain.tuned, folder / "transposed")
    file = tuned / "adapter_model.safetensors"
    tensors = load_file(file)
    for name in [name for name in tensors if "q_proj.lora_A" in name]:
        other = name.replace("lora_A", "lora_B")
        tensors[name], tensors[other] = tensors[other].T.copy(), tensors[name].T.copy()
    save_file(tensors, file)
    return _merged_from(chain, bare, tuned)


def other_revision(chain: Chain, bare: Bare, folder: Path) -> Chain:
    base = shutil.copytree(bare.folder, folder / "other-base")
    _change_weights(base, lambda weight: weight * 1.01)
    shutil.rmtree(chain.merged)
    return with_gguf(replace(chain, merged=parity.merge_into(chain.merged, base, chain.tuned)))


def merge_in_four_bits(chain: Chain, bare: Bare, folder: Path) -> Chain:
    import gguf
    from gguf.quants import dequantize, quantize

    q4 = gguf.GGMLQuantizationType.Q4_0
    _change_weights(chain.merged, lambda weight: dequantize(quantize(weight, q4), q4))
    return with_gguf(chain)


def _change_weights(folder: Path, change: Callable[[Any], Any]) -> None:
    """Change every matrix of the first block."""
    from safetensors.numpy import load_file, save_file

    file = folder / "model.safetensors"
    tensors = load_file(file)
    changed = {name: change(one) if one.ndim == 2 and ".layers.0." in name else one for name, one in tensors.items()}
    save_file(changed, file, {"format": "pt"})


def _merged_from(chain: Chain, bare: Bare, tuned: Path) -> Chain:
    shutil.rmtree(chain.merged)
    return with_gguf(replace(chain, merged=parity.merge_into(chain.merged, bare.folder, tuned)))


def swap_tokens(chain: Chain, bare: Bare, folder: Path) -> Chain:
    file = chain.merged / "tokenizer.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    vocabulary = data["model"]["vocab"]
    vocabulary["a"], vocabulary["d"] = vocabulary["d"], vocabulary["a"]
    file.write_text(json.dumps(data), encoding="utf-8")
    return with_gguf(chain)


def draw_answers(chain: Chain, bare: Bare, folder: Path) -> Chain:
    return replace(chain, sampling=Sampling(temperature=1.0))


Fault = Callable[[Chain, Bare, Path], Chain]
FAULTS: dict[str, tuple[StageName, Fault]] = {
    "system prompt lost": ("served", lose_opening),
    "beginning of sequence twice": ("served", double_bos),
    "another template": ("merged", change_template),
    "another end token": ("converted", change_end),
    "adapter not applied": ("served", serve_base),
    "another alpha": ("merged", double_alpha),
    "a factor transposed": ("merged", transpose),
    "merged in four bits": ("merged", merge_in_four_bits),
    "another revision of the base": ("merged", other_revision),
    "another tokenizer": ("merged", swap_tokens),
    "prompts cut on the left": ("served", truncate_left),
    "answers drawn, not greedy": ("served", draw_answers),
}
