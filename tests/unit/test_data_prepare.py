"""`prepare`: kept + dropped = read, a split that never moves, and nothing half-written."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmops.core.context import Surroundings
from llmops.core.dataset import DatasetManifest
from llmops.core.errors import LlmopsError, RequestError
from llmops.core.recipe import Recipe
from llmops.core.sources import Conversation, Cut, Data, Labelled, PromptReply, Source
from llmops.core.tasks import Classify, Reply
from llmops.data.cells import cell_text
from llmops.data.mapping import ask, map_records
from llmops.data.origin import resolve
from llmops.data.prepare import prepare
from llmops.data.record import Record, unreadable
from llmops.data.split import Dealt, deal, side_of
from llmops.store.workspace import Workspace

TASK = Classify(question="Which?", labels=("a", "b"))
LABELLED = Source(from_="path:x.csv", shape=Labelled())


def recipe(source: Source = LABELLED, task: Classify | Reply = TASK, share: float = 0.3) -> Recipe:
    return Recipe(name="try", data=Data(sources=(source,), heldout_share=share), task=task)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.chdir(tmp_path)
    return Workspace.find(tmp_path / "ws", Surroundings(author="tester"))


def write(rows: list[tuple[str, str]], name: str = "x.csv") -> None:
    Path(name).write_text("text,label\n" + "".join(f'"{text}",{label}\n' for text, label in rows), encoding="utf-8")


def many(count: int = 60) -> list[tuple[str, str]]:
    return [(f"text number {number}", "ab"[number % 2]) for number in range(count)]


def dropped(workspace: Workspace, manifest: DatasetManifest) -> list[dict[str, Any]]:
    path = workspace.folder(DatasetManifest, manifest.id) / "dropped.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_rows_are_asked_the_question_and_every_row_is_accounted_for(here: Workspace) -> None:
    write([*many(), ("", "a"), ("odd", "c"), ("text  number\u00a01 ", "b"), ("both", "a"), ("both", "b")])
    with Path("x.csv").open("a") as file:
        file.write("cut\n")
    manifest = prepare(recipe(), here)
    rows = here.rows(manifest.id, "train") + here.rows(manifest.id, "heldout")
    assert manifest.dropped == {
        "contradictory labels": 2,
        "duplicate": 1,
        "empty": 1,
        "unknown label": 1,
        "unreadable": 1,
    }
    assert (manifest.rows_read, len(rows)) == (66, 60)
    assert sorted((row["line"], row["step"]) for row in dropped(here, manifest)) == [
        (62, "map"),
        (63, "map"),
        (64, "duplicates"),
        (65, "duplicates"),
        (66, "duplicates"),
        (67, "read"),
    ]
    row = next(row for row in rows if row.line == 3)
    spoken = [(message.role, message.content) for message in row.messages]
    assert spoken == [("system", "Which?"), ("user", "text number 1"), ("assistant", "b")]
    assert (row.text, row.label, row.source) == ("text number 1", "b", "path:x.csv")
    assert row.prompt == ask(TASK, "text number 1")
    assert len({row.id for row in rows}) == len(rows)


def test_the_same_bytes_give_the_same_id_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = []
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        monkeypatch.chdir(tmp_path / place)
        write(many())
        workspace = Workspace.find(tmp_path / place / "ws")
        manifest = prepare(recipe(), workspace)
        ids.append(manifest.id)
        assert str(tmp_path) not in (workspace.folder(DatasetManifest, manifest.id) / "manifest.json").read_text()
    assert ids[0] == ids[1]


def test_preparing_again_uses_the_folder_that_is_there_and_a_changed_one_is_refused(here: Workspace) -> None:
    write(many())
    manifest = prepare(recipe(), here)
    file = here.folder(DatasetManifest, manifest.id) / "train.jsonl"
    before = file.stat().st_mtime_ns
    assert prepare(recipe(), here) == manifest == here.get(DatasetManifest, "last")
    assert file.stat().st_mtime_ns == before
    file.write_text("changed")
    with pytest.raises(LlmopsError, match="changed after it was written"):
        prepare(recipe(), here)


def test_a_write_that_fails_leaves_nothing(here: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: object) -> None:
        raise OSError("disk full")

    write(many())
    monkeypatch.setattr("llmops.data.prepare.write_json", full)
    with pytest.raises(OSError, match="disk full"):
        prepare(recipe(), here)
    assert list((here.root / "datasets").iterdir()) == []


@pytest.mark.parametrize(
    ("rows", "source", "says"),
    [
        (many(), Source(from_="path:x.csv", shape=Labelled(text="txt")), "no column 'txt'"),
        (many(), Source(from_="path:x.csv", shape=Labelled(), keep_fields=("lable",)), "no column 'lable'"),
        (many(), Source(from_="path:x.csv", shape=Labelled(), group="id"), "no column 'id'"),
        ([*many(), *[(f"t{n}", "A") for n in range(9)]][::2], LABELLED, "label 'b' has 0 training and 0 held-out rows"),
        ([(text, "A") for text, _ in many()], LABELLED, "60 unknown label"),
        (many(4), LABELLED, "rows"),
        (many(), Source(from_="path:none.csv", shape=Labelled()), "no file none.csv"),
        (many(), Source(from_="vader/lexicon"), "not rows to train on"),
        (many(), Source(from_="chitchat", sha256="0" * 64), "another sha256"),
        (many(), Source(from_="nowhere"), "neither in the catalogue"),
        (many(), Source(from_="path:."), "is a folder"),
    ],
)
def test_a_wrong_request_is_refused_and_nothing_is_written(
    here: Workspace, rows: list[tuple[str, str]], source: Source, says: str
) -> None:
    write(rows)
    with pytest.raises(RequestError) as error:
        prepare(recipe(source), here)
    assert says in error.value.what and error.value.fix
    assert not (here.root / "datasets").exists()


def test_the_nearest_column_is_named(here: Workspace) -> None:
    write(many())
    with pytest.raises(RequestError, match="did you mean 'label'"):
        prepare(recipe(Source(from_="path:x.csv", shape=Labelled(label="lable"))), here)


def mapped(cells: list[dict[str, Any]], source: Source, task: Classify | Reply) -> Dealt:
    records = [Record(number, row) for number, row in enumerate(cells, 1)]
    return deal(list(map_records(records, "x", 0, source, task)), Data(sources=(source,), heldout_share=0.3))


def test_numbers_are_cut_into_labels_and_those_between_are_dropped() -> None:
    source = Source(from_="path:x", shape=Labelled(label="n", cut=Cut(at_least={"a": 0.5}, at_most={"b": -0.5})))
    ratings = ["0.5", 4, -0.5, "0.49", "-0.1", "high", None, "nan"]
    dealt = mapped([{"text": f"t{n}", "n": rating} for n, rating in enumerate(ratings)], source, TASK)
    assert Counter(row.label for row in dealt.train + dealt.heldout) == {"a": 2, "b": 1}
    assert dealt.reasons == {"between the cuts": 2, "empty": 1, "not a number": 2}


def test_a_cell_becomes_text_in_one_way() -> None:
    assert [cell_text(value) for value in (None, "x", 1, 1.0, 0.5, True, False)] == [
        "",
        "x",
        "1",
        "1",
        "0.5",
        "true",
        "false",
    ]


def test_a_conversation_that_teaches_nothing_is_dropped_with_its_reason() -> None:
    user, assistant = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}
    source = Source(from_="path:x", shape=Conversation())
    good = [[user, assistant], json.dumps([{**user, "content": "x"}, assistant])]
    bad = [
        [user],
        [assistant],
        [user, {"role": "assistant", "content": " "}],
        [{**user, "role": "human"}, assistant],
        [user, {"role": "system", "content": "late"}, assistant],
        "no list",
        None,
        [user, "ho"],
        [user, {"role": "assistant", "content": None}],
    ]
    dealt = mapped([{"messages": messages} for messages in good + bad], source, Reply(system="Be kind."))
    kept = dealt.train + dealt.heldout
    assert len(kept) == 2 and all(row.turns[0] == ("system", "Be kind.") for row in kept)
    assert dealt.reasons == {"empty": 1, "no conversation": 8}


def test_an_own_system_message_stays() -> None:
    cells = [{"messages": [{"role": role, "content": role} for role in ("system", "user", "assistant")]}]
    dealt = mapped(cells, Source(from_="path:x", shape=Conversation()), Reply(system="other"))
    assert [role for role, _ in (dealt.train + dealt.heldout)[0].turns] == ["system", "user", "assistant"]


def test_equal_prompts_stay_on_one_side_even_where_groups_differ() -> None:
    source = Source(from_="path:x", shape=PromptReply(), group="who")
    cells = [{"prompt": f"p{n % 7}", "reply": f"r{n}", "who": f"g{n}"} for n in range(200)]
    dealt = mapped(cells, source, Reply())
    assert not {row.text for row in dealt.train} & {row.text for row in dealt.heldout}
    assert dealt.reasons["same text on the other side"] > 0


def test_a_group_stays_on_one_side() -> None:
    source = Source(from_="path:x", shape=Labelled(), group="doc")
    dealt = mapped([{"text": f"t{n}", "label": "a", "doc": n % 20} for n in range(200)], source, TASK)
    assert not {row.group for row in dealt.train} & {row.group for row in dealt.heldout}
    assert {row.group for row in dealt.train + dealt.heldout} == {str(n) for n in range(20)}


def test_the_number_of_rows_is_limited_by_source_and_the_rest_accounted_for() -> None:
    sources = (
        Source(from_="path:x", shape=Labelled(), train_rows=10, heldout_rows=5),
        Source(from_="path:y", shape=Labelled(), heldout_rows=1000),
    )
    rows = [
        row
        for part, source in enumerate(sources)
        for row in map_records(
            [Record(n, {"text": f"{part} {n}", "label": "a"}) for n in range(100)], "x", part, source, TASK
        )
    ]
    dealt = deal(rows, Data(sources=sources, heldout_share=0.3))
    train, heldout = Counter(row.part for row in dealt.train), Counter(row.part for row in dealt.heldout)
    assert (train[0], heldout[0]) == (10, 5) and train[1] + heldout[1] == 100
    assert sum(dealt.reasons.values()) == 85 and dealt.reasons.keys() == {
        "over the 10 rows asked for",
        "over the 5 rows asked for",
    }


def test_the_share_of_groups_is_about_the_share_asked_for() -> None:
    sides = Counter(side_of(f"group {number}", 0.2) for number in range(5000))
    assert 0.18 < sides["heldout"] / 5000 < 0.22


texts = st.text(st.characters(codec="utf-8"), max_size=4)
cells = st.fixed_dictionaries(
    {
        "text": texts | st.none(),
        "label": st.sampled_from(["a", "b", "c", ""]),
    },
    optional={"doc": st.sampled_from(["1", "2", ""])},
)
records = st.lists(st.one_of(cells.map(lambda row: Record(1, row)), st.just(unreadable(1, "bad", "x"))), max_size=30)
sources = st.builds(
    lambda group, train, heldout: Source(
        from_="path:x", shape=Labelled(), group=group, train_rows=train, heldout_rows=heldout
    ),
    st.sampled_from([None, "doc"]),
    st.none() | st.integers(1, 5),
    st.none() | st.integers(1, 5),
)


def dealt_rows(read: list[Record], source: Source) -> Dealt:
    with_columns = [Record(0, {"text": "the first row", "label": "a", "doc": "1"}), *read]
    return deal(list(map_records(with_columns, "x", 0, source, TASK)), Data(sources=(source,), heldout_share=0.4))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(records, sources)
def test_kept_and_dropped_is_read_always_and_no_text_is_on_both_sides(read: list[Record], source: Source) -> None:
    dealt = dealt_rows(read, source)
    assert len(dealt.train) + len(dealt.heldout) + sum(dealt.reasons.values()) == len(read) + 1
    assert not {row.same for row in dealt.train} & {row.same for row in dealt.heldout}
    assert len({row.id for row in dealt.train + dealt.heldout}) == len(dealt.train) + len(dealt.heldout)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(records, records, sources)
def test_adding_rows_never_moves_an_old_one(old: list[Record], new: list[Record], source: Source) -> None:
    before, after = dealt_rows(old, source), dealt_rows(old + new, source)
    assert not {row.id for row in before.train} & {row.id for row in after.heldout}
    assert not {row.id for row in before.heldout} & {row.id for row in after.train}


def test_the_catalogue_fills_what_the_recipe_leaves_open_and_no_more() -> None:
    source = resolve(Source(from_="vader/nyt", train_rows=3, fields={"more": "x"}, keep_fields=("id",)))
    assert (source.group, source.train_rows, source.licence, source.keep_fields) == ("document", 3, "MIT", ("id",))
    assert source.fields == {"domain": "nyt", "more": "x"} and isinstance(source.shape, Labelled)
    own = Source(from_="vader/nyt", shape=Labelled(text="text", label="document"), licence="own", group="id")
    assert resolve(own).replace(fields={}) == own
