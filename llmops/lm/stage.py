"""`Speaker`: one form of a model's weights, as the parity certificate asks it. Here: weights in PyTorch.

Axes: P places in a row, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from llmops.core.dataset import Message
from llmops.core.export import Weights
from llmops.lm.adapters import CONFIG, load_tuned
from llmops.lm.base import load_weights
from llmops.lm.fast import best_decoder, equip
from llmops.lm.model import LocalModel
from llmops.lm.pack import hidden_states, logits_of, pack_rows, pack_tokens
from llmops.lm.render import Renderer

Row = Sequence[int]


@dataclass(frozen=True)
class Look:
    """What may come next at P places of one row: log-probabilities (nats) of `ids_PK`, K tokens a place.

    A stage that gives whole distributions has K = V and ids in order; an endpoint gives its likeliest K.
    """

    ids_PK: np.ndarray
    logprobs_PK: np.ndarray


@dataclass(frozen=True)
class Spoken:
    """A greedy answer: its token ids, the end token not among them, and whether it came to its end."""

    ids: tuple[int, ...]
    ended: bool


class Speaker(Protocol):
    """One stage."""

    end_ids: frozenset[int]

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """What this stage makes of a conversation before its reply."""
        ...

    def text_ids(self, text: str) -> list[int]:
        """What this stage makes of running text."""
        ...

    def look(self, rows: Sequence[Row], places: Sequence[Sequence[int]]) -> list[Look]:
        """What comes after each place of each row."""
        ...

    def greedy(self, prompts: Sequence[Row], most_tokens: int) -> list[Spoken]:
        """The likeliest answer to each prompt."""
        ...


class LocalSpeaker:
    """Weights in PyTorch: an adapter on its base, what was merged, or a GGUF that was read back."""

    def __init__(self, model: LocalModel) -> None:
        self.model = model
        self.end_ids = model.renderer.end_ids

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        return self.model.renderer.prompt_ids(messages)

    def text_ids(self, text: str) -> list[int]:
        return self.model.renderer.text_ids(text)

    def look(self, rows: Sequence[Row], places: Sequence[Sequence[int]]) -> list[Look]:
        import torch

        model, found = self.model, [Look(np.zeros((0, 0), int), np.zeros((0, 0)))] * len(rows)
        with torch.inference_mode():
            for pack in pack_rows(rows, pack_tokens(model.device)):
                hidden_TD = hidden_states(model.weights, pack, model.device)
                for index, path in zip(pack.rows, pack.paths, strict=True):
                    where = [path[place] for place in places[index]]
                    logprobs_PV = logits_of(model.weights, hidden_TD[where]).double().log_softmax(-1)
                    ids_V = np.arange(logprobs_PV.shape[-1])
                    found[index] = Look(np.tile(ids_V, (len(where), 1)), logprobs_PV.float().cpu().numpy())
        return found

    def greedy(self, prompts: Sequence[Row], most_tokens: int) -> list[Spoken]:
        import torch

        found = []
        for prompt in prompts:
            with torch.inference_mode():
                out_T = self.model.weights.generate(
                    input_ids=torch.tensor([list(prompt)], device=self.model.device),
                    attention_mask=torch.ones(1, len(prompt), dtype=torch.long, device=self.model.device),
                    max_new_tokens=most_tokens,
                    do_sample=False,
                    eos_token_id=sorted(self.end_ids),
                    pad_token_id=min(self.end_ids),
                )[0, len(prompt) :].tolist()
            ended = bool(out_T) and out_T[-1] in self.end_ids
            found.append(Spoken(tuple(out_T[:-1] if ended else out_T), ended))
        return found


def merged_and_back(base: Path, tuned: Path, renderer: Renderer) -> LocalSpeaker:
    """The base after the adapter was added to its weights and taken away again: what merging costs in float32.

    Full tuning has nothing to merge: the base as it is.
    """
    weights = load_tuned(base, tuned) if (tuned / CONFIG).is_file() else load_weights(base)
    if hasattr(weights, "peft_config"):
        weights.merge_adapter()
        weights.unmerge_adapter()
        weights = weights.unload()
    equip(weights, best_decoder())
    return LocalSpeaker(LocalModel(weights, renderer))


def rounded(speaker: LocalSpeaker, kind: Weights) -> LocalSpeaker:
    """The same speaker, whose matrices went to `kind` and back: what that form costs weights that are right.

    The matrices are exchanged, not written to: they may lie in a file (`mapped.py`).
    """
    import torch
    from gguf.quants import dequantize, quantize

    from llmops.lm.gguf import weight_type

    for name, weight in speaker.model.weights.named_parameters():
        type_ = weight_type(name, weight.shape, kind)
        weight.data = torch.from_numpy(dequantize(quantize(weight.numpy(), type_), type_))
    equip(speaker.model.weights, best_decoder())
    return speaker
