"""`LocalModel`: weights on this machine, as a `ScoringModel` and a `ChatModel`.

Axes: B rows, T positions, D hidden size, V vocabulary, N rows asked for, K labels. What is scored is scored by
`likelihood.py`: a beginning that rows share is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from llmops.core.context import Track, silent
from llmops.core.dataset import Message
from llmops.core.errors import LlmopsError, RequestError
from llmops.core.serving import Sampling
from llmops.core.views import TokenView
from llmops.lm.adapters import load_in_place
from llmops.lm.base import load_tokenizer
from llmops.lm.fast import best_decoder, equip
from llmops.lm.lessons import window_sizes
from llmops.lm.likelihood import End, end_logprobs, last_states
from llmops.lm.pack import hidden_states, logits_of, pack_rows, shared_logprobs
from llmops.lm.ports import Asked, Probe
from llmops.lm.render import Example, Renderer
from llmops.lm.stops import stop_criteria

WINDOW_TOKENS = 512
MOST_POSITIONS = 2**20  # of a model that names no bound


class LocalModel:
    """A base, with an adapter or without, on one device in one precision."""

    def __init__(
        self, weights: Any, renderer: Renderer, device: str = "cpu", base: Callable[[], LocalModel] | None = None
    ) -> None:
        self.weights = weights
        self.renderer = renderer
        self.device = device
        self.base = base

    @classmethod
    def open(
        cls, base: Path, tuned: Path | None, precision: str, device: str, template: str, threads: int
    ) -> LocalModel:
        """Load a base folder, or what was tuned from it (an adapter, or a whole model) where that is given."""
        import torch

        torch.set_num_threads(threads)
        weights = equip(load_in_place(base, tuned, precision, device), best_decoder())
        bare = (lambda: cls.open(base, None, precision, device, template, threads)) if tuned else None
        return cls(weights, Renderer(load_tokenizer(base), template), device, bare)

    def probe(self, prompts: Sequence[Sequence[Message]], labels: Sequence[str], track: Track = silent) -> Probe:
        """Log-probability (nats) of each label after each prompt, NK, and the hidden state at its end, ND.

        One forward pass a row where the labels' first tokens differ, which then stand for them; where two labels
        begin alike, each label is scored whole.
        """
        import numpy as np
        import torch

        rows = [self.renderer.prompt_ids(prompt) for prompt in prompts]
        ends = last_states(self.weights, rows, self.device, track, "reading rows")
        hidden_ND = torch.stack([ends[index] for index in range(len(rows))])
        first = [self.renderer.reply_ids(label)[0] for label in labels]
        if len(set(first)) == len(first):
            with torch.inference_mode():
                targets = torch.tensor(first, device=self.device).repeat(len(rows))
                places = torch.arange(len(rows), device=self.device).repeat_interleave(len(labels))
                found = shared_logprobs(self.weights, hidden_ND, places, targets).double().cpu().numpy()
        else:
            scored = self.reply_logprobs([(prompt, label) for prompt in prompts for label in labels], track)
            found = np.array([total for total, _ in scored])
        return Probe(found.reshape(len(rows), len(labels)), hidden_ND.float().cpu().numpy())

    def reply_logprobs(
        self, pairs: Sequence[tuple[Sequence[Message], str]], track: Track = silent
    ) -> list[tuple[float, int]]:
        """(sum of log-probabilities in nats, tokens) of each reply with its end token; prompt () is no context."""
        ends = [End(self.renderer.prompt_ids(prompt), self.renderer.reply_ids(reply)) for prompt, reply in pairs]
        return self._scored(ends, track, "scoring replies")

    def _scored(self, ends: Sequence[End], track: Track, what: str) -> list[tuple[float, int]]:
        nats = end_logprobs(self.weights, ends, self.device, track, what)
        return [(one, len(end.target)) for one, end in zip(nats, ends, strict=True)]

    def option_logprobs(
        self, asked: Sequence[tuple[Asked, Sequence[str]]], track: Track = silent
    ) -> list[list[tuple[float, int]]]:
        """(sum of log-probabilities in nats, tokens) of each option of each question.

        Behind a text an option goes on as it stands; behind messages it is a whole reply, with its end token.
        """
        ends = [End(*self.renderer.end_ids_of(context, option)) for context, options in asked for option in options]
        longest = max((len(end.context) + len(end.target) for end in ends), default=0)
        if longest > (room := int(getattr(self.weights.config, "max_position_embeddings", longest))):
            raise RequestError(f"a question is {longest} tokens long, and the model reads {room}", "ask fewer examples")
        scored = iter(self._scored(ends, track, "scoring options"))
        return [[next(scored) for _ in options] for _, options in asked]

    def base_logprobs(
        self, pairs: Sequence[tuple[Sequence[Message], str]], track: Track = silent
    ) -> list[tuple[float, int]] | None:
        """The same by the base, which is loaded for it; None where this is one."""
        return self.base().reply_logprobs(pairs, track) if self.base else None

    def text_logprobs(self, texts: Sequence[str], track: Track = silent) -> list[tuple[float, int]]:
        """(sum of log-probabilities in nats, tokens) of each running text, its end token not counted.

        A text longer than `WINDOW_TOKENS` is read in windows, each token scored once.
        """
        ends: list[End] = []
        owners: list[int] = []
        for place, text in enumerate(texts):
            ids = self.renderer.running_text(text).ids[:-1]
            start = 0
            for size in window_sizes(len(ids), WINDOW_TOKENS):
                ends.append(End(ids[start : start + 1], ids[start + 1 : start + size]))
                owners.append(place)
                start += size - 1
        found = [(0.0, 0)] * len(texts)
        for owner, (more, tokens) in zip(owners, self._scored(ends, track, "scoring texts"), strict=True):
            found[owner] = (found[owner][0] + more, found[owner][1] + tokens)
        return found

    def inspect_reply(self, prompt: Sequence[Message], reply: str, top: int = 5) -> list[TokenView]:
        """Each token of a reply (end token included) with its probability and the `top` likeliest others."""
        import torch

        start = self.renderer.prompt_ids(prompt)
        ids = self.renderer.reply_ids(reply)
        with torch.inference_mode():
            pack = next(pack_rows([[*start, *ids]], 1))
            hidden_TD = hidden_states(self.weights, pack, self.device)
            logits_NV = logits_of(self.weights, hidden_TD[len(start) - 1 : -1])
            probabilities_NV = logits_NV.softmax(-1)
            best = probabilities_NV.topk(top + 1)
        views = self.renderer.view(Example(ids, [True] * len(ids)))
        found = []
        for place, view in enumerate(views):
            others = [
                (self.renderer.tokenizer.decode([token]), probability)
                for token, probability in zip(best.indices[place].tolist(), best.values[place].tolist(), strict=True)
                if token != view.id
            ]
            probability = float(probabilities_NV[place, view.id])
            found.append(view.replace(probability=probability, alternatives=tuple(others[:top])))
        return found

    def reply(self, prompts: Sequence[Sequence[Message]], sampling: Sampling, track: Track = silent) -> list[str]:
        """An answer to each prompt. Padded on the left, in batches of 16; temperature 0 is greedy."""
        return self._generate([self.renderer.prompt_ids(prompt) for prompt in prompts], sampling, track)

    def go_on(self, texts: Sequence[str], sampling: Sampling, track: Track = silent) -> list[str]:
        """What comes after each text, as running text."""
        return self._generate([self.renderer.running_text(text).ids[:-1] for text in texts], sampling, track)

    def _generate(self, rows: Sequence[Sequence[int]], sampling: Sampling, track: Track) -> list[str]:
        import torch

        answers: list[str] = []
        room = int(getattr(self.weights.config, "max_position_embeddings", MOST_POSITIONS))
        if (most := max(map(len, rows), default=0)) >= room:
            raise LlmopsError(f"a prompt is {most} tokens long, and the model reads {room}", "ask something shorter")
        if sampling.temperature > 0:
            torch.manual_seed(sampling.seed)
        drawn = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p}
        # Behind a tuned prompt PEFT counts padding as positions, so nothing is padded there.
        together = 1 if hasattr(self.weights, "prompt_encoder") else 16
        starts = range(0, len(rows), together)
        for start in track(starts, "answering", len(starts)):
            part = rows[start : start + together]
            longest = max(len(row) for row in part)
            ids_BT = torch.tensor(
                [[self.renderer.end_id] * (longest - len(row)) + list(row) for row in part], device=self.device
            )
            mask_BT = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in part], device=self.device)
            with torch.inference_mode():
                out_BT = self.weights.generate(
                    input_ids=ids_BT,
                    attention_mask=mask_BT,
                    max_new_tokens=min(sampling.max_tokens, room - longest),
                    eos_token_id=sorted(self.renderer.end_ids),
                    pad_token_id=self.renderer.end_id,
                    stopping_criteria=stop_criteria(sampling.stop, self.renderer.decode, longest),
                    **(drawn if sampling.temperature > 0 else {"do_sample": False}),
                )
            answers += [cut(self.renderer.decode(row), sampling.stop) for row in out_BT[:, longest:].tolist()]
        return answers


def cut(text: str, stops: Sequence[str]) -> str:
    """`text` up to the first stop string."""
    ends = [text.index(stop) for stop in stops if stop and stop in text]
    return text[: min(ends)] if ends else text
