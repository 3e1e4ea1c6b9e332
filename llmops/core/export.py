"""`Export`: a version's weights as another program reads them."""

from __future__ import annotations

from typing import Literal, cast, get_args

from pydantic import Field

from llmops.core.errors import RequestError
from llmops.core.value import Value

# What a GGUF file mostly holds: bits a weight 16, 16, 8.5, 6, 5.5, 5 and 4.5.
Weights = Literal["f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]
# What answers behind an endpoint.
EngineName = Literal["llama.cpp", "vLLM", "transformers"]
ExportForm = Literal[
    "adapter",
    "safetensors",
    "gguf-f16",
    "gguf-bf16",
    "gguf-q8_0",
    "gguf-q5_1",
    "gguf-q5_0",
    "gguf-q4_1",
    "gguf-q4_0",
    "ollama",
]
# What the GGUF file of a form holds.
HOLDS: dict[ExportForm, Weights] = {
    "gguf-f16": "f16",
    "gguf-bf16": "bf16",
    "gguf-q8_0": "q8_0",
    "gguf-q5_1": "q5_1",
    "gguf-q5_0": "q5_0",
    "gguf-q4_1": "q4_1",
    "gguf-q4_0": "q4_0",
    "ollama": "q8_0",
}
# Types of llama.cpp that the `gguf` library reads and cannot write, by how their names begin.
READ_ONLY = ("q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq")


def known_form(said: str) -> ExportForm:
    """The form of this name. Raises `RequestError` for another, with the reason where llama.cpp has such a one."""
    if said in get_args(ExportForm):
        return cast(ExportForm, said)
    if said.lower().removeprefix("gguf-").startswith(READ_ONLY):
        raise RequestError(
            f"{said} cannot be written here: the gguf library reads that type and has no quantiser for it",
            "take gguf-q5_0 or gguf-q4_0, or export gguf-f16 and run llama.cpp's own llama-quantize on it, uncertified",
        )
    raise RequestError(f"there is no form {said!r}", f"forms: {', '.join(get_args(ExportForm))}")


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
    prompts: int | None = Field(None, description="held-out prompts that its template rendered; None: it has none")
    prompts_differ: int = Field(0, description="of them, those that are other tokens than in training")
    system: str | None = Field(None, description="system prompt before every conversation in training; send it along")
    how: str = Field(description="the command that uses it")
