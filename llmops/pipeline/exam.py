"""The exam: the tuned model and its base before one paper of trained rows, held-out rows and their twins."""

from __future__ import annotations

from llmops.core.dataset import Row
from llmops.core.exam import Exam
from llmops.core.plan import Plan
from llmops.core.report import EvalReport
from llmops.pipeline.examined import EXAM, check_can_sit
from llmops.pipeline.judge import report_of
from llmops.pipeline.pages import renew_pages
from llmops.pipeline.subjects import subject_of
from llmops.store.files import write_json
from llmops.store.workspace import Workspace


def examine(ref: str, at: Workspace, rows: int | None = None) -> Exam:
    """Did a run or version understand its rows, or memorise them? Kept beside its report; its pages are written anew.

    `rows` of each side are asked at most. Raises `RequestError` where there is nothing that sft taught a tuned model.
    """
    from llmops.evals.exam.examine import ROWS, Both, set_paper, sit
    from llmops.evals.exam.examine import examine as judge
    from llmops.planning.bases import open_model

    subject, plan, folder = subject_of(ref, at)
    check_can_sit(subject, plan)
    data = plan.recipe.data
    paper = set_paper(
        learned(plan, at), at.rows(plan.dataset, "heldout"), plan.recipe.task, data.canaries, rows or ROWS
    )
    at.world.say(f"the exam: {len(paper.rows):,} rows and twins, read by the base and by {subject.ref}")
    base = sit(open_model(plan, None, at.world), paper, at.world.track)
    model = open_model(plan, folder, at.world)
    tuned = sit(model, paper, at.world.track)
    made = judge(Both(paper, tuned, base), (subject, plan.id, plan.dataset), model.renderer)
    write_json(at.folder(EvalReport, report_of(ref, at).id) / EXAM, made.to_json())
    renew_pages(subject, at)
    return made


def learned(plan: Plan, at: Workspace) -> list[Row]:
    """The training rows of the task that the plan learns from: those that are watched, too long or replayed apart."""
    spared, replay = {*plan.watched, *plan.left_out}, plan.recipe.data.replay
    rows = at.rows(plan.dataset, "train")
    return [row for row in rows if row.id not in spared and not (replay and row.source == replay.source.from_)]
