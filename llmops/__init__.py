"""A model-operations toolkit for small language models.

The public names: one function a verb, and the values that travel between them. Each is loaded when it is first asked
for, so that importing llmops costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmops.core.calibration import Abstention as Abstention
    from llmops.core.calibration import Calibration as Calibration
    from llmops.core.canaries import Canaries as Canaries
    from llmops.core.capacity import Capacity as Capacity
    from llmops.core.capacity import Need as Need
    from llmops.core.certificate import Certificate as Certificate
    from llmops.core.choice import Choice as Choice
    from llmops.core.choice import Contest as Contest
    from llmops.core.choice import Forecast as Forecast
    from llmops.core.cleaning import Duplicates as Duplicates
    from llmops.core.cleaning import Language as Language
    from llmops.core.cleaning import NearDuplicates as NearDuplicates
    from llmops.core.cleaning import Normalise as Normalise
    from llmops.core.cleaning import Private as Private
    from llmops.core.cleaning import Quality as Quality
    from llmops.core.cleaning import Terms as Terms
    from llmops.core.comparison import Comparison as Comparison
    from llmops.core.comparison import Difference as Difference
    from llmops.core.comparison import Pick as Pick
    from llmops.core.context import Surroundings as Surroundings
    from llmops.core.dataset import DatasetManifest as DatasetManifest
    from llmops.core.dataset import Message as Message
    from llmops.core.dataset import Row as Row
    from llmops.core.errors import Interrupted as Interrupted
    from llmops.core.errors import LlmopsError as LlmopsError
    from llmops.core.errors import Refusal as Refusal
    from llmops.core.errors import RequestError as RequestError
    from llmops.core.exam import Exam as Exam
    from llmops.core.examined import Examined as Examined
    from llmops.core.experiments import Board as Board
    from llmops.core.experiments import LineUp as LineUp
    from llmops.core.experiments import Sweep as Sweep
    from llmops.core.export import Export as Export
    from llmops.core.forgetting import Forgetting as Forgetting
    from llmops.core.health import HealthReport as HealthReport
    from llmops.core.method import DPO as DPO
    from llmops.core.method import IA3 as IA3
    from llmops.core.method import KTO as KTO
    from llmops.core.method import ORPO as ORPO
    from llmops.core.method import SFT as SFT
    from llmops.core.method import DoRA as DoRA
    from llmops.core.method import FullTuning as FullTuning
    from llmops.core.method import LoRA as LoRA
    from llmops.core.method import PromptTuning as PromptTuning
    from llmops.core.method import QLoRA as QLoRA
    from llmops.core.method import Training as Training
    from llmops.core.outcome import Outcome as Outcome
    from llmops.core.plan import Decision as Decision
    from llmops.core.plan import Plan as Plan
    from llmops.core.plan import Wishes as Wishes
    from llmops.core.power import Power as Power
    from llmops.core.proof import CheckResult as CheckResult
    from llmops.core.proof import Proof as Proof
    from llmops.core.recipe import Baselines as Baselines
    from llmops.core.recipe import Evaluation as Evaluation
    from llmops.core.recipe import Recipe as Recipe
    from llmops.core.report import Answer as Answer
    from llmops.core.report import EvalReport as EvalReport
    from llmops.core.report import Score as Score
    from llmops.core.report import Subject as Subject
    from llmops.core.run import Run as Run
    from llmops.core.run import StepRecord as StepRecord
    from llmops.core.scorers import Bleu as Bleu
    from llmops.core.scorers import Chrf as Chrf
    from llmops.core.scorers import Code as Code
    from llmops.core.scorers import Exact as Exact
    from llmops.core.scorers import Function as Function
    from llmops.core.scorers import Includes as Includes
    from llmops.core.scorers import Json as Json
    from llmops.core.scorers import Judge as Judge
    from llmops.core.scorers import Number as Number
    from llmops.core.scorers import PickedOption as PickedOption
    from llmops.core.scorers import Regex as Regex
    from llmops.core.scorers import Rouge as Rouge
    from llmops.core.scorers import Schema as Schema
    from llmops.core.serving import Endpoint as Endpoint
    from llmops.core.serving import Exchange as Exchange
    from llmops.core.serving import Feedback as Feedback
    from llmops.core.serving import Sampling as Sampling
    from llmops.core.slices import Slices as Slices
    from llmops.core.sources import Alpaca as Alpaca
    from llmops.core.sources import Conversation as Conversation
    from llmops.core.sources import Cut as Cut
    from llmops.core.sources import Data as Data
    from llmops.core.sources import Labelled as Labelled
    from llmops.core.sources import PlainText as PlainText
    from llmops.core.sources import Preference as Preference
    from llmops.core.sources import PromptReply as PromptReply
    from llmops.core.sources import Rated as Rated
    from llmops.core.sources import ShareGPT as ShareGPT
    from llmops.core.sources import Source as Source
    from llmops.core.sources import Thumbs as Thumbs
    from llmops.core.suites import Choose as Choose
    from llmops.core.suites import DrawnExamples as DrawnExamples
    from llmops.core.suites import FixedExamples as FixedExamples
    from llmops.core.suites import Generate as Generate
    from llmops.core.suites import Label as Label
    from llmops.core.suites import NoExamples as NoExamples
    from llmops.core.suites import Question as Question
    from llmops.core.suites import Read as Read
    from llmops.core.suites import make_question as make_question
    from llmops.core.tasks import Classify as Classify
    from llmops.core.tasks import Continue as Continue
    from llmops.core.tasks import Rate as Rate
    from llmops.core.tasks import Reply as Reply
    from llmops.core.version import ModelVersion as ModelVersion
    from llmops.core.version import Promotion as Promotion
    from llmops.core.views import RowView as RowView
    from llmops.core.views import SetView as SetView
    from llmops.core.views import TokenView as TokenView
    from llmops.pipeline import abstention as abstention
    from llmops.pipeline import adopt as adopt
    from llmops.pipeline import ask_held_out as ask_held_out
    from llmops.pipeline import board as board
    from llmops.pipeline import calibrate as calibrate
    from llmops.pipeline import canary as canary
    from llmops.pipeline import card as card
    from llmops.pipeline import certify as certify
    from llmops.pipeline import chat as chat
    from llmops.pipeline import choose as choose
    from llmops.pipeline import compare as compare
    from llmops.pipeline import correct as correct
    from llmops.pipeline import curate as curate
    from llmops.pipeline import evaluate as evaluate
    from llmops.pipeline import evaluate_questions as evaluate_questions
    from llmops.pipeline import evaluate_suite as evaluate_suite
    from llmops.pipeline import examine as examine
    from llmops.pipeline import examined as examined
    from llmops.pipeline import examples_of as examples_of
    from llmops.pipeline import export as export
    from llmops.pipeline import export_suite as export_suite
    from llmops.pipeline import feedback as feedback
    from llmops.pipeline import forecast as forecast
    from llmops.pipeline import forgotten as forgotten
    from llmops.pipeline import health as health
    from llmops.pipeline import inspect_dropped as inspect_dropped
    from llmops.pipeline import inspect_reply as inspect_reply
    from llmops.pipeline import inspect_row as inspect_row
    from llmops.pipeline import inspect_set as inspect_set
    from llmops.pipeline import line_up as line_up
    from llmops.pipeline import listing as listing
    from llmops.pipeline import load as load
    from llmops.pipeline import measure_cheap as measure_cheap
    from llmops.pipeline import measure_load as measure_load
    from llmops.pipeline import new as new
    from llmops.pipeline import on_trial as on_trial
    from llmops.pipeline import outcome as outcome
    from llmops.pipeline import page as page
    from llmops.pipeline import pick as pick
    from llmops.pipeline import plan as plan
    from llmops.pipeline import power as power
    from llmops.pipeline import predict as predict
    from llmops.pipeline import prepare as prepare
    from llmops.pipeline import promote as promote
    from llmops.pipeline import prove as prove
    from llmops.pipeline import read_lm_eval as read_lm_eval
    from llmops.pipeline import register as register
    from llmops.pipeline import rollback as rollback
    from llmops.pipeline import run as run
    from llmops.pipeline import serve as serve
    from llmops.pipeline import show as show
    from llmops.pipeline import side_by_side as side_by_side
    from llmops.pipeline import slices as slices
    from llmops.pipeline import start_canary as start_canary
    from llmops.pipeline import stop as stop
    from llmops.pipeline import stop_canary as stop_canary
    from llmops.pipeline import sweep as sweep
    from llmops.pipeline import train as train
    from llmops.pipeline import train_seeds as train_seeds
    from llmops.pipeline import vary as vary
    from llmops.pipeline import write_note as write_note
    from llmops.store.workspace import Workspace as Workspace

__version__ = "0.1.0"

# The same names again, by the module that each is loaded from (a test compares the two lists).
_HOMES = {
    "llmops.pipeline": """abstention adopt ask_held_out board calibrate canary card certify chat choose compare correct
        curate evaluate evaluate_questions evaluate_suite examine examined examples_of export export_suite
        feedback forecast forgotten health inspect_dropped inspect_reply inspect_row inspect_set line_up
        listing load measure_cheap measure_load new on_trial outcome page pick plan power predict
        prepare promote prove read_lm_eval register rollback run serve show side_by_side slices
        start_canary stop stop_canary sweep train train_seeds vary write_note""",
    "llmops.store.workspace": "Workspace",
    "llmops.core.capacity": "Capacity Need",
    "llmops.core.context": "Surroundings",
    "llmops.core.errors": "Interrupted LlmopsError Refusal RequestError",
    "llmops.core.recipe": "Baselines Evaluation Recipe",
    "llmops.core.sources": """Alpaca Conversation Cut Data Labelled PlainText Preference PromptReply Rated ShareGPT
        Source Thumbs""",
    "llmops.core.tasks": "Classify Continue Rate Reply",
    "llmops.core.method": "DPO DoRA FullTuning IA3 KTO LoRA ORPO PromptTuning QLoRA SFT Training",
    "llmops.core.dataset": "DatasetManifest Message Row",
    "llmops.core.plan": "Decision Plan Wishes",
    "llmops.core.proof": "CheckResult Proof",
    "llmops.core.run": "Run StepRecord",
    "llmops.core.report": "Answer EvalReport Score Subject",
    "llmops.core.cleaning": "Duplicates Language NearDuplicates Normalise Private Quality Terms",
    "llmops.core.choice": "Choice Contest Forecast",
    "llmops.core.comparison": "Comparison Difference Pick",
    "llmops.core.experiments": "Board LineUp Sweep",
    "llmops.core.power": "Power",
    "llmops.core.slices": "Slices",
    "llmops.core.calibration": "Abstention Calibration",
    "llmops.core.certificate": "Certificate",
    "llmops.core.export": "Export",
    "llmops.core.version": "ModelVersion Promotion",
    "llmops.core.serving": "Endpoint Exchange Feedback Sampling",
    "llmops.core.exam": "Exam",
    "llmops.core.examined": "Examined",
    "llmops.core.forgetting": "Forgetting",
    "llmops.core.canaries": "Canaries",
    "llmops.core.health": "HealthReport",
    "llmops.core.outcome": "Outcome",
    "llmops.core.scorers": "Bleu Chrf Code Exact Function Includes Json Judge Number PickedOption Regex Rouge Schema",
    "llmops.core.suites": "Choose DrawnExamples FixedExamples Generate Label NoExamples Question Read make_question",
    "llmops.core.views": "RowView SetView TokenView",
}
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    """Load a public name from its home (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'llmops' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return [*__all__, "__version__"]
