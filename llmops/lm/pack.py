"""Packs: several rows in one sequence, every shared beginning computed once, no row seeing another.

Rows that begin alike (the same question, the same conversation before four replies) share those tokens as in a
trie. A token attends to its own ancestors only, at its own position in its row, so its hidden state is the one it
would have had in a row by itself, and so is the gradient. There is no padding.
A beginning of all rows can be gone through once for many packs (`remember`); it then stands first in each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmops.lm.fast import fast_decoder, fast_head
from llmops.lm.padded import padded_states

if TYPE_CHECKING:
    import torch

    from llmops.lm.fast.decoder import Decoder, Known


HEAD_STATES = 256  # at most so many at once: 256 states of 49,152 logits are 50 MB in float32
PACK_TOKENS = {"cpu": 1536, "cuda": 16384}


def pack_tokens(device: str) -> int:
    """How many tokens go into one pack at most: fewer read the weights more often, more hold more in memory.

    SmolLM2-135M in bfloat16 keeps 0.35 MB a token; packs of 2,048 save 1 % of the time of 1,536 (recipes/LOG.md).
    """
    return PACK_TOKENS["cuda" if device.startswith("cuda") else "cpu"]


@dataclass
class Pack:
    """T tokens of some rows. `paths[k][t]` is where token t of row `rows[k]` stands in the pack.

    The first `known` tokens are a beginning of every row that was gone through before.
    """

    rows: list[int] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    paths: list[list[int]] = field(default_factory=list)
    children: dict[tuple[int, int], int] = field(default_factory=dict)
    known: int = 0

    @classmethod
    def behind(cls, beginning: Sequence[int]) -> Pack:
        """A pack without rows, whose first tokens are the beginning of all rows to come."""
        pack = cls()
        pack.add(0, beginning)
        pack.rows.clear()
        pack.paths.clear()
        pack.known = len(beginning)
        return pack

    def path(self, row: Sequence[int]) -> list[int]:
        """Where the beginning of `row` that is here already stands."""
        found: list[int] = []
        for token in row:
            place = self.children.get((found[-1] if found else -1, token))
            if place is None:
                break
            found.append(place)
        return found

    def add(self, index: int, row: Sequence[int]) -> None:
        """Append what `row` does not share."""
        path = self.path(row)
        for position in range(len(path), len(row)):
            self.children[(path[-1] if path else -1, row[position])] = len(self.ids)
            path.append(len(self.ids))
            self.ids.append(row[position])
            self.positions.append(position)
        self.rows.append(index)
        self.paths.append(path)


def pack_rows(
    rows: Sequence[Sequence[int]], most_tokens: int, together: int = 1, beginning: Sequence[int] = ()
) -> Iterator[Pack]:
    """Every row in exactly one pack of at most `most_tokens`; a row that is longer has a pack to itself.

    A `beginning` of all rows stands first in every pack and is not counted.

    Rows are taken in lexical order, so that those that begin alike meet. Each `together` rows in turn (a chosen reply
    and the rejected one) stay in one pack, next to each other and in their order.
    """
    pack = Pack.behind(beginning)
    for first in sorted(range(0, len(rows), together), key=lambda index: list(rows[index])):
        unit = rows[first : first + together]
        new = sum(len(row) - len(pack.path(row)) for row in unit)
        if pack.rows and len(pack.ids) - pack.known + new > most_tokens:
            yield pack
            pack = Pack.behind(beginning)
        for place, row in enumerate(unit):
            pack.add(first + place, row)
    if pack.rows:
        yield pack


def mask_of(pack: Pack, dtype: torch.dtype, device: str, window: int = 0) -> torch.Tensor:
    """The additive attention mask 11TT: 0 where a token may look (itself and its ancestors), else the lowest number.

    `window` is how far back a token looks; 0: all the way.
    """
    import numpy as np
    import torch

    size = len(pack.ids)
    seen_TT = np.zeros((size, size), dtype=bool)
    for path in pack.paths:
        place = np.asarray(path)
        seen = np.tri(len(place), dtype=bool)
        if window:
            seen &= ~np.tri(len(place), k=-window, dtype=bool)
        seen_TT[place[:, None], place[None, :]] |= seen
    mask_TT = torch.zeros(size, size, dtype=dtype)
    mask_TT.masked_fill_(~torch.from_numpy(seen_TT), torch.finfo(dtype).min)
    return mask_TT[None, None].to(device)


def remember(model: Any, beginning: Sequence[int], sparing: bool = False) -> Known | None:
    """Go through a beginning once, for `hidden_states` of packs that start with it; None where there is no need or way.

    Only the fast decoder keeps keys and values; without it each pack goes through its own beginning.
    """
    fast = None if hasattr(model, "prompt_encoder") or not beginning else fast_decoder(inner_of(model))
    return fast.remember(beginning, sparing) if fast else None


def hidden_states(
    model: Any, pack: Pack, device: str, known: Known | None = None, sparing: bool = False
) -> torch.Tensor:
    """Last hidden states (after the final norm) of a pack, TD. `model` may carry a PEFT adapter.

    By the fast decoder where the model has one (`lm/fast`), else by transformers' own forward pass. With `known`, the
    pack's beginning, or `sparing`, there is no gradient. A sparing pass lets weights that lie in a file go, layer by
    layer.
    """
    import torch

    inner = inner_of(model)
    if hasattr(model, "prompt_encoder"):
        return _after_tuned_prompt(model, inner, pack, device)
    if device.startswith("cuda"):
        return padded_states(inner, pack, device)
    if (fast := _by_hand(model, device)) is not None:
        if known is not None or sparing:
            return fast.after(known, pack.ids, pack.positions, pack.paths, sparing)
        return fast(pack.ids, pack.positions, pack.paths or [range(len(pack.ids))])
    return inner.get_decoder()(
        input_ids=torch.tensor([pack.ids], device=device),
        position_ids=torch.tensor([pack.positions], device=device),
        attention_mask=_masks(inner, pack, device),
        use_cache=False,
    ).last_hidden_state[0]


def states_at(model: Any, pack: Pack, places: Sequence[int], device: str) -> torch.Tensor:
    """Last hidden states of some places of a pack, ND, in their order; a place may come more than once.

    The fast decoder does not go through the last layer for any other.
    """
    import torch

    at_N = torch.tensor(places, dtype=torch.long, device=device)
    fast = _by_hand(model, device)
    if fast is None or not places:
        return hidden_states(model, pack, device)[at_N]
    places_U, which_N = at_N.unique(return_inverse=True)
    return fast(pack.ids, pack.positions, pack.paths, places_U)[which_N]


def _by_hand(model: Any, device: str) -> Decoder | None:
    """The fast decoder, where packs of this model go through one on this device."""
    elsewhere = hasattr(model, "prompt_encoder") or device.startswith("cuda")
    return None if elsewhere else fast_decoder(inner_of(model))


def _masks(inner: Any, pack: Pack, device: str) -> Any:
    """The mask of a pack, or where layers look back differently far (Gemma 3), one for each kind of layer."""
    mask = mask_of(pack, inner.dtype, device)
    if "sliding_attention" not in (getattr(inner.config, "layer_types", None) or ()):
        return mask
    short = mask_of(pack, inner.dtype, device, inner.config.sliding_window)
    return {"full_attention": mask, "sliding_attention": short}


def _after_tuned_prompt(model: Any, inner: Any, pack: Pack, device: str) -> torch.Tensor:
    """The same where a tuned prompt of P vectors stands before every row: all of a pack's rows share it."""
    import torch

    prompt_PD = model.get_prompt(batch_size=1)[0].to(inner.dtype)
    size, before = len(pack.ids), len(prompt_PD)
    embedded_TD = inner.get_input_embeddings()(torch.tensor(pack.ids, device=device))
    places = [*range(before), *(position + before for position in pack.positions)]
    lowest = torch.finfo(inner.dtype).min
    mask_SS = torch.full((before + size, before + size), lowest, dtype=inner.dtype, device=device).triu(1)
    mask_SS[before:, before:] = mask_of(pack, inner.dtype, device)[0, 0]
    return inner.get_decoder()(
        inputs_embeds=torch.cat([prompt_PD, embedded_TD])[None],
        position_ids=torch.tensor([places], device=device),
        attention_mask=mask_SS[None, None],
        use_cache=False,
    ).last_hidden_state[0, before:]


def logits_of(model: Any, hidden_ND: torch.Tensor) -> torch.Tensor:
    """Float32 logits NV of chosen hidden states, with the final soft cap where the family has one."""
    inner = inner_of(model)
    logits_NV = inner.get_output_embeddings()(hidden_ND).float()
    cap = getattr(inner.config, "final_logit_softcapping", None)
    return cap * (logits_NV / cap).tanh() if cap else logits_NV


def token_logprobs(model: Any, hidden_ND: torch.Tensor, targets_N: torch.Tensor) -> torch.Tensor:
    """log p(target) in nats, float32, N, of each chosen hidden state; with a gradient for the hidden states.

    With a fast decoder the head goes through in chunks and N x V is never in memory; without, in one piece.
    """
    import torch

    if (fast := fast_head(inner_of(model))) is not None:
        return fast.token_logprobs(hidden_ND, targets_N)
    return -torch.nn.functional.cross_entropy(logits_of(model, hidden_ND), targets_N, reduction="none")


def shared_logprobs(
    model: Any, hidden_UD: torch.Tensor, places_N: torch.Tensor, targets_N: torch.Tensor, sparing: bool = False
) -> torch.Tensor:
    """log p(target) in nats, float32, N, where target n stands behind hidden state `places_N[n]` of U. No gradient.

    The head goes over each state once. `places_N` rises.
    """
    import torch

    if (fast := fast_head(inner_of(model))) is not None:
        return fast.shared_logprobs(hidden_UD, places_N, targets_N, sparing)
    found = []
    for start in range(0, len(hidden_UD), HEAD_STATES):
        logits_UV = logits_of(model, hidden_UD[start : start + HEAD_STATES])
        here = (places_N >= start) & (places_N < start + HEAD_STATES)
        at = places_N[here] - start
        found.append(logits_UV[at, targets_N[here]] - logits_UV.logsumexp(-1)[at])
    return torch.cat(found)


def inner_of(model: Any) -> Any:
    """The causal language model of transformers under an adapter, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
