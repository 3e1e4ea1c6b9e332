"""Floor 3: one function a verb. The only folder that sees more than one room: values go from door to door here.

Every verb takes the workspace as `at` and leaves there what it made. Rooms are opened late, because some are heavy.
"""

from llmops.pipeline.experiments import abstention, board, calibrate, line_up, power, slices
from llmops.pipeline.judge import compare, evaluate, measure_cheap, pick, promote, register, rollback
from llmops.pipeline.life import run
from llmops.pipeline.load import measure_load
from llmops.pipeline.look import inspect_dropped, inspect_reply, inspect_row, inspect_set, listing, outcome, show
from llmops.pipeline.make import load, new, plan, prepare, stop, train
from llmops.pipeline.people import card, correct, write_note
from llmops.pipeline.prove import prove
from llmops.pipeline.seeds import train_seeds
from llmops.pipeline.sweep import sweep, vary
from llmops.pipeline.use import ask_held_out, chat, curate, feedback, health, predict, serve, side_by_side

__all__ = [
    "abstention",
    "ask_held_out",
    "board",
    "calibrate",
    "card",
    "chat",
    "compare",
    "correct",
    "curate",
    "evaluate",
    "feedback",
    "health",
    "inspect_dropped",
    "inspect_reply",
    "inspect_row",
    "inspect_set",
    "line_up",
    "listing",
    "load",
    "measure_cheap",
    "measure_load",
    "new",
    "outcome",
    "pick",
    "plan",
    "power",
    "predict",
    "prepare",
    "promote",
    "prove",
    "register",
    "rollback",
    "run",
    "serve",
    "show",
    "side_by_side",
    "slices",
    "stop",
    "sweep",
    "train",
    "train_seeds",
    "vary",
    "write_note",
]
