"""`Export`: a version's weights as another program reads them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llmops.core.value import Value

ExportForm = Literal["adapter", "safetensors", "gguf-f16", "gguf-q8_0", "ollama"]


class Export(Value):
    """What was written where: written beside the files as `export.json`."""

    version: str
    form: ExportForm
    folder: str
    base: str
    base_sha256: str
    files: dict[str, str] = Field(description="file: sha256")
    certificate: str | None = Field(None, description="id of the version's parity certificate")
    certified: bool | None = Field(None, description="whether this form passed in it; None: that form is not in it")
    system: str | None = Field(None, description="system prompt before every conversation in training; send it along")
    how: str = Field(description="the command that uses it")
