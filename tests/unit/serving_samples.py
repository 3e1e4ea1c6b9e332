"""A tiny random Llama with a tiny tokenizer, and a prompt renderer that needs no model: for the tests of serving."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from llmops.core.context import Surroundings
from llmops.core.dataset import Message
from llmops.serving.engine import Engine
from llmops.serving.serve import Served, ServeSettings, running
from llmops.store.ledger import Ledger

TOKEN = "a-token-for-tests-only-0123456789"
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_llama(folder: Path, spread: float = 0.4, hidden: int = 64) -> Path:
    """Write a random LlamaForCausalLM (2 layers, 64 wide, 2 of 4 key heads) whose answers are byte soup."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

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
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=384,
        hidden_size=hidden,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        initializer_range=spread,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


class LetterRenderer:
    """A token is a character here; 0 to 2 are control tokens, so no typed character can be one."""

    end_ids = frozenset({2})

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        ids: list[int] = []
        for message in messages:
            ids += [1, *(ord(letter) + 3 for letter in message.content), 2]
        return ids


@contextmanager
def endpoint(engine: Engine, folder: Path, renderer: object = None, **settings: object) -> Iterator[tuple[str, Ledger]]:
    """A running endpoint for one engine as `tone:2`, and its ledger."""
    ledger = Ledger(f"sqlite:///{folder / 'ledger.db'}")
    served = Served("tone:2", ("tone", "tone@production"), engine, renderer or LetterRenderer())  # type: ignore[arg-type]
    asked = ServeSettings(**{"token": TOKEN, **settings})  # type: ignore[arg-type]
    with running([served], ledger, asked, Surroundings()) as url:
        yield url, ledger
