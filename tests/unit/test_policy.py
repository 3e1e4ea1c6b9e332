"""The gates before production: each says what is missing, and lets pass what is as it should be."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmops.core.certificate import Certificate, Check, Stage
from llmops.core.comparison import Comparison, Difference
from llmops.core.errors import RequestError
from llmops.core.findings import Estimate, Inflation
from llmops.core.report import EvalReport, Subject
from llmops.core.version import ModelVersion
from llmops.registry.policy import objections, read_policy
from llmops.registry.register import register
from llmops.store.files import write_json
from llmops.store.workspace import Workspace
from tests.unit.sample_values import Clock, plan, report, share, workspace


@pytest.fixture
def home(tmp_path: Path) -> Workspace:
    return workspace(tmp_path / "home", Clock())


@pytest.fixture
def version(home: Workspace) -> ModelVersion:
    made = report("tuned", share(150, 200))
    home.put(made)
    return register(home, plan("tone"), made, lambda folder: (folder / "weights").write_text("w") and None)


def certify(home: Workspace, version: ModelVersion, value: float = 1.0) -> None:
    check = Check(name="a thing", value=value, limit=2.0)
    stage = Stage(name="served", artefact="an engine", sha256="0", checks=(check,))
    made = Certificate(version=version.ref, rows=1, positions=1, probes=1, stages=(stage,))
    write_json(home.version_folder(version.ref) / "certificate.json", made.to_json())


def compared(version: ModelVersion, **slices: tuple[float, float, float, float]) -> Comparison:
    """A comparison with slices: (difference, low, high, Holm's p)."""
    found = {
        f"domain={name}": Difference(delta=d, low=low, high=high, p=p, adjusted_p=p, n=100, test="bootstrap")
        for name, (d, low, high, p) in slices.items()
    }
    sides = (Subject(kind="tuned", ref="tone:1"), Subject(kind="tuned", ref=version.ref))
    return Comparison(
        suite="su-1",
        metric="accuracy",
        baseline=sides[0],
        challenger=sides[1],
        baseline_report="rp-1",
        challenger_report=version.report,
        overall=Difference(delta=0.1, low=0.05, high=0.15, p=0.001, n=200, test="mcnemar"),
        slices=found,
    )


def test_tuned_weights_need_a_certificate_in_which_no_stage_is_broken(home: Workspace, version: ModelVersion) -> None:
    assert "llmops certify tone:1" in objections(home, version, compared(version))[0]
    certify(home, version, value=3.0)
    assert "breaks where it is served" in objections(home, version, compared(version))[0]
    certify(home, version)
    assert objections(home, version, compared(version)) == []


def test_a_slice_that_is_surely_worse_is_named_and_one_that_may_be_is_not(
    home: Workspace, version: ModelVersion
) -> None:
    certify(home, version)
    found = objections(home, version, compared(version, tweets=(-0.2, -0.3, -0.1, 0.001), films=(-0.1, -0.3, 0.1, 0.6)))
    assert len(found) == 1
    assert "domain=tweets" in found[0]
    assert "films" not in found[0]


def test_a_guardrail_must_be_shown_to_hold(home: Workspace, version: ModelVersion) -> None:
    certify(home, version)
    (home.root / "policy.yaml").write_text("guardrails: {domain=tweets: 0.05, domain=films: 0.05}\n")
    tight, wide = (0.0, -0.02, 0.02, 0.9), (0.0, -0.2, 0.2, 0.9)
    assert objections(home, version, compared(version, tweets=tight, films=tight)) == []
    found = objections(home, version, compared(version, tweets=tight, films=wide))
    assert "domain=films +0.0000" in found[0]
    assert "tweets" not in found[0]
    assert "is no slice" in objections(home, version, compared(version, tweets=tight))[0]


def test_a_score_that_leaks_made_is_no_evidence(home: Workspace, version: ModelVersion) -> None:
    certify(home, version)
    part = Estimate(value=0.9, low=0.8, high=1.0, n=10)
    for low, objected in ((0.01, True), (-0.01, False)):
        by = Estimate(value=0.02, low=low, high=0.03, n=200)
        made = Inflation(metric="accuracy", against="ds-1", leaked=part, clean=part, inflation=by)
        write_json(home.folder(EvalReport, version.report) / "leaks.json", made.to_json())
        assert bool(objections(home, version, compared(version))) == objected


def test_the_policy_is_a_file_that_says_what_it_does_and_refuses_what_it_does_not_know(home: Workspace) -> None:
    assert read_policy(home).certificate
    text = (home.root / "policy.yaml").read_text()
    assert "# tuned weights need a parity certificate" in text
    assert read_policy(home) == read_policy(home)
    (home.root / "policy.yaml").write_text("certificates: true\n")
    with pytest.raises(RequestError, match="is no policy"):
        read_policy(home)
