"""The fast decoder: the blocks of Llama and Gemma 3 by hand, forward and backward, for frozen weights on a CPU.

`equip` gives one to a model; `lm/pack.py` then uses it. What it cannot do, transformers does: see `decoder.supports`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmops.lm.fast.decoder import Decoder

FAMILIES = ("gemma3_text", "llama")  # the names in `families.py`, for who must not load torch to know them
PLACE = "_llmops_fast"


def equip(model: Any, kind: str) -> Any:
    """Let packs of `model` go through a fast decoder: `compiled` in C, `plain` in torch; `transformers` means none.

    The decoder takes over the memory of the frozen weights, so that they are there once. Returns the model. Where the
    fast decoder does not know what the model carries (`decoder.supports`), transformers does the work.
    """
    if kind == "transformers":
        return model
    from llmops.lm.fast.decoder import Decoder, supports
    from llmops.lm.fast.kernels import passes_of

    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    if supports(inner):
        inner.__dict__[PLACE] = Decoder(inner, passes_of(kind, inner.dtype))
    return model


def best_decoder() -> str:
    """What is fastest on this machine, for scoring: training has it from its plan."""
    from llmops.lm.fast.kernels import working_compiler

    return "compiled" if working_compiler() else "plain"


def fast_head(inner: Any) -> Decoder | None:
    """The fast decoder for the head alone, as long as the head is frozen; the other layers are not looked at."""
    found: Decoder | None = inner.__dict__.get(PLACE)
    head = inner.get_output_embeddings()
    return None if hasattr(head, "base_layer") or head.weight.requires_grad else found


def fast_decoder(inner: Any) -> Decoder | None:
    """The fast decoder that a model was equipped with, as long as the model is what it was then."""
    found: Decoder | None = inner.__dict__.get(PLACE)
    return found if found is not None and found.fits() else None
