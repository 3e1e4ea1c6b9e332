"""`token_steps`: an answer of transformers, one token after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from llmops.core.errors import RequestError
from llmops.core.serving import Sampling
from llmops.lm.model import LocalModel


def token_steps(model: LocalModel, prompt_ids: Sequence[int], sampling: Sampling) -> Iterator[int]:
    """Token ids of the answer, without its end token. Temperature 0 is greedy; else drawn from the seed.

    Raises `RequestError` for a tuned prompt, whose vectors stand where no token does.
    """
    import torch

    if hasattr(model.weights, "prompt_encoder"):
        raise RequestError("a tuned prompt cannot be answered step by step", "serve it with llama.cpp")
    draw = torch.Generator(device=model.device).manual_seed(sampling.seed)
    ids_BT = torch.tensor([list(prompt_ids)], device=model.device)
    cache: Any = None
    while True:
        with torch.inference_mode():
            out = model.weights(input_ids=ids_BT, past_key_values=cache, use_cache=True)
        cache, logits_V = out.past_key_values, out.logits[0, -1].float()
        token = int(logits_V.argmax()) if sampling.temperature == 0 else _drawn(logits_V, sampling, draw)
        if token in model.renderer.end_ids:
            return
        yield token
        ids_BT = torch.tensor([[token]], device=model.device)


def _drawn(logits_V: Any, sampling: Sampling, draw: Any) -> int:
    """A token drawn at a temperature from the likeliest that together reach `top_p`."""
    import torch

    chances_V, order_V = (logits_V / sampling.temperature).softmax(-1).sort(descending=True)
    kept_V = chances_V * (chances_V.cumsum(0) - chances_V < sampling.top_p)
    return int(order_V[torch.multinomial(kept_V, 1, generator=draw)])
