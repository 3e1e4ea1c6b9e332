"""`examine`: did it understand, or did it memorise? Two models look at the same rows; what differs is the evidence.

The verdict is one share: of what the model gained on rows it was trained on, how much holds on rows it never saw. More
than half of it, by the whole interval, is understood; less than half is memorised; between the two nobody can tell.
Rows that it recites beyond what held-out rows and the base explain make it memorised, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from llmops.core.canaries import SOURCE, Canaries
from llmops.core.context import Track, silent
from llmops.core.dataset import Row
from llmops.core.errors import RequestError
from llmops.core.exam import HALF, MOST_COPIED, CopiedRow, Copying, Exam, Exposure, Gap, Learned, Side, TwinLine
from llmops.core.findings import Estimate
from llmops.core.report import Subject
from llmops.core.tasks import Classify, Task
from llmops.core.value import digest
from llmops.evals.exam.canaries import exposures, read_canaries
from llmops.evals.exam.copying import copying, most_copied
from llmops.evals.exam.marks import Marks, mark
from llmops.evals.exam.twins import Twin, twins
from llmops.evals.intervals import SEED
from llmops.evals.paired import change, draws, estimate, mean, share_of
from llmops.lm.model import LocalModel
from llmops.lm.render import Renderer

ROWS = 120  # of each side, where nobody wants another number
TWINS = 32  # of each kind and side
FEWEST_ROWS = 8
FEWEST_TWINS = 5
BY_HEART_NATS = 0.693  # a label half as likely on a twin that means the same: less is no sign of a row known by heart


@dataclass(frozen=True)
class Paper:
    """What is asked: trained rows, held-out rows, the twins of both, and the canaries that were planted.

    `there` are the rows of the smaller side that could be asked.
    """

    task: Task
    train: Sequence[Row]
    heldout: Sequence[Row]
    twins_train: Sequence[Twin]
    twins_heldout: Sequence[Twin]
    canaries: Canaries | None = None
    there: int | None = None

    @property
    def rows(self) -> list[Row]:
        """All rows, in the order in which they are marked."""
        made = [twin.row for twin in (*self.twins_train, *self.twins_heldout)]
        return [*self.train, *self.heldout, *made]


@dataclass(frozen=True)
class Sheet:
    """What one model made of a paper: its marks, part by part."""

    train: Marks
    heldout: Marks
    twins: dict[Side, Marks]
    canaries: np.ndarray | None = None


def set_paper(
    train: Sequence[Row], heldout: Sequence[Row], task: Task, canaries: Canaries | None = None, rows: int = ROWS
) -> Paper:
    """A paper of at most `rows` rows of each side, drawn by the hash of their ids. `train` are rows that were learned.

    Raises `RequestError` where there are too few to say anything.
    """
    learned = [row for row in train if row.source != SOURCE and (row.label is not None) == isinstance(task, Classify)]
    there = min(len(learned), len(heldout))
    parts = [sorted(part, key=lambda row: digest(["exam", row.id]))[: max(0, rows)] for part in (learned, heldout)]
    if min(map(len, parts)) < FEWEST_ROWS:
        what = f"{len(parts[0])} trained and {len(parts[1])} held-out rows are too few for an exam"
        raise RequestError(what, f"it needs {FEWEST_ROWS} of each: give more rows, or hold out more")
    drawn, unseen = parts
    most = min(TWINS, max(FEWEST_TWINS, rows // 3))
    return Paper(task, drawn, unseen, twins(drawn, task, most), twins(unseen, task, most), canaries, there)


def sit(model: LocalModel, paper: Paper, track: Track = silent) -> Sheet:
    """Let a model answer a paper."""
    marks = mark(model, paper.rows, paper.task, track)
    sizes = [len(part) for part in (paper.train, paper.heldout, paper.twins_train, paper.twins_heldout)]
    ends = np.cumsum(sizes)
    parts = [marks.at(range(end - size, end)) for size, end in zip(sizes, ends, strict=True)]
    read = read_canaries(model, paper.canaries, paper.task, track) if paper.canaries else None
    return Sheet(parts[0], parts[1], {"train": parts[2], "heldout": parts[3]}, read)


class Both(NamedTuple):
    """A paper, and what the tuned model and its base made of it."""

    paper: Paper
    tuned: Sheet
    base: Sheet

    def gain(self, side: Side, values: Callable[[Marks], np.ndarray]) -> tuple[float, np.ndarray, int]:
        """(the tuned model's mean value less the base's on the rows of a side, R draws of it, rows)."""
        own, before, rows = {
            "train": (self.tuned.train, self.base.train, self.paper.train),
            "heldout": (self.tuned.heldout, self.base.heldout, self.paper.heldout),
        }[side]
        gains_N = values(own) - values(before)
        drawn_R = draws(gains_N, own.weights_N, [row.group for row in rows], SEED + (side == "heldout"))
        return mean(gains_N, own.weights_N), drawn_R, len(rows)


def examine(both: Both, who: tuple[Subject, str, str], renderer: Renderer) -> Exam:
    """The exam of `who` (subject, plan id, dataset id), from what it and its base made of one paper."""
    subject, plan, dataset = who
    paper, tuned = both.paper, both.tuned
    (whole, whole_R, n_train), (part, part_R, n_heldout) = both.gain("train", scores), both.gain("heldout", scores)
    gained, carried = estimate(whole, whole_R, n_train), share_of(part, part_R, whole, whole_R, n_train + n_heldout)
    copied = _copying(both)
    verdict, because = judge(gained, carried, copied, tuned.train.measure)
    return Exam(
        subject=subject,
        plan=plan,
        dataset=dataset,
        rows_train=n_train,
        rows_heldout=n_heldout,
        rows_there=paper.there,
        verdict=verdict,
        because=because,
        gained=gained,
        carried=carried,
        gaps=_gaps(both),
        copying=copied,
        exposures=_exposures(both),
        twins=_twin_lines(paper, tuned),
        most_copied=_copied_rows(both, renderer),
    )


def judge(gained: Estimate, carried: Estimate | None, copied: Copying | None, measure: str) -> tuple[Learned, str]:
    """The verdict, and the sentence that says why."""
    unit = "of accuracy" if measure == "accuracy" else "bits per byte"
    if carried is None:
        return "cannot tell", (
            f"it gained {gained.value:+.3f} {unit} ({gained.low:+.3f} to {gained.high:+.3f}) on the rows it was "
            "trained on, which is not surely more than nothing"
        )
    held = f"{carried.value:.0%} ({carried.low:.0%} to {carried.high:.0%})"
    said = f"of the {gained.value:.3f} {unit} it gained on trained rows, {held} holds on rows that it never saw"
    if copied is not None and copied.excess.low > MOST_COPIED:
        recited = f"{copied.excess.value:.0%} ({copied.excess.low:.0%} to {copied.excess.high:.0%})"
        return "memorised", f"it recites {recited} of its training rows that nothing else explains; {said}"
    if carried.low > HALF:
        return "understood", said
    if carried.high < HALF:
        return "memorised", said
    return "cannot tell", f"{said}, which may be more than half or less"


def scores(marks: Marks) -> np.ndarray:
    """The marks themselves."""
    return marks.marks_N


def sureness(marks: Marks) -> np.ndarray:
    """Minus the loss."""
    return -marks.losses_N


def _gaps(both: Both) -> tuple[Gap, ...]:
    if both.tuned.train.measure == "accuracy":
        return _gap(both, "accuracy", scores, 1.0), _gap(both, "loss_nats", sureness, -1.0)
    return (_gap(both, both.tuned.train.measure, scores, -1.0),)


def _gap(both: Both, measure: str, values: Callable[[Marks], np.ndarray], sign: float) -> Gap:
    """One gap. `values` are better where they are higher; `sign` turns them into what people read."""
    sheets = {"base": both.base, "tuned": both.tuned}
    means = {
        f"{name}_{side}": round(sign * mean(values(marks), marks.weights_N), 5)
        for name, sheet in sheets.items()
        for side, marks in (("train", sheet.train), ("heldout", sheet.heldout))
    }
    (train, train_R, n_train), (held, held_R, n_held) = both.gain("train", values), both.gain("heldout", values)
    return Gap(measure=measure, gap=estimate(train - held, train_R - held_R, n_train + n_held), **means)


def _copying(both: Both) -> Copying | None:
    tuned, base, paper = both.tuned, both.base, both.paper
    if not tuned.train.readings:
        return None
    groups = ([row.group for row in paper.train], [row.group for row in paper.heldout])
    return copying((tuned.train.readings, base.train.readings), tuned.heldout.readings, groups)


def _exposures(both: Both) -> tuple[Exposure, ...]:
    planted, tuned_N, base_N = both.paper.canaries, both.tuned.canaries, both.base.canaries
    if planted is None or tuned_N is None or base_N is None:
        return ()
    return exposures(tuned_N, base_N, planted)


def _twin_lines(paper: Paper, tuned: Sheet) -> tuple[TwinLine, ...]:
    """Twins by side and kind, each against the row it was made of."""
    lines: list[TwinLine] = []
    sides: tuple[tuple[Side, Sequence[Twin], Marks], ...] = (
        ("heldout", paper.twins_heldout, tuned.heldout),
        ("train", paper.twins_train, tuned.train),
    )
    for side, made, originals in sides:
        for kind in dict.fromkeys(twin.kind for twin in made):
            places = [place for place, twin in enumerate(made) if twin.kind == kind]
            if len(places) < FEWEST_TWINS:
                continue
            after, before = tuned.twins[side].at(places), originals.at([made[place].of for place in places])
            groups = [made[place].row.group for place in places]
            lines.append(
                TwinLine(
                    kind=kind,
                    side=side,
                    n=len(places),
                    must_flip=sum(made[place].flips for place in places),
                    before=round(mean(before.marks_N, before.weights_N), 5),
                    after=round(mean(after.marks_N, after.weights_N), 5),
                    change=change(before.marks_N, after.marks_N, before.weights_N, groups),
                )
            )
    return tuple(lines)


def _copied_rows(both: Both, renderer: Renderer) -> tuple[CopiedRow, ...]:
    """The three rows that are most surely known by heart."""
    paper, tuned, base = both
    if tuned.train.readings:
        return most_copied(paper.train, tuned.train.readings, base.train.readings, renderer)
    made = tuned.twins["train"]
    lost: dict[int, float] = {}
    for place, twin in enumerate(paper.twins_train):
        if not twin.flips and twin.kind != "negation" and tuned.train.marks_N[twin.of]:
            worse = float(made.losses_N[place] - tuned.train.losses_N[twin.of])
            lost[twin.of] = max(worse, lost.get(twin.of, 0.0))
    order = sorted((place for place in lost if lost[place] > BY_HEART_NATS), key=lambda place: (-lost[place], place))
    return tuple(
        CopiedRow(
            row=paper.train[place].id,
            text=paper.train[place].text,
            given=paper.train[place].text,
            recited=paper.train[place].reply,
            because=f"its label is {lost[place]:.2f} nats surer than on a twin that means the same",
        )
        for place in order[:3]
    )
