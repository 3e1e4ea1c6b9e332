"""Who computes the blocks of the base: the fast decoder (`lm/fast`), or transformers."""

from __future__ import annotations

from llmops.core.method import LoRA, Method
from llmops.core.plan import Decoder, Machine
from llmops.lm.fast import FAMILIES
from llmops.planning.decide import Decisions


def decide_decoder(decide: Decisions, method: Method, machine: Machine, family: str, max_tokens: int) -> None:
    """The decoder, and the attention of transformers for where it is that."""
    on_cpu = str(decide.made["device"].value).startswith("cpu")
    decide.take("decoder", None, *decoder_for(method, machine, family, on_cpu))
    short = on_cpu and max_tokens <= 512
    why = "plain matrix products are faster for short rows on a CPU" if on_cpu else "fused kernels are faster here"
    decide.take("attention", None, "eager" if short else "sdpa", why)


def decoder_for(method: Method, machine: Machine, family: str, on_cpu: bool) -> tuple[Decoder, str]:
    """The decoder, and why that one."""
    if not on_cpu:
        return "transformers", "its kernels are the faster ones on a GPU"
    if family not in FAMILIES:
        return "transformers", f"our fast decoder knows {' and '.join(FAMILIES)}, not {family}"
    if not isinstance(method, LoRA) or method.dropout:
        return "transformers", "our fast decoder knows frozen weights with LoRA, without dropout"
    why = "frozen weights need two products a token, not three"
    if not machine.compiler:
        return "plain", f"{why}; with a C compiler the work between products would be faster still"
    return "compiled", f"{why}; {machine.compiler} builds the work between them in a second"
