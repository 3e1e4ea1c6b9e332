"""The cheap rows: fitted on training rows, saved without pickle, refused when damaged."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from llmops.core.errors import LlmopsError, RequestError
from llmops.experiments import baselines
from llmops.experiments.linear import Baseline
from llmops.experiments.nearest import fit_nearest
from llmops.experiments.parts import ARRAYS, CARD
from llmops.lm.ports import Probe
from tests.unit.sample_values import LABELS, row

WORDS = {"lovely": 2.5, "fine": 1.0, "awful": -2.0, ":D": 2.0, ":d": -1.0, "dull": -1.5}
GOOD = ("a lovely day", "so FINE today", "it works :D", "lovely lovely tea", "fine, thank you", "what a lovely song")
BAD = ("an awful day", "so dull today", "it broke :d", "awful awful tea", "dull, I say", "what an awful song")
ROWS = [row(number, text, "good") for number, text in enumerate(GOOD)] + [
    row(number, text, "bad") for number, text in enumerate(BAD, len(GOOD))
]
TEXTS = [*GOOD, *BAD, "", "nothing known here", "naïve \u4e2d\u6587 \U0001f600"]


def probe(n: int, seed: int = 0, classes: int = 2) -> Probe:
    """Hidden states that tell the labels of ROWS apart, log-probabilities that lean to one side."""
    values = np.random.default_rng(seed)
    sides_N = np.where(np.arange(n) < len(GOOD), 1.0, -1.0)
    hidden_ND = values.normal(size=(n, 6)).astype(np.float32)
    hidden_ND[:, 2] += 4 * sides_N
    hidden_ND[:, 5] = 7.0
    logprobs_NK = np.column_stack([np.full(n, -1.0), -5.0 + 1.5 * sides_N, np.full((n, classes - 2), -9.0)])
    return Probe(logprobs_NK, hidden_ND)


def fitted() -> dict[str, Baseline]:
    seen = probe(len(ROWS))
    words = baselines.fit_word_list(ROWS, LABELS, WORDS)
    assert words is not None
    return {
        "majority": baselines.fit_majority([*ROWS, row(99, "x", "good")], LABELS),
        "word_list": words,
        "tfidf": baselines.fit_tfidf(ROWS, LABELS),
        "frozen": baselines.fit_frozen(ROWS, LABELS, seen),
        "nearest": fit_nearest(ROWS, LABELS, seen),
        "base": baselines.fit_base(ROWS, LABELS, seen),
        "few_shot": baselines.fit_few_shot(ROWS, LABELS, seen, ROWS[:2]),
    }


@pytest.mark.parametrize("kind", ["majority", "word_list", "tfidf", "frozen", "nearest", "base", "few_shot"])
def test_a_saved_baseline_gives_equal_probabilities_after_loading(kind: str, tmp_path: Path) -> None:
    made = fitted()[kind]
    made.save(tmp_path)
    loaded, seen = baselines.load(tmp_path), probe(len(TEXTS), seed=1)
    assert loaded.kind == kind and loaded.labels == LABELS and loaded.needs_probe == made.needs_probe
    probabilities_NK = made.probabilities(TEXTS, seen)
    assert np.array_equal(loaded.probabilities(TEXTS, seen), probabilities_NK)
    assert probabilities_NK.shape == (len(TEXTS), 2) and np.allclose(probabilities_NK.sum(axis=1), 1)
    assert {path.name for path in tmp_path.iterdir()} == {CARD, ARRAYS}


def test_each_baseline_learns_what_it_can_see() -> None:
    real = np.array([LABELS.index(str(item.label)) for item in ROWS])
    for kind, made in fitted().items():
        right = (made.probabilities([item.text for item in ROWS], probe(len(ROWS))).argmax(axis=1) == real).mean()
        assert right == (0.5 if kind == "majority" else 1.0), kind


def test_the_majority_row_gives_the_shares_of_the_labels() -> None:
    made = fitted()["majority"]
    assert np.allclose(made.probabilities(["a", "b"]), [[6 / 13, 7 / 13]] * 2)


def test_the_high_side_of_a_word_list_follows_from_the_training_rows() -> None:
    swapped = [item.replace(label={"good": "bad", "bad": "good"}[str(item.label)]) for item in ROWS]
    made = baselines.fit_word_list(swapped, LABELS, WORDS)
    assert made is not None and made.probabilities(["lovely"]).argmax() == LABELS.index("bad")


def test_a_word_list_reads_emoticons_case_and_punctuation() -> None:
    made = baselines.fit_word_list(ROWS, LABELS, WORDS)
    assert made is not None
    sums = made.features(["LOVELY!", ":D", ":d", "(fine)", "finer", ""], None).ravel().tolist()
    assert sums == [2.5, 2.0, -1.0, 1.0, 0.0, 0.0]


def test_a_word_list_does_not_apply_to_three_labels() -> None:
    rows = [*ROWS, row(50, "so so", "middling")]
    assert baselines.fit_word_list(rows, ("bad", "middling", "good"), WORDS) is None


def test_three_labels_work_in_every_other_baseline() -> None:
    labels = ("bad", "good", "middling")
    rows = [*ROWS, row(50, "so so", "middling"), row(51, "so so indeed", "middling")]
    seen = probe(len(rows), classes=3)
    for made in (
        baselines.fit_majority(rows, labels),
        baselines.fit_tfidf(rows, labels),
        baselines.fit_frozen(rows, labels, seen),
        baselines.fit_base(rows, labels, seen),
    ):
        assert made.probabilities([item.text for item in rows], seen).shape == (len(rows), 3)


def test_the_base_gets_a_fair_threshold_but_is_not_turned_round() -> None:
    seen = probe(len(ROWS))
    assert (seen.logprobs_NK.argmax(axis=1) == 0).all()  # without a threshold it always says "bad"
    turned = Probe(np.column_stack([seen.logprobs_NK[:, 0], -10.0 - seen.logprobs_NK[:, 1]]), seen.hidden_ND)
    made = baselines.fit_base(ROWS, LABELS, turned)
    right = made.probabilities([item.text for item in ROWS], turned).argmax(axis=1) == [1] * 6 + [0] * 6
    assert right.mean() <= 0.5


def test_texts_without_a_word_are_no_trouble() -> None:
    rows = [row(0, "!", "good"), row(1, "?", "bad"), row(2, "", "bad")]
    made = baselines.fit_tfidf(rows, LABELS)
    assert made.probabilities(["", "!", "word"]).shape == (3, 2)
    assert made.probabilities([]).shape == (0, 2)


def test_a_label_without_training_rows_is_a_request_error() -> None:
    with pytest.raises(RequestError, match="middling"):
        baselines.fit_tfidf(ROWS, (*LABELS, "middling"))
    with pytest.raises(RequestError, match="'good'"):
        baselines.fit_majority(ROWS, ("bad", "middling"))


def test_a_probe_of_another_base_or_none_is_refused() -> None:
    made = fitted()["frozen"]
    with pytest.raises(LlmopsError, match="reads 6 numbers"):
        made.probabilities(["a"], Probe(np.zeros((1, 2)), np.zeros((1, 5), dtype=np.float32)))
    with pytest.raises(RequestError, match="needs the base"):
        made.probabilities(["a"])


@pytest.mark.parametrize(
    "hostile",
    [
        {"sides_M": np.full(len(ROWS), 7.0)},
        {"neighbours_1": np.array([0.0])},
        {"neighbours_1": np.array([99.0])},
        {"states_MD": np.zeros((3, 6))},
        {"scale_D": np.zeros(6)},
    ],
)
def test_hostile_neighbours_are_refused(hostile: dict[str, np.ndarray | None], tmp_path: Path) -> None:
    fitted()["nearest"].save(tmp_path)
    edit_arrays(tmp_path, **hostile)
    with pytest.raises(LlmopsError, match="no sound baseline"):
        baselines.load(tmp_path)


def test_neighbours_see_the_shape_of_a_label_that_no_line_parts() -> None:
    draw = np.random.default_rng(0)
    corners_N = draw.integers(0, 2, (80, 2))
    hidden_ND = (corners_N * 4 - 2 + draw.normal(0, 0.3, (80, 2))).astype(np.float32)
    rows = [row(place, f"t{place}", LABELS[int(one ^ other)]) for place, (one, other) in enumerate(corners_N)]
    seen = Probe(np.zeros((80, 2)), hidden_ND)
    real_N = np.array([LABELS.index(str(one.label)) for one in rows])
    texts = [one.text for one in rows]
    made = {"nearest": fit_nearest(rows, LABELS, seen), "frozen": baselines.fit_frozen(rows, LABELS, seen)}
    right = {kind: (one.probabilities(texts, seen).argmax(axis=1) == real_N).mean() for kind, one in made.items()}
    assert right["nearest"] == 1.0 and right["frozen"] < 0.8


def edit_card(folder: Path, **changes: object) -> None:
    card = {**json.loads((folder / CARD).read_text()), **changes}
    (folder / CARD).write_text(json.dumps({key: value for key, value in card.items() if value is not None}))


def edit_arrays(folder: Path, **changes: np.ndarray | None) -> None:
    from safetensors.numpy import load_file, save_file

    arrays = {**load_file(folder / ARRAYS), **changes}
    save_file({key: value for key, value in arrays.items() if value is not None}, folder / ARRAYS)


@pytest.mark.parametrize(
    "hostile",
    [
        {"kind": "forest"},
        {"kind": ["tfidf"]},
        {"kind": "frozen"},
        {"kind": None},
        {"labels": ["bad"]},
        {"labels": ["bad", "bad"]},
        {"labels": ["bad", 3]},
        {"labels": "ab"},
        {"labels": ["bad", "good", "middling"]},
        {"words": None},
        {"words": []},
        {"pieces": ["x"] * 3},
        {"extra": ["x"]},
        {"__class__": ["x"]},
        {"bias_K": ["x"]},
    ],
)
def test_a_hostile_card_is_refused(hostile: dict[str, object], tmp_path: Path) -> None:
    fitted()["tfidf"].save(tmp_path)
    edit_card(tmp_path, **hostile)
    with pytest.raises(LlmopsError, match="no sound baseline"):
        baselines.load(tmp_path)


@pytest.mark.parametrize(
    "hostile",
    [
        {"weights_FK": np.zeros((3, 2))},
        {"weights_FK": None},
        {"bias_K": np.array([0.0, np.nan])},
        {"bias_K": np.array([0.0, np.inf])},
        {"bias_K": np.zeros(2, dtype=np.float32)},
        {"bias_K": np.zeros((2, 1))},
        {"idf_V": np.zeros(0)},
        {"words": np.zeros(2)},
        {"extra": np.zeros(2)},
    ],
)
def test_hostile_arrays_are_refused(hostile: dict[str, np.ndarray | None], tmp_path: Path) -> None:
    fitted()["tfidf"].save(tmp_path)
    edit_arrays(tmp_path, **hostile)
    with pytest.raises(LlmopsError, match="no sound baseline"):
        baselines.load(tmp_path)


def test_cut_swapped_missing_and_pickled_files_are_refused(tmp_path: Path) -> None:
    fitted()["tfidf"].save(tmp_path)
    whole = {name: (tmp_path / name).read_bytes() for name in (CARD, ARRAYS)}
    chance = random.Random(0)
    for name, bytes_ in whole.items():
        cuts = [bytes_[: chance.randrange(len(bytes_))] for _ in range(40)]
        for damaged in [*cuts, b"", b"\x80\x04]\x94.", b"[" * 100_000, b"\xff" * 50]:
            (tmp_path / name).write_bytes(damaged)
            with pytest.raises(LlmopsError):
                baselines.load(tmp_path)
        (tmp_path / name).unlink()
        with pytest.raises(LlmopsError):
            baselines.load(tmp_path)
        (tmp_path / name).write_bytes(bytes_)
    assert baselines.load(tmp_path).kind == "tfidf"


def test_the_cosine_row_picks_the_reply_that_shares_words() -> None:
    conversations = [
        row(number, f"do you like {thing}", f"{thing} is great") for number, thing in enumerate(("tea", "jazz"))
    ]
    scores = baselines.cosine_pick(conversations, conversations, [("jazz is great", "tea is great")] * 2)
    assert scores[0][1] > scores[0][0] and scores[1][0] > scores[1][1]
    assert baselines.cosine_pick([row(0, "!", "?")], [row(0, "!", "?")], [("a", "b", "c")]) == [[0.0, 0.0, 0.0]]
