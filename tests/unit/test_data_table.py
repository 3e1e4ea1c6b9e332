"""Tables in and out, and lists of words."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from llmops.core.errors import RequestError
from llmops.data.table import neutral, read_texts, text_column, write_predictions
from llmops.data.words import read_word_list


def test_texts_are_read_with_their_other_cells_and_their_column_is_found(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("id,body\n1,a text of some words\n2,another text of words\n")
    rows = read_texts(path)
    assert rows[0] == {"id": "1", "body": "a text of some words"} and text_column(path, rows) == "body"
    assert text_column(path, rows, "id") == "id"
    with pytest.raises(RequestError, match="no column 'txt'"):
        read_texts(path, "txt")
    path.write_text("one,two\na text of some words,b text of some words\n")
    with pytest.raises(RequestError, match="choose with --column"):
        read_texts(path)


def test_a_row_that_cannot_be_read_stops_a_prediction(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"text": "a"}\n{"text": "b"}\nhalf')
    with pytest.raises(RequestError, match="line 3: unreadable"):
        read_texts(path)
    path.write_text('{"text": "a"}\n{"text": ["b"]}\n')
    with pytest.raises(RequestError, match="line 2: unreadable: a cell is a list"):
        read_texts(path)


@pytest.mark.parametrize("cell", ["=1+1", "+cmd|x", "-2+3", "@SUM(A1)", "\t=1", "\r=1", " =1", "\n=1"])
def test_a_formula_is_neutralised(cell: str) -> None:
    assert neutral(cell) == "'" + cell


@pytest.mark.parametrize("cell", ["", "-0.5", "+3", "-1e-5", "plain", "a=b", "1-2", "'x"])
def test_what_is_no_formula_stays(cell: str) -> None:
    assert neutral(cell) == cell


def test_predictions_stand_behind_the_cells_they_belong_to(tmp_path: Path) -> None:
    rows = [{"text": "=evil()", "label": "a"}, {"text": "two\nlines", "label": "b"}]
    found: list[dict[str, str | float]] = [
        {"label": "b", "probability": 0.75, "version": "tone:1"},
        {"label": "a", "probability": 0.5, "version": "tone:1"},
    ]
    write_predictions(tmp_path / "out.csv", rows, found)
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [
            ["text", "label", "predicted_label", "probability", "version"],
            ["'=evil()", "a", "b", "0.75", "tone:1"],
            ["two\nlines", "b", "a", "0.5", "tone:1"],
        ]
    with pytest.raises(ValueError, match="shorter"):
        write_predictions(tmp_path / "none.csv", rows, found[:1])
    assert not (tmp_path / "none.csv").exists()


def test_a_word_list_is_read_and_a_line_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes(b"good\t1.9\t0.9\t[2, 1]\r\n:)\t2\r\n\r\ngood\t-1\r\n")
    assert read_word_list(path) == {"good": -1.0, ":)": 2.0}
    for bad in (b"good\n", b"good\thigh\n", b"good\tnan\n", b"\t1\n", b"caf\xe9\t1\n"):
        path.write_bytes(b"fine\t1\n" + bad)
        with pytest.raises(RequestError, match="line 2"):
            read_word_list(path)
    path.write_bytes(b"\n")
    with pytest.raises(RequestError, match="holds no words"):
        read_word_list(path)
