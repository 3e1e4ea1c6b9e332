"""`LocalModel`: weights on this machine, as a `ScoringModel` and a `ChatModel`.

Axes: B rows, T positions, D hidden size, V vocabulary, N rows asked for, K labels. Rows are scored in packs
(`pack.py`): a beginning that rows share is computed once. The head is applied to the positions whose probabilities
are asked for, and to no others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops.core.context import Track, silent
from llmops.core.dataset import Message
from llmops.core.serving import Sampling
from llmops.core.views import TokenView
from llmops.lm.adapters import load_tuned
from llmops.lm.base import load_tokenizer, load_weights
from llmops.lm.fast import best_decoder, equip
from llmops.lm.lessons import window_sizes
from llmops.lm.pack import hidden_states, logits_of, pack_rows, pack_tokens, token_logprobs
from llmops.lm.ports import Probe
from llmops.lm.render import Example, Renderer

if TYPE_CHECKING:
    import torch

HEAD_POSITIONS = 512  # at most so many at once: 512 positions of 49,152 logits are 100 MB in float32
WINDOW_TOKENS = 512


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
        weights = load_tuned(base, tuned, precision, device) if tuned else load_weights(base, precision, device)
        equip(weights, best_decoder())
        bare = (lambda: cls.open(base, None, precision, device, template, threads)) if tuned else None
        return cls(weights, Renderer(load_tokenizer(base), template), device, bare)

    def _hidden(
        self, rows: Sequence[Sequence[int]], track: Track, what: str
    ) -> Iterator[tuple[int, list[int], torch.Tensor]]:
        """(index of a row, where its tokens stand, hidden states TD of its pack), in the order of packs."""
        return track(self._passes(rows), what, len(rows))

    def _passes(self, rows: Sequence[Sequence[int]]) -> Iterator[tuple[int, list[int], torch.Tensor]]:
        import torch

        for pack in pack_rows(rows, pack_tokens(self.device)):
            with torch.inference_mode():
                hidden_TD = hidden_states(self.weights, pack, self.device)
            for index, path in zip(pack.rows, pack.paths, strict=True):
                yield index, path, hidden_TD

    def probe(self, prompts: Sequence[Sequence[Message]], labels: Sequence[str], track: Track = silent) -> Probe:
        """Log-probability (nats) of each label after each prompt, NK, and the hidden state at its end, ND.

        One forward pass a row where the labels' first tokens differ, which then stand for them; where two labels
        begin alike, each label is scored whole.
        """
        import numpy as np
        import torch

        rows = [self.renderer.prompt_ids(prompt) for prompt in prompts]
        last = {
            index: hidden_TD[path[-1]].clone() for index, path, hidden_TD in self._hidden(rows, track, "reading rows")
        }
        first = [self.renderer.reply_ids(label)[0] for label in labels]
        with torch.inference_mode():
            hidden_ND = torch.stack([last[index] for index in range(len(rows))])
            if len(set(first)) == len(first):
                parts = [
                    logits_of(self.weights, part).log_softmax(-1)[:, first] for part in hidden_ND.split(HEAD_POSITIONS)
                ]
                logprobs_NK = torch.cat(parts).double().cpu().numpy()
            else:
                scored = self.reply_logprobs([(prompt, label) for prompt in prompts for label in labels], track)
                logprobs_NK = np.array([total for total, _ in scored]).reshape(len(rows), len(labels))
        return Probe(logprobs_NK, hidden_ND.float().cpu().numpy())

    def reply_logprobs(
        self, pairs: Sequence[tuple[Sequence[Message], str]], track: Track = silent
    ) -> list[tuple[float, int]]:
        """(sum of log-probabilities in nats, tokens) of each reply with its end token; prompt () is no context."""
        prompts = [self.renderer.prompt_ids(prompt) for prompt, _ in pairs]
        replies = [self.renderer.reply_ids(reply) for _, reply in pairs]
        rows = [[*prompt, *reply] for prompt, reply in zip(prompts, replies, strict=True)]
        found: list[tuple[float, int]] = [(0.0, 0)] * len(pairs)
        for index, path, hidden_TD in self._hidden(rows, track, "scoring replies"):
            before = path[len(prompts[index]) - 1 : -1]
            found[index] = (self._sum_logprobs(hidden_TD[before], replies[index]), len(replies[index]))
        return found

    def base_logprobs(
        self, pairs: Sequence[tuple[Sequence[Message], str]], track: Track = silent
    ) -> list[tuple[float, int]] | None:
        """The same by the base, which is loaded for it; None where this is one."""
        return self.base().reply_logprobs(pairs, track) if self.base else None

    def text_logprobs(self, texts: Sequence[str], track: Track = silent) -> list[tuple[float, int]]:
        """(sum of log-probabilities in nats, tokens) of each running text, its end token not counted.

        A text longer than `WINDOW_TOKENS` is read in windows, each token scored once.
        """
        rows: list[list[int]] = []
        owners: list[int] = []
        for place, text in enumerate(texts):
            ids = self.renderer.running_text(text).ids[:-1]
            start = 0
            for size in window_sizes(len(ids), WINDOW_TOKENS):
                rows.append(ids[start : start + size])
                owners.append(place)
                start += size - 1
        found = [(0.0, 0)] * len(texts)
        for index, path, hidden_TD in self._hidden(rows, track, "scoring texts"):
            nats, tokens = found[owners[index]]
            targets = rows[index][1:]
            more = self._sum_logprobs(hidden_TD[path[:-1]], targets) if targets else 0.0
            found[owners[index]] = (nats + more, tokens + len(targets))
        return found

    def _sum_logprobs(self, before_ND: torch.Tensor, targets: list[int]) -> float:
        """Sum over N of log p(target | the position before it), in nats."""
        import torch

        with torch.inference_mode():
            target_N = torch.tensor(targets, device=self.device)
            return sum(
                float(token_logprobs(self.weights, part_ND, part_N).double().sum())
                for part_ND, part_N in zip(before_ND.split(HEAD_POSITIONS), target_N.split(HEAD_POSITIONS), strict=True)
            )

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
                    max_new_tokens=sampling.max_tokens,
                    eos_token_id=sorted(self.renderer.end_ids),
                    pad_token_id=self.renderer.end_id,
                    **(drawn if sampling.temperature > 0 else {"do_sample": False}),
                )
            answers += [cut(self.renderer.decode(row), sampling.stop) for row in out_BT[:, longest:].tolist()]
        return answers


def cut(text: str, stops: Sequence[str]) -> str:
    """`text` up to the first stop string."""
    ends = [text.index(stop) for stop in stops if stop and stop in text]
    return text[: min(ends)] if ends else text
