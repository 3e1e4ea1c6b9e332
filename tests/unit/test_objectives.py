"""Objectives: TRL's losses on the same batch, the right tokens of a row, and a starting point that is computed once."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import pytest
import torch

from llmops import pipeline
from llmops.core.dataset import Message, Row
from llmops.core.errors import RequestError
from llmops.core.method import DPO, KTO, ORPO, SFT, LoRA, Objective, Training
from llmops.core.plan import Plan, Wishes
from llmops.core.recipe import Recipe
from llmops.core.sources import Data, Preference, Source, Thumbs
from llmops.core.tasks import Continue, Reply
from llmops.lm.base import load_tokenizer
from llmops.lm.lessons import lessons, window_sizes
from llmops.lm.render import Renderer
from llmops.store.workspace import Workspace
from llmops.training import loop, objectives, reference
from llmops.training.losses import Batch
from tests.benchmarks import objectives as referee
from tests.unit import sample_values

U, A = "user", "assistant"
ONE = Wishes(threads=1)  # on a tiny model two threads wait for each other more than they work


def row(number: int, *turns: tuple[str, str], **more: object) -> Row:
    messages = tuple(Message(role=role, content=content) for role, content in turns)  # type: ignore[arg-type]
    return Row(id=f"r{number}", messages=messages, text="x", group=str(number), source="s", line=number, **more)


@pytest.fixture
def renderer(tiny_base: Path) -> Renderer:
    return Renderer(load_tokenizer(tiny_base))


def test_every_loss_is_trls_within_a_ten_thousandth(tmp_path: Path) -> None:
    batch = referee.write_case(tmp_path)
    recorded = json.loads(referee.RECORDED.read_text())
    theirs = referee.their_losses(tmp_path) or recorded
    for pack_tokens in (16, 512):
        ours = referee.our_losses(tmp_path, batch, pack_tokens)
        assert ours.keys() == theirs["losses"].keys()
        for name, loss in ours.items():
            assert loss == pytest.approx(theirs["losses"][name], abs=referee.GOAL), name
            assert recorded["losses"][name] == pytest.approx(theirs["losses"][name], abs=referee.GOAL), name


def test_losses_that_are_a_little_wrong_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: a beta left out, the sides swapped, a forgotten start. The goal above would not let them through."""
    now_P2, start_P2 = torch.tensor([[-9.0, -8.0]]), torch.tensor([[-9.5, -7.0]])
    right = objectives.dpo(now_P2, start_P2, 0.3)
    for wrong in (
        objectives.dpo(now_P2, start_P2, 1.0),
        objectives.dpo(now_P2.flip(1), start_P2.flip(1), 0.3),
        objectives.dpo(now_P2, torch.zeros_like(now_P2), 0.3),
    ):
        assert abs(float(wrong - right)) > 100 * referee.GOAL
    liked_R = torch.tensor([True, False])
    moved = objectives.kl_estimate(torch.tensor([-3.0]), torch.tensor([-2.0]))
    assert float(moved) == 0  # never below
    both = objectives.kto(torch.tensor([-4.0, -4.0]), torch.tensor([-5.0, -5.0]), liked_R, moved, 0.5)
    assert float(both[0]) == pytest.approx(1 - torch.sigmoid(torch.tensor(0.5)).item())
    assert float(both[1]) == pytest.approx(torch.sigmoid(torch.tensor(0.5)).item())


def test_a_sure_reply_has_finite_odds() -> None:
    mean_P2 = torch.tensor([[0.0, -3.0], [-1e-9, 0.0]], requires_grad=True)
    objectives.orpo(mean_P2).sum().backward()
    assert mean_P2.grad is not None and bool(mean_P2.grad.isfinite().all())


def test_chosen_roles_learn_every_turn_with_its_end_token(renderer: Renderer) -> None:
    talk = row(1, (U, "the cat"), (A, "the dog"), (U, "a mat"), (A, "sat on"))
    spoken = {}
    for roles in ((A,), (U, A), (U,)):
        (lesson,) = lessons(renderer, [talk], SFT(roles=roles))
        example = lesson.examples[0]
        learned = [token for token, trained in zip(example.ids, example.trained, strict=True) if trained]
        spoken[roles] = renderer.tokenizer.decode(learned)
    assert spoken[A,] == "the dog<|im_end|>sat on<|im_end|>"
    assert spoken[U, A] == "the cat<|im_end|>the dog<|im_end|>a mat<|im_end|>sat on<|im_end|>"
    assert spoken[U,] == "the cat<|im_end|>a mat<|im_end|>"
    (last,) = lessons(renderer, [talk], SFT())
    whole = lessons(renderer, [talk], SFT(roles=(A,)))[0].examples[0]
    assert whole.ids == last.examples[0].ids and sum(last.examples[0].trained) < sum(whole.trained)


def test_a_long_text_is_cut_into_windows_and_every_token_is_learned_once(renderer: Renderer) -> None:
    text = Row(id="t", messages=(), text="the cat sat on the mat and the dog " * 9, group="t", source="s", line=1)
    (whole,) = lessons(renderer, [text], SFT())
    parts = lessons(renderer, [text], SFT(), 17)
    learned = [part.examples[0].ids[place] for part in parts for place in part.examples[0].places]
    assert len(parts) > 5 and learned == whole.examples[0].ids[1:]
    assert learned[-1] == renderer.tokenizer.eos_token_id
    assert [part.tokens for part in parts] == window_sizes(whole.tokens, 17)
    assert all(part.row == "t" and part.tokens <= 17 for part in parts)


def test_what_an_objective_compares_must_be_there(renderer: Renderer) -> None:
    plain, pair = row(1, (U, "a"), (A, "b")), row(2, (U, "a"), (A, "b"), rejected="c")
    bad, good = row(3, (U, "a"), (A, "b"), liked=False), row(4, (U, "a"), (A, "d"), liked=True)
    text = Row(id="t", messages=(), text="a", group="t", source="s", line=7)
    faults: list[tuple[list[Row], Objective, str]] = [
        ([plain], DPO(), "has no rejected reply"),
        ([good], ORPO(), "has no rejected reply"),
        ([pair], KTO(), "has no thumb"),
        ([bad], SFT(), "was disliked"),
        ([text], DPO(), "is running text"),
    ]
    for rows, objective, what in faults:
        with pytest.raises(RequestError, match=what):
            lessons(renderer, rows, objective)
    for rows, objective in (([pair], DPO()), ([pair], ORPO()), ([bad, good], KTO()), ([good], SFT()), ([pair], SFT())):
        assert lessons(renderer, rows, objective)
    first, second = lessons(renderer, [bad, good], KTO())
    assert (first.liked, second.liked) == (False, True)
    assert renderer.decode(first.examples[1].ids).endswith("d")  # a stranger's reply to its own prompt


def test_a_recipe_whose_rows_do_not_fit_its_objective_is_refused() -> None:
    task = Reply()
    pairs = Data(sources=(Source(from_="path:p.jsonl", shape=Preference()),))
    thumbs = Data(sources=(Source(from_="path:t.jsonl", shape=Thumbs()),))
    Recipe(name="a", data=pairs, task=task, objective=DPO())
    Recipe(name="a", data=thumbs, task=task, objective=KTO())
    for data, objective in ((pairs, KTO()), (thumbs, DPO()), (thumbs, SFT())):
        with pytest.raises(ValueError, match="does not fit objective"):
            Recipe(name="a", data=data, task=task, objective=objective)
    texts = Data(sources=(Source(from_="path:t.txt"),))
    with pytest.raises(ValueError, match="has none"):
        Recipe(name="a", data=texts, task=Continue(), objective=DPO())


def preference_rows(number: int) -> list[dict[str, str]]:
    words = ("cat", "dog", "mat", "day", "sun", "sea")
    return [
        {"prompt": f"say {words[place % 6]} {place}", "chosen": f"the {words[place % 6]}", "rejected": f"on {place}"}
        for place in range(number)
    ]


def write_jsonl(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    return path


def recipe_of(objective: Objective, base: Path, file: Path, epochs: float = 4) -> Recipe:
    shape = Thumbs() if isinstance(objective, KTO) else Preference()
    return Recipe(
        name="sides",
        base=f"path:{base}",
        data=Data(sources=(Source(from_=f"path:{file}", shape=shape),), heldout_share=0.3),
        task=Reply(measures=("reward_accuracy",) if isinstance(objective, KTO) else ("preference", "reward_accuracy")),
        method=LoRA(rank=4),
        objective=objective,
        training=Training(epochs=epochs, batch_rows=8, learning_rate=0.01, precision="float32"),
    )


def thumb_rows(number: int) -> list[dict[str, object]]:
    return [
        {"prompt": one["prompt"], "completion": one["chosen" if place % 2 else "rejected"], "label": bool(place % 2)}
        for place, one in enumerate(preference_rows(number))
    ]


@pytest.mark.parametrize("objective", [DPO(), KTO(), ORPO()], ids=lambda one: one.kind)
def test_the_whole_life_with_preferences_ends_with_a_model_that_sides_with_people(
    objective: Objective, workspace: Workspace, tiny_base: Path, tmp_path: Path
) -> None:
    rows = thumb_rows(90) if isinstance(objective, KTO) else preference_rows(60)
    file = write_jsonl(tmp_path / "rows.jsonl", list(rows))
    found = pipeline.run(recipe_of(objective, tiny_base, file, epochs=3), workspace, ONE)
    lines = {line.metric: line for line in found.comparisons if line.baseline == "base"}
    assert found.more_scores["base"]["reward_accuracy"].value == 0.5  # every row is a tie: nothing has changed
    assert found.more_scores["tuned"]["reward_accuracy"].value > 0.8
    assert lines["reward_accuracy"].low > 0
    records = workspace.steps(found.run)
    assert records[-1].loss_nats < records[0].loss_nats
    assert records[0].agreed is not None and (records[-1].agreed or 0) > 0.7
    assert any(record.heldout_loss_nats for record in records)


def test_the_starting_point_is_computed_once_and_a_damaged_or_foreign_one_is_not_believed(
    workspace: Workspace, tiny_base: Path, tmp_path: Path
) -> None:
    file = write_jsonl(tmp_path / "rows.jsonl", list(preference_rows(60)))
    recipe = recipe_of(DPO(), tiny_base, file, epochs=2)
    plan = pipeline.plan(recipe, pipeline.prepare(recipe, workspace), workspace, ONE)
    read: list[str] = []

    def counting(items, what, total=None):  # type: ignore[no-untyped-def]
        read.append(what)
        return iter(items)

    at = dataclasses.replace(workspace, world=dataclasses.replace(workspace.world, track=counting))
    run = pipeline.train(plan, at)
    assert read.count("reading the starting point") == 1
    kept = workspace.run_folder(run.id) / "reference.safetensors"
    start_BE = reference.kept(reference.key_of(plan), kept)
    assert start_BE is not None and start_BE.shape[1] == 2 and bool((start_BE.nan_to_num(-1) < 0).all())
    assert reference.kept(reference.key_of(plan.replace(dataset="ds-other")), kept) is None
    smaller = plan.replace(knobs=plan.knobs, replaces=plan.id)
    assert reference.key_of(smaller) == reference.key_of(plan)
    data = bytearray(kept.read_bytes())
    data[-3] ^= 1
    kept.write_bytes(bytes(data))
    assert reference.kept(reference.key_of(plan), kept) is None


def test_a_preference_run_stopped_on_the_way_resumes_to_the_hash_of_the_uninterrupted_one(
    workspace: Workspace, tiny_base: Path, tmp_path: Path
) -> None:
    file = write_jsonl(tmp_path / "rows.jsonl", list(thumb_rows(60)))
    recipe = recipe_of(KTO(), tiny_base, file, epochs=2)
    plan = pipeline.plan(recipe, pipeline.prepare(recipe, workspace), workspace, ONE)
    whole = pipeline.train(plan, workspace)

    def stopping(items, what, total=None):  # type: ignore[no-untyped-def]
        for number, item in enumerate(items):
            if what == "training" and number == 3:
                pipeline.stop("last", workspace)
            yield item

    time.sleep(1.1)  # run ids begin with the second they were made in
    halting = dataclasses.replace(workspace, world=dataclasses.replace(workspace.world, track=stopping))
    stopped = pipeline.train(plan, halting)
    assert (stopped.status, 0 < stopped.step < stopped.steps) == ("interrupted", True)
    assert pipeline.train(plan, workspace, stopped.id).adapter_sha256 == whole.adapter_sha256


def test_a_run_stopped_while_it_reads_where_it_starts_is_valid_and_goes_on(
    workspace: Workspace, tiny_base: Path, tmp_path: Path
) -> None:
    file = write_jsonl(tmp_path / "rows.jsonl", list(thumb_rows(60)))
    recipe = recipe_of(KTO(), tiny_base, file, epochs=1)
    plan = pipeline.plan(recipe, pipeline.prepare(recipe, workspace), workspace, ONE)

    def stopping(items, what, total=None):  # type: ignore[no-untyped-def]
        for number, item in enumerate(items):
            if what == "reading the starting point" and number == 1:
                pipeline.stop("last", workspace)
            yield item

    halting = dataclasses.replace(workspace, world=dataclasses.replace(workspace.world, track=stopping))
    stopped = pipeline.train(plan, halting)
    assert (stopped.status, stopped.step, stopped.note) == ("interrupted", 0, "stopped by 'llmops stop'")
    assert pipeline.train(plan, workspace, stopped.id).status == "finished"


def test_continued_pretraining_walks_its_whole_life(workspace: Workspace, tiny_base: Path, tmp_path: Path) -> None:
    things = ("cat", "dog", "mat", "sun", "sea", "day", "town", "book", "song", "walk")
    lines = [
        {
            "text": " ".join(
                f"the {things[(number * step + step) % 10]} sat on {step * number}," for step in range(1, 12)
            )
        }
        for number in range(60)
    ]
    file = write_jsonl(tmp_path / "texts.jsonl", list(lines))
    recipe = Recipe(
        name="texts",
        base=f"path:{tiny_base}",
        data=Data(sources=(Source(from_=f"path:{file}"),), heldout_share=0.3, steps=()),
        task=Continue(),
        method=LoRA(rank=4),
        training=Training(epochs=4, batch_rows=8, learning_rate=0.01, max_tokens=40),
    )
    found = pipeline.run(recipe, workspace, ONE)
    assert found.scores["tuned"].value < 0.8 * found.scores["base"].value
    plan = workspace.get(Plan, found.plan)
    assert plan.knobs.max_tokens == 40 and plan.left_out == ()
    records = workspace.steps(found.run)
    assert sum(record.tokens for record in records) == 4 * plan.train_tokens
    # Of each window, all tokens but the first are learned.
    windows = 4 * plan.train_tokens - sum(record.trained_tokens for record in records)
    assert windows % 4 == 0 and windows / 4 > 60 * 0.5
    assert records[0].samples


def test_preference_rows_can_be_learned_from_by_plain_sft(renderer: Renderer) -> None:
    pair = row(2, (U, "a"), (A, "the cat"), rejected="the dog")
    (lesson,) = lessons(renderer, [pair], SFT())
    assert len(lesson.examples) == 1 and "cat" in renderer.decode(lesson.examples[0].ids)


def test_the_gradient_of_a_batch_is_the_same_in_one_pack_and_in_many(tiny_base: Path, renderer: Renderer) -> None:
    rows = [row(place, (U, f"the cat {place}"), (A, "the dog"), rejected=f"a mat {place}") for place in range(6)]
    plain = sample_values.plan().knobs
    targets = ("q_proj", "v_proj", "down_proj")
    for objective in (DPO(beta=0.1, label_smoothing=0.0), ORPO(beta=0.1)):
        taught = lessons(renderer, rows, objective)
        batch = Batch(taught, torch.full((6, 2), -20.0))
        found = []
        for pack_tokens in (8, 512):
            knobs = plain.replace(objective=objective, targets=targets, pack_tokens=pack_tokens)
            made = loop.build(tiny_base, knobs)
            loss, _ = loop.learn(made, batch, knobs)
            gradients = [weight.grad.norm().item() for weight in made.model.parameters() if weight.grad is not None]
            found.append([loss, *gradients])
        assert found[0] == pytest.approx(found[1], rel=1e-4, abs=1e-6) and max(found[0][1:]) > 0
