"""`redact`: private data and long digit runs out of a text before it is written."""

from __future__ import annotations

import re

from llmops.core.private import LONGEST_SCANNED, find_private, replace_spans

# Seven digits or more, with up to three of the usual separators between two of them. A date goes too: better so here,
# where nobody looks at what is kept before it is kept.
NUMBER = re.compile(r"\+?\d(?:[ ().\u00a0/-]{0,3}\d){6,}")


def redact(text: str) -> str:
    """`text` with `[EMAIL]`, `[PHONE]` and the like for what is found, `[NUMBER]` for other runs of seven digits.

    Linear time. What stands behind a million characters is cut off: it could not be looked at.
    """
    seen = text[:LONGEST_SCANNED]
    return NUMBER.sub("[NUMBER]", replace_spans(seen, find_private(seen)))
