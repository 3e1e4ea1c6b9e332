"""How answers are sent: refusals in OpenAI's shape, server-sent events, and JSON that any text survives."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError
from starlette.responses import Response

Json = dict[str, Any]


class ApiError(Exception):
    """A refusal with its HTTP status, OpenAI's error code and the field that is to blame.

    `retry_after_s` says when asking again may help.
    """

    def __init__(
        self, status: int, code: str, message: str, param: str | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.retry_after_s = retry_after_s

    def body(self) -> Json:
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


def invalid(error: ValidationError) -> ApiError:
    """The first thing that is wrong with a request, with the field that it stands in."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return ApiError(400, "invalid_value", f"{place}: {first['msg']}" if place else first["msg"], place or None)


def event(data: Json) -> bytes:
    """A server-sent event. ASCII only: no reader can take U+2028 for the end of a line."""
    return b"data: " + json.dumps(data, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n\n"


DONE = b"data: [DONE]\n\n"


class AsciiJSON(Response):
    """JSON in ASCII: there is no text that it cannot encode."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False).encode("ascii")
