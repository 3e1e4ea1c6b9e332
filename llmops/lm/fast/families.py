"""Where each family keeps its weights: the table that a new family is added to.

A family says how its layers become `Block`s. What differs: Gemma 3 has norms after both halves and on queries and keys,
a factor of 1 + w in each norm, GELU instead of SiLU, two rotations, and layers that look back a window only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from llmops.lm.fast.attention import Heads
from llmops.lm.fast.block import Block, Norm
from llmops.lm.fast.fused import Fused

MakeFused = Callable[[Sequence[torch.nn.Linear], Sequence[int]], Fused]


@dataclass(frozen=True)
class Stack:
    """A whole decoder: how ids become x, the blocks with the layers that they came from, the last norm, rotations."""

    embed: Any
    blocks: list[Block]
    layers: list[list[list[Any]]]
    norm: Norm
    turns: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]]


def llama(decoder: Any, make: MakeFused) -> Stack:
    """Llama (SmolLM2 is one): Touvron et al. 2023, arXiv:2302.13971."""
    blocks, members = [], []
    for layer in decoder.layers:
        layers = _layers(layer)
        attention = layer.self_attn
        blocks.append(
            _block(
                layers,
                make,
                heads=_heads(decoder.config, attention),
                before_attention=_norm(layer.input_layernorm, "variance_epsilon"),
                before_mlp=_norm(layer.post_attention_layernorm, "variance_epsilon"),
            )
        )
        members.append(layers)
    turn = _turn(partial(decoder.rotary_emb, _probe(decoder)))
    return Stack(decoder.embed_tokens, blocks, members, _norm(decoder.norm, "variance_epsilon"), {"": turn})


def gemma3(decoder: Any, make: MakeFused) -> Stack:
    """Gemma 3: Gemma Team 2025, arXiv:2503.19786."""
    blocks, members = [], []
    for layer in decoder.layers:
        layers = _layers(layer)
        attention = layer.self_attn
        blocks.append(
            _block(
                layers,
                make,
                heads=_heads(decoder.config, attention),
                before_attention=_norm(layer.input_layernorm, "eps", 1.0),
                before_mlp=_norm(layer.pre_feedforward_layernorm, "eps", 1.0),
                after_attention=_norm(layer.post_attention_layernorm, "eps", 1.0),
                after_mlp=_norm(layer.post_feedforward_layernorm, "eps", 1.0),
                of_queries=_norm(attention.q_norm, "eps", 1.0),
                of_keys=_norm(attention.k_norm, "eps", 1.0),
                gelu=True,
                window=attention.sliding_window or 0,
                turn=attention.layer_type,
            )
        )
        members.append(layers)
    turns = {kind: _turn(partial(_rotate, decoder, kind)) for kind in sorted(set(decoder.config.layer_types))}
    return Stack(decoder.embed_tokens, blocks, members, _norm(decoder.norm, "eps", 1.0), turns)


# By `model_type` of the config.
FAMILIES: dict[str, Callable[[Any, MakeFused], Stack]] = {"llama": llama, "gemma3_text": gemma3}


def _block(layers: list[list[Any]], make: MakeFused, **parts: Any) -> Block:
    qkv, out, gate_up, down = (
        make([getattr(layer, "base_layer", layer) for layer in members], [rank_of(layer) for layer in members])
        for members in layers
    )
    return Block(qkv, out, gate_up, down, **parts)


def _layers(layer: Any) -> list[list[Any]]:
    attention, mlp = layer.self_attn, layer.mlp
    return [
        [attention.q_proj, attention.k_proj, attention.v_proj],
        [attention.o_proj],
        [mlp.gate_proj, mlp.up_proj],
        [mlp.down_proj],
    ]


def rank_of(layer: Any) -> int:
    """The rank of the LoRA that a layer carries; 0 where it carries none."""
    return next((int(a.weight.shape[0]) for a in getattr(layer, "lora_A", {}).values()), 0)


def _heads(config: Any, attention: Any) -> Heads:
    return Heads(config.num_attention_heads, config.num_key_value_heads, attention.head_dim, attention.scaling)


def _norm(norm: Any, eps: str, plus: float = 0.0) -> Norm:
    return Norm((norm.weight.detach().float() + plus).contiguous(), float(getattr(norm, eps)))


def _rotate(decoder: Any, kind: str, at: Tensor) -> tuple[Tensor, Tensor]:
    cos, sin = decoder.rotary_emb(_probe(decoder), at, kind)
    return cos, sin


def _probe(decoder: Any) -> Tensor:
    """A float32 tensor from which a rotary embedding reads device and precision."""
    return torch.zeros(1, device=decoder.embed_tokens.weight.device)


def _turn(make: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Cosine and sine of half a head, T x E/2: both halves have the same."""

    def halves(at: Tensor) -> tuple[Tensor, Tensor]:
        cos, sin = make(at)
        half = cos.shape[-1] // 2
        return cos[0, :, :half].contiguous(), sin[0, :, :half].contiguous()

    return halves
