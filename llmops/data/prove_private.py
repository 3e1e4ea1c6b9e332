"""Made-up private data of each kind, and made-up look-alikes, for the proof that the one is found and the other is not.

Everything is drawn by lot from forms that people write; no row of anybody's is in here.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from random import Random

from llmops.core.private import Kind

HEX = "0123456789abcdef"
NAMES = ("ann", "bob.lee", "chi_wei", "d.o'brien", "eva-maria", "f+lists", "zoë", "Grace.Hopper", "h1972")
HOSTS = ("example.org", "mail.example.co.uk", "posteo.de", "sub.domain.edu", "exämple.fr", "my-firm.io")
SENTENCES = (
    "You can reach me at {} until Friday.",
    "{}",
    "Old one was wrong, use {}; thanks!",
    "Name: Ann\nContact: {}\nCity: Leeds",
    "She said ({}) twice, I think.",
    'the record says "{}", so be it',
)
BODIES = ("It starts at {}.", "{}", "See {}, then go on.", "({})", "That is {}; ask again.", "line one\n{}\nline three")


def digits(rng: Random, count: int) -> str:
    return "".join(rng.choices(string.digits, k=count))


def drawn(rng: Random, count: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    return "".join(rng.choices(alphabet, k=count))


def email(rng: Random) -> str:
    return f"{rng.choice(NAMES)}@{rng.choice(HOSTS)}"


def phone(rng: Random) -> str:
    """Numbers as they are written in the United States and Britain, and from elsewhere with a plus."""
    area, exchange, line = (
        rng.choice(("212", "415", "702", "808")),
        f"{rng.randint(2, 9)}{digits(rng, 2)}",
        digits(rng, 4),
    )
    london = f"7{digits(rng, 3)} {digits(rng, 4)}"
    mobile = f"7{rng.choice('4578')}{digits(rng, 2)} {digits(rng, 6)}"
    return rng.choice(
        (
            f"({area}) {exchange}-{line}",
            f"{area}-{exchange}-{line}",
            f"{area}.{exchange}.{line}",
            f"+1 {area} {exchange} {line}",
            f"+1-{area}-{exchange}-{line}",
            f"020 {london}",
            f"+44 20 {london}",
            f"0{mobile}",
            f"+44 (0){mobile}",
            f"+49 151 {digits(rng, 8)}",
            f"+33 6 {' '.join(digits(rng, 2) for _ in range(4))}",
            f"+91 98{digits(rng, 3)} {digits(rng, 5)}",
            f"call {area}{exchange}{line}",
        )
    )


def card(rng: Random) -> str:
    """A number of a scheme in use, with its check digit (Luhn), in groups or not."""
    length, start = rng.choice(((16, "4"), (16, "51"), (16, "55"), (16, "2221"), (15, "34"), (15, "37"), (16, "6011")))
    body = start + digits(rng, length - 1 - len(start))
    number = body + luhn_digit(body)
    if length == 15:
        return rng.choice((number, f"{number[:4]} {number[4:10]} {number[10:]}"))
    mark = rng.choice(("", " ", "-"))
    return mark.join(number[at : at + 4] for at in range(0, 16, 4))


def luhn_digit(body: str) -> str:
    """The digit that makes a number pass Luhn's check."""
    total = 0
    for place, digit in enumerate(reversed(body)):
        value = int(digit) * (2 if place % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return str(-total % 10)


def iban(rng: Random) -> str:
    """An account of one of seven countries, with its check digits (ISO 13616)."""
    country, account = rng.choice(
        (
            ("DE", digits(rng, 18)),
            ("AT", digits(rng, 16)),
            ("GB", drawn(rng, 4, string.ascii_uppercase) + digits(rng, 14)),
            ("NL", "ABNA" + digits(rng, 10)),
            ("CH", digits(rng, 17)),
            ("PL", digits(rng, 24)),
            ("DK", digits(rng, 14)),
        )
    )
    spelt = "".join(str(int(character, 36)) for character in f"{account}{country}00")
    whole = f"{country}{98 - int(spelt) % 97:02d}{account}"
    return whole if rng.random() < 0.5 else " ".join(whole[at : at + 4] for at in range(0, len(whole), 4))


def address(rng: Random) -> str:
    four = ".".join(str(rng.randint(11, 223)) for _ in range(4))
    six = ":".join(["2001", "db8", *(f"{rng.randrange(65536):x}" for _ in range(6))])
    short = f"fe80::{rng.randrange(4096, 65536):x}:{rng.randrange(4096, 65536):x}:{rng.randrange(4096, 65536):x}"
    return rng.choice((four, four, six, short))


def key(rng: Random) -> str:
    return rng.choice(
        (
            "AKIA" + drawn(rng, 16, string.ascii_uppercase + string.digits),
            "ghp_" + drawn(rng, 36),
            "glpat-" + drawn(rng, 20),
            f"xoxb-{digits(rng, 11)}-{drawn(rng, 24)}",
            "sk_live_" + drawn(rng, 24),
            "AIza" + drawn(rng, 35),
            "sk-proj-" + drawn(rng, 40),
            "hf_" + drawn(rng, 34, string.ascii_letters),
            f"eyJ{drawn(rng, 20)}.eyJ{drawn(rng, 40)}.{drawn(rng, 43)}",
            f"password: {drawn(rng, 6, string.ascii_lowercase)}{digits(rng, 3)}!",
            f'api_key = "{drawn(rng, 32, string.hexdigits.lower())}1"',
            f"postgres://admin:{drawn(rng, 10)}@db.internal/main",
            f"-----BEGIN PRIVATE KEY-----\n{drawn(rng, 64)}\n-----END PRIVATE KEY-----",
        )
    )


MADE: dict[Kind, Callable[[Random], str]] = {
    "EMAIL": email,
    "PHONE": phone,
    "CARD": card,
    "IBAN": iban,
    "IP": address,
    "KEY": key,
}


def look_alike(rng: Random) -> str:
    """What has digits, points, colons, hyphens or an @ and is nobody's business."""
    year, month, day = rng.randint(1901, 2030), rng.randint(1, 12), rng.randint(1, 28)
    hour, minute, second = rng.randint(0, 23), rng.randint(0, 59), rng.randint(0, 59)
    body = digits(rng, 15)
    wrong = str((int(luhn_digit(body)) + rng.randint(1, 9)) % 10)
    book = f"978{digits(rng, 9)}"
    check = -sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(book)) % 10
    return rng.choice(
        (
            f"{year}-{month:02d}-{day:02d}",
            f"{day:02d}.{month:02d}.{year}",
            f"{month}/{day}/{year} {hour}:{minute:02d}",
            f"{year}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}.{digits(rng, 6)}Z",
            f"{hour:02d}:{minute:02d}:{second:02d}",
            f"{year}-{year + rng.randint(1, 9)}",
            f"{rng.randint(100, 999)}-{rng.randint(1000, 9999)} pages",
            f"version {rng.randint(1, 12)}.{rng.randint(0, 40)}.{rng.randint(0, 99)}",
            f"v{rng.randint(1, 12)}.{rng.randint(0, 40)}.{rng.randint(0, 99)}.{rng.randint(0, 9)}",
            f"release {rng.randint(1, 12)}.{rng.randint(0, 40)}.{rng.randint(10000, 29999)}.{rng.randint(1, 999)}",
            f"section {rng.randint(1, 9)}.{rng.randint(1, 9)}.{rng.randint(1, 9)}.{rng.randint(1, 9)}",
            f"order 114-{digits(rng, 7)}-{digits(rng, 7)}",
            f"order number {digits(rng, 10)}",
            f"invoice INV-{year}-{digits(rng, 5)}",
            f"id {body}{wrong}",
            f"ISBN {book[:3]}-{book[3]}-{book[4:6]}-{book[6:]}-{check}",
            f"ISBN {book}{check}",
            f"{rng.randint(1, 999)},{digits(rng, 3)},{digits(rng, 3)}.{digits(rng, 2)}",
            f"{rng.randint(-90, 90)}.{digits(rng, 6)}, {rng.randint(-180, 180)}.{digits(rng, 6)}",
            "-".join(drawn(rng, length, HEX) for length in (8, 4, 4, 4, 12)),
            f"commit {drawn(rng, 40, HEX)}",
            ":".join(drawn(rng, 2, HEX) for _ in range(6)),
            f"picture@{rng.randint(2, 3)}x.png",
            f"left-pad@{rng.randint(1, 9)}.{rng.randint(0, 9)}.{rng.randint(0, 9)}",
            f"@{rng.choice(('ann', 'the_bob', 'chi1999'))} and {rng.randint(2, 9)} others @ {rng.randint(1, 12)} pm",
            "std::vector<int> a::b::c",
            f"{rng.randint(10, 99)}0 000 000 people",
            f"3.14159265358979{digits(rng, 6)}",
            f"the password is {rng.choice(('required', 'case sensitive', 'forgotten'))}",
            f"a token is {rng.choice(('a word or a part of one', 'needed to log in'))}",
            f"{digits(rng, 5)}-{digits(rng, 4)}",
            f"6-4 3-6 7-5 {rng.randint(6, 7)}-{rng.randint(0, 5)}",
        )
    )
