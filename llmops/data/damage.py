"""Texts that were damaged before they reached us: a visible table of signs, each with the reason that it gives."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

# How the control tokens of chat templates are spelt, those of every family that we know.
RENDERED = re.compile(
    r"<\|im_start\|>|<\|im_end\|>|<\|start_header_id\|>|<\|eot_id\|>|<start_of_turn>|<end_of_turn>|<\|turn>|"
    r"<\|(?:user|assistant|system|end)\|>|\[/?INST\]|<</?SYS>>|<｜(?:User|Assistant)｜>|"
    r"^### (?:Instruction|Human|User):.*^### (?:Response|Assistant):",
    re.MULTILINE | re.DOTALL,
)
STARTS = re.compile(r"\s*(<s>|<bos>|<\|begin_of_text\|>|<\|endoftext\|>|<\|startoftext\|>)(?!.*</s>\s*\S)", re.DOTALL)
ENDS = re.compile(r"(?:^|[^<])(</s>|<eos>|<\|endoftext\|>|<\|end_of_text\|>)\s*$")
SPREADSHEET = frozenset(
    ("#REF!", "#N/A", "#NAME?", "#VALUE!", "#DIV/0!", "#NUM!", "#NULL!", "#SPILL!", "nan", "NaN", "<NA>")
)
# UTF-8 read as Windows' or ISO's Latin: the first byte of a pair or of three becomes one of these letters.
LATIN_FIRST = re.compile("[ÂÃâÐÑðÎ][\x80-¿€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]")


# One of these stands in every damaged text, so that most texts need one quick look: a row took 22 µs, then 17.
SUSPECT = re.compile("[<\\[#\ufffdÂÃâÐÑðÎ]|^\\s*[nN]a[nN]\\s*$")


@lru_cache(maxsize=64)  # a row's text is its turn too, and labels and questions come again
def damage(text: str) -> str:
    """What is wrong with a text, or nothing where it looks whole."""
    if not SUSPECT.search(text):
        return ""
    for sign in SIGNS:
        if found := sign(text):
            return found
    return ""


def lost_character(text: str) -> str:
    return "damaged text: it holds U+FFFD, where a character was lost" if "\ufffd" in text else ""


def wrong_encoding(text: str) -> str:
    """UTF-8 that somebody decoded as Latin: it gives shorter text when it is encoded back."""
    found = LATIN_FIRST.search(text)
    if found is None:
        return ""
    for encoding in ("cp1252", "latin-1"):
        try:
            mended = text[found.start() :].split(maxsplit=1)[0].encode(encoding).decode("utf-8")
        except (UnicodeEncodeError, UnicodeDecodeError):
            continue
        return f"damaged text: UTF-8 read in another encoding ({mended[:1]!r} became {found[0]!r})"
    return ""


def spreadsheet_error(text: str) -> str:
    return (
        f"no value: {text.strip()}"
        if text.strip() in SPREADSHEET or (set(text.strip()) == {"#"} and len(text) > 3)
        else ""
    )


def rendered(text: str) -> str:
    """A template's own marks: the row went through a chat template already, this base's or another's."""
    found = RENDERED.search(text)
    return f"rendered already: it holds {found[0].splitlines()[0]}" if found else ""


def control_token(text: str) -> str:
    found = STARTS.match(text) or ENDS.search(text)
    return f"rendered already: it begins or ends with {found[1]}" if found else ""


SIGNS: tuple[Callable[[str], str], ...] = (lost_character, wrong_encoding, spreadsheet_error, rendered, control_token)
