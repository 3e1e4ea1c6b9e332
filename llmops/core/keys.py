"""Keys, tokens and passwords in a text, by the beginnings that their makers gave them. RE2: linear time."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

# Beginnings by which a key is known, and what may follow.
ISSUED = (
    r"\b(?:AKIA|ASIA|AGPA|AIDA|AROA)[A-Z0-9]{16}\b",  # Amazon
    r"\b(?:ghp|gho|ghu|ghs|ghr)_[A-Za-z0-9]{36,}",  # GitHub
    r"\bgithub_pat_[A-Za-z0-9_]{40,}",
    r"\bglpat-[A-Za-z0-9_-]{20,}",  # GitLab
    r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",  # Slack
    r"\bhooks\.slack\.com/services/[A-Za-z0-9/]{20,}",
    r"\b[sr]k_(?:live|test)_[A-Za-z0-9]{16,}",  # Stripe
    r"\bAIza[A-Za-z0-9_-]{35}",  # Google
    r"\bya29\.[A-Za-z0-9_-]{20,}",
    r"\bsk-(?:ant-|proj-|or-|svcacct-)?[A-Za-z0-9_-]{20,}",  # OpenAI, Anthropic, OpenRouter
    r"\bhf_[A-Za-z0-9]{30,}",  # Hugging Face
    r"\bnpm_[A-Za-z0-9]{36}",
    r"\bpypi-[A-Za-z0-9_-]{16,}",
    r"\bdop_v1_[a-f0-9]{64}",  # DigitalOcean
    r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",  # SendGrid
    r"\b\d{8,10}:AA[A-Za-z0-9_-]{33}",  # Telegram
    r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",  # JSON web token
    r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----(?s:.*?)(?:-----END (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----|$)",
)
# A value that stands behind its name: `password: …`, `api_key="…"`, `Bearer …`; and `scheme://user:password@host`.
NAMED = (
    r"(?i)\b(?:(?:[a-z0-9]+[_-])*(?:api[ _-]?key|secret(?:[ _-]?key)?|access[ _-]?key|auth[ _-]?token|access[ _-]?token"
    r"|private[ _-]?key|token|passw(?:or)?d|passwort|pwd))[\"']?[ \t]*(?:[:=]|=>|\bis\b)[ \t]*[\"'`]?"
    r"([^\s\"'`,;<>(){}\[\]]{8,})",
    r"(?i)\bbearer[ \t]+([A-Za-z0-9._~+/=-]{16,})",
)
IN_ADDRESS = r"\b[a-z][a-z0-9+.-]*://[^\s/:@]*:([^\s/@]{3,})@"
KEY_GATE = (
    r"(?i:AKIA|ASIA|AGPA|AIDA|AROA|gh[pours]_|github_pat_|glpat-|xox[abeoprs]-|slack\.com/services|k_live_|k_test_|AIza|ya29"
    r"|sk-|hf_|npm_|pypi-|dop_v1_|SG\.|:AA|eyJ|PRIVATE KEY|key|secret|token|passw|pwd|bearer|://[^\s/]*@)"
)


def find_keys(text: str) -> Iterator[tuple[int, int]]:
    """Where keys, tokens and passwords stand: of a named one its value only."""
    if not _compiled(KEY_GATE).search(text):
        return
    for match in _compiled("|".join(ISSUED)).finditer(text):
        yield match.start(), match.end()
    for match in _compiled(IN_ADDRESS).finditer(text):
        yield match.start(1), match.end(1)
    for pattern in NAMED:
        for match in _compiled(pattern).finditer(text):
            if _is_secret(match.group(1)):
                yield match.start(1), match.end(1)


def _is_secret(value: str) -> bool:
    """Whether a value looks drawn by lot, or chosen as a password is: letters with digits or signs, and no path."""
    letters = any(character.isalpha() for character in value)
    digits = any(character.isdigit() for character in value)
    signs = any(character in "!#$%&*+?@^~" for character in value)
    return (
        letters and (digits or signs) and "://" not in value and not value.startswith(("$", "%", "/", "./", "[", "{"))
    )


@cache
def _compiled(pattern: str) -> Any:
    import re2  # late: most commands need none

    return re2.compile(pattern)
