"""Intervals hold the truth about 95 times in 100, and metrics say what scikit-learn says."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from llmops.evals import metrics
from llmops.evals.intervals import bootstrap, bootstrap_macro_f1, confusion, macro_f1, of_marks, wilson


def held(hits: list[bool]) -> float:
    return sum(hits) / len(hits)


def test_wilson_equals_the_interval_of_scipy():
    from scipy.stats import binomtest

    for successes, n in ((0, 1), (0, 30), (7, 30), (30, 30), (450, 600)):
        expected = binomtest(successes, n).proportion_ci(method="wilson")
        assert wilson(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_wilson_holds_the_true_share_about_95_times_in_100():
    random = np.random.default_rng(1)
    for share, n in ((0.5, 40), (0.8, 150), (0.95, 600)):
        found = [wilson(int(successes), n) for successes in random.binomial(n, share, size=2000)]
        assert 0.92 <= held([low <= share <= high for low, high in found]) <= 0.98


def test_the_bootstrap_holds_the_true_rate_about_95_times_in_100():
    random = np.random.default_rng(2)
    hits = []
    for trial in range(300):
        weights = random.integers(5, 80, size=40).astype(float)  # the rate of bits must not hang on the bytes
        marks = random.gamma(4.0, 0.4, size=40)
        low, high = bootstrap(list(marks), list(weights), seed=trial)
        hits.append(low <= 1.6 <= high)
    assert 0.92 <= held(hits) <= 0.98


def test_an_interval_of_unweighted_rows_would_miss_where_long_rows_differ():
    random = np.random.default_rng(3)
    weights = random.integers(1, 100, size=400).astype(float)
    marks = weights / 50  # long rows cost more: the weighted rate is far from the plain mean
    low, high = bootstrap(list(marks), list(weights))
    assert low <= float((marks * weights).sum() / weights.sum()) <= high
    assert not low <= marks.mean() <= high


def test_the_interval_of_macro_f1_holds_the_truth_about_95_times_in_100():
    random = np.random.default_rng(4)
    chances = np.array([[0.85, 0.15], [0.3, 0.7]])
    sizes = [110, 50]
    truth = float(macro_f1((chances * np.array(sizes)[:, None])[None])[0])
    hits = []
    for trial in range(300):
        counts = np.stack([random.multinomial(n, row) for n, row in zip(sizes, chances, strict=True)])
        low, high = bootstrap_macro_f1(np.hstack([counts, np.zeros((2, 1), dtype=int)]), seed=trial)
        hits.append(low <= truth <= high)
    assert 0.92 <= held(hits) <= 0.98


def test_ten_right_answers_of_ten_are_not_certainty():
    low, high = bootstrap_macro_f1(confusion([0, 1] * 5, [0, 1] * 5))
    assert low < 0.8
    assert high == 1.0


def test_one_label_said_to_every_row_is_not_certainty():
    random, share = np.random.default_rng(6), 0.6
    truth, hits = share / (1 + share), []
    for trial in range(300):
        rows = int(random.binomial(120, share))
        low, high = bootstrap_macro_f1(np.array([[rows, 0, 0], [120 - rows, 0, 0]]), seed=trial)
        hits.append(low <= truth <= high)
    assert 0.92 <= held(hits) <= 0.98


def test_marks_that_are_all_alike_are_not_certainty():
    rows = [0.37] * 4
    assert of_marks(rows, [1.0] * 4, None, graded=True) == wilson(4 * 0.37, 4)
    low, high = of_marks(rows, [1.0] * 4, ["a", "a", "b", "b"], graded=True)
    assert low < wilson(4 * 0.37, 4)[0] < wilson(4 * 0.37, 4)[1] < high  # two sources know less than four rows
    low, high = of_marks([0.0], [1.0], None, graded=False, top=100.0)
    assert (low, high) == (0.0, 100 * wilson(0, 1)[1])
    assert of_marks([3.0], [80.0], None, graded=True) == (3.0, 3.0)  # bits a byte end nowhere


def test_five_thousand_rows_take_less_than_two_seconds():
    random = np.random.default_rng(5)
    marks, weights = list(random.random(5000)), list(random.integers(1, 90, size=5000).astype(float))
    start = time.process_time()
    bootstrap(marks, weights)
    assert time.process_time() - start < 2


def test_the_same_rows_give_the_same_interval():
    marks, weights = [0.1 * place for place in range(50)], [1.0 + place for place in range(50)]
    assert bootstrap(marks, weights) == bootstrap(marks, weights)
    assert bootstrap(marks, weights) != bootstrap(marks, weights, seed=7)


def test_accuracy_and_macro_f1_equal_scikit_learn_on_random_cases():
    from sklearn.metrics import accuracy_score, f1_score

    random = np.random.default_rng(6)
    for _ in range(25):
        labels, n = int(random.integers(2, 6)), int(random.integers(1, 40))
        truth, predicted = (random.integers(0, labels, size=n).tolist() for _ in range(2))
        assert metrics.compute("accuracy", predicted, truth) == pytest.approx(accuracy_score(truth, predicted))
        expected = f1_score(truth, predicted, average="macro", zero_division=0)
        assert metrics.compute("macro_f1", predicted, truth) == pytest.approx(expected)


def test_no_answer_is_a_wrong_answer_and_no_label_of_its_own():
    from sklearn.metrics import f1_score

    truth, predicted = [0, 0, 1, 1], [0, -1, 1, 1]
    assert metrics.compute("accuracy", predicted, truth) == 0.75
    expected = f1_score(truth, predicted, labels=[0, 1], average="macro")
    assert metrics.compute("macro_f1", predicted, truth) == pytest.approx(expected)


def test_the_other_metrics_say_what_their_names_say():
    assert metrics.compute("bits_per_byte", [8.0, 4.0], [4, 2]) == 2.0
    assert metrics.compute("exact_match", ["  New\nYork", "Rome"], ["new york", "Paris"]) == 0.5
    assert metrics.compute("pick_reply", [[0.1, 0.9], [0.8, 0.3], []], [1, 1, 0]) == pytest.approx(1 / 3)


ALONE = """
import os, socket, sys
from concurrent.futures import ThreadPoolExecutor

def refuse(*args, **kwargs):
    os.write(2, b"the network was asked")
    os._exit(9)

socket.socket.connect = socket.getaddrinfo = refuse
from llmops.evals import evaluate
heavy = [name for name in ("torch", "evaluate", "datasets", "sklearn", "scipy") if name in sys.modules]
assert not heavy, heavy
from llmops.evals import metrics

def once(size):
    truth = [0, 1] * size
    predicted = [0] * (2 * size)
    return [metrics.compute("accuracy", predicted, truth) for _ in range(5)] + [
        metrics.compute("bits_per_byte", [float(size)] * size, [1] * size)
    ]

with ThreadPoolExecutor(8) as pool:
    found = list(pool.map(once, range(1, 33)))
assert found == [[0.5] * 5 + [float(size)] for size in range(1, 33)], found
"""


def test_eight_threads_measure_without_network_home_or_mix_up(tmp_path: Path):
    home, scratch = tmp_path / "home", tmp_path / "scratch"
    home.mkdir()
    scratch.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "XDG_", "TRANSFORMERS_"))}
    world = {**kept, "HOME": str(home), "TMPDIR": str(scratch), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", ALONE], env=world, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list(home.rglob("*")) == []
    assert list(scratch.glob("llmops-*")) == []
