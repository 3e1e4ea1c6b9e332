"""`Renderer`: messages to token ids, the one way for training, evaluation and serving.

The model's own chat template is rendered once per sequence of roles, with a marker in place of each content. The
text between markers is tokenised with its control tokens; contents are tokenised without, so a control token that
a person types stays text. `Example.trained` marks what training learns: the reply and its end token.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any

from llmops.core.dataset import Message, Row
from llmops.core.errors import LlmopsError
from llmops.core.views import TokenView

# Private-use characters cannot occur in a template; the number between them says which message stood there.
MARKER = re.compile("\ue000(\\d+)\ue001")
# Ours, for a base without a template. A content begins a line: where a space stood before it ("Assistant: "), a
# tokenizer that joins a space with the word behind it was given a split it never saw (recipes/LOG.md has the numbers).
PLAIN = {"system": "{}\n\n", "user": "### User\n{}\n\n", "assistant": "### Assistant\n{}"}
PLAIN_REPLY = "### Assistant\n"


@dataclass(frozen=True)
class Example:
    """A row as training sees it: token ids, and for each whether it is learned (predicted from what precedes it).

    `start` is where the reply begins, where there is a prompt before it.
    """

    ids: list[int]
    trained: list[bool]
    start: int = 0

    @property
    def places(self) -> list[int]:
        """Where the learned tokens stand. The first token of all has nothing before it to be learned from."""
        return [place for place in range(1, len(self.ids)) if self.trained[place]]

    @property
    def read(self) -> list[int]:
        """The tokens that what is learned is predicted from: none from its last token on."""
        places = self.places
        return self.ids[: places[-1] if places else 1]


class Renderer:
    """Renders with the base's own template (`base`), or with ours (`plain`) for a base that has none."""

    def __init__(self, tokenizer: Any, template: str = "base") -> None:
        if template == "base" and not tokenizer.chat_template:
            raise LlmopsError("this base has no chat template", "plan with template 'plain', or take a chat base")
        self.tokenizer = tokenizer
        self.template = template
        self._skeleton = lru_cache(maxsize=256)(self._render_roles)
        self._pieces = lru_cache(maxsize=256)(self._tokenise_skeleton)
        self._one_at_a_time = Lock()
        end = self._tail(("user", "assistant"))
        self.end_ids = frozenset({end, tokenizer.eos_token_id} - {None})
        self.end_id = end

    # The skeleton: what stands around the contents.

    def _render_roles(self, roles: tuple[str, ...], open_reply: bool) -> str:
        marked = [{"role": role, "content": f"\ue000{index}\ue001"} for index, role in enumerate(roles)]
        if self.template == "plain":
            bos, end = self.tokenizer.bos_token or "", f"{self.tokenizer.eos_token or ''}\n\n"
            turns = [PLAIN[turn["role"]].format(turn["content"]) for turn in marked]
            ended = [text + end if role == "assistant" else text for role, text in zip(roles, turns, strict=True)]
            return bos + "".join(ended) + (PLAIN_REPLY if open_reply else "")
        try:
            return str(self.tokenizer.apply_chat_template(marked, tokenize=False, add_generation_prompt=open_reply))
        except Exception as error:  # templates raise what they like
            raise LlmopsError(f"the base's template refuses {', '.join(roles)}: {error}", "change the roles") from error

    def _tokenise_skeleton(self, roles: tuple[str, ...], open_reply: bool) -> list[list[int] | int]:
        """Token ids between the contents, and the index of the message where a content goes."""
        parts = MARKER.split(self._skeleton(roles, open_reply))
        if [int(index) for index in parts[1::2]] != list(range(len(roles))):
            raise LlmopsError("the base's template drops or repeats a message", "use a base whose template keeps all")
        pieces: list[list[int] | int] = []
        for place, part in enumerate(parts):
            pieces.append(int(part) if place % 2 else self._ids(part, control=True))
        return pieces

    def _ids(self, text: str, control: bool) -> list[int]:
        if not text:
            return []
        with self._one_at_a_time:  # a tokenizer's own settings change while it works
            found = self.tokenizer(text, add_special_tokens=False, split_special_tokens=not control)["input_ids"]
        return list(found)

    def _opening(self) -> list[int]:
        """What this tokenizer begins a text with: BOS, where it adds one itself."""
        return list(self.tokenizer("")["input_ids"][:1])

    def _tail(self, roles: tuple[str, ...]) -> int:
        """The control token that the template puts after a reply, or the end-of-sequence token."""
        special = set(self.tokenizer.all_special_ids)
        tail = self._tokenise_skeleton(roles, False)[-1]
        found = [token for token in tail if token in special] if isinstance(tail, list) else []
        end = found[0] if found else self.tokenizer.eos_token_id
        if end is None:
            raise LlmopsError("this base has no end token", "take a base whose tokenizer names one")
        return int(end)

    # What callers use.

    def content_ids(self, text: str) -> list[int]:
        """Token ids of plain text: typed control tokens stay text."""
        return self._ids(text, control=False)

    def control_ids(self, text: str) -> list[int]:
        """Token ids of text that a template wrote: control tokens are control tokens."""
        return self._ids(text, control=True)

    def text_ids(self, text: str) -> list[int]:
        """Token ids of running text to go on with."""
        return self.running_text(text).ids[:-1]

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Token ids up to where a reply begins. Without messages: only what opens a reply."""
        if not messages:
            full, rest = self._skeleton(("user",), True), self._skeleton(("user",), False)
            return self._ids(full[len(rest) :], control=True)
        ids: list[int] = []
        for piece in self._pieces(tuple(message.role for message in messages), True):
            ids += piece if isinstance(piece, list) else self.content_ids(messages[piece].content)
        return ids

    def reply_ids(self, reply: str) -> list[int]:
        """Token ids of a reply and its end token."""
        return [*self.content_ids(reply), self.end_id]

    def end_ids_of(self, asked: str | Sequence[Message], option: str) -> tuple[list[int], list[int]]:
        """Token ids of what is asked, and of an option behind it.

        Behind messages the option is a reply with its end token. A text and its option are tokenised as one text, and
        spaces at the end of the text count to the option, as in EleutherAI's lm-eval, so that words stay whole. Before
        it stands what begins a text for this tokenizer; before an option alone, one token in any case.
        """
        if not isinstance(asked, str):
            return self.prompt_ids(asked), self.reply_ids(option)
        opening = self._opening()
        if not asked:
            begin = self.tokenizer.bos_token_id
            return [self.end_id if begin is None else begin], self.content_ids(option)
        context = [*opening, *self.content_ids(asked.rstrip())]
        whole = [*opening, *self.content_ids(asked + option)]
        return context, whole[len(context) :]

    def example(self, messages: Sequence[Message]) -> Example:
        """A row for training: the prompt masked, the reply (the last message) and its end token trained."""
        prompt, reply = self.prompt_ids(messages[:-1]), self.reply_ids(messages[-1].content)
        return Example(prompt + reply, [False] * len(prompt) + [True] * len(reply), len(prompt))

    def turns(self, messages: Sequence[Message], roles: Collection[str]) -> Example:
        """A conversation for training: every turn of `roles` trained, each with the end token behind it."""
        last = len(messages) - 1
        ids: list[int] = []
        trained: list[bool] = []
        learned = False
        for piece in self._pieces(tuple(message.role for message in messages), False):
            if isinstance(piece, list):  # what stands behind a turn begins with its end token
                ids += piece
                trained += [learned and place == 0 and token in self.end_ids for place, token in enumerate(piece)]
                continue
            learned = messages[piece].role in roles
            content = self.content_ids(messages[piece].content)
            start = len(ids)
            if piece == last:  # as in `example`, nothing follows the last turn but its end token
                content = [*content, self.end_id]
            ids += content
            trained += [learned] * len(content)
            if piece == last:
                break
        return Example(ids, trained, start)

    def running_text(self, text: str) -> Example:
        """A text to go on with: all of it is trained, and so is the end token that parts it from the next.

        Before it stands what begins a text for this tokenizer (BOS, where it adds one itself), else an end token.
        """
        end = self.tokenizer.eos_token_id or self.end_id
        ids = [*(self._opening() or [end]), *self.content_ids(text), end]
        return Example(ids, [place > 0 for place in range(len(ids))], 1)

    def around(self, roles: Sequence[str]) -> list[str]:
        """What the template puts before, between and behind the contents of turns by these roles."""
        return MARKER.split(self._skeleton(tuple(roles), False))[::2]

    def row(self, row: Row) -> Example:
        """A row as training sees it: a conversation, or running text."""
        return self.example(row.messages) if row.messages else self.running_text(row.text)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, control tokens left out."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def view(self, example: Example) -> list[TokenView]:
        """Every token with its text, control tokens shown, and whether it is trained."""
        texts = [self.tokenizer.decode([token], clean_up_tokenization_spaces=False) for token in example.ids]
        return [
            TokenView(text=text, id=token, trained=trained)
            for text, token, trained in zip(texts, example.ids, example.trained, strict=True)
        ]
