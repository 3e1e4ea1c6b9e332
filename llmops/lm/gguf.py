"""`write_gguf`: a Hugging Face folder as one GGUF file: q8_0 or bf16, which llama.cpp serves, f16 or fewer bits.

Written with the `gguf` package's writer. Two families are known, in the table `FAMILIES`; each says how its numbers,
its weights and its tokens are spelt in GGUF (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf.quants import quantize

from llmops.core.errors import LlmopsError
from llmops.core.export import Weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

Json = dict[str, Any]
# What matrices can become, and what a file that is mostly so calls itself: the types that `gguf` has a quantiser for.
KINDS: dict[Weights, tuple[Type, gguf.LlamaFileType]] = {
    "f16": (Type.F16, gguf.LlamaFileType.MOSTLY_F16),
    "bf16": (Type.BF16, gguf.LlamaFileType.MOSTLY_BF16),
    "q8_0": (Type.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
    "q5_1": (Type.Q5_1, gguf.LlamaFileType.MOSTLY_Q5_1),
    "q5_0": (Type.Q5_0, gguf.LlamaFileType.MOSTLY_Q5_0),
    "q4_1": (Type.Q4_1, gguf.LlamaFileType.MOSTLY_Q4_1),
    "q4_0": (Type.Q4_0, gguf.LlamaFileType.MOSTLY_Q4_0),
}
HOW_ELSE = "Answer from the PyTorch weights instead (`llmops chat`), or use a base of a known family."


def write_gguf(model_folder: Path, out: Path, kind: Weights = "q8_0") -> None:
    """Write the model in `model_folder` (config.json, *.safetensors, tokenizer.json) to `out` as GGUF.

    Every tensor becomes its `weight_type`. The file appears whole or not at all, and the same folder gives the same
    bytes. Raises `LlmopsError` for a family that is not in `FAMILIES`, for scaled rotary positions, and for a tokenizer
    whose splitting rule GGUF has no name for.
    """
    config: Json = _read_json(model_folder / "config.json")
    architecture = (config.get("architectures") or ["none"])[0]
    if architecture not in FAMILIES:
        raise LlmopsError(f"GGUF export knows {', '.join(FAMILIES)}, not {architecture}.", HOW_ELSE)
    family = FAMILIES[architecture]
    tokenizer: Json = _read_json(model_folder / "tokenizer.json")
    with whole_file(out, family) as writer:
        writer.add_type(gguf.GGUFType.MODEL)
        writer.add_file_type(KINDS[kind][1])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        _add_numbers(writer, config)
        family.add_numbers(writer, config)
        family.add_tokens(writer, tokenizer, int(config["vocab_size"]))
        _add_special_tokens(writer, model_folder, int(config["vocab_size"]))
        _add_tensors(writer, family, model_folder, config, kind)


def weight_type(name: str, shape: Sequence[int], kind: Weights) -> Type:
    """What a tensor becomes, by its name in Hugging Face: norms float32, matrices `kind`, float16 where blocks of 32
    do not fit a row. Embeddings stay in q8_0 at least, since every token passes them twice where they are tied."""
    if len(shape) == 1:
        return Type.F32
    wanted = KINDS[kind][0]
    block = gguf.GGML_QUANT_SIZES[wanted][0]
    if block == 1:
        return wanted
    if shape[-1] % block:
        return Type.F16
    return Type.Q8_0 if "embed_tokens" in name or "lm_head" in name else wanted


@contextmanager
def whole_file(out: Path, family: Family) -> Iterator[gguf.GGUFWriter]:
    """A writer of the family's kind. What it was given is in `out` at the end, on disk; after an error nothing is."""
    part = out.with_name(f"{out.name}.part")
    writer = gguf.GGUFWriter(part, gguf.MODEL_ARCH_NAMES[family.arch])
    try:
        yield writer
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        part.replace(out)
    finally:
        writer.close()
        part.unlink(missing_ok=True)


def _read_json(path: Path) -> Json:
    if not path.is_file():
        raise LlmopsError(f"{path.parent} has no {path.name}.", "Give a folder that save_pretrained wrote.")
    loaded: Json = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def _rotary(config: Json) -> Json:
    """The rotary parameters of the global layers, wherever this version of transformers keeps them."""
    found: Json = config.get("rope_parameters") or config.get("rope_scaling") or {}
    found = found.get("full_attention", found)
    kind = found.get("rope_type", "default")
    if kind != "default":
        raise LlmopsError(f"GGUF export does not know rotary positions of type {kind!r}.", HOW_ELSE)
    return {"rope_theta": config.get("rope_theta", 10000.0), **found}


def _add_numbers(writer: gguf.GGUFWriter, config: Json) -> None:
    """What every family states alike: sizes, heads, epsilon, base of the rotary positions."""
    heads = int(config["num_attention_heads"])
    writer.add_block_count(int(config["num_hidden_layers"]))
    writer.add_context_length(int(config["max_position_embeddings"]))
    writer.add_embedding_length(int(config["hidden_size"]))
    writer.add_feed_forward_length(int(config["intermediate_size"]))
    writer.add_head_count(heads)
    writer.add_head_count_kv(int(config.get("num_key_value_heads") or heads))
    writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))
    writer.add_rope_freq_base(float(_rotary(config)["rope_theta"]))
    writer.add_vocab_size(int(config["vocab_size"]))


def _head_size(config: Json) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def _add_llama_numbers(writer: gguf.GGUFWriter, config: Json) -> None:
    writer.add_rope_dimension_count(_head_size(config))
    writer.add_key_length(_head_size(config))
    writer.add_value_length(_head_size(config))


def _add_gemma3_numbers(writer: gguf.GGUFWriter, config: Json) -> None:
    writer.add_key_length(_head_size(config))
    writer.add_value_length(_head_size(config))
    writer.add_sliding_window(int(config["sliding_window"]))


def _llama_tensor(name: str, value: NDArray[np.float32], config: Json) -> NDArray[np.float32]:
    """Reorder the rows of a query or key matrix: GGUF pairs neighbours where Hugging Face pairs halves of a head."""
    heads = int(config["num_attention_heads"])
    if ".k_proj." in name:
        heads = int(config.get("num_key_value_heads") or heads)
    elif ".q_proj." not in name:
        return value
    halves = value.reshape(heads, 2, value.shape[0] // heads // 2, *value.shape[1:])
    return halves.swapaxes(1, 2).reshape(value.shape)


def _gemma3_tensor(name: str, value: NDArray[np.float32], config: Json) -> NDArray[np.float32]:
    """Add the 1 that Gemma's norms leave out of the stored weight."""
    return value + np.float32(1) if name.endswith("norm.weight") else value


def _add_tensors(writer: gguf.GGUFWriter, family: Family, folder: Path, config: Json, kind: Weights) -> None:
    names = gguf.get_tensor_name_map(family.arch, int(config["num_hidden_layers"]))
    tied = bool(config.get("tie_word_embeddings", family.tied_by_default))
    for name, value in _tensors(folder):
        if tied and name == "lm_head.weight":
            continue
        in_gguf = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if in_gguf is None:
            raise LlmopsError(f"GGUF export does not know the tensor {name}.", HOW_ELSE)
        ready = family.tensor(name, value, config)
        type_ = weight_type(name, ready.shape, kind)
        writer.add_tensor(in_gguf, quantize(ready, type_), raw_dtype=type_)


def _tensors(folder: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Every tensor of the folder's safetensors files in float32, by name: one at a time, so memory stays small."""
    import torch
    from safetensors import safe_open

    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        raise LlmopsError(f"{folder} has no model*.safetensors.", "Merge the adapter into its base first.")
    for file in files:
        with safe_open(file, framework="pt") as opened:
            for name in sorted(opened.keys()):
                yield name, opened.get_tensor(name).to(torch.float32).contiguous().numpy()


def _token_table(tokenizer: Json, vocab_size: int) -> tuple[list[str], list[int]]:
    """Every token and its GGUF type, by id. Ids that the model has and the tokenizer lacks become unused tokens."""
    tokens = [f"[PAD{number}]" for number in range(vocab_size)]
    types = [int(gguf.TokenType.UNUSED)] * vocab_size
    added = {token["content"]: token for token in tokenizer.get("added_tokens", ())}
    ids = {**tokenizer["model"]["vocab"], **{content: token["id"] for content, token in added.items()}}
    if max(ids.values()) >= vocab_size:
        raise LlmopsError(
            f"The tokenizer has an id {max(ids.values())}, but the model embeds only {vocab_size} tokens.",
            "Use the tokenizer that belongs to this model.",
        )
    for text, number in ids.items():
        tokens[number] = text
        if text in added:
            special = added[text].get("special", False)
            types[number] = int(gguf.TokenType.CONTROL if special else gguf.TokenType.USER_DEFINED)
        else:
            types[number] = int(gguf.TokenType.NORMAL)
    return tokens, types


def _add_byte_level_tokens(writer: gguf.GGUFWriter, tokenizer: Json, vocab_size: int) -> None:
    """A byte-level BPE: tokens, types, and the name of the rule that splits text before merging."""
    tokens, types = _token_table(tokenizer, vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_splitting_rule(tokenizer))
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_add_space_prefix(False)


def _splitting_rule(tokenizer: Json) -> str:
    """The name that llama.cpp gives to the tokenizer's pre-tokenizer. Raises `LlmopsError` for one without a name."""
    rule = tokenizer.get("pre_tokenizer") or {}
    steps = rule.get("pretokenizers", [rule])
    kinds = tuple(step.get("type") for step in steps)
    last = steps[-1]
    plain = last.get("type") == "ByteLevel" and last.get("use_regex", True) and not last.get("add_prefix_space", True)
    if _changes_text(tokenizer.get("normalizer")):
        raise LlmopsError("GGUF has no place for what this tokenizer's normalizer does to a text.", HOW_ELSE)
    if tokenizer["model"].get("type") == "BPE" and plain:
        if kinds == ("ByteLevel",):
            return "gpt-2"
        if kinds == ("Digits", "ByteLevel") and steps[0].get("individual_digits"):
            return "smollm"
    raise LlmopsError(f"GGUF has no name for this tokenizer's splitting rule ({kinds}).", HOW_ELSE)


def _changes_text(normalizer: Json | None) -> bool:
    """Whether a normalizer does anything. Out of a GGUF transformers 5.17 makes a sequence of none, 5.23 none."""
    if normalizer and normalizer.get("type") == "Sequence":
        return any(_changes_text(step) for step in normalizer.get("normalizers", ()))
    return bool(normalizer)


def _add_sentencepiece_tokens(writer: gguf.GGUFWriter, tokenizer: Json, vocab_size: int) -> None:
    """A BPE with byte fallback, as Gemma has it: a token's score is minus the rank of the first merge that makes it."""
    tokens, types = _token_table(tokenizer, vocab_size)
    rank = {text: number for number, text in enumerate(tokens)}
    scores = [-1000.0] * vocab_size
    for number, merge in enumerate(tokenizer["model"]["merges"]):
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        made = rank[left + right]
        scores[made] = max(scores[made], float(-number)) if scores[made] != -1000.0 else float(-number)
    for byte in range(256):
        types[rank[f"<0x{byte:02X}>"]] = int(gguf.TokenType.BYTE)
    unknown = tokenizer["model"].get("unk_token")
    if unknown is not None:
        types[rank[unknown]] = int(gguf.TokenType.UNKNOWN)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_add_space_prefix(False)


def _add_special_tokens(writer: gguf.GGUFWriter, folder: Path, vocab_size: int) -> None:
    """Merges, the ids of bos, eos and so on, whether bos is put before a text, and the chat template."""
    vocabulary = gguf.SpecialVocab(folder, load_merges=True, n_vocab=vocab_size)
    vocabulary.add_special_token.setdefault("bos", False)
    vocabulary.add_to_gguf(writer, quiet=True)


@dataclass(frozen=True)
class Family:
    """How one architecture is spelt in GGUF."""

    arch: gguf.MODEL_ARCH
    add_numbers: Callable[[gguf.GGUFWriter, Json], None]
    add_tokens: Callable[[gguf.GGUFWriter, Json, int], None]
    tensor: Callable[[str, NDArray[np.float32], Json], NDArray[np.float32]]
    tied_by_default: bool


FAMILIES = {
    "LlamaForCausalLM": Family(
        gguf.MODEL_ARCH.LLAMA, _add_llama_numbers, _add_byte_level_tokens, _llama_tensor, tied_by_default=False
    ),
    "Gemma3ForCausalLM": Family(
        gguf.MODEL_ARCH.GEMMA3, _add_gemma3_numbers, _add_sentencepiece_tokens, _gemma3_tensor, tied_by_default=True
    ),
}
