"""The whole life of a model, on a tiny base: one verb, and every verb by itself."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from llmops import pipeline
from llmops.core.dataset import Message
from llmops.core.errors import Interrupted, LlmopsError, RequestError
from llmops.core.method import LoRA, Training
from llmops.core.outcome import Outcome
from llmops.core.recipe import Evaluation, Recipe
from llmops.core.serving import Exchange, Sampling
from llmops.core.sources import Conversation, Data, Source
from llmops.core.tasks import Reply
from llmops.core.version import ModelVersion
from llmops.pipeline.file_suites import Own, Wanted
from llmops.store.workspace import Workspace
from tests.unit.tiny_life import made_up_rows, tiny_recipe, write_csv


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> tuple[Workspace, Outcome, Path]:
    """(workspace, outcome, CSV) of one whole run."""
    folder = tmp_path_factory.mktemp("life")
    at = Workspace.find(folder / "workspace", environ={})
    rows = write_csv(folder / "rows.csv", made_up_rows(160))
    return at, pipeline.run(tiny_recipe(tiny_base, rows), at), rows


def test_a_run_ends_with_an_honest_table(lived: tuple[Workspace, Outcome, Path]) -> None:
    at, outcome, _ = lived
    assert list(outcome.scores) == ["majority", "tfidf", "frozen", "nearest", "base", "tuned"]
    for score in outcome.scores.values():
        assert 0 <= score.low <= score.value <= score.high <= 1
        assert score.n == len(at.rows(outcome.dataset, "heldout"))
        assert set(score.slices) == {"place=north", "place=south"}
    assert outcome.scores["tfidf"].value > 0.9 > outcome.scores["majority"].value
    assert {line.baseline for line in outcome.comparisons} == {"majority", "tfidf", "frozen", "nearest", "base"}
    assert outcome == pipeline.outcome(outcome.run, at)
    assert set(outcome.seconds) == {"prepare", "plan", "train", "cheap rows", "tuned row", "register", "endpoint"}


def test_what_is_no_comparison_and_no_measurement_is_refused_with_a_way_out(
    lived: tuple[Workspace, Outcome, Path],
) -> None:
    at, outcome, _ = lived
    with pytest.raises(RequestError, match="are the same report"):
        pipeline.compare(outcome.version, outcome.version, at)
    with pytest.raises(RequestError, match="is a base") as refused:
        pipeline.evaluate("smollm2-135m-q4", at)
    assert "--suite" in refused.value.fix
    with pytest.raises(RequestError, match="is a base"):
        pipeline.evaluate("path:somewhere", at)


def test_a_version_that_was_asked_something_else_too_is_still_known_by_its_held_out_rows(
    lived: tuple[Workspace, Outcome, Path], tmp_path: Path
) -> None:
    at, outcome, _ = lived
    (tmp_path / "q.csv").write_text("question,answer\nWho says moo?,the cow\nWho says baa?,the sheep\n")
    other = (Wanted("exact", ("sampling.max_tokens=2",)), Own())
    asked = pipeline.evaluate_suite(outcome.tuned_version, str(tmp_path / "q.csv"), at, own=other)
    assert asked.subject.ref == outcome.tuned_version
    assert pipeline.slices(outcome.tuned_version, at).report == outcome.reports["tuned"]


def test_verdicts_agree_with_their_intervals(lived: tuple[Workspace, Outcome, Path]) -> None:
    for line in lived[1].comparisons:
        expected = "better" if line.low > 0 else "worse" if line.high < 0 else "cannot tell"
        assert line.verdict == expected


def test_a_cheap_winner_is_a_version_like_any_other(lived: tuple[Workspace, Outcome, Path], tmp_path: Path) -> None:
    at, outcome, rows = lived
    assert outcome.pick.subject.kind in ("tfidf", "frozen") and outcome.version != outcome.tuned_version
    version = pipeline.show(outcome.version, at)
    assert isinstance(version, ModelVersion) and version.kind == outcome.pick.subject.kind
    assert pipeline.predict(outcome.version, rows, tmp_path / "out.csv", at) == 160
    with (tmp_path / "out.csv").open(newline="") as file:
        answers = list(csv.DictReader(file))
    # `label` was a column already, so the prediction's own column got a longer name.
    right = sum(row["label"] == row["predicted_label"] for row in answers)
    assert right > 150 and {row["version"] for row in answers} == {outcome.version}
    with pipeline_chat(outcome.version, at) as talk:
        said = (Message(role="user", content="a splendid song and a warm walk"),)
        assert "".join(talk.say(said)) == "good"


class pipeline_chat:
    """A chat session that is closed."""

    def __init__(self, ref: str, at: Workspace) -> None:
        self.talk = pipeline.chat(ref, at)

    def __enter__(self):  # type: ignore[no-untyped-def]
        return self.talk

    def __exit__(self, *error: object) -> None:
        self.talk.close()


def test_the_tuned_version_speaks_through_the_engine_as_it_was_trained(lived: tuple[Workspace, Outcome, Path]) -> None:
    at, outcome, _ = lived
    check = outcome.endpoint
    assert check is not None and check.version == outcome.tuned_version
    assert (check.n, check.offline) == (outcome.scores["tuned"].n, outcome.scores["tuned"].value)
    with pipeline_chat(outcome.tuned_version, at) as talk:
        said = (Message(role="user", content=at.rows(outcome.dataset, "heldout")[0].text),)
        heard = "".join(talk.say(said, Sampling(max_tokens=8)))
        assert talk.last.version == outcome.tuned_version
        # The question of the training rows was put before the text, although nobody typed it.
        assert talk.last.messages[0] == Message(role="system", content="Good or bad?")
    assert heard
    assert at.ledger.read(Exchange, "tiny", talk.last.id)[0].answer is None  # numbers only, unless text is kept


def test_lineage_leads_back_to_the_rows(lived: tuple[Workspace, Outcome, Path]) -> None:
    at, outcome, _ = lived
    version = pipeline.show(outcome.tuned_version, at)
    assert isinstance(version, ModelVersion)
    assert (version.run, version.plan, version.dataset) == (outcome.run, outcome.plan, outcome.dataset)
    assert version.report == outcome.reports["tuned"]


def test_a_second_version_is_compared_with_the_one_that_answers(
    lived: tuple[Workspace, Outcome, Path], tiny_base: Path
) -> None:
    at, outcome, rows = lived
    worse = tiny_recipe(tiny_base, rows, epochs=0.2)
    planned = pipeline.plan(worse, pipeline.prepare(worse, at), at)
    run = pipeline.train(planned, at)
    version = pipeline.register(pipeline.evaluate(run.id, at).id, at)
    with pytest.raises(LlmopsError, match="is not promoted"):
        pipeline.promote(version.ref, at)
    assert pipeline.promote(version.ref, at, because="to see what happens").override
    assert pipeline.rollback("tiny", at).version == int(outcome.version.split(":")[1])
    assert len(pipeline.listing("promotions", at)) == 3 and len(pipeline.listing("refusals", at)) == 1


def test_inspect_shows_the_mask_and_what_else_might_have_come(
    lived: tuple[Workspace, Outcome, Path], tiny_base: Path
) -> None:
    at, outcome, _ = lived
    view = pipeline.inspect_row(outcome.dataset, 0, f"path:{tiny_base}", at)
    rows = at.rows(outcome.dataset, "train")
    assert "".join(token.text for token in view.tokens if token.trained) == f"{rows[0].reply}<|im_end|>"
    assert view.end_trained and not view.fault and view.round_trip is not None and view.round_trip.same
    counted = pipeline.inspect_set(outcome.dataset, f"path:{tiny_base}", at)
    assert (counted.rows, counted.end_trained, counted.same, counted.faults) == (len(rows), len(rows), len(rows), {})
    assert 0 < counted.share < 1
    row = rows[0]
    seen = pipeline.inspect_reply(outcome.tuned_version, row.text, "good", at)
    assert all(view.probability is not None and len(view.alternatives) == 5 for view in seen)
    with pytest.raises(RequestError, match="no training row"):
        pipeline.inspect_row(outcome.dataset, 10_000, f"path:{tiny_base}", at)


def test_health_and_curate_see_what_was_asked(lived: tuple[Workspace, Outcome, Path], tmp_path: Path) -> None:
    at, outcome, _ = lived
    with pipeline_chat(outcome.tuned_version, at) as talk:
        list(talk.say((Message(role="user", content="a dull town"),), Sampling(max_tokens=4), keep_text=True))
    pipeline.feedback(talk.last.id, "down", "bad", at)
    assert pipeline.curate("tiny", tmp_path / "rows.jsonl", at) == 1
    (row,) = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert row["messages"][-1] == {"role": "assistant", "content": "bad"} and row["exchange"] == talk.last.id
    assert pipeline.health("tiny", at).findings
    with pytest.raises(RequestError, match="no answer"):
        pipeline.feedback("nobody", "up", None, at)


def test_an_interrupted_run_is_picked_up_where_it_stopped(
    workspace: Workspace, tiny_base: Path, tmp_path: Path
) -> None:
    import dataclasses

    recipe = tiny_recipe(tiny_base, write_csv(tmp_path / "rows.csv", made_up_rows(80)))

    def stopping(items, what, total=None):  # type: ignore[no-untyped-def]
        for number, item in enumerate(items):
            if what == "training" and number == 3:
                pipeline.stop("last", workspace)
            yield item

    halting = dataclasses.replace(workspace, world=dataclasses.replace(workspace.world, track=stopping))
    with pytest.raises(Interrupted, match="interrupted at step") as stopped:
        pipeline.run(recipe, halting)
    assert "--resume" in stopped.value.fix
    outcome = pipeline.run(recipe, workspace, resume="last")
    assert workspace.run(outcome.run).status == "finished" and len(workspace.run_ids()) == 1
    with pytest.raises(RequestError, match="another recipe"):
        pipeline.run(recipe.replace(name="other"), workspace, resume="last")


def test_replies_are_judged_by_bits_and_by_picking_the_real_one(
    workspace: Workspace, tiny_base: Path, tmp_path: Path
) -> None:
    lines = []
    for text, label, place in made_up_rows(90):
        turns = [
            {"role": "user", "content": f"tell me of {place} {text}"},
            {"role": "assistant", "content": f"{label} {text}"},
        ]
        lines.append(json.dumps({"messages": turns, "place": place}))
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    source = Source(from_=f"path:{tmp_path / 'rows.jsonl'}", shape=Conversation(), keep_fields=("place",))
    recipe = Recipe(
        name="talk",
        base=f"path:{tiny_base}",
        data=Data(sources=(source,), heldout_share=0.3),
        task=Reply(measures=("bits_per_byte", "pick_reply", "exact_match"), opening="place"),
        method=LoRA(rank=4),
        training=Training(epochs=1, learning_rate=0.01),
        evaluation=Evaluation(prompts=("tell me of north",)),
    )
    outcome = pipeline.run(recipe, workspace)
    assert set(outcome.scores) == {"base", "tuned"}
    assert outcome.scores["tuned"].high < outcome.scores["base"].low  # fewer bits a byte: it learned something
    assert set(outcome.more_scores["tuned"]) == {"bits_per_byte", "pick_reply", "exact_match"}
    assert "pick_reply" in outcome.more_scores["tfidf"]
    (side,) = outcome.answers
    assert side.prompt == "tell me of north"
    assert outcome.version == outcome.tuned_version == "talk:1"


def test_a_base_that_is_not_beaten_ends_in_a_table_not_in_an_error(
    workspace: Workspace, tiny_base: Path, tmp_path: Path
) -> None:
    turns = [
        [{"role": "user", "content": text}, {"role": "assistant", "content": label}]
        for text, label, _ in made_up_rows(60)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"messages": two}) for two in turns) + "\n")
    recipe = Recipe(
        name="still",
        base=f"path:{tiny_base}",
        data=Data(sources=(Source(from_=f"path:{tmp_path / 'rows.jsonl'}", shape=Conversation()),), heldout_share=0.3),
        task=Reply(),
        training=Training(epochs=1, learning_rate=1e-12),
    )
    outcome = pipeline.run(recipe, workspace)
    assert outcome.pick.subject.kind == "base" and outcome.promoted.startswith("Nothing is promoted")
    again = pipeline.run(recipe, workspace, resume=outcome.run)
    assert again.tuned_version == outcome.tuned_version == "still:1"  # the same model is not registered twice
    assert again.seconds["train"] == outcome.seconds["train"]
    assert workspace.run("still").id == outcome.run
