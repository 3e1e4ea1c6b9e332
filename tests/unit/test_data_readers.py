"""Readers: every line is read, or dropped with its reason; nothing is changed in silence."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from llmops.core.errors import RequestError
from llmops.data.readers import READERS, read_records
from llmops.data.record import Record

GOOD = b'{"text": "fine", "label": "a"}\n'


def read(path: Path, content: bytes, reader: str = "") -> list[Record]:
    path.write_bytes(content)
    return list(read_records(path, path.name, reader))


def cells(records: list[Record]) -> list[dict[str, str]]:
    return [record.cells for record in records if record.cells is not None]


BAD_LINES = {
    "half a line": b'{"text": "cut o',
    "a list": b'["text", "a"]',
    "a text": b'"text"',
    "a number": b"3",
    "null": b"null",
    "NaN": b'{"text": NaN}',
    "infinity": b'{"text": -Infinity}',
    "a number without end": b'{"text": 1e999}',
    "a lone surrogate": b'{"text": "\\ud83d"}',
    "a lone surrogate in a key": b'{"\\udc00": "x"}',
    "NUL": b'{"text": "a\0b"}',
    "NUL, escaped": b'{"text": "a\\u0000b"}',
    "no UTF-8": b'{"text": "caf\xe9"}',
    "a key twice": b'{"text": "a", "text": "b"}',
    "two objects": b'{"text": "a"} {"text": "b"}',
    "single quotes": b"{'text': 'a'}",
    "a comma too many": b'{"text": "a",}',
    "nested too deep": b"[" * 50_000,
    "no quotes": b"{text: a}",
    "a control character": b'{"text": "a\tb"}',
    "a comment": b'{"text": "a"} // fine',
    "a BOM in the middle": b'\xef\xbb\xbf{"text": "a"}',
}


@pytest.mark.parametrize("bad", BAD_LINES.values(), ids=BAD_LINES)
@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_one_bad_json_line_is_dropped_with_its_reason_and_costs_no_other(
    tmp_path: Path, bad: bytes, place: str
) -> None:
    before = {"first": 0, "middle": 2, "last": 4}[place]
    start = b"\xef\xbb\xbf" if bad.startswith(b"\xef\xbb\xbf") else b""  # one of its own may begin a file
    records = read(tmp_path / "a.jsonl", start + GOOD * before + bad + b"\n" + GOOD * (4 - before))
    assert [record.cells for record in records].count({"text": "fine", "label": "a"}) == 4
    (dropped,) = [record for record in records if record.cells is None]
    assert dropped.line == before + 1
    assert dropped.reason.startswith("unreadable: ") and len(dropped.reason) > len("unreadable: ")


ODD_BUT_GOOD = {
    "a pair of surrogates": (b'{"text": "\\ud83d\\ude00"}', "\N{GRINNING FACE}"),
    "a line separator inside": ('{"text": "a\u2028b"}'.encode(), "a\u2028b"),
    "an escaped backslash": (b'{"text": "\\\\ud83d and \\\\u0000"}', "\\ud83d and \\u0000"),
    "Windows line ends": (b'{"text": "x"}\r', "x"),
    "white space around": (b'  {"text": "x"}  ', "x"),
    "a decomposed accent": ('{"text": "e\u0301"}'.encode(), "e\u0301"),
}


@pytest.mark.parametrize("case", ODD_BUT_GOOD.values(), ids=ODD_BUT_GOOD)
def test_an_odd_but_good_json_line_is_read_unchanged(tmp_path: Path, case: tuple[bytes, str]) -> None:
    assert cells(read(tmp_path / "a.jsonl", case[0] + b"\n")) == [{"text": case[1]}]


def test_a_bom_and_blank_lines_are_no_rows(tmp_path: Path) -> None:
    assert len(read(tmp_path / "a.jsonl", b"\xef\xbb\xbf" + GOOD + b"\n \n" + GOOD)) == 2


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_csv_is_read_with_its_own_delimiter_quotes_bom_and_line_ends(tmp_path: Path, delimiter: str) -> None:
    text = f'\ufefftext{delimiter}label\r\n"a, b; ""c""\td"{delimiter}x\r\nplain{delimiter}y\r\n'
    found = cells(read(tmp_path / "a.csv", text.encode()))
    assert found == [{"text": 'a, b; "c"\td', "label": "x"}, {"text": "plain", "label": "y"}]


def test_a_quoted_cell_may_run_over_lines(tmp_path: Path) -> None:
    records = read(tmp_path / "a.csv", b'text,label\n"one\n\ntwo, ""three""\nfour",x\nplain,y\n')
    assert cells(records)[0]["text"] == 'one\n\ntwo, "three"\nfour'
    assert [record.line for record in records] == [2, 6]


BAD_ROWS = {
    "a missing cell": b"alone",
    "a cell too many": b"a,b,c",
    "NUL": b"a\0,b",
    "no UTF-8": b"caf\xe9,b",
    "an open quote": b'"never closed,b',
    "text behind a quote": b'"closed" too early,b',
    "a cut quote": b'"cut off',
}


@pytest.mark.parametrize("bad", BAD_ROWS.values(), ids=BAD_ROWS)
@pytest.mark.parametrize("before", [0, 2, 4])
def test_one_bad_csv_line_is_dropped_with_its_reason_and_costs_no_other(
    tmp_path: Path, bad: bytes, before: int
) -> None:
    good = b'"good, good",x\n'
    records = read(tmp_path / "a.csv", b"text,label\n" + good * before + bad + b"\n" + good * (4 - before))
    assert cells(records) == [{"text": "good, good", "label": "x"}] * 4
    assert [(record.line, record.reason[:12]) for record in records if record.cells is None] == [
        (before + 2, "unreadable: ")
    ]


def test_a_quote_in_a_tsv_is_a_character_like_any_other(tmp_path: Path) -> None:
    content = b'text\tlabel\n"Hi" she said\tx\n"open\ty\n5" pipe\tz\n'
    assert [row["text"] for row in cells(read(tmp_path / "a.tsv", content))] == ['"Hi" she said', '"open', '5" pipe']


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", b"", "holds no rows"),
        ("a.csv", b"\n\n", "holds no rows"),
        ("a.csv", b"text,label\n", "holds no rows"),
        ("a.csv", b"text,text\na,b\n", "'text' stands twice"),
        ("a.csv", b"text,label\na\nb\nc,d\n", "2 of 3 rows are unreadable; the first is line 2: 1 cells"),
        ("a.csv", "text,label\na,b\n".encode("utf-16"), "UTF-16"),
        ("a.csv", b"\xe9,label\na,b\n", "line 1: byte 1 is not UTF-8"),
        ("a.jsonl", b"", "holds no rows"),
        ("a.json", b"[]", "holds no rows"),
        ("a.json", b'[{"text": "a"},', "not JSON"),
        ("a.json", b'{\n"text": "a"\n}', "is one JSON object with 'text', not a list of rows"),
        ("a.json", b'"text"', "is a JSON text"),
        ("a.csv", b"text,label\ra,b\r", "carriage return alone"),
        ("a.jsonl.gz", gzip.compress(GOOD * 50)[:-20], "cut off or damaged behind line"),
        ("a.arrow", b"ARROW1 no", "a.arrow"),
        ("a.parquet", b"PAR1 no PAR1", "a.parquet"),
        ("a.xlsx", b"a", "'.xlsx'"),
        ("a.txt", b" \n", "holds no rows"),
        ("a", b"a", "'nothing'"),
    ],
)
def test_a_file_that_is_no_table_is_refused_by_name(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    with pytest.raises(RequestError) as error:
        read(tmp_path / name, content)
    assert says in error.value.what and name in error.value.what and error.value.fix


def test_a_json_list_and_json_lines_under_the_same_ending_are_both_read(tmp_path: Path) -> None:
    assert cells(read(tmp_path / "a.json", b'[{"text": "a"}, {"text": "b"}]')) == [{"text": "a"}, {"text": "b"}]
    assert cells(read(tmp_path / "b.json", GOOD * 2)) == [{"text": "fine", "label": "a"}] * 2


def test_parquet_rows_keep_their_types_and_numbers(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": ["a", None], "n": [1, 2]}), tmp_path / "a.parquet")
    assert list(READERS["parquet"](tmp_path / "a.parquet", ())) == [
        Record(1, {"text": "a", "n": 1}),
        Record(2, {"text": None, "n": 2}),
    ]


def chat(*turns: tuple[str, str]) -> dict[str, object]:
    return {
        "messages": [[{"text": text, "sender": sender, "timestamp": ""}] for sender, text in turns],
        "prompt": "Why?",
    }


def test_a_conversation_gives_one_record_for_each_reply_with_an_odd_context(tmp_path: Path) -> None:
    data = {
        "long": chat(("A", "1"), ("B", "2"), ("B", "2b"), ("A", "3"), ("B", "4"), ("A", "5")),
        "alone": chat(("A", "hello?")),
    }
    records = read(tmp_path / "chat.json", json.dumps(data).encode(), "chitchat")
    spoken = [[(m["role"][0], m["content"]) for m in row["messages"]] for row in cells(records)]
    assert spoken == [
        [("u", "1"), ("a", "2\n2b")],
        [("u", "2\n2b"), ("a", "3")],
        [("u", "1"), ("a", "2\n2b"), ("u", "3"), ("a", "4")],
        [("u", "2\n2b"), ("a", "3"), ("u", "4"), ("a", "5")],
    ]
    assert {(row["conversation"], row["opening"]) for row in cells(records)} == {("long", "Why?")}
    assert (records[-1].line, records[-1].reason) == (2, "no reply in the conversation")


def test_vader_lines_know_their_document(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b'12_3\t0.5\tA "quoted, text\r\nno tabs\r\n7\t-1\tb\r\n')
    records = list(READERS["vader"](path, ("id", "rating", "text")))
    assert [row["document"] for row in cells(records)] == ["12", "7"]
    assert cells(records)[0]["text"] == 'A "quoted, text'
    assert records[1].reason == "unreadable: 1 cells where 3 are expected"


def test_gzip_is_unpacked_whatever_the_name_says(tmp_path: Path) -> None:
    assert cells(read(tmp_path / "a.jsonl.gz", gzip.compress(GOOD * 2))) == [{"text": "fine", "label": "a"}] * 2
    assert cells(read(tmp_path / "a.csv", gzip.compress(b"text;n\nx;1\n"))) == [{"text": "x", "n": "1"}]


def test_an_object_around_a_list_of_rows_is_opened(tmp_path: Path) -> None:
    content = json.dumps({"version": 1, "data": [{"text": "a"}, {"text": "b"}]}, indent=1).encode()
    assert cells(read(tmp_path / "a.json", content)) == [{"text": "a"}, {"text": "b"}]


def test_running_text_is_read_by_blocks_or_by_lines_where_no_line_is_blank(tmp_path: Path) -> None:
    blocks = read(tmp_path / "a.txt", b"\xef\xbb\xbfone\r\ntwo\r\n\r\n\r\nthree\r\n")
    assert [(record.line, record.cells) for record in blocks] == [(1, {"text": "one\ntwo"}), (5, {"text": "three"})]
    lines = read(tmp_path / "b.txt", b"\none\ntwo\n\xffbad\nthree\n\n")
    assert [(record.line, (record.cells or {}).get("text")) for record in lines] == [
        (2, "one"),
        (3, "two"),
        (4, None),
        (5, "three"),
    ]


def test_arrow_files_and_streams_keep_their_types(tmp_path: Path) -> None:
    import pyarrow as pa

    table = pa.table({"text": ["a", None, "c\0"], "n": [1, 2, 3]})
    rows = [{"text": "a", "n": 1}, {"text": None, "n": 2}]
    for name, new in (("file", pa.ipc.new_file), ("stream", pa.ipc.new_stream)):
        with new(tmp_path / f"{name}.arrow", table.schema) as writer:
            writer.write_table(table)
        records = list(READERS["arrow"](tmp_path / f"{name}.arrow", ()))
        assert [record.cells for record in records] == [*rows, None]
        assert records[2].reason == "unreadable: it holds a NUL character"


def test_a_number_with_more_digits_than_a_float_holds_is_not_rounded_in_silence(tmp_path: Path) -> None:
    records = read(tmp_path / "a.jsonl", b'{"n": 0.1}\n{"n": 0.12345678901234567890}\n{"n": 12345678901234567890}\n')
    assert [record.cells for record in records] == [{"n": 0.1}, None, {"n": 12345678901234567890}]
