"""Preparing by steps: counts add up, any way gives the same, nothing is done twice, rows are brought back."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmops.core.cleaning import DEFAULT_STEPS, Duplicates, NearDuplicates, Normalise, Private, Quality, Step
from llmops.core.context import Surroundings
from llmops.core.dataset import DatasetManifest, Row
from llmops.core.errors import LlmopsError, RequestError
from llmops.core.recipe import Recipe
from llmops.core.review import LeakGate
from llmops.core.sources import Data, Labelled, PromptReply, Source
from llmops.core.tasks import Classify, Reply
from llmops.data import clean, crew, origin, overlap
from llmops.data.ledger import altered_rows, dropped_rows
from llmops.data.mapping import map_records
from llmops.data.overlap import Overlap
from llmops.data.passes import Chunk, Job
from llmops.data.prepare import prepare
from llmops.data.prove_cleaning import reworded, sentence, shouted
from llmops.data.prove_private import MADE
from llmops.data.readers import read_records
from llmops.data.record import Record
from llmops.data.split import deal
from llmops.store.workspace import Workspace

TASK = Classify(question="Which?", labels=("a", "b"))
SOURCE = Source(from_="path:rows.jsonl", shape=Labelled())


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(origin, "CHUNK_ROWS", 17)
    write(rows(90))
    return Workspace.find(tmp_path / "ws", Surroundings(author="tester"))


def rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Texts, some of them near duplicates, with private data, control characters, other labels, or nothing."""
    rng = Random(seed)
    made: list[dict[str, Any]] = [{"text": sentence(rng, 14), "label": rng.choice("ab")} for _ in range(count)]
    for row in rng.sample(made, count // 3):
        spoil = rng.choice((reworded, shouted, lambda rng, text: text, lambda rng, text: f"{text}\u200b\r\n"))
        made.append({**row, "text": spoil(rng, row["text"])})
    for row in rng.sample(made, count // 6):
        made.append({**row, "text": f"{row['text']} {MADE[rng.choice(('EMAIL', 'PHONE', 'KEY'))](rng)}"})
    made += [{"text": "no " * 30, "label": "a"}, {"text": "", "label": "a"}, {"text": "x", "label": "c"}]
    return rng.sample(made, len(made))


def write(found: list[dict[str, Any]]) -> None:
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")


def recipe(*steps: Step, **data: Any) -> Recipe:
    more = {"steps": steps} if steps else {}
    return Recipe(name="try", task=TASK, data=Data(sources=(SOURCE,), heldout_share=0.3, **more, **data))


def files(workspace: Workspace, manifest: DatasetManifest) -> dict[str, str]:
    folder = workspace.folder(DatasetManifest, manifest.id)
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


STEPS = [*DEFAULT_STEPS, Duplicates(ignore="case and punctuation"), NearDuplicates(alike=0.8), Quality(fewest_words=3)]
cells = st.fixed_dictionaries(
    {
        "text": st.text(st.sampled_from("ab @1.\u200b\n"), max_size=12) | st.sampled_from(["a@b.org", "ab " * 30, ""]),
        "label": st.sampled_from("abc"),
    },
    optional={"doc": st.sampled_from("12")},
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(cells, max_size=25), st.lists(st.sampled_from(STEPS), max_size=4), st.none() | st.integers(1, 4))
def test_kept_and_dropped_is_read_for_any_steps(
    found: list[dict[str, Any]], steps: list[Step], most: int | None
) -> None:
    source = Source(from_="path:x", shape=Labelled(), group="doc", train_rows=most)
    records = [Record(0, {"text": "the first row", "label": "a", "doc": "1"})]
    records += [Record(line, row) for line, row in enumerate(found, 1)]
    dealt = deal(map_records(records, "x", 0, source, TASK), Data(sources=(source,), steps=tuple(steps)))
    kept = dealt.train + dealt.heldout
    assert Counter(row.line for row in [*kept, *dealt.dropped]) == Counter(range(len(records)))
    assert len({row.id for row in kept}) == len(kept)
    assert not {row.text for row in dealt.train} & {row.text for row in dealt.heldout}


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1000), steps=st.lists(st.sampled_from(STEPS), max_size=4))
def test_the_manifest_adds_up_step_by_step_with_the_ledgers_lines(
    here: Workspace, seed: int, steps: list[Step]
) -> None:
    write(rows(50, seed))
    made = prepare(recipe(*steps), here, processes=1)
    gone, changed = dropped_rows(made.id, here), altered_rows(made.id, here)
    assert made.steps[0].rows_in == made.rows_read == made.rows_train + made.rows_heldout + len(gone)
    assert made.steps[-1].rows_out == made.rows_train + made.rows_heldout
    by_step = Counter(row.step for row in gone)
    for kind, count in by_step.items():
        counted = [sum(step.dropped.values()) for step in made.steps if step.step.partition(" ")[0] == kind]
        assert sum(counted) == count
    assert {row.step for row in changed} <= {step.step.partition(" ")[0] for step in made.steps if step.altered}
    kept = {row.id for part in ("train", "heldout") for row in here.rows(made.id, part)}
    assert made.rows_altered == len({row.id for row in changed} & kept)


def test_one_process_several_and_none_of_ours_give_the_same(here: Workspace) -> None:
    asked = recipe(leaks=LeakGate(then="report"))
    alone = prepare(asked, here, processes=1)
    first = files(here, alone)
    other = Workspace.find(here.root.parent / "other")
    assert prepare(asked, other, processes=3) == alone
    assert files(other, alone) == first
    records = read_records(Path("rows.jsonl"), "path:rows.jsonl")
    dealt = deal(map_records(records, "path:rows.jsonl", 0, SOURCE, TASK), asked.data)
    assert [row.id for row in dealt.train] == [row.id for row in here.rows(alone.id, "train")]
    assert dealt.reasons == alone.dropped


def test_the_order_of_the_rows_does_not_decide_which_stay(here: Workspace) -> None:
    kept = []
    for seed in range(3):
        write(Random(seed).sample(rows(90), len(rows(90))))
        made = prepare(recipe(), here, processes=1)
        kept.append({(row.id, row.text) for part in ("train", "heldout") for row in here.rows(made.id, part)})
    assert kept[0] == kept[1] == kept[2]


def test_a_stored_line_is_a_row_as_its_type_writes_it(here: Workspace) -> None:
    made = prepare(recipe(), here, processes=1)
    for line in files(here, made)["train.jsonl"].splitlines():
        assert Row.model_validate_json(line).model_dump_json() == line


def test_another_last_step_does_not_do_the_first_ones_again(here: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(recipe(Normalise(), Private(), Duplicates()), here, processes=1)
    done: list[str] = []
    monkeypatch.setattr(clean.Crew, "do", watched(clean.Crew.do, done))
    prepare(recipe(Normalise(), Private(), Duplicates(ignore="case and punctuation")), here, processes=1)
    assert done == ["duplicates", "split", ""]
    done.clear()
    prepare(recipe(Normalise(), Private(), Duplicates()), here, processes=1)
    assert done == [""]


def watched(do: Any, done: list[str]) -> Any:
    """`Crew.do` that notes the step whose files are not there yet, and does them."""

    def noting(self: Any, job: Job, chunks: Any, *more: Any) -> list[Chunk]:
        missing = [step.step.kind for step in job.todo if not (step.folder / "000000.jsonl").exists()]
        done.append(" ".join([*missing, *([job.sign.kind] if job.sign else [])]))
        found: list[Chunk] = do(self, job, chunks, *more)
        return found

    return noting


def test_what_was_done_before_a_crash_is_not_done_again(here: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = files(here, prepare(recipe(), here, processes=1))
    other = Workspace.find(here.root.parent / "other")
    work, count = crew.work, Counter[str]()

    def dying(job: Job, chunk: Chunk) -> None:
        count["worked"] += 1
        if count["worked"] == 12:
            raise LlmopsError("the power went", "wait")
        work(job, chunk)

    monkeypatch.setattr(crew, "work", dying)
    with pytest.raises(LlmopsError, match="the power went"):
        prepare(recipe(), other, processes=1)
    assert not (other.root / "datasets").exists()
    before = {path: path.stat().st_mtime_ns for path in (other.root / "steps").glob("*/0*.jsonl")}
    made = prepare(recipe(), other, processes=1)
    assert files(other, made) == whole
    assert before and all(path.stat().st_mtime_ns == at for path, at in before.items())


def test_a_process_that_fails_is_an_error_with_its_reason(here: Workspace) -> None:
    with crew.Crew(2, here.root) as crowd, pytest.raises(LlmopsError, match=r"No such file.*none\.jsonl"):
        crowd.do(Job(), [Chunk(0, Path("none.jsonl")), Chunk(1, Path("none.jsonl"))], "test")


def test_a_dropped_row_is_brought_back_by_one_line(here: Workspace) -> None:
    made = prepare(recipe(), here, processes=1)
    ids = {row.id for part in ("train", "heldout") for row in here.rows(made.id, part)}
    for step in ("near_duplicates", "quality"):
        gone = next(row for row in dropped_rows(made.id, here) if row.step == step and row.id not in ids)
        again = prepare(recipe(bring_back=(gone.id,)), here, processes=1)
        assert gone.id in {row.id for part in ("train", "heldout") for row in here.rows(again.id, part)}
    with pytest.raises(RequestError, match="the id of no row that was read"):
        prepare(recipe(bring_back=("0" * 16,)), here, processes=1)


def test_no_private_data_is_left_in_a_data_set_or_its_ledger(here: Workspace) -> None:
    rng = Random(3)
    secrets = [MADE[kind](rng) for kind in ("EMAIL", "CARD", "IBAN") for _ in range(8)]
    texts = [f"{sentence(rng, 9)} {secret} {sentence(rng, 9)}" for secret in secrets]
    texts += [*texts, *(f"{'no ' * 90}{secret}" for secret in secrets)]
    write([{"text": text, "label": "ab"[at % 2]} for at, text in enumerate(texts)])
    made = prepare(recipe(), here, processes=1)
    assert {row.step for row in dropped_rows(made.id, here)} == {"duplicates", "quality"}
    told = "".join(files(here, made).values())
    assert "[EMAIL]" in told and not [secret for secret in secrets if secret in told]


def test_the_words_that_a_recipe_puts_before_each_row_are_not_cleaned(here: Workspace) -> None:
    system = "Write\u00a0to help@example.org."
    Path("rows.jsonl").write_text(
        "".join(json.dumps({"prompt": f"ask {n}", "reply": f"say {n}"}) + "\n" for n in range(40))
    )
    source = Source(from_="path:rows.jsonl", shape=PromptReply())
    made = prepare(Recipe(name="x", task=Reply(system=system), data=Data(sources=(source,))), here, processes=1)
    assert made.rows_altered == 0
    assert {row.messages[0].content for row in here.rows(made.id, "train")} == {system}


def test_the_work_is_for_its_owner_only_and_old_work_goes(here: Workspace) -> None:
    prepare(recipe(), here, processes=1)
    home = here.root / "steps"
    assert home.stat().st_mode & 0o777 == 0o700
    old = home / "duplicates-old"
    old.mkdir()

    os.utime(old, (0, 0))
    prepare(recipe(), here, processes=1)
    assert not old.exists() and list(home.glob("duplicates-*"))


def test_a_large_set_is_looked_through_for_leaks_in_linear_time_with_nearly_the_same_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = Random(5)
    heldout = [sentence(rng, rng.randint(10, 30)) for _ in range(200)]
    train = [reworded(rng, text) for text in heldout] + [sentence(rng, 20) for _ in range(300)]
    exact = Overlap(train, heldout).near(0.5)
    monkeypatch.setattr(overlap, "MOST_EXACT", 0)
    sketched = Overlap(train, heldout).near(0.5)
    pairs = [set(zip(found.left_P.tolist(), found.right_P.tolist(), strict=True)) for found in (exact, sketched)]
    assert pairs[1] <= pairs[0] and len(pairs[1]) >= 0.98 * len(pairs[0]) >= 190
