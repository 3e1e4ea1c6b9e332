"""`Guard`: who may ask at all. Plain ASGI, so that the gateway and the app stand behind the same door."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
Headers = list[tuple[bytes, bytes]]


def sha256(text: str) -> bytes:
    """The digest that stands in for a secret in memory."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


@dataclass(frozen=True)
class Rules:
    """What the guard holds everyone to.

    `token_sha256` None lets everyone in who passes the Host and Origin check. `cookie` names the cookie of an app:
    then `?token=` is taken once, exchanged for it, and taken out of the address. A gateway has no cookie and reads
    only `Authorization`.
    """

    token_sha256: bytes | None
    hosts: frozenset[str] = LOOPBACK
    open_paths: frozenset[str] = frozenset()
    cookie: str | None = None


class Guard:
    """Refuses a foreign `Host` (DNS rebinding), a foreign `Origin` (another site's page), a missing token."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self.app = app
        self.rules = rules
        # Derived, so that a page on another port of this host that reads the cookie does not learn the token.
        self._session = None if rules.token_sha256 is None else hashlib.sha256(b"session" + rules.token_sha256)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        refusal = self._foreign(scope)
        if refusal is None and not self._may_enter(scope):
            if self._has_token_in_address(scope):
                await self._exchange_token(scope, send)
                return
            how = "Open the printed link." if self.rules.cookie else "Send it as 'Authorization: Bearer TOKEN'."
            refusal = (401, "invalid_api_key", f"The token is missing or wrong. {how}")
        if refusal is None:
            await self.app(scope, receive, send)
        else:
            await _refuse(scope, receive, send, refusal)

    def _foreign(self, scope: Scope) -> tuple[int, str, str] | None:
        hosts = _all(scope, b"host")
        name = _host_name(hosts[0]) if len(hosts) == 1 else None
        if name not in self.rules.hosts:
            return 403, "host_not_allowed", "This Host is not served. Use 127.0.0.1, or start with --allowed-host."
        origins = _all(scope, b"origin")
        if any(not _same_origin(origin, hosts[0]) for origin in origins):
            return 403, "origin_not_allowed", "Pages of another origin may not ask. Ask from a program."
        return None

    def _may_enter(self, scope: Scope) -> bool:
        if self.rules.token_sha256 is None or scope["path"] in self.rules.open_paths:
            return True
        for value in _all(scope, b"authorization"):
            scheme, _, token = value.partition(" ")
            if scheme.lower() == "bearer" and hmac.compare_digest(sha256(token.strip()), self.rules.token_sha256):
                return True
        return self._has_session(scope)

    def _has_session(self, scope: Scope) -> bool:
        if self.rules.cookie is None or self._session is None:
            return False
        for value in _all(scope, b"cookie"):
            try:
                found = SimpleCookie(value).get(self.rules.cookie)
            except CookieError:
                continue
            if found is not None and hmac.compare_digest(sha256(found.value), sha256(self._session.hexdigest())):
                return True
        return False

    def _has_token_in_address(self, scope: Scope) -> bool:
        if self.rules.cookie is None or self.rules.token_sha256 is None or scope.get("method") != "GET":
            return False
        given = dict(parse_qsl(scope["query_string"].decode("latin-1"))).get("token", "")
        return hmac.compare_digest(sha256(given), self.rules.token_sha256)

    async def _exchange_token(self, scope: Scope, send: Send) -> None:
        assert self._session is not None
        query = [pair for pair in parse_qsl(scope["query_string"].decode("latin-1")) if pair[0] != "token"]
        # One leading slash only: `//host/` would lead elsewhere.
        path = "/" + scope.get("raw_path", scope["path"].encode()).decode("latin-1").lstrip("/\\")
        target = f"{path}?{urlencode(query)}" if query else path
        cookie = f"{self.rules.cookie}={self._session.hexdigest()}; Path=/; HttpOnly; SameSite=Strict"
        headers = [(b"location", target.encode("latin-1")), (b"set-cookie", cookie.encode())]
        await _respond(send, 303, headers, b"")


def _all(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _host_name(host: str) -> str | None:
    """The name without its port, in lower case; None for what is no host at all."""
    try:
        parts = urlsplit(f"//{host}")
        bare = parts.netloc == host and "@" not in host
        return parts.hostname if bare and (parts.port is None or parts.port > 0) else None
    except ValueError:
        return None


def _same_origin(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and parts.netloc.lower() == host.lower()


async def _refuse(scope: Scope, receive: Receive, send: Send, refusal: tuple[int, str, str]) -> None:
    status, code, message = refusal
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": message[:120]})
        return
    headers: Headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    error: dict[str, Any] = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    await _respond(send, status, headers, json.dumps({"error": error}).encode())


async def _respond(send: Send, status: int, headers: Headers, body: bytes) -> None:
    headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
