"""Private data in a text: e-mail, telephone, card, IBAN, IP address, keys. Found in linear time, replaced by `[KIND]`.

One implementation for the rows that are trained on and for the exchanges that an endpoint keeps.
"""

from __future__ import annotations

import ipaddress
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import accumulate
from typing import Any, Literal, NamedTuple, get_args

from llmops.core.keys import KEY_GATE, find_keys

Kind = Literal["KEY", "EMAIL", "IBAN", "CARD", "IP", "PHONE"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# Where to look for national numbers; those with a + are found wherever they are from.
REGIONS = ("US", "GB")
# Every pattern is RE2's, so time grows with the length alone; this bounds the length: about a second.
LONGEST_SCANNED = 1_000_000
# A candidate for a telephone number costs about 0.2 ms to check. Beyond these many in one text all count as found.
MOST_CHECKED = 200

LETTER_OR_DIGIT = r"\p{L}\p{N}"
PATTERNS = {
    "EMAIL": rf"[{LETTER_OR_DIGIT}!#$%&'*+/=?^_`{{|}}~.-]+@[{LETTER_OR_DIGIT}-]+(?:\.[{LETTER_OR_DIGIT}-]+)*"
    r"\.(?:xn--[a-z0-9-]+|\p{L}{2,})",
    "IBAN": r"\b[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]){11,30}\b",
    "CARD": r"\d(?:[ -]?\d){12,18}",
    "IP": r"\d{1,3}(?:\.\d{1,3}){3,}|[0-9A-Fa-f:]*:[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:.]*",
    "PHONE": r"(?:\+|\b00)?[(]?\p{Nd}(?:[ ().\x{A0}\x{2011}/-]{0,3}\p{Nd}){6,16}",
}
# Whether there can be any at all: most texts hold nothing that looks like private data.
GATE = r"@|\p{Nd}(?:[^\p{Nd}\n]{0,3}\p{Nd}){6}|\d\.\d{1,3}\.\d|:[0-9A-Fa-f]{0,4}:|[A-Z]{2}\d{2}|" + KEY_GATE
# "picture@2x.png" is no address.
FILE_ENDINGS = frozenset(
    ("png", "jpg", "jpeg", "gif", "svg", "webp", "ico", "css", "js", "ts", "json", "html", "md", "txt", "py", "pdf")
)
NANP = r"(?:\+?1[ .-]?)?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}"
DATE = (
    r"(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4})"
    r"(?:[ T]?\(?\d{1,2}(?:[:.]\d{2}){0,2})?"
)
YEARS = r"(?:1[5-9]|20)\d{2}(?: ?[-/] ?| )(?:1[5-9]|20)\d{2}"
CALLED = r"(?i)(?:phone|telephone|tel|call|called|mobile|cell|fax|whatsapp|text|sms|ring|dial|reach|contact)\b"
NUMBERED = r"(?i)\b(?:isbn|issn|order|invoice|tracking|ref|reference|sku|id|ticket|case|serial|part|item|doi|vin)\b"
VERSIONED = r"(?i)(?:\bv|\b(?:version|ver|release|build|section|chapter|firmware|sdk|driver|update)[ .:=]*(?:is )?v?)$"
ADDRESSED = r"(?i)\b(?:ip|ips|ipv4|address|host|server|ping|dns|gateway|subnet|client|port|router|proxy|from)\b"
# First digits and lengths of the card schemes in use.
SCHEMES = (
    r"4\d{12}(?:\d{3}){0,2}|(?:5[1-5]|2[2-7])\d{14}|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11}"
    r"|(?:6011|6[45]\d\d|62\d\d)\d{12,15}|35\d{14}"
)


class Span(NamedTuple):
    """Where private data stands in a text (`text[start:end]`), and of what kind it is."""

    start: int
    end: int
    kind: Kind


def find_private(text: str, kinds: Sequence[Kind] = KINDS, regions: Sequence[str] = REGIONS) -> list[Span]:
    """Where private data of `kinds` stands, in order and without overlap. Time is linear in the text's length.

    A card and an IBAN need their check digits. A telephone number needs a form that numbers of `regions` have (or a
    plus); bare digits need a word such as "call" before them. Documentation addresses such as 127.0.0.1 stay.
    """
    if not compiled(GATE).search(text):
        return []
    found: list[Span] = []
    for kind, finder in FINDERS.items():
        if kind not in kinds:
            continue
        for start, end in finder(text, regions):
            if all(end <= span.start or start >= span.end for span in found):
                found.append(Span(start, end, kind))
    return sorted(found)


def may_hold_private(texts: Sequence[str]) -> list[int]:
    """The places of those texts that are worth a closer look: all that hold private data, and few others.

    All are looked at as one text, which takes 1 µs a text; one by one it takes 8.
    """
    ends = list(accumulate(len(text) + 1 for text in texts))
    found: dict[int, None] = {}
    for match in compiled(GATE).finditer("\n".join(texts)):
        for place in range(bisect_right(ends, match.start()), bisect_right(ends, match.end() - 1) + 1):
            found[place] = None
    return list(found)


def replace_spans(text: str, spans: Sequence[Span]) -> str:
    """The text with `[KIND]` in place of each span."""
    parts, at = [], 0
    for span in spans:
        parts += [text[at : span.start], f"[{span.kind}]"]
        at = span.end
    return "".join(parts) + text[at:]


@cache
def compiled(pattern: str) -> Any:
    """A pattern of RE2, compiled once; loaded late, because most commands need none."""
    import re2

    return re2.compile(pattern)


def _matches(kind: str, text: str) -> Iterator[tuple[int, int, str]]:
    for match in compiled(PATTERNS[kind]).finditer(text):
        yield match.start(), match.end(), match.group()


def _before(text: str, start: int, length: int = 30) -> str:
    return text[max(0, start - length) : start]


def _is_joined(text: str, start: int, end: int) -> bool:
    """Whether digits go on before or behind: part of a longer number, or of a word."""
    before, behind = text[max(0, start - 2) : start], text[end : end + 2]
    word_before = before[-1:].isalnum() or (before[-1:] in ("-", ".", "_") and before[:1].isalnum())
    word_behind = behind[:1].isalnum() or (behind[:1] in ("-", ".", "_", ":") and behind[1:].isalnum())
    return bool(before and word_before) or bool(behind and word_behind)


def _emails(text: str, regions: Sequence[str]) -> Iterator[tuple[int, int]]:
    if "@" not in text:
        return
    for start, end, found in _matches("EMAIL", text):
        local, _, domain = found.rpartition("@")
        bare = local.lstrip("'`*_=./|#{-")
        ending = domain.rpartition(".")[2].lower()
        if bare and ending not in FILE_ENDINGS and max(map(len, domain.split("."))) <= 63:
            yield start + len(local) - len(bare), end


def _ibans(text: str, regions: Sequence[str]) -> Iterator[tuple[int, int]]:
    for start, _, found in _matches("IBAN", text):
        from stdnum import iban

        # Capital letters may follow ("… BIC COBADEFF"): the longest beginning that is an IBAN is one.
        for length in range(len(found), 14, -1):
            tail = found[length : length + 1]
            if found[length - 1].isalnum() and not tail.isalnum() and iban.is_valid(found[:length]):
                yield start, start + length
                break


def _cards(text: str, regions: Sequence[str]) -> Iterator[tuple[int, int]]:
    for start, end, found in _matches("CARD", text):
        from stdnum import luhn

        digits = found.replace(" ", "").replace("-", "")
        if _is_joined(text, start, end) or not compiled(SCHEMES).fullmatch(digits):
            continue
        groups = {len(group) for group in found.replace("-", " ").split(" ")[:-1]}
        if groups <= {4, 6} and luhn.is_valid(digits):
            yield start, end


def _addresses(text: str, regions: Sequence[str]) -> Iterator[tuple[int, int]]:
    for start, _, found in _matches("IP", text):
        trimmed = found.rstrip(":.") if not found.endswith("::") else found
        try:
            address = ipaddress.ip_address(trimmed)
        except ValueError:
            continue
        end = start + len(trimmed)
        if address.is_loopback or address.is_unspecified or trimmed.startswith("255.") or _goes_on(text, start, end):
            continue
        before = _before(text, start)
        if address.version == 4:
            plain = all(len(part) == 1 for part in trimmed.split("."))  # 1.2.3.4: as likely a section
            if compiled(VERSIONED).search(before) or (plain and not compiled(ADDRESSED).search(before)):
                continue
        elif not (address.is_global or address.is_private) or len(trimmed.split(":")[0]) != 4:
            continue
        yield start, end


def _goes_on(text: str, start: int, end: int) -> bool:
    before, behind = text[max(0, start - 2) : start], text[end : end + 2]
    return before[-1:].isalnum() or (before[-1:] == "." and before[:1].isdigit()) or behind[:1].isalnum()


def _phones(text: str, regions: Sequence[str]) -> Iterator[tuple[int, int]]:
    checked = 0
    for start, end, found in _matches("PHONE", text):
        checked += 1
        if checked > MOST_CHECKED:
            yield start, end
            continue
        yield from _phones_in(text, start, end, found, regions)


def _phones_in(text: str, start: int, end: int, found: str, regions: Sequence[str]) -> Iterator[tuple[int, int]]:
    """The telephone numbers in one run of digits and separators."""
    if compiled(DATE).fullmatch(found) or compiled(YEARS).fullmatch(found) or _is_joined(text, start, end):
        return
    before = _before(text, start)
    called, numbered = (_last(pattern, before) for pattern in (CALLED, NUMBERED))
    if numbered > called or compiled(VERSIONED).search(before):
        return
    american = compiled(NANP).search(found) if "US" in regions else None
    if american and not found[: american.start()].strip("(") and not found[american.end() :]:
        yield start, end
        return
    if found.isdigit() and called < 0:
        return
    for region in regions if not found.startswith("+") else regions[:1] or ("ZZ",):
        numbers = list(_valid_numbers(found, region, called >= 0))
        if numbers:
            yield from ((start + first, start + last) for first, last in numbers)
            return


def _last(pattern: str, text: str) -> int:
    """Where the last match begins; -1 where there is none."""
    return max((match.start() for match in compiled(pattern).finditer(text)), default=-1)


def _valid_numbers(found: str, region: str, called: bool) -> Iterator[tuple[int, int]]:
    import phonenumbers

    # With a plus, or where somebody says "call", a possible number will do; else it must be one that is assigned.
    sure = called or found.startswith("+")
    leniency = phonenumbers.Leniency.POSSIBLE if sure else phonenumbers.Leniency.VALID
    for match in phonenumbers.PhoneNumberMatcher(found, region, leniency=leniency, max_tries=4):
        if sure or not _is_book(match.raw_string):
            yield match.start, match.end


def _is_book(number: str) -> bool:
    from stdnum import isbn

    return bool(isbn.is_valid(number))


# In order of weight: what an earlier one found, a later one leaves alone.
FINDERS: dict[Kind, Callable[[str, Sequence[str]], Iterator[tuple[int, int]]]] = {
    "KEY": lambda text, regions: find_keys(text),
    "EMAIL": _emails,
    "IBAN": _ibans,
    "CARD": _cards,
    "IP": _addresses,
    "PHONE": _phones,
}
