"""Planning: every knob is decided in sight, and what cannot fit is refused before it is tried."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from pydantic import ValidationError

from llmops.core.dataset import DatasetManifest
from llmops.core.errors import RequestError
from llmops.core.method import IA3, DoRA, FullTuning, LoRA, Method, Training
from llmops.core.plan import BaseModelRecord, Knobs, Machine, Plan, Wishes, leaves
from llmops.core.recipe import Recipe
from llmops.core.sources import Data, Source
from llmops.core.tasks import Classify
from llmops.lm.fast.attention import Attention, Heads
from llmops.lm.fast.plain import Plain, Turn
from llmops.lm.fast.spans import groups_of
from llmops.planning.cost import BaseShape
from llmops.planning.look import shared_beginning
from llmops.planning.memory import memory_bytes, memory_terms
from llmops.planning.plan import Looked, plan

MACHINE = Machine(
    processor="a processor",
    cores=2,
    memory_bytes=16_000_000_000,
    free_bytes=12_000_000_000,
    device="cpu",
    float32_flops=120e9,
    bfloat16_flops=250e9,
)
SHAPE = BaseShape(
    layers=30, hidden=576, inner=1536, heads=9, vocabulary=49152, positions=8192,
    block_parameters=106_000_000, parameters=134_000_000,
)  # fmt: skip
RECIPE = Recipe(
    name="tone",
    data=Data(sources=(Source(from_="vader/tweets"),)),
    task=Classify(question="q?", labels=("a", "b")),
)
MANIFEST = DatasetManifest(
    name="tone", task=RECIPE.task, sources=(), rows_read=1200, rows_train=1000, rows_heldout=200, dropped={}, files={}
)


def looked(tokens: list[int], machine: Machine = MACHINE) -> Looked:
    return Looked(
        machine=machine,
        base=BaseModelRecord(name="b", sha256="0" * 64, family="llama", parameters=134_000_000),
        shape=SHAPE,
        template="base",
        targets=("q_proj",),
        row_ids=[f"r{index}" for index in range(len(tokens))],
        row_tokens=tokens,
    )


def test_every_knob_has_a_decision_with_a_sentence() -> None:
    made = plan(RECIPE, MANIFEST, looked([50] * 1000), Wishes())
    assert {decision.field for decision in made.decisions} == {field for field, _ in leaves(made.knobs)}
    assert {"method", "method.rank", "objective", "objective.roles", "seed"} <= {one.field for one in made.decisions}
    assert all(decision.because for decision in made.decisions)


def test_a_plan_with_an_undecided_or_contradicted_knob_is_no_plan() -> None:
    made = plan(RECIPE, MANIFEST, looked([50] * 1000), Wishes())
    for decisions in (made.decisions[1:], (made.decisions[0].replace(value="cuda"), *made.decisions[1:])):
        with pytest.raises(ValidationError):
            Plan.model_validate({**made.to_json(), "decisions": [decision.to_json() for decision in decisions]})


def test_what_the_recipe_fixes_is_taken_as_it_is() -> None:
    recipe = RECIPE.replace(training=Training(learning_rate=0.003, epochs=1.25, batch_rows=5, max_tokens=64))
    knobs = plan(recipe, MANIFEST, looked([50] * 1000), Wishes(threads=1)).knobs
    assert (knobs.learning_rate, knobs.epochs, knobs.batch_rows, knobs.max_tokens, knobs.threads) == (
        0.003, 1.25, 5, 64, 1,
    )  # fmt: skip


@pytest.mark.parametrize(("rate", "precision"), [(250e9, "bfloat16"), (0.0, "float32"), (130e9, "float32")])
def test_bfloat16_only_where_the_machine_is_fast_at_it(rate: float, precision: str) -> None:
    machine = MACHINE.replace(bfloat16_flops=rate)
    assert plan(RECIPE, MANIFEST, looked([50] * 1000, machine), Wishes()).knobs.precision == precision


def test_training_keeps_to_its_budget() -> None:
    short = plan(RECIPE, MANIFEST, looked([50] * 1000), Wishes(budget_s=40))
    long = plan(RECIPE, MANIFEST, looked([50] * 1000), Wishes(budget_s=4000))
    assert short.seconds_expected <= 40 < long.seconds_expected
    assert short.knobs.steps < long.knobs.steps


def test_rows_that_are_too_long_are_named_never_cut() -> None:
    made = plan(RECIPE, MANIFEST, looked([50] * 999 + [5000]), Wishes())
    assert made.left_out == ("r999",)
    assert made.knobs.max_tokens < 5000 and made.train_tokens == 50 * 999


def test_what_cannot_fit_is_refused_with_the_way_out() -> None:
    with pytest.raises(RequestError, match="would need about") as refused:
        plan(RECIPE, MANIFEST, looked([50] * 1000), Wishes(max_memory_gb=0.5))
    assert "training.max_tokens" in refused.value.fix


def test_rows_that_are_all_too_long_are_refused() -> None:
    recipe = RECIPE.replace(training=Training(max_tokens=20))
    with pytest.raises(RequestError, match="would lose their answer"):
        plan(recipe, MANIFEST, looked([50] * 1000), Wishes())


def terms(knobs: Knobs, rows: list[int], share: float = 0.1, shape: BaseShape = SHAPE) -> dict[str, int]:
    return memory_terms(shape, knobs, MACHINE, rows, share)


def test_memory_grows_with_what_is_kept_and_with_nothing_else() -> None:
    knobs = plan(RECIPE, MANIFEST, looked([50] * 1000), Wishes()).knobs
    usual = terms(knobs, [50] * 16)
    assert sum(usual.values()) == memory_bytes(SHAPE, knobs, MACHINE, [50] * 16, 0.1)
    assert all(value >= 0 for value in usual.values())
    # A longer batch than a pack is several packs; a row that is longer than a pack is one of its own.
    assert terms(knobs, [50] * 1000) == terms(knobs, [50] * 2000)
    assert terms(knobs, [knobs.pack_tokens * 2])["activations"] > terms(knobs, [knobs.pack_tokens])["activations"]
    assert terms(knobs, [50] * 16, share=0.5)["head"] >= usual["head"]
    again = terms(knobs.replace(gradient_checkpointing=True), [50] * 16)
    assert again["activations"] * SHAPE.layers == usual["activations"] and again["checkpoints"] > 0


def test_a_large_vocabulary_costs_its_tokenizer_and_a_second_gradient_where_it_is_trained() -> None:
    knobs = plan(RECIPE, MANIFEST, looked([50] * 1000), Wishes()).knobs
    large = dataclasses.replace(SHAPE, vocabulary=262_144)
    small, usual = terms(knobs, [50] * 16), terms(knobs, [50] * 16, shape=large)
    full = terms(knobs.replace(method=FullTuning(), decoder="transformers"), [50] * 16, shape=large)
    # Measured: 0.31 GB of Gemma's tokenizer beside 0.06 of SmolLM2's.
    assert 240e6 < usual["tokenizer"] - small["tokenizer"] < 260e6
    assert usual["second gradient"] == 0 and full["second gradient"] == 4 * 262_144 * SHAPE.hidden
    on_gpu = terms(knobs.replace(device="cuda"), [50] * 16, shape=large)
    assert on_gpu["tokenizer"] == on_gpu["process"] == 0


def test_without_attention_in_c_a_layer_keeps_what_attention_by_products_keeps() -> None:
    shape = BaseShape(
        layers=1, hidden=64, inner=96, heads=4, vocabulary=128, positions=256, block_parameters=1, parameters=1,
        head_size=16, key_heads=2,
    )  # fmt: skip
    knobs = plan(RECIPE, MANIFEST, looked([50] * 1000), Wishes()).knobs
    knobs = knobs.replace(decoder="compiled", precision="bfloat16")
    expected = [
        memory_terms(shape, knobs, MACHINE.replace(pairs=pairs), [40], 0.1)["activations"] for pairs in (False, True)
    ]
    heads, turn = Heads(4, 2, 16, 0.25), Turn(torch.ones(40, 8), torch.zeros(40, 8))
    (seen,) = Attention(Plain(), heads, groups_of([range(40)], 0), turn, 0).forward(
        torch.randn(40, 128).bfloat16(), torch.empty(40, 64, dtype=torch.bfloat16)
    )
    measured = sum(tensor.nbytes for tensor in (seen.q, seen.k, seen.v, seen.shares))
    totals = 4 * 4 * 40  # attention in C keeps one number a query and head
    assert expected[0] - expected[1] == measured - totals


def test_full_tuning_holds_every_weight_four_times() -> None:
    knobs = plan(RECIPE, MANIFEST, looked([50] * 1000), Wishes()).knobs.replace(precision="float32")
    full = terms(knobs.replace(method=FullTuning()), [50] * 16)
    assert full["weights"] + full["trained"] == 16 * SHAPE.parameters
    assert terms(knobs, [50] * 16)["trained"] < full["trained"] / 100


def test_a_beginning_that_every_row_shares_is_in_memory_once() -> None:
    assert shared_beginning([[1, 2, 3, 4], [1, 2, 5], [1, 2, 3, 9]]) == 2
    assert shared_beginning([[1, 2], [1, 2]]) == 2
    assert (shared_beginning([[1, 2]]), shared_beginning([])) == (0, 0)
    apart = looked([200] * 100)
    together = dataclasses.replace(apart, shared_tokens=100)
    some, fewer = (plan(RECIPE, MANIFEST, one, Wishes()).memory_bytes_expected for one in (apart, together))
    assert fewer < some


TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def test_what_a_layer_keeps_follows_from_the_method() -> None:
    def kept(method: Method) -> int:
        recipe = RECIPE.replace(method=method, training=Training(precision="float32"))
        seen = dataclasses.replace(looked([50] * 100), targets=TARGETS)
        knobs = plan(recipe, MANIFEST, seen, Wishes()).knobs.replace(decoder="transformers")
        return terms(knobs, [50] * 4)["activations"]

    assert kept(IA3()) < kept(LoRA(rank=8)) == kept(FullTuning()) < kept(DoRA(rank=8))
