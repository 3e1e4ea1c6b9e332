"""Floor 3: one function a verb. The only folder that sees more than one room: values go from door to door here.

Every verb takes the workspace as `at` and leaves there what it made. Rooms are opened late, because some are heavy.
"""

from llmops.pipeline.canary import canary, on_trial, start_canary, stop_canary
from llmops.pipeline.choose import choose
from llmops.pipeline.exam import examine
from llmops.pipeline.examined import examined
from llmops.pipeline.experiments import abstention, board, calibrate, line_up, power, slices
from llmops.pipeline.file_suites import evaluate_questions
from llmops.pipeline.forecast import forecast
from llmops.pipeline.forgetting import forgotten
from llmops.pipeline.judge import compare, evaluate, measure_cheap, pick, promote, register, rollback
from llmops.pipeline.keep import adopt, export
from llmops.pipeline.life import run
from llmops.pipeline.load import measure_load
from llmops.pipeline.look import inspect_dropped, inspect_reply, inspect_row, inspect_set, listing, outcome, show
from llmops.pipeline.make import load, new, plan, prepare, stop, train
from llmops.pipeline.pages import page
from llmops.pipeline.parity import certify
from llmops.pipeline.people import card, correct, write_note
from llmops.pipeline.prove import prove
from llmops.pipeline.seeds import train_seeds
from llmops.pipeline.suites import evaluate_suite, examples_of, export_suite, read_lm_eval
from llmops.pipeline.sweeps import sweep, vary
from llmops.pipeline.use import ask_held_out, chat, curate, feedback, health, predict, serve, side_by_side

__all__ = [
    "abstention",
    "adopt",
    "ask_held_out",
    "board",
    "calibrate",
    "canary",
    "card",
    "certify",
    "chat",
    "choose",
    "compare",
    "correct",
    "curate",
    "evaluate",
    "evaluate_questions",
    "evaluate_suite",
    "examine",
    "examined",
    "examples_of",
    "export",
    "export_suite",
    "feedback",
    "forecast",
    "forgotten",
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
    "on_trial",
    "outcome",
    "page",
    "pick",
    "plan",
    "power",
    "predict",
    "prepare",
    "promote",
    "prove",
    "read_lm_eval",
    "register",
    "rollback",
    "run",
    "serve",
    "show",
    "side_by_side",
    "slices",
    "start_canary",
    "stop",
    "stop_canary",
    "sweep",
    "train",
    "train_seeds",
    "vary",
    "write_note",
]
