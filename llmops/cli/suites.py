"""The options of `evaluate` that name a suite, and say how a file of questions is asked."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from llmops.core.errors import RequestError

if TYPE_CHECKING:
    from llmops.pipeline.file_suites import Own, Wanted

PANEL = "A suite"


@dataclass(frozen=True)
class SuiteOptions:
    """Which questions, and how they are asked and marked."""

    suite: Annotated[
        str | None,
        Option(
            "--suite",
            metavar="NAME|FILE",
            help="An exam (llmops list suites), questions of yours (JSONL, CSV …), a suite in YAML, a data set.",
            rich_help_panel=PANEL,
        ),
    ] = None
    examples: Annotated[
        str,
        Option(
            "--examples",
            metavar="N|drawn:N",
            help="Answered questions in front: the same for all, or drawn for each.",
            rich_help_panel=PANEL,
        ),
    ] = "0"
    rows: Annotated[
        int | None,
        Option("--rows", metavar="N", help="Ask only so many of the questions.", rich_help_panel=PANEL),
    ] = None
    scorer: Annotated[
        str | None,
        Option(
            "--scorer",
            metavar="NAME|FILE",
            help="How answers are marked: exact, includes, number … (llmops list scorers); SCHEMA.json; "
            "FILE.py:function or a program of yours, which then runs.",
            rich_help_panel=PANEL,
        ),
    ] = None
    sets: Annotated[
        list[str] | None,
        Option(
            "--set",
            metavar="FIELD=VALUE",
            help="Change how it is asked: scorer.tolerance=0.1, sampling.max_tokens=64, samples=4.",
            rich_help_panel=PANEL,
        ),
    ] = None
    columns: Annotated[
        list[str] | None,
        Option(
            "--column",
            metavar="ROLE=NAME",
            help="Which column of the file is prompt, expected or options.",
            rich_help_panel=PANEL,
        ),
    ] = None
    to_lm_eval: Annotated[
        Path | None,
        Option(
            "--to-lm-eval",
            metavar="DIR",
            help="Ask nobody: write the suite as a task of EleutherAI's lm-eval into this folder.",
            rich_help_panel=PANEL,
        ),
    ] = None
    from_lm_eval: Annotated[
        Path | None,
        Option(
            "--from-lm-eval",
            metavar="FILE",
            help="Ask nobody: read what lm-eval found (results_DATE.json, its --log_samples beside it) as reports.",
            rich_help_panel=PANEL,
        ),
    ] = None
    trust: Annotated[
        list[Path] | None,
        Option(
            "--trust",
            metavar="FILE",
            help="Code of yours that a suite in YAML names may run: its scorer's function or program.",
            rich_help_panel=PANEL,
        ),
    ] = None

    def check_nothing_is_asked(self) -> None:
        """Raise `RequestError` where an option of a suite is given and no suite."""
        given = [field.name for field in fields(self) if getattr(self, field.name) != field.default]
        if given:
            option = {"sets": "set", "columns": "column"}.get(given[0], given[0]).replace("_", "-")
            raise RequestError(f"--{option} is about a suite, and none is named", "name one: --suite NAME or FILE")

    def own(self) -> tuple[Wanted, Own]:
        """How a file is asked, and what may run."""
        from llmops.pipeline.file_suites import Own, Wanted

        columns = {}
        for said in self.columns or ():
            role, equals, name = said.partition("=")
            if not equals or role not in ("prompt", "expected", "options"):
                raise RequestError(f"--column {said} is no column", "write --column expected=NAME (or prompt, options)")
            columns[role] = name
        return Wanted(self.scorer, tuple(self.sets or ()), columns), Own(tuple(self.trust or ()))
