"""Toy models of both families that GGUF knows, for proofs and tests: random, two layers, answers of byte soup."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from llmops.lm.base import load_weights, quiet_libraries
from llmops.lm.toy import TEMPLATE

FAMILIES = ("llama", "gemma3")
TURNS = ("<|im_start|>", "<|im_end|>")
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}


def write_toy(folder: Path, family: str, seed: int = 0, spread: float = 0.1) -> Path:
    """Write a random model of a family, `llama` or `gemma3`, with its tokenizer. The same seed gives the same model."""
    tokenizer: Any = byte_tokenizer(("<bos>", *TURNS), TEMPLATE, "th") if family == "llama" else _pieces()
    tokenizer.save_pretrained(folder)
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": None}
    make = random_llama if family == "llama" else _random_gemma3
    make(seed, **ends, vocab_size=384, initializer_range=spread).save_pretrained(folder)
    return folder


def random_llama(seed: int, **sizes: Any) -> Any:
    """A Llama of two layers; `sizes` are fields of its configuration. The same seed gives the same weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return _drawn(seed, lambda: LlamaForCausalLM(LlamaConfig(**{**SIZES, **sizes})))


def _random_gemma3(seed: int, **sizes: Any) -> Any:
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    kinds = ["sliding_attention"] * SIZES["num_hidden_layers"]  # every sixth layer looks at everything
    more = {"head_dim": 256, "sliding_window": 64, "query_pre_attn_scalar": 256, "layer_types": kinds}
    return _drawn(seed, lambda: Gemma3ForCausalLM(Gemma3TextConfig(**{**SIZES, **sizes, **more})))


def _drawn(seed: int, make: Callable[[], Any]) -> Any:
    import torch

    quiet_libraries()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def write_adapter(out: Path, base: Path, rank: int, seed: int) -> Path:
    """A LoRA folder as PEFT writes it, its factors random and large enough to matter."""
    import torch
    from peft import LoraConfig, get_peft_model

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        config = LoraConfig(
            task_type="CAUSAL_LM", r=rank, lora_alpha=2 * rank, target_modules=["q_proj", "v_proj", "down_proj"]
        )
        model = get_peft_model(load_weights(base), config)
        for name, tensor in model.named_parameters():
            if "lora_B" in name:
                tensor.normal_(0, 0.5 / rank**0.5)
        model.save_pretrained(out, save_embedding_layers=False)
    (out / "README.md").unlink(missing_ok=True)
    return out


def byte_tokenizer(special: Sequence[str], template: str | None = None, *merged: str) -> Any:
    """A tokenizer of bytes, split before as GPT-2 does (GGUF has a name for that), and of pairs that are `merged`.

    `special` are its control tokens, by id from 0: the first begins a text, the last ends it.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    known = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet()), *merged]
    merges = [(pair[0], pair[1]) for pair in merged]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(known)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=special[0], eos_token=special[-1], chat_template=template
    )


def _pieces() -> Any:
    """A tokenizer as Gemma's: pieces with U+2581 for a space, bytes for whatever has no piece."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    special = ["<unk>", "<bos>", "<|im_start|>", "<|im_end|>"]
    letters = [chr(code) for code in range(33, 127)]
    known = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", *letters, "th"]
    vocabulary = {token: number for number, token in enumerate(known)}
    model = models.BPE(vocabulary, [("t", "h")], unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<|im_end|>",
        unk_token="<unk>",
        chat_template=TEMPLATE,
    )
