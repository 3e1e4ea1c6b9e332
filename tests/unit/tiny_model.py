"""A tiny random Llama with a tiny tokenizer of its own. Needs nothing but torch and transformers."""

from __future__ import annotations

from pathlib import Path

from llmops.lm.toy import TEMPLATE
from llmops.lm.toy_models import random_llama


def tiny_llama(folder: Path, spread: float = 0.4, hidden: int = 64) -> Path:
    """Write a random LlamaForCausalLM (2 layers, 64 wide, 2 of 4 key heads) whose answers are byte soup."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=[AddedToken(token, special=True) for token in special],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the cat sat on the mat and the dog sat on the cat, 12 345 times"] * 20, trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
        chat_template=TEMPLATE,
    )
    wrapped.save_pretrained(folder)
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    sizes = {"hidden_size": hidden, "max_position_embeddings": 1024, "vocab_size": 384}
    random_llama(0, **ends, **sizes, initializer_range=spread).save_pretrained(folder)
    return folder
