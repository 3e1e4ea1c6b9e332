"""`openapi`: the endpoint described for machines, from the same types that check its requests."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from llmops.serving.requests import ChatRequest, ClassifyRequest, CompletionRequest, FeedbackRequest

Json = dict[str, Any]
REFS = "#/components/schemas/{model}"
# What is asked, by path, and in words.
POSTS: dict[str, tuple[type[BaseModel], str]] = {
    "/v1/chat/completions": (ChatRequest, "An answer to a conversation, streamed or whole."),
    "/v1/completions": (CompletionRequest, "Running text, gone on with."),
    "/v1/classify": (ClassifyRequest, "The label of a text, or of several."),
    "/v1/feedback": (FeedbackRequest, "What a person says of an answer."),
}
GETS = {
    "/healthz": "Says that somebody answers. Open to everyone.",
    "/v1/models": "Every name that a request may ask for.",
    "/metrics": "Counters and histograms for Prometheus.",
    "/openapi.json": "This description.",
}
STATUSES = {
    400: "The request is wrong: no strict JSON, an unknown field, a value out of bounds, a prompt that is too long.",
    401: "The token is missing or wrong.",
    403: "A foreign Host or Origin.",
    404: "There is no such model or exchange.",
    405: "Another method.",
    408: "The body came too slowly.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    429: "The queue is full; Retry-After says when to ask again.",
}


def openapi() -> Json:
    """An OpenAPI 3.1 document."""
    kinds = [(kind, "validation") for kind, _ in POSTS.values()]
    _, schemas = models_json_schema(kinds, ref_template=REFS)  # type: ignore[arg-type]
    refused = {str(status): {"description": about} for status, about in STATUSES.items()}
    paths: Json = {path: {"get": _operation(about, refused)} for path, about in GETS.items()}
    for path, (kind, about) in POSTS.items():
        schema = {"$ref": REFS.format(model=kind.__name__)}
        body = {"required": True, "content": {"application/json": {"schema": schema}}}
        paths[path] = {"post": {**_operation(about, refused), "requestBody": body}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "llmops", "version": "1"},
        "paths": paths,
        "components": {"schemas": schemas["$defs"], "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{"token": []}],
    }


def _operation(about: str, refused: Json) -> Json:
    return {"summary": about, "responses": {"200": {"description": "Done."}, **refused}}
