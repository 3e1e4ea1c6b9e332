"""The gates before production besides the comparison: one function each, in one table, switched by `policy.yaml`."""

from __future__ import annotations

from collections.abc import Callable

import yaml
from pydantic import ValidationError

from llmops.core.comparison import Comparison, holm
from llmops.core.errors import RequestError
from llmops.core.exam import Exam
from llmops.core.findings import Inflation
from llmops.core.method import PromptTuning
from llmops.core.plan import Plan
from llmops.core.policy import Policy
from llmops.core.report import EvalReport
from llmops.core.version import ModelVersion
from llmops.registry.export import certificate_of
from llmops.store.files import read_json, stored, write_text
from llmops.store.workspace import Workspace

FILE = "policy.yaml"
HEAD = "# What a version must show before it answers as production. Every promotion reads this file.\n"
Z95, ONE_SIDED = 1.959963984540054, 0.025
INFLATION, EXAM = "leaks.json", "exam.json"  # beside a report


def read_policy(workspace: Workspace) -> Policy:
    """The workspace's policy; its file is written with the defaults where it is missing."""
    path = workspace.root / FILE
    if not path.exists():
        write_text(path, HEAD + _spelt(Policy()))
        return Policy()
    try:
        return Policy.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except (yaml.YAMLError, ValidationError) as error:
        known = ", ".join(Policy.model_fields)
        raise RequestError(f"{path} is no policy: {error}", f"mend it, or remove it; it knows: {known}") from error


def _spelt(policy: Policy) -> str:
    fields = type(policy).model_fields
    return "".join(
        f"\n# {fields[name].description}\n{yaml.safe_dump({name: value})}" for name, value in policy.to_json().items()
    )


def objections(workspace: Workspace, version: ModelVersion, comparison: Comparison) -> list[str]:
    """What speaks against the version besides its comparison: what is missing, and what would be enough."""
    policy = read_policy(workspace)
    found = (gate(policy, workspace, version, comparison) for gate in GATES)
    return [objection for objection in found if objection]


def lacks_certificate(workspace: Workspace, version: ModelVersion) -> bool:
    """Whether the policy wants a parity certificate that was not made yet."""
    return _wants_certificate(read_policy(workspace), workspace, version) and not certificate_of(workspace, version)


def _wants_certificate(policy: Policy, workspace: Workspace, version: ModelVersion) -> bool:
    if not policy.certificate or version.kind != "tuned":
        return False
    if version.plan not in workspace.ids(Plan):
        return True
    # No engine can hold a tuned prompt, so it is never served in another form.
    return not isinstance(workspace.get(Plan, version.plan).recipe.method, PromptTuning)


def certificate(policy: Policy, workspace: Workspace, version: ModelVersion, comparison: Comparison) -> str | None:
    """Tuned weights are served in another form than they were measured in."""
    if not _wants_certificate(policy, workspace, version):
        return None
    made = certificate_of(workspace, version)
    if made is None:
        return f"it has no parity certificate; 'llmops certify {version.ref}' makes one"
    return made.because if made.broken else None


def slices(policy: Policy, workspace: Workspace, version: ModelVersion, comparison: Comparison) -> str | None:
    """The overall score may hide a group that is served worse."""
    if not policy.slices:
        return None
    worse = [
        f"{name} {found.delta:+.4f} ({found.low:+.4f} to {found.high:+.4f}, n {found.n})"
        for name, found in comparison.slices.items()
        if found.verdict == "worse"
    ]
    return f"it is worse on {'; '.join(worse)}" if worse else None


def guardrails(policy: Policy, workspace: Workspace, version: ModelVersion, comparison: Comparison) -> str | None:
    """Non-inferior on every slice that is named: the difference is surely above minus its margin (Holm, one-sided)."""
    from scipy.stats import norm

    absent = [name for name in policy.guardrails if name not in comparison.slices]
    if absent:
        return f"the guardrail {absent[0]} is no slice of its comparison; name it in evaluation.slices of the recipe"
    found = {name: comparison.slices[name] for name in policy.guardrails}
    half = {name: max((one.high - one.low) / 2, 1e-12) for name, one in found.items()}
    ps = holm(
        {name: float(norm.sf(Z95 * (one.delta + policy.guardrails[name]) / half[name])) for name, one in found.items()}
    )
    open_ = [
        f"{name} {found[name].delta:+.4f} ({found[name].low:+.4f} to {found[name].high:+.4f}, n {found[name].n}) "
        f"is not shown to be above {-policy.guardrails[name]:+.4f}"
        for name, p in ps.items()
        if p >= ONE_SIDED
    ]
    return f"guardrails: {'; '.join(open_)}; more rows of that slice would show it, if it is so" if open_ else None


def leaks(policy: Policy, workspace: Workspace, version: ModelVersion, comparison: Comparison) -> str | None:
    """A score on rows that were trained on is no evidence."""
    path = workspace.folder(EvalReport, version.report) / INFLATION
    if not policy.leaks or not path.exists():
        return None
    found = stored(Inflation, read_json(path), path)
    if found.inflation is None:
        return "every held-out row leaked into training; hold out others"
    by = found.inflation
    if by.low <= 0:
        return None
    return (
        f"its {found.metric} owes {by.value:+.4f} ({by.low:+.4f} to {by.high:+.4f}) to rows that leaked into training"
    )


def exam(policy: Policy, workspace: Workspace, version: ModelVersion, comparison: Comparison) -> str | None:
    """Whether it understood its rows or memorised them, as far as it was asked."""
    path = workspace.folder(EvalReport, version.report) / EXAM
    if policy.exam == "off" or version.kind != "tuned":
        return None
    if not path.exists():
        wanted = policy.exam == "understood"
        return f"it sat no exam; 'llmops evaluate {version.ref} --exam' asks it" if wanted else None
    sat = stored(Exam, read_json(path), path)
    if sat.verdict == "memorised" or (policy.exam == "understood" and sat.verdict != "understood"):
        return f"its exam says {sat.verdict}: {sat.because}"
    return None


Gate = Callable[[Policy, Workspace, ModelVersion, Comparison], str | None]
GATES: tuple[Gate, ...] = (certificate, slices, guardrails, leaks, exam)
