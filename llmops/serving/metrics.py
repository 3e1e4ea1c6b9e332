"""`Metrics`: what Prometheus may ask. Every label has few values: routes of the table, versions that are served."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmops.core.serving import Exchange

FIRST_TOKEN_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
TOTAL_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """Counters, histograms and two gauges in a registry of their own; `page` is what is scraped."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, routes: frozenset[str]) -> None:
        self._routes = routes
        self._registry = CollectorRegistry()
        self._requests = self._counter("requests", "Requests by route and status.", "route", "status")
        self._answers = self._counter("answers", "Answers by version and how they ended.", "version", "finish")
        self._tokens = self._counter("tokens", "Tokens read (prompt) and said (answer).", "version", "kind")
        self._shadows = self._counter("shadows", "Answers in the shadow of a canary, and those given up.", "outcome")
        self._first = self._histogram("first_token_seconds", "From the request to its first token.", FIRST_TOKEN_S)
        self._total = self._histogram("answer_seconds", "From the request to the end of its answer.", TOTAL_S)

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"llmops_{name}", about, labels, registry=self._registry)

    def _histogram(self, name: str, about: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"llmops_{name}", about, ["version"], buckets=buckets, registry=self._registry)

    def watch(self, name: str, about: str, value: Callable[[], float]) -> None:
        """A gauge that is read when it is asked for."""
        Gauge(f"llmops_{name}", about, registry=self._registry).set_function(value)

    def exchange(self, exchange: Exchange) -> None:
        """Count an answer that is over."""
        version = exchange.version
        self._answers.labels(version, exchange.finish).inc()
        self._tokens.labels(version, "prompt").inc(exchange.prompt_tokens)
        self._tokens.labels(version, "answer").inc(exchange.answer_tokens)
        self._total.labels(version).observe(exchange.total_s)
        if exchange.first_token_s is not None:
            self._first.labels(version).observe(exchange.first_token_s)

    def shadow(self, outcome: str) -> None:
        """Count what became of a question that was to be asked again: same, different, failed or dropped."""
        self._shadows.labels(outcome).inc()

    def request(self, path: str, status: int) -> None:
        """Count a request. A path that is no route is `other`: a stranger must not make new series."""
        self._requests.labels(path if path in self._routes else "other", str(status)).inc()

    def page(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self._registry)


class Counted:
    """Counts every request, those that the guard refuses too. Plain ASGI, outermost."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.metrics.request(scope["path"], message["status"])
            await send(message)

        await self.app(scope, receive, counted)
