"""`Proof`: does this check work? Faults injected, faults found, false alarms on clean cases, and the goal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, computed_field

from llmops.core.value import Value

Size = Literal["ci", "soak"]


class CheckResult(Value):
    """One check, tried on `of` injected faults and `clean` clean cases.

    `goal` says what had to be reached, as a person reads it; `passed` whether it was.
    """

    name: str
    found: int = Field(ge=0)
    of: int = Field(ge=0)
    false_alarms: int = Field(0, ge=0)
    clean: int = Field(0, ge=0)
    goal: str
    passed: bool
    note: str = Field("", description="the figure behind the verdict, and what was missed")


class Proof(Value):
    """Every check of the rooms that were asked."""

    checks: tuple[CheckResult, ...]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def passed(self) -> bool:
        """Whether every goal is met."""
        return all(check.passed for check in self.checks)


def caught(name: str, found: int, of: int, false_alarms: int = 0, clean: int = 0, note: str = "") -> CheckResult:
    """The usual goal: every fault found, no clean case refused."""
    return CheckResult(
        name=name,
        found=found,
        of=of,
        false_alarms=false_alarms,
        clean=clean,
        goal=f"{of}/{of}" + (f", 0 false alarms of {clean}" if clean else ""),
        passed=found == of and false_alarms == 0,
        note=note,
    )


def found_out(name: str, faults: Mapping[str, CheckResult]) -> CheckResult:
    """Planted faults, each put through the check of what is right: that check must fail on every one of them."""
    missed = [fault for fault, result in faults.items() if result.passed]
    said = missed or [f"{fault}: {result.note}".removeprefix(": ") for fault, result in faults.items()]
    return caught(name, len(faults) - len(missed), len(faults), note="; ".join(said))


def covers(name: str, held: int, of: int) -> CheckResult:
    """The goal of every interval of 95 %: of simulations, the share that holds the truth."""
    return CheckResult(
        name=name,
        found=held,
        of=of,
        goal="the truth inside 93 to 97 % of them",
        passed=0.93 <= held / of <= 0.97,
        note=f"{100 * held / of:.1f} %",
    )
