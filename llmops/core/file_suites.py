"""`FileSuite`: a suite from somebody's own rows, as a YAML file says it or as a command line does."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llmops.core.suites import Asking
from llmops.core.value import Value

Role = Literal["prompt", "expected", "options"]


class FileSuite(Value):
    """Which file, what its columns are, and how its questions are asked."""

    rows: str = Field(min_length=1, description="file of rows; beside the YAML file, unless its path says more")
    columns: dict[Role, str] = Field(
        default_factory=dict, description="which column is prompt, expected and options; by their names if left out"
    )
    asking: Asking = Field(description="how the questions are asked, and how answers are marked")
