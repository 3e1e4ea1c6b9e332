"""The cleaning steps, one by one, on rows in memory."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmops.core.cleaning import Duplicates, Language, NearDuplicates, Normalise, Private, Quality, Step, Terms
from llmops.core.context import Surroundings
from llmops.core.errors import RequestError
from llmops.core.sources import Data, Labelled, PromptReply, Source
from llmops.core.tasks import Classify, Reply
from llmops.data import prove_cleaning
from llmops.data.mapping import Example, map_records
from llmops.data.prove_cleaning import reworded, sentence
from llmops.data.record import Record
from llmops.data.split import Dealt, deal
from llmops.data.steps.jaccard import Sets, alike
from llmops.data.steps.near_duplicates import sign
from llmops.data.steps.normalise import in_one_form
from llmops.data.steps.run import changes
from llmops.data.steps.shingles import shingles
from llmops.data.steps.signs import Signs
from llmops.data.steps.terms import with_words

TASK = Classify(question="Which?", labels=("a", "b"))


def labelled(pairs: Sequence[tuple[str, str]]) -> list[Example]:
    records = [Record(line, {"text": text, "label": label}) for line, (text, label) in enumerate(pairs, 1)]
    found = list(map_records(records, "x", 0, Source(from_="path:x", shape=Labelled()), TASK))
    return [row for row in found if isinstance(row, Example)]


def talks(pairs: Sequence[tuple[str, str]], **more: str) -> list[Example]:
    records = [Record(line, {"prompt": said, "reply": back, **more}) for line, (said, back) in enumerate(pairs, 1)]
    source = Source(from_="path:x", shape=PromptReply(), keep_fields=tuple(more))
    return [row for row in map_records(records, "x", 0, source, Reply()) if isinstance(row, Example)]


def dealt(rows: Sequence[Example], *steps: Step, bring_back: tuple[str, ...] = ()) -> Dealt:
    return deal(rows, Data(sources=(Source(from_="path:x"),), steps=steps, bring_back=bring_back))


def reasons(rows: Sequence[Example], *steps: Step) -> dict[str, int]:
    return dealt(rows, *steps).reasons


# Normalise


def test_what_cannot_be_seen_goes_and_indentation_stays() -> None:
    made = in_one_form("cafe\u0301\r\n\tone  two\u00a0\u200bthree \n\n\n\n\n\x07end\ufeff ")
    assert made is not None and made.text == "café\n\tone  two three\n\n\nend"
    assert set(made.what) >= {"NFC", "line end", "space", "control character", "invisible character"}
    assert in_one_form("    def f():\n        return 👩‍👩‍👧 क्‍ष") is None


@given(st.text(max_size=40))
def test_doing_it_twice_changes_nothing(text: str) -> None:
    once = in_one_form(text)
    assert in_one_form(once.text if once else text) is None


def test_an_altered_row_keeps_its_id_and_its_side_and_says_what_was_altered() -> None:
    (row,) = talks([("how\u00a0are\r\nyou?", "fine ")])
    (change,) = changes(Normalise(), [row], ())
    assert change.row is not None and (change.row.id, change.row.group) == (row.id, row.group)
    assert change.row.text == "how are\nyou?" == change.row.turns[0][1]
    assert [(note.field, note.what) for note in change.notes] == [("turn 0", {"space": 1, "line end": 1})]


def test_a_row_of_which_nothing_is_left_is_dropped() -> None:
    assert reasons(talks([("\u200b\u2060", "x"), ("hi", "ho")]), Normalise()) == {"empty": 1}


# Quality


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no " * 40, "repeats itself"),
        ("=-=-=-=-=-=-=-=-=-=- a =-=-=-=-", "mostly symbols"),
        ("x" * 2001, "too long"),
        ("Skip to main content\nAll rights reserved.", "only the frame of a page"),
    ],
)
def test_what_is_no_text_is_dropped(text: str, reason: str) -> None:
    assert reasons(talks([(text, "x")]), Quality(most_characters=2000)) == {reason: 1}


@pytest.mark.parametrize(
    "text",
    [
        ":-) :-)",
        "Ha ha ha!",
        "if (a && b) { return f(x)[0]; } // {{}}",
        "今天天气很好，我们出去了。今天天气很好。",
        "Row, row, row your boat, gently down the stream. Merrily, merrily, merrily, merrily, life is but a dream.",
        "Accept all cookies",
        "I read their terms of use\nand the privacy policy was long",
    ],
)
def test_what_is_a_text_stays_as_it_is(text: str) -> None:
    assert changes(Quality(), talks([(text, "x")]), ()) == []


def test_lines_of_a_pages_frame_are_cut() -> None:
    (change,) = changes(
        Quality(), talks([("Skip to content\nIt rained.\n© 2024 News Ltd. All rights reserved\n", "x")]), ()
    )
    assert change.row is not None and change.row.text == "It rained."
    assert change.notes[0].what == {"line of a page's frame": 2}


# Language


def test_another_language_is_dropped_and_a_short_text_is_not_judged() -> None:
    german = "Das Wetter ist heute schön und wir sind den ganzen Tag am Fluss spazieren gegangen."
    english = "The weather was fine today, so we walked along the river for the whole afternoon."
    rows = labelled([(german, "a"), (english, "b"), ("Danke schön!", "a")])
    assert [row.text for row in dealt(rows, Language(keep=("en",))).dropped if row.step == "language"] == [german]
    assert [row.text for row in dealt(rows, Language(keep=("de",))).dropped if row.step == "language"] == [english]


# Private


def test_private_data_is_replaced_in_every_text_and_field_and_never_in_the_ledger() -> None:
    rows = talks([("I am ann@example.org, call me", "OK, +44 20 7946 0958?")], author="bob@example.org")
    (change,) = changes(Private(), rows, ())
    assert change.row is not None
    assert [text for _, text in change.row.turns] == ["I am [EMAIL], call me", "OK, [PHONE]?"]
    assert (change.row.text, change.row.fields) == ("I am [EMAIL], call me", {"author": "[EMAIL]"})
    told = "".join(note.model_dump_json() for note in change.notes)
    assert "example" not in told and "7946" not in told and '[5,20,"EMAIL"]' in told.replace(" ", "")


def test_only_what_is_asked_for_is_replaced() -> None:
    rows = talks([("ann@example.org or 4111 1111 1111 1111", "ok")])
    (change,) = changes(Private(find=("CARD",)), rows, ())
    assert change.row is not None and change.row.text == "ann@example.org or [CARD]"


def test_a_text_too_long_to_scan_is_dropped_not_passed() -> None:
    rows = talks([("a" * 101, "x"), ("b" * 100, "x")])
    assert [(change.at, change.reason) for change in changes(Private(longest=100), rows, ())] == [
        (0, "too long to scan for private data")
    ]


# Terms


def test_rows_with_listed_terms_go_and_words_that_only_contain_one_stay() -> None:
    rows = talks([("You Blockhead!", "x"), ("blockheaded", "x"), ("big fat liar", "x"), ("fat", "x")])
    step = Terms(list_=None, words=("blockhead", "fat liar"))
    assert [(change.at, change.reason) for change in changes(step, rows, ())] == [
        (0, "listed terms: 1"),
        (2, "listed terms: 1"),
    ]
    assert changes(step.replace(most=1), rows, ()) == []


def test_a_list_of_terms_is_read_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("Blockhead\n\nfat liar\n", encoding="utf-8")
    made = with_words(Terms(list_=f"path:{tmp_path / 'list.txt'}", words=("Dolt",)), Surroundings())
    assert isinstance(made, Terms) and (made.list_, made.words) == (None, ("blockhead", "dolt", "fat liar"))
    (tmp_path / "list.txt").write_bytes(b"\xff\n")
    with pytest.raises(RequestError, match="is no list of terms"):
        with_words(Terms(list_=f"path:{tmp_path / 'list.txt'}"), Surroundings())


# Duplicates


def test_which_of_equal_rows_stays_does_not_depend_on_their_order() -> None:
    texts = [("one  two", "a"), ("one two", "a"), ("one two ", "a"), ("odd", "a"), ("odd ", "b"), ("three", "b")]
    rows = labelled(texts)
    kept = set()
    for seed in range(6):
        shuffled = Random(seed).sample(rows, len(rows))
        made = dealt(shuffled, Duplicates())
        kept.add(frozenset(row.text for row in made.train + made.heldout))
        assert made.reasons == {"contradictory labels": 2, "duplicate": 2}
    assert len(kept) == 1


def test_a_row_that_is_brought_back_says_which_label_is_right() -> None:
    rows = labelled([("odd", "a"), ("odd ", "b"), ("even", "b")])
    made = dealt(rows, Duplicates(), bring_back=(rows[1].id,))
    assert {(row.text, row.label) for row in made.train + made.heldout} == {("odd", "b"), ("even", "b")}
    assert made.reasons == {"contradictory labels": 1}


def test_case_and_punctuation_are_ignored_where_that_is_asked_for() -> None:
    rows = talks([("How are you?", "Fine."), ("how are you", "fine!"), ("?!", "x"), ("!?", "x")])
    assert reasons(rows, Duplicates()) == {}
    assert reasons(rows, Duplicates(ignore="case and punctuation")) == {"duplicate": 1}


# Near duplicates


@pytest.mark.parametrize("check", prove_cleaning.SPOILT, ids=lambda check: check[0])
def test_injected_duplicates_are_found_and_rows_that_begin_alike_stay(check: tuple) -> None:
    result = prove_cleaning.duplicates(*check, 60)
    assert result.passed, result.note


def test_the_proof_fails_a_step_that_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prove_cleaning, "STEPS", (Normalise(),))
    assert not prove_cleaning.duplicates(*prove_cleaning.SPOILT[2], 20).passed
    assert not prove_cleaning.contradictions(10).passed


def family(seed: int, size: int = 60) -> list[tuple[str, str]]:
    rng = Random(seed)
    texts = [sentence(rng, rng.randint(3, 30)) for _ in range(size)]
    texts += [reworded(rng, rng.choice(texts)) for _ in range(size)]
    return [(text, "a") for text in rng.sample(texts, len(texts))]


@pytest.mark.parametrize("seed", range(3))
def test_each_row_that_goes_is_really_like_one_that_stays_whatever_the_order(seed: int) -> None:
    rows = list({row.id: row for row in labelled(family(seed))}.values())
    step = NearDuplicates()
    gone = {rows[change.at].id: change.reason for change in changes(step, rows, ())}
    by_id = {row.id: row for row in rows}
    assert len(gone) > 20
    for row_id, reason in gone.items():
        other = re.fullmatch(r"near duplicate: \d+% alike with ([0-9a-f]{16})", reason)
        assert other and other[1] not in gone
        assert jaccard(by_id[row_id].text, by_id[other[1]].text) >= step.alike
    shuffled = Random(seed).sample(rows, len(rows))
    assert {shuffled[change.at].id: change.reason for change in changes(step, shuffled, ())} == gone


def pairs(text: str) -> set[tuple[str, str]]:
    words = re.findall(r"\w+", text.casefold())
    return set(pairwise(["<", *words, ">"])) if words else set()


def jaccard(one: str, other: str) -> float:
    union = pairs(one) | pairs(other)
    return len(pairs(one) & pairs(other)) / len(union) if union else 1.0


def test_rows_with_another_label_or_another_reply_are_no_duplicates() -> None:
    said = sentence(Random(1), 20)
    assert reasons(labelled([(said, "a"), (f"{said} too", "b")]), NearDuplicates()) == {}
    assert reasons(talks([(said, "yes of course"), (f"{said} too", "not at all")]), NearDuplicates()) == {}
    assert reasons(talks([(said, "yes of course"), (f"{said} too", "Yes, of course!")]), NearDuplicates()) == {
        "near duplicate": 1
    }


def test_a_row_that_is_brought_back_stays_and_the_other_goes() -> None:
    said = sentence(Random(1), 20)
    rows = labelled([(said, "a"), (f"{said} too", "a")])
    for row in rows:
        made = dealt(rows, NearDuplicates(), bring_back=(row.id,))
        assert [kept.id for kept in made.train + made.heldout] == [row.id]


def test_short_rows_of_one_form_that_differ_in_a_word_stay() -> None:
    rows = labelled([(f"the {thing} was good on day {day}", "a") for day in range(9) for thing in ("soup", "film")])
    assert reasons(rows, NearDuplicates()) == {}


def test_sums_that_differ_in_a_digit_stay() -> None:
    rows = talks([(f"What is {one} + {other}?", str(one + other)) for one in range(9) for other in range(9)])
    assert reasons(rows, NearDuplicates()) == {}


# Shingles and their Jaccard index, against the plain way


# The plain way takes a combining mark for the end of a word, also the one that a folded "\u0390" comes apart into.
letters = st.characters(codec="utf-8", max_codepoint=0x0DFF, exclude_categories=("Mn", "Mc")).filter(
    lambda letter: not any(map(unicodedata.combining, letter.casefold()))
)
texts = st.lists(st.text(letters, max_size=30), min_size=1, max_size=8)


@settings(deadline=None)
@given(texts)
def test_word_pairs_are_as_many_as_the_plain_way_finds(found: list[str]) -> None:
    made = shingles(found)
    starts = [0, *made.ends[:-1].tolist()]
    for text, start, end in zip(found, starts, made.ends.tolist(), strict=True):
        distinct = len(set(made.hashes[start:end].tolist()))
        assert distinct == (len(pairs(text)) or bool(text.strip()))


def test_a_script_without_spaces_has_a_word_a_character() -> None:
    one, other = "今天天气很好我们出去了", "今天天气很好我们回来了"
    made = shingles([one, other])
    sets = [set(made.hashes[:12].tolist()), set(made.hashes[12:].tolist())]
    assert len(sets[0]) == 12 and 0.4 < len(sets[0] & sets[1]) / len(sets[0] | sets[1]) < 0.7


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6))
def test_the_jaccard_index_of_many_pairs_is_that_of_each(seed: int) -> None:
    rows = labelled(family(seed, 10))
    parts = [sign(NearDuplicates(), rows[at : at + 7]) for at in range(0, len(rows), 7)]
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, len(rows), (2, 50))
    expected = [jaccard(rows[one].text, rows[other].text) for one, other in zip(first, second, strict=True)]
    assert np.allclose(alike(Sets(Signs(parts), 2), first, second), expected)
