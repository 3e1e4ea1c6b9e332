"""What comes in: a body within its bounds, strict JSON, a known type. And how a refusal goes out."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from llmops.serving import strict_json
from llmops.serving.wire import ApiError, AsciiJSON, invalid

BODY_BYTES = 1024 * 1024
SMALL_BYTES = 16 * 1024
B = TypeVar("B", bound=BaseModel)


async def read_body(request: Request, within_s: float) -> bytes:
    """The body of a JSON request. Raises `ApiError` for another type (415), too many bytes (413), too slow (408)."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(415, "unsupported_media_type", "Send JSON, with the header Content-Type: application/json.")
    too_large = ApiError(413, "body_too_large", f"The body may have {BODY_BYTES:,} bytes. Send less.")
    if int(request.headers.get("content-length", "0")) > BODY_BYTES:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(within_s):
            async for part in request.stream():
                body += part
                if len(body) > BODY_BYTES:
                    raise too_large
    except TimeoutError:
        raise ApiError(408, "body_too_slow", f"The body took more than {within_s:.0f} s. Send it faster.") from None
    return bytes(body)


async def asked(kind: type[B], request: Request, within_s: float) -> B:
    """The body of a request as `kind`; a large one is read beside the event loop.

    A mebibyte of small objects takes 150 ms to parse and check, 16 KiB of them 2. Raises as `read_body` and `checked`.
    """
    body = await read_body(request, within_s)
    return checked(kind, body) if len(body) <= SMALL_BYTES else await asyncio.to_thread(checked, kind, body)


def checked(kind: type[B], body: bytes) -> B:
    """The body as `kind`. Raises `ApiError` 400 for what is no strict JSON, an unknown field, or out of bounds."""
    try:
        strict_json.parse(body)
    except ValueError as error:
        raise ApiError(400, "invalid_json", f"The body is no strict JSON: {error}") from error
    try:
        return kind.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise invalid(error) from error


async def say_no(_: Request, error: Exception) -> Response:
    """Every refusal in OpenAI's shape. An unread body ends the connection, so that nobody waits for the rest of it."""
    if isinstance(error, HTTPException):
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
        error = ApiError(error.status_code, code, str(error.detail))
    if isinstance(error, ClientDisconnect):
        return Response(status_code=499)
    if not isinstance(error, ApiError):
        error = ApiError(500, "internal_error", "Something went wrong here. Ask again.")
    headers = {}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(error.retry_after_s)
    if error.status in {408, 413, 415}:
        headers["connection"] = "close"
    return AsciiJSON(error.body(), status_code=error.status, headers=headers)
