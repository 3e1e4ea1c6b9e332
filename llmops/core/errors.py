"""The one error a person is meant to read: what happened, and what to do about it."""

from __future__ import annotations


class LlmopsError(Exception):
    """A failure with a way out. Edges print it as two lines and nothing else.

    `what` says what happened, `fix` what to do next. `exit_code` is 1 where the work failed or a gate
    refused; `RequestError` below is the same thing for a request that was wrong from the start.
    """

    exit_code = 1

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.what}\n{self.fix}"


class Interrupted(LlmopsError):
    """The work was stopped before its end, by a person or a signal. What was done is kept; `fix` goes on with it."""

    exit_code = 130  # what a shell expects of a program that Ctrl-C ended


class RequestError(LlmopsError):
    """The request itself was wrong: a bad recipe, an unknown name, a missing column. Nothing was written."""

    exit_code = 2


class Refusal(LlmopsError):
    """A gate said no, on evidence. The refusal is recorded before this is raised."""
