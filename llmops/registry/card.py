"""A version's model card, in the form that model hubs read: written from its lineage, nothing by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from llmops.core.dataset import DatasetManifest
from llmops.core.plan import Plan
from llmops.core.report import EvalReport
from llmops.core.tasks import Classify
from llmops.core.version import ModelVersion
from llmops.registry.export import certificate_of
from llmops.registry.register import MODEL_CARD
from llmops.store.files import write_text
from llmops.store.workspace import Workspace


def write_card(workspace: Workspace, version: ModelVersion) -> Path:
    """Write `card.md` beside a version's files, with front matter (base, licence, tags, results). Returns its path."""
    plan, report = workspace.get(Plan, version.plan), workspace.get(EvalReport, version.report)
    manifest = workspace.get(DatasetManifest, version.dataset)
    front = yaml.safe_dump(_front(version, plan, report), sort_keys=False, allow_unicode=True)
    path = workspace.version_folder(version.ref) / MODEL_CARD
    write_text(path, f"---\n{front}---\n\n{_text(workspace, version, plan, report, manifest)}\n")
    return path


def _front(version: ModelVersion, plan: Plan, report: EvalReport) -> dict[str, Any]:
    """The metadata that a hub reads: https://huggingface.co/docs/hub/model-cards."""
    kind = "text-classification" if isinstance(version.task, Classify) else "text-generation"
    results = [{"type": name, "name": name, "value": round(score.value, 6)} for name, score in report.scores.items()]
    return {
        "base_model": version.base,
        "library_name": "peft" if version.kind == "tuned" and plan.recipe.method.kind != "full" else "llmops",
        "license": "other",
        "license_name": plan.base.licence or "unknown",
        "pipeline_tag": kind,
        "tags": ["llmops", plan.recipe.method.kind if version.kind == "tuned" else version.kind],
        "model-index": [
            {
                "name": version.ref,
                "results": [
                    {
                        "task": {"type": kind},
                        "dataset": {"name": version.name, "type": version.dataset},
                        "metrics": results,
                    }
                ],
            }
        ],
    }


def _text(
    workspace: Workspace, version: ModelVersion, plan: Plan, report: EvalReport, manifest: DatasetManifest
) -> str:
    lines = [f"# {version.ref}", "", plan.recipe.about or f"A model of the recipe {version.name}.", ""]
    lines += ["## Measured", "", f"On {len(report.answers)} held-out rows of `{version.dataset}`:", ""]
    lines += ["| measure | score | 95 % interval | n |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {score.value:.4f} | {score.low:.4f} to {score.high:.4f} | {score.n} |"
        for name, score in report.scores.items()
    ]
    if found := version.abstention:
        lines += ["", "## Where it gives no label", ""]
        lines += [
            f"Below a probability of {found.threshold or 0:.4f}. Of the {found.n:,} held-out rows it answers "
            f"{found.answered:.1%}, and {found.wrong} of {found.n_answered:,} wrongly: with 95 % confidence at most "
            f"{found.error:.1%} of its labels are wrong, for rows like these."
        ]
    certificate = certificate_of(workspace, version)
    if certificate is not None:
        lines += ["", "## Served as trained?", "", certificate.because]
    lines += ["", "## Where it comes from", ""]
    lines += [f"- base: {version.base}, sha256 `{version.base_sha256}`, {plan.base.licence or 'licence unknown'}"]
    lines += [f"- rows: {source.from_}, {source.licence or 'licence unknown'}" for source in manifest.sources]
    made = f"adopted from the folder {version.adopted!r}" if version.adopted else f"run `{version.run}`"
    lines += [f"- recipe `{version.recipe}`, plan `{version.plan}`, {made}, report `{version.report}`"]
    lines += [
        f"- code {version.code_commit or 'of a release'}; {', '.join(f'{k} {v}' for k, v in version.packages.items())}"
    ]
    lines += ["", "## Files", "", *(f"- `{name}` `{sha256}`" for name, sha256 in version.files.items())]
    return "\n".join(lines)
