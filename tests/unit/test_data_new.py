"""`look` at files: it says what the columns are and why, and asks where it cannot tell."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from llmops.core.context import Surroundings
from llmops.core.errors import RequestError
from llmops.core.sources import Alpaca, Conversation, Labelled, PlainText, PromptReply, Rated
from llmops.core.tasks import Classify, Reply
from llmops.data.new import draft, look, recipe_yaml
from llmops.data.prepare import prepare
from llmops.data.recipes import parse_recipe
from llmops.store.workspace import Workspace


def sentence(number: int) -> str:
    return f"this is sentence number {number} of some"


def table(path: Path, header: list[str], rows: list[list[object]], delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *rows])
    return path


def lines(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_labelled_texts_are_seen_with_their_reason_and_the_recipe_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, delimiter: str
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [[n, sentence(n), "good" if n % 2 else "bad", "tv" if n % 3 else "pc"] for n in range(60)]
    file = table(Path("My reviews 1.csv"), ["id", "Review", "sentiment", "product"], rows, delimiter)
    seen = look(file)
    assert seen.shape == Labelled(text="Review", label="sentiment")
    assert isinstance(seen.task, Classify) and seen.task.labels == ("bad", "good")
    assert (seen.keep_fields, seen.labels, len(seen.rendered)) == (("product",), {"bad": 30, "good": 30}, 5)
    assert "'sentiment'" in " ".join(seen.why)
    recipe = draft(seen)
    assert recipe.name == "my-reviews-1" and recipe.evaluation.slices == ("product",)
    assert len(recipe_yaml(recipe).splitlines()) < 22
    manifest = prepare(parse_recipe(recipe_yaml(recipe), "x"), Workspace.find(tmp_path / "ws", Surroundings()))
    assert (manifest.rows_train, manifest.rows_heldout) == (seen.rows_train, seen.rows_heldout)


def test_prompts_with_replies_and_conversations_are_seen(tmp_path: Path) -> None:
    pairs = [{"instruction": sentence(n), "input": "", "output": sentence(n + 500)} for n in range(60)]
    assert look(lines(tmp_path / "a.jsonl", list(pairs))).shape == Alpaca(input="input")
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    chats = [{"talk": [{**turns[0], "content": sentence(n)}, turns[1]], "lang": "ab"[n % 2]} for n in range(60)]
    seen = look(lines(tmp_path / "b.jsonl", list(chats)))
    assert seen.shape == Conversation(messages="talk") and seen.keep_fields == ("lang",) and seen.task == Reply()


def test_answers_of_yes_and_no_are_labels(tmp_path: Path) -> None:
    rows: list[list[object]] = [[sentence(n), "yes" if n % 2 else "no"] for n in range(60)]
    assert look(table(tmp_path / "a.csv", ["question", "answer"], rows)).shape == Labelled(
        text="question", label="answer"
    )


def test_what_is_unclear_is_asked_with_columns_and_flags(tmp_path: Path) -> None:
    labels = table(
        tmp_path / "l.csv", ["text", "mood", "dept"], [[sentence(n), "ab"[n % 2], "cd"[n % 2]] for n in range(60)]
    )
    with pytest.raises(RequestError, match=r"--label.*'mood'.*'dept'"):
        look(labels)
    assert look(labels, label="dept").shape == Labelled(text="text", label="dept")
    texts = table(
        tmp_path / "t.csv", ["title", "abstract", "topic"], [[sentence(n), sentence(n), "ab"[n % 2]] for n in range(60)]
    )
    with pytest.raises(RequestError, match=r"--text.*'title'.*'abstract'"):
        look(texts)
    assert look(texts, text="title").shape == Labelled(text="title", label="topic")
    numbers = table(tmp_path / "n.csv", ["text", "score"], [[sentence(n), n / 7] for n in range(60)])
    assert look(numbers).shape == Rated(text="text", number="score")
    with pytest.raises(RequestError, match="no column looks like a label"):
        look(table(tmp_path / "m.csv", ["text", "width"], [[sentence(n), n / 7] for n in range(60)]))
    assert look(tmp_path / "m.csv", number="width").shape == Rated(text="text", number="width")
    assert look(tmp_path / "m.csv", text="text").shape == PlainText(text="text")
    with pytest.raises(RequestError, match="cannot be the label"):
        look(numbers, label="score")
    with pytest.raises(RequestError, match="--reply is not given"):
        look(texts, prompt="title")
    assert look(texts, prompt="title", reply="abstract").shape == PromptReply(prompt="title", reply="abstract")
    with pytest.raises(RequestError, match="no column 'none'"):
        look(texts, label="none")
    with pytest.raises(RequestError, match="labelled texts, or prompts with replies"):
        look(texts, text="title", reply="abstract")


def test_a_file_without_a_header_is_not_taken_for_one_with_a_strange_header(tmp_path: Path) -> None:
    rows: list[list[object]] = [[sentence(n), "ab"[n % 2]] for n in range(60)]
    with pytest.raises(RequestError, match="looks like a row"):
        look(table(tmp_path / "a.csv", [sentence(99), "a"], rows))


def test_warnings_say_what_to_mind_and_a_label_too_rare_is_left_out(tmp_path: Path) -> None:
    rows: list[list[object]] = [[sentence(n), "ab"[n % 2]] for n in range(60)]
    seen = look(table(tmp_path / "a.csv", ["text", "label"], [*rows, [sentence(0), "a"], [sentence(77), "once"]]))
    said = "; ".join(seen.warnings)
    assert (
        "label 'once' occurs once" in said
        and "out of balance" in said
        and "1 row would be dropped: duplicate (the first is line 62)" in said
    )
    assert isinstance(seen.task, Classify) and seen.task.labels == ("a", "b")


def test_labels_that_differ_in_case_are_refused_in_plain_words(tmp_path: Path) -> None:
    rows: list[list[object]] = [[sentence(n), ("Pos", "pos", "neg")[n % 3]] for n in range(60)]
    with pytest.raises(RequestError, match=r"'Pos' and 'pos'.*differ in case only"):
        look(table(tmp_path / "a.csv", ["text", "label"], rows))


def test_a_name_that_is_none_is_refused(tmp_path: Path) -> None:
    rows: list[list[object]] = [[sentence(n), "ab"[n % 2]] for n in range(60)]
    seen = look(table(tmp_path / "1.csv", ["text", "label"], rows))
    assert draft(seen).name == "my-rows" and draft(seen, "tone-2").name == "tone-2"
    with pytest.raises(RequestError, match="is no name"):
        draft(seen, "My Tone")


def test_rows_that_a_program_holds_are_kept_in_the_workspace_and_the_recipe_runs(tmp_path: Path) -> None:
    import pandas
    from datasets import Dataset, DatasetDict

    import llmops

    at = Workspace.find(tmp_path / "ws", Surroundings())
    rows = [{"text": sentence(n), "label": "ab"[n % 2]} for n in range(60)]
    odd_rows = Dataset.from_list(rows).filter(lambda row: row["label"] == "a", keep_in_memory=True)
    seen, text = llmops.new(Dataset.from_list(rows), "held", at)
    assert seen.shape == Labelled() and seen.rows == 60
    manifest = prepare(parse_recipe(text, "x"), at)
    assert manifest.rows_read == 60 and manifest.name == "held"
    for same in (rows, pandas.DataFrame(rows)):
        assert llmops.new(same, "again", at)[0].rendered == seen.rendered
    with pytest.raises(RequestError, match="2 sets of rows"):
        llmops.new(DatasetDict(train=odd_rows, test=odd_rows), "two", at)
    with pytest.raises(RequestError, match="is no table of rows"):
        llmops.new(7, "seven", at)


FORMS: dict[str, tuple[str, Callable[[int], dict[str, object]]]] = {
    "preference": ("dpo", lambda n: {"prompt": sentence(n), "chosen": sentence(n + 1), "rejected": sentence(n + 2)}),
    "thumbs": ("kto", lambda n: {"prompt": sentence(n), "completion": sentence(n + 99), "label": n % 2 == 0}),
    "sharegpt": ("sft", lambda n: {"turns": [{"from": "human", "value": sentence(n)}, {"from": "gpt", "value": "ho"}]}),
    "alpaca": ("sft", lambda n: {"instruction": sentence(n), "input": sentence(n + 70), "output": sentence(n + 140)}),
    "labelled": ("sft", lambda n: {"data": {"text": sentence(n)}, "marks": [{"choice": "ab"[n % 2]}]}),
    "rated": ("sft", lambda n: {"text": sentence(n), "score": n / 10}),
    "text": ("sft", lambda n: {"body": sentence(n)}),
}


@pytest.mark.parametrize("kind", FORMS)
def test_every_shape_is_recognised_and_its_recipe_prepares(tmp_path: Path, kind: str) -> None:
    objective, row = FORMS[kind]
    recipe = draft(look(lines(tmp_path / "a.jsonl", [row(n) for n in range(60)])))
    shape = recipe.data.sources[0].shape
    assert shape is not None and (shape.kind, recipe.objective.kind) == (kind, objective)
    again = parse_recipe(recipe_yaml(recipe), "x")
    assert again == recipe
    assert prepare(again, Workspace.find(tmp_path / "ws", Surroundings())).rows_train > 0


@pytest.mark.parametrize(("labels", "rows"), [(["good"], 60), ([f"c{n}" for n in range(60)], 60), (["good", "bad"], 1)])
def test_a_column_named_label_is_never_left_out_without_a_word(tmp_path: Path, labels: list[str], rows: int) -> None:
    file = table(tmp_path / "a.csv", ["text", "label"], [[sentence(n), labels[n % len(labels)]] for n in range(rows)])
    with pytest.raises(RequestError, match=r"'label'.* is named like a label, and cannot be one") as refused:
        look(file)
    assert "--text" in refused.value.fix
    assert look(file, text="text").shape == PlainText(text="text")


@pytest.mark.parametrize("roles", [("user", "assistant"), ("prompter", "prompter"), ("customer", "agent")])
def test_a_file_with_one_message_a_row_is_not_taken_for_labelled_texts(tmp_path: Path, roles: tuple[str, ...]) -> None:
    rows: list[dict[str, object]] = [{"thread": n // 2, "role": roles[n % 2], "text": sentence(n)} for n in range(60)]
    with pytest.raises(RequestError, match="'role' says who speaks") as refused:
        look(lines(tmp_path / "a.jsonl", rows))
    assert "messages" in refused.value.fix
    labelled = [{**row, "label": "ab"[n % 3 == 0]} for n, row in enumerate(rows)]
    assert look(lines(tmp_path / "b.jsonl", list(labelled))).shape == Labelled()


def test_dates_that_come_again_are_no_labels(tmp_path: Path) -> None:
    rows: list[list[object]] = [
        [n, sentence(n), ("gut", "schlecht")[n % 2], f"{n % 9 + 1:02d}.03.2025", f"2025-03-0{n % 9 + 1} 10:00"]
        for n in range(60)
    ]
    seen = look(table(tmp_path / "a.csv", ["Nr", "Kommentar", "Bewertung", "Datum", "ts"], rows, ";"))
    assert seen.shape == Labelled(text="Kommentar", label="Bewertung") and seen.keep_fields == ()


def test_a_question_is_asked_in_words_where_the_column_is_a_path(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"data": {"text": sentence(n)}, "annotations": [{"result": [{"value": {"choices": ["ab"[n % 2]]}}]}]}
        for n in range(60)
    ]
    seen = look(lines(tmp_path / "a.jsonl", rows))
    assert isinstance(seen.task, Classify) and seen.task.question == "Which label fits this text: a or b?"


def test_a_warning_names_the_first_line_and_what_is_wrong_with_it(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"prompt": sentence(n), "completion": sentence(n + 500)} for n in range(60)]
    file = lines(tmp_path / "a.jsonl", rows)
    with file.open("a") as more:
        more.write('{"prompt": "abc')
    said = " ".join(look(file).warnings)
    assert "1 row would be dropped: unreadable (the first is line 61: not JSON" in said


def test_a_long_cell_is_a_text_like_any_other(tmp_path: Path) -> None:
    long = " ".join(f"word{n}" for n in range(30_000))
    rows: list[list[object]] = [[long if n == 5 else sentence(n), "ab"[n % 2]] for n in range(60)]
    seen = look(table(tmp_path / "a.csv", ["text", "label"], rows))
    assert seen.rows_train + seen.rows_heldout == 60 and not [said for said in seen.warnings if "dropped" in said]
