"""What `vllm_host` needs of vLLM, on PyTorch. `python fake_vllm.py -I HOST MODEL ...` runs the host on it.

Each step works out the next token of every answer by a whole forward pass in bfloat16. `FAKE_VLLM_FAULT` plants one:
`halved` halves the head of what was merged, `dies` ends the process at the first prompt that begins with token 13.
"""

from __future__ import annotations

import os
import runpy
import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

FAULT = os.environ.get("FAKE_VLLM_FAULT")


class EngineArgs(SimpleNamespace):
    """Whatever it is given."""


class SamplingParams(SimpleNamespace):
    """Whatever it is given."""


class StructuredOutputsParams(SimpleNamespace):
    """Whatever it is given."""


@dataclass
class Under:
    """An answer under way."""

    ids: list[int]
    params: Any
    said: list[int] = field(default_factory=list)


class Model:
    """The parts of a model that `sharpen` looks at."""

    def __init__(self, folder: str) -> None:
        self.whole = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
        self.lm_head = self.whole.lm_head
        self.logits_processor = SimpleNamespace(soft_cap=None, scale=1.0)
        if FAULT == "halved" and folder.endswith("merged"):
            self.lm_head.weight.data *= 0.5

    def compute_logits(self, states_BH: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.lm_head(states_BH)
        return found


class LLMEngine:
    """One answer a line, whole characters or not."""

    def __init__(self, asked: EngineArgs) -> None:
        self.model = Model(asked.model)
        self.tokenizer = AutoTokenizer.from_pretrained(asked.model)
        self.context_tokens = asked.max_model_len
        self.under: dict[str, Under] = {}

    @classmethod
    def from_engine_args(cls, asked: EngineArgs) -> LLMEngine:
        return cls(asked)

    def apply_model(self, change: Any) -> None:
        change(self.model)

    def has_unfinished_requests(self) -> bool:
        return bool(self.under)

    def abort_request(self, numbers: list[str]) -> None:
        for number in numbers:
            self.under.pop(number, None)
            print("left:", number, file=sys.stderr, flush=True)

    def add_request(self, number: str, prompt: dict[str, list[int]], params: SamplingParams) -> None:
        ids = prompt["prompt_token_ids"]
        if FAULT == "dies" and ids[0] == 13:
            print("out of memory, they say", file=sys.stderr, flush=True)
            os._exit(3)
        if len(ids) > self.context_tokens:
            raise ValueError(f"{len(ids)} tokens are more than {self.context_tokens}")
        self.under[number] = Under(list(ids), params)

    @torch.no_grad()
    def step(self) -> list[Any]:
        return [self._next(number, one) for number, one in list(self.under.items())]

    def _next(self, number: str, one: Under) -> Any:
        states_TH = self.model.whole.model(torch.tensor([[*one.ids, *one.said]])).last_hidden_state[0]
        chances_V = torch.log_softmax(self.model.compute_logits(states_TH[-1:])[0].float(), -1)
        if one.params.temperature:
            dice = torch.Generator().manual_seed(one.params.seed + len(one.said))
            token = int(torch.multinomial((chances_V / one.params.temperature).exp(), 1, generator=dice))
        else:
            token = int(chances_V.argmax())
        one.said.append(token)
        over = token in one.params.stop_token_ids
        ended = "stop" if over else "length" if len(one.said) == one.params.max_tokens else None
        text = "" if over else self.tokenizer.decode([token])
        if ended:
            del self.under[number]
        output = SimpleNamespace(text=text, token_ids=[token], finish_reason=ended, logprobs=None)
        told = one.params.logprob_token_ids
        if told is None and one.params.logprobs is not None:
            told = chances_V.topk(one.params.logprobs).indices.tolist()
        if told is not None:
            output.logprobs = [{place: self._chance(chances_V, place) for place in (token, *told)}]
        return SimpleNamespace(request_id=number, outputs=[output])

    def _chance(self, chances_V: torch.Tensor, token: int) -> Any:
        return SimpleNamespace(decoded_token=self.tokenizer.decode([token]), logprob=float(chances_V[token]))


def install() -> None:
    """Put the names that `vllm_host` imports where it looks for them."""
    names: dict[str, dict[str, Any]] = {
        "vllm": {},
        "vllm.engine": {},
        "vllm.engine.arg_utils": {"EngineArgs": EngineArgs},
        "vllm.v1": {},
        "vllm.v1.engine": {},
        "vllm.v1.engine.llm_engine": {"LLMEngine": LLMEngine},
        "vllm.sampling_params": {
            "SamplingParams": SamplingParams,
            "StructuredOutputsParams": StructuredOutputsParams,
            "RequestOutputKind": SimpleNamespace(DELTA="delta"),
        },
    }
    for name, holds in names.items():
        sys.modules[name] = ModuleType(name)
        vars(sys.modules[name]).update(holds)


if __name__ == "__main__":
    install()
    torch.set_num_threads(1)
    host, *sys.argv[1:] = sys.argv[2:]
    runpy.run_path(host, run_name="__main__")
