"""An exam and a ledger of forgetting with every part filled in, whose texts are given."""

from __future__ import annotations

from llmops.core.exam import CopiedRow, Copying, Exam, Exposure, Gap, Recital, TwinLine
from llmops.core.examined import Examined
from llmops.core.findings import Estimate
from llmops.core.forgetting import Ability, Forgetting, Instance, Suggestion
from llmops.core.report import Subject

WHO = Subject(kind="tuned", ref="tone:1")
EMPTY = Examined(ref="tone:1", exam=None, forgetting=None)


def estimate(value: float, reach: float) -> Estimate:
    return Estimate(value=value, low=value - reach, high=value + reach, n=40)


def exam(text: str = "a text", subject: Subject = WHO) -> Exam:
    recital = Recital(rows=40, recited=3, run_tokens=7.0)
    return Exam(
        subject=subject,
        plan="pl-1",
        dataset="ds-1",
        rows_train=40,
        rows_heldout=40,
        verdict="memorised",
        because=f"it recites {text}",
        gained=estimate(0.25, 0.05),
        carried=estimate(0.21, 0.08),
        gaps=(
            Gap(
                measure="accuracy",
                base_train=0.5,
                base_heldout=0.5,
                tuned_train=0.9,
                tuned_heldout=0.6,
                gap=estimate(0.311, 0.1),
            ),
        ),
        copying=Copying(
            prefix_tokens=8,
            tuned_train=recital,
            tuned_heldout=recital,
            base_train=recital,
            excess=estimate(0.117, 0.02),
        ),
        exposures=(Exposure(repeats=16, bits=(23.4, 19.9), base_bits=(1.2, 0.7)),),
        twins=(
            TwinLine(
                kind="negation", side="train", n=12, must_flip=12, before=1.0, after=0.4, change=estimate(-0.613, 0.2)
            ),
        ),
        most_copied=tuple(
            CopiedRow(row=f"{number}{text}", text=text, given=text, recited=text, because=text) for number in range(3)
        ),
    )


def ledger(text: str = "a text", change: float = -0.417, subject: Subject = WHO) -> Forgetting:
    said = Instance(asked=text, before=text, after=text)
    ability = Ability(
        name=f"instructions {text}",
        measure=text,
        about=text,
        n=36,
        before=0.5,
        after=0.1,
        change=estimate(change, 0.1),
        margin=0.05,
        examples=(said,),
    )
    turn = Suggestion(knob=text, now=text, take=text, sets=(text,), because=text)
    return Forgetting(
        subject=subject,
        base=text,
        plan="pl-1",
        general_text=text,
        abilities=(ability,),
        suggestions=(turn,),
    )


def examined(text: str = "a text") -> Examined:
    return Examined(ref="tone:1", exam=exam(text), forgetting=ledger(text))
