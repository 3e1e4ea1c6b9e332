"""`Examined`: what was asked of a tuned model besides its score, and what is still to ask."""

from __future__ import annotations

from pydantic import Field

from llmops.core.exam import Exam
from llmops.core.forgetting import Forgetting
from llmops.core.value import Value


class Examined(Value):
    """The exam and the ledger of forgetting of one tuned model, where there are; else the command that makes them."""

    ref: str = Field(description="what commands call it by")
    exam: Exam | None
    forgetting: Forgetting | None
    cannot_sit: str | None = Field(None, description="why no exam can be made of it")

    @property
    def ask_exam(self) -> str:
        """The command that makes the exam."""
        return f"llmops evaluate {self.ref} --exam"

    @property
    def ask_forgetting(self) -> str:
        """The command that makes the ledger."""
        return f"llmops evaluate {self.ref} --forgetting"
