"""The verbs of a canary: a version tried on a part of the people before it is promoted."""

from __future__ import annotations

from llmops.core.canary import CanaryReading, CanaryStarted, How
from llmops.core.errors import RequestError
from llmops.store.workspace import Workspace


def canary(name: str, at: Workspace) -> CanaryReading:
    """What people say of the last canary of `name`. One that runs is rolled back where the thumbs say so."""
    from llmops.registry.canary import read, settle

    return settle(at, name) or read(at, name)


def on_trial(name: str, at: Workspace) -> CanaryReading | None:
    """What people say of the canary that runs; None where none runs. Nothing is ended by looking."""
    from llmops.registry.canary import read, running

    return read(at, name) if running(at, name) else None


def start_canary(
    version_ref: str, at: Workspace, share: float = 0.1, alpha: float = 0.05, because: str = "", how: How = "split"
) -> CanaryStarted:
    """Let a version answer `share` of the conversations beside production, until thumbs or a person end it.

    `alpha` is the chance that a version no worse than production is ever rolled back, however often one looks. In the
    shadow the version is asked the same a second time when nobody waits, and its answers are recorded and not given.
    An endpoint that serves the name follows within a second or two, once the version is loaded.
    """
    from llmops.registry.canary import start
    from llmops.registry.names import resolve

    if ":" not in version_ref:
        raise RequestError(f"{version_ref!r} names no one version", "name its number, as in tone:3")
    return start(at, resolve(at, version_ref), share, alpha, because, how)


def stop_canary(name: str, at: Workspace, because: str = "") -> CanaryReading:
    """End the canary of `name`: production answers everything again."""
    from llmops.registry.canary import stop

    return stop(at, name, because)
