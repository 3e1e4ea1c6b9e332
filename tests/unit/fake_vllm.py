"""What `vllm_host` needs of vLLM, on PyTorch. `python fake_vllm.py -I HOST MODEL ...` runs the host on it.

Each step works out the next token of every answer by a whole forward pass in bfloat16. `FAKE_VLLM_FAULT` plants one:
`halved` halves the head of what was merged, `dies` ends the process at the first prompt that begins with token 13,
`errs` ends its answer as vLLM does where its own grammar is broken, `slow` loads for a minute, and `lingers` fails at
a step while a thread of its own goes on.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

FAULT = os.environ.get("FAKE_VLLM_FAULT")
MOST_NAMED = 128


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


class Sampler:
    """Where anybody names tokens, vLLM 0.32 tells nobody else the likeliest: the rest of each line is token 0."""

    def gather_specific_token_logprobs(
        self, chances_BV: torch.Tensor, named: dict[int, list[int]], sampled_B: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ids_BK = torch.zeros((len(chances_BV), 1 + max(map(len, named.values()))), dtype=torch.int64)
        known_BK = torch.zeros_like(ids_BK, dtype=torch.bool)
        ids_BK[:, 0], known_BK[:, 0] = sampled_B, True
        for row, ids in named.items():
            ids_BK[row, 1 : len(ids) + 1], known_BK[row, 1 : len(ids) + 1] = torch.tensor(ids), True
        return ids_BK, chances_BV.gather(1, ids_BK).masked_fill(~known_BK, -torch.inf)


class LLMEngine:
    """One answer a line, whole characters or not."""

    def __init__(self, asked: EngineArgs) -> None:
        if FAULT == "slow":
            time.sleep(60)
        self.model, self.sampler = Model(asked.model), Sampler()
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
        if len(params.logprob_token_ids or ()) > MOST_NAMED:
            raise ValueError(f"{len(params.logprob_token_ids)} tokens were named, of {MOST_NAMED} at most")
        self.under[number] = Under(list(ids), params)

    @torch.no_grad()
    def step(self) -> list[Any]:
        under = list(self.under.items())
        if not under:
            return []
        if FAULT == "lingers":
            threading.Thread(target=time.sleep, args=(60,)).start()
            raise RuntimeError("the step failed")
        chances_BV = torch.stack([self._chances(one) for _, one in under])
        sampled_B = torch.tensor(
            [self._draw(one, chances_V) for (_, one), chances_V in zip(under, chances_BV, strict=True)]
        )
        told = self._told([one.params for _, one in under], chances_BV, sampled_B)
        return [
            self._say(*one, token, places) for one, token, places in zip(under, sampled_B.tolist(), told, strict=True)
        ]

    def _chances(self, one: Under) -> torch.Tensor:
        states_TH = self.model.whole.model(torch.tensor([[*one.ids, *one.said]])).last_hidden_state[0]
        return torch.log_softmax(self.model.compute_logits(states_TH[-1:])[0].float(), -1)

    def _draw(self, one: Under, chances_V: torch.Tensor) -> int:
        if not one.params.temperature:
            return int(chances_V.argmax())
        dice = torch.Generator().manual_seed(one.params.seed + len(one.said))
        return int(torch.multinomial((chances_V / one.params.temperature).exp(), 1, generator=dice))

    def _told(
        self, asked: list[Any], chances_BV: torch.Tensor, sampled_B: torch.Tensor
    ) -> list[list[tuple[int, float]]]:
        """Of each line the token itself, then those that were asked for."""
        named = {row: one.logprob_token_ids for row, one in enumerate(asked) if one.logprob_token_ids is not None}
        most = [len(one.logprob_token_ids or ()) if one.logprobs is None else one.logprobs for one in asked]
        if named:
            ids_BK, nats_BK = self.sampler.gather_specific_token_logprobs(chances_BV, named, sampled_B)
        else:
            ids_BK = torch.cat([sampled_B[:, None], chances_BV.topk(max(most)).indices], 1)
            nats_BK = chances_BV.gather(1, ids_BK)
        pairs = [list(zip(*line, strict=True)) for line in zip(ids_BK.tolist(), nats_BK.tolist(), strict=True)]
        return [line[: number + 1] for line, number in zip(pairs, most, strict=True)]

    def _say(self, number: str, one: Under, token: int, told: list[tuple[int, float]]) -> Any:
        one.said.append(token)
        over = token in one.params.stop_token_ids
        ended = "stop" if over else "length" if len(one.said) == one.params.max_tokens else None
        if FAULT == "errs" and one.ids[0] == 13:
            ended = "error"
        text = "" if over else self.tokenizer.decode([token])
        if ended:
            del self.under[number]
        output = SimpleNamespace(text=text, token_ids=[token], finish_reason=ended, logprobs=None)
        if one.params.logprobs is not None or one.params.logprob_token_ids is not None:
            output.logprobs = [{place: self._chance(place, nats) for place, nats in told}]
        return SimpleNamespace(request_id=number, outputs=[output])

    def _chance(self, token: int, nats: float) -> Any:
        return SimpleNamespace(decoded_token=self.tokenizer.decode([token]), logprob=nats)


def stand_in(folder: Path) -> Path:
    """A program in `folder` in the place of the python that has vLLM."""
    path = folder / "python"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" "$@"\n')
    path.chmod(0o755)
    return path


def install() -> None:
    """Put the names that `vllm_host` imports where it looks for them."""
    names: dict[str, dict[str, Any]] = {
        "vllm": {},
        "vllm.engine": {},
        "vllm.engine.arg_utils": {"EngineArgs": EngineArgs},
        "vllm.v1": {},
        "vllm.v1.engine": {},
        "vllm.v1.engine.llm_engine": {"LLMEngine": LLMEngine},
        "vllm.v1.sample": {},
        "vllm.v1.sample.sampler": {"Sampler": Sampler},
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
