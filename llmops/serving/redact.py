"""`redact`: e-mail addresses and long digit runs (telephone, card) out of a text before it is written."""

from __future__ import annotations

import re

# Linear time: every repetition is bounded or cannot overlap with what follows it.
EMAIL = re.compile(r"""[^\s@<>()\[\],;:"']{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}""")
# Seven digits or more, with up to three of the usual separators between two of them. A date goes too: better so.
NUMBER = re.compile(r"\+?\d(?:[ ().\u00a0/-]{0,3}\d){6,}")


def redact(text: str) -> str:
    """`text` with `[e-mail]` and `[number]` in place of addresses and of runs of seven digits or more."""
    return NUMBER.sub("[number]", EMAIL.sub("[e-mail]", text))
