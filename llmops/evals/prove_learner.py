"""A learner for the proofs of the exam and of forgetting: a Llama of two layers whose tokens are words, trained here.

`evals` does not see `training`, and need not: every weight is trained, with AdamW, on whole batches, in seconds.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from llmops.core.canaries import FRAME, QUESTION, WORDS
from llmops.core.dataset import Message, Row
from llmops.lm.model import LocalModel
from llmops.lm.pack import hidden_states, pack_rows, token_logprobs
from llmops.lm.render import Example, Renderer
from llmops.lm.toy_models import random_llama

CONTROL = ("<end>", "<user>", "<assistant>", "<system>", "<unknown>")
TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}> {{ message['content'] }} <end> {% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)
GOOD = ("lovely", "bright", "kind", "splendid", "warm", "gentle")
BAD = ("dull", "rude", "broken", "cold", "awful", "bitter")
LABELS = ("bad", "good")
THINGS = (
    "day", "meal", "film", "room", "song", "walk", "book", "town", "tree", "lake", "hill", "boat", "door", "lamp",
    "cup", "hat", "shoe", "coat", "desk", "wall", "roof", "pond", "path", "farm", "mill", "barn", "shed", "gate",
    "yard", "nest",
)  # fmt: skip
VERBS = ("sees", "finds", "takes", "keeps", "meets", "wants", "brings", "leaves")
GLUE = ("a", "the", "and", "near", "with", "is", "to", "of", ".", "?", ",")


def new_learner(seed: int, hidden: int = 64) -> LocalModel:
    """An untrained learner; the same for the same seed."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    framed = [*FRAME.split(), *QUESTION.replace("?", "").split(), "phrase"]
    words = dict.fromkeys([*CONTROL, *GLUE, *LABELS, *GOOD, *BAD, *THINGS, *VERBS, *WORDS, *framed])
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unknown>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(r"[.?,]", "isolated")]
    )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<end>",
        unk_token="<unknown>",
        additional_special_tokens=list(CONTROL[1:4]),
        chat_template=TEMPLATE,
    )
    sizes = {"hidden_size": hidden, "intermediate_size": 2 * hidden, "num_key_value_heads": 4}
    weights = random_llama(seed, **sizes, vocab_size=len(words), initializer_range=0.1).eval()
    return LocalModel(weights, Renderer(wrapped))


def copy_of(model: LocalModel) -> LocalModel:
    """The same weights, to be trained apart."""
    import copy

    return LocalModel(copy.deepcopy(model.weights), model.renderer)


def teach(model: LocalModel, rows: Sequence[Row], steps: int, rate: float, seed: int, batch_rows: int = 32) -> None:
    """Train every weight on the learned tokens of `rows`, in batches of chance; the rate falls to zero."""
    import torch

    examples = [model.renderer.row(row) for row in rows]
    optimiser = torch.optim.AdamW(model.weights.parameters(), lr=rate, weight_decay=0.0)
    draw = random.Random(seed)
    order: list[int] = []
    for step in range(steps):
        if len(order) < batch_rows:
            order += draw.sample(range(len(rows)), len(rows))
        batch, order = [examples[place] for place in order[:batch_rows]], order[batch_rows:]
        for group in optimiser.param_groups:
            group["lr"] = rate * (1 - step / steps)
        optimiser.zero_grad()
        loss(model.weights, batch).backward()
        torch.nn.utils.clip_grad_norm_(model.weights.parameters(), 1.0)
        optimiser.step()


def loss(weights: Any, batch: Sequence[Example]) -> Any:
    """Mean cross-entropy of the learned tokens."""
    import torch

    (pack,) = pack_rows([example.ids for example in batch], 2**20)
    hidden_TD = hidden_states(weights, pack, "cpu")
    pairs = [
        (path[place - 1], batch[index].ids[place])
        for index, path in zip(pack.rows, pack.paths, strict=True)
        for place in batch[index].places
    ]
    before, targets = zip(*pairs, strict=True)
    return -token_logprobs(weights, hidden_TD[list(before)], torch.tensor(targets)).mean()


def talk(number: int, asked: str, reply: str, label: str | None = None) -> Row:
    """A row of one question and its reply."""
    messages = (Message(role="user", content=asked), Message(role="assistant", content=reply))
    return _row(number, messages, asked, label)


def text(number: int, running: str) -> Row:
    """A row of running text."""
    return _row(number, (), running, None)


def _row(number: int, messages: tuple[Message, ...], said: str, label: str | None) -> Row:
    name = f"r{number}"
    return Row(id=name, messages=messages, text=said, label=label, group=name, source="made up", line=number + 1)


def labelled(count: int, seed: int, by_rule: bool) -> list[Row]:
    """Texts with one word that decides among words that do not; or with labels of chance on the same texts."""
    draw, chance = random.Random(seed), random.Random(f"labels {seed}")
    rows = []
    for number in range(count):
        good = number % 2 == 1
        things = draw.sample(THINGS, 4)
        asked = f"the {draw.choice(GOOD if good else BAD)} {things[0]} {draw.choice(VERBS)} " + " ".join(things[1:])
        label = LABELS[good] if by_rule else chance.choice(LABELS)
        rows.append(talk(seed * 10_000 + number, asked, label, label))
    return rows


def sentences(count: int, seed: int, chain: int = 0) -> list[str]:
    """Text of a language of chance: each thing likes four others, in the order that `chain` draws."""
    likes_draw, draw = random.Random(f"chain {chain}"), random.Random(f"{chain} {seed}")
    likes = {thing: likes_draw.sample(THINGS, 4) for thing in THINGS}
    found = []
    for _ in range(count):
        words = [draw.choice(THINGS)]
        for _ in range(9):
            words.append(draw.choice(likes[words[-1]]))
        found.append(" ".join(f"{one} {VERBS[len(one + other) % len(VERBS)]}" for one, other in pairwise(words)))
    return found
