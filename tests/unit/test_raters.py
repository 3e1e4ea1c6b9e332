"""The cheap rows of a rating: fitted, saved without pickle, registered, asked and served as they were measured."""

from __future__ import annotations

import asyncio
import csv
import json
from pathlib import Path

import numpy as np
import pytest

from llmops.core.choice import Contest
from llmops.core.errors import LlmopsError, RequestError
from llmops.core.recipe import Recipe
from llmops.core.report import SubjectKind
from llmops.core.serving import Sampling
from llmops.core.sources import Data, Rated, Source
from llmops.core.tasks import Rate
from llmops.experiments.parts import CARD, vectorizers
from llmops.experiments.raters import RATERS, load_rater
from llmops.experiments.ratings import FITS, RIDGE_ALPHA, RIDGE_ALPHAS, fit_rater
from llmops.lm.ports import Probe
from llmops.pipeline import choose, evaluate, predict, promote, register
from llmops.pipeline.engines import served
from llmops.serving.engine import Engine, Prompt
from llmops.store.workspace import Workspace
from tests.unit.sample_values import row
from tests.unit.tiny_life import made_up_rows, tiny_recipe, write_csv

TEXTS = ["a hot day", "a mild day, or so", "an icy day", "hot tea", "icy tea", "mild tea"] * 4
ROWS = [row(place, f"{text} {place}", str(3.0 - place % 3 * 2.5)) for place, text in enumerate(TEXTS)]
KINDS: tuple[SubjectKind, ...] = ("mean", "tfidf", "frozen", "nearest")


def probe(n: int, seed: int) -> Probe:
    hidden_ND = np.random.default_rng(seed).normal(size=(n, 5)).astype(np.float32)
    hidden_ND[:, 1] = 3.0 - np.arange(n) % 3 * 2.5
    hidden_ND[:, 4] = 7.0  # never moves
    return Probe(np.zeros((n, 1)), hidden_ND)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_rater_says_the_same_numbers_after_loading(kind: SubjectKind, tmp_path: Path) -> None:
    made, seen = fit_rater(kind, ROWS, probe(len(ROWS), 0)), probe(3, 1)
    made.save(tmp_path)
    loaded, asked = load_rater(tmp_path), ["a hot evening", "", "icy 42"]
    assert loaded.kind == kind and loaded.needs_probe == made.needs_probe
    assert np.array_equal(loaded.numbers(asked, seen), made.numbers(asked, seen))
    assert set(FITS) == set(RATERS)


def test_ridge_is_that_of_scikit_learn() -> None:
    from sklearn.linear_model import Ridge, RidgeCV
    from sklearn.pipeline import make_pipeline, make_union
    from sklearn.preprocessing import StandardScaler

    texts, ratings = [one.text for one in ROWS], [float(str(one.label)) for one in ROWS]
    theirs = make_pipeline(make_union(*vectorizers()), Ridge(alpha=RIDGE_ALPHA)).fit(texts, ratings)
    asked = ["a hot evening", "icy icy tea", "nothing of it"]
    assert fit_rater("tfidf", ROWS).numbers(asked) == pytest.approx(theirs.predict(asked), abs=1e-9)
    seen, other = probe(len(ROWS), 0), probe(3, 1)
    states = make_pipeline(StandardScaler(), RidgeCV(alphas=RIDGE_ALPHAS)).fit(seen.hidden_ND, ratings)
    found = fit_rater("frozen", ROWS, seen).numbers(asked, other)
    assert found == pytest.approx(states.predict(other.hidden_ND), abs=1e-5)


def test_a_damaged_rater_is_refused_and_one_that_needs_the_base_says_so(tmp_path: Path) -> None:
    made = fit_rater("frozen", ROWS, probe(len(ROWS), 0))
    with pytest.raises(RequestError, match="needs the base's view"):
        made.numbers(["x"])
    with pytest.raises(LlmopsError, match="reads 5 numbers for each of 2 texts"):
        made.numbers(["x", "y"], probe(1, 0))
    made.save(tmp_path)
    card = json.loads((tmp_path / CARD).read_text())
    (tmp_path / CARD).write_text(json.dumps({**card, "kind": "nearest"}))
    with pytest.raises(LlmopsError, match="no sound baseline"):
        load_rater(tmp_path)


def rating(folder: Path, base: Path) -> Recipe:
    rows = [(text, "1.5" if label == "good" else "-1.5", place) for text, label, place in made_up_rows(160)]
    source = Source(from_=f"path:{write_csv(folder / 'rows.csv', rows)}", shape=Rated(text="text", number="label"))
    return Recipe(name="rating", base=f"path:{base}", data=Data(sources=(source,)), task=Rate(question="How good?"))


def said(engine: Engine, text: str) -> str:
    async def listen() -> str:
        return "".join([piece.text async for piece in engine.stream(Prompt((), text), Sampling())])

    return asyncio.run(listen())


@pytest.mark.parametrize("kind", ["tfidf", "frozen"])
def test_a_rating_that_wins_is_kept_asked_and_served(kind: str, tmp_path: Path, tiny_base: Path) -> None:
    recipe, at = rating(tmp_path, tiny_base), Workspace.find(tmp_path / "w", environ={})
    choice = choose(recipe, at, Contest(bases=(recipe.base,), only=(kind,)))  # type: ignore[arg-type]
    assert choice.final is not None and choice.then == f"llmops register {choice.final_report}"
    version = register(choice.then.rpartition(" ")[2], at)
    assert version.kind == kind and evaluate(version.ref, at).main.value == pytest.approx(choice.final.value)
    asked = tmp_path / "asked.csv"
    asked.write_text("text\na lovely day and a song\na rude day and a song\n", encoding="utf-8")
    assert predict(version.ref, asked, tmp_path / "said.csv", at) == 2
    answers = [line["answer"] for line in csv.DictReader((tmp_path / "said.csv").open(encoding="utf-8"))]
    assert kind == "frozen" or float(answers[0]) > 0.5 > -0.5 > float(answers[1])
    assert float(said(served(version.ref, at).engine, "a lovely day and a song")) == pytest.approx(
        float(answers[0]), abs=1e-3
    )


def test_a_rating_that_wins_is_promoted_on_evidence(tmp_path: Path, tiny_base: Path) -> None:
    recipe, at = rating(tmp_path, tiny_base), Workspace.find(tmp_path / "w", environ={})
    choice = choose(recipe, at, Contest(bases=(recipe.base,), only=("majority", "tfidf")))
    version = register(str(choice.final_report), at)
    assert promote(version.ref, at).version == version.number == 1


def test_examples_that_win_are_kept_with_the_version_and_asked_before_every_question(
    tmp_path: Path, tiny_base: Path
) -> None:
    recipe = tiny_recipe(tiny_base, write_csv(tmp_path / "rows.csv", made_up_rows(120)))
    at = Workspace.find(tmp_path / "w", environ={})
    choice = choose(recipe, at, Contest(bases=(recipe.base,), only=("few_shot",), shots=2))
    version = register(choice.then.rpartition(" ")[2], at)
    turns = json.loads((at.version_folder(version.ref) / CARD).read_text(encoding="utf-8"))["turns"]
    assert version.kind == "few_shot" and len(turns) == 4 and {turns[1], turns[3]} == {"good", "bad"}
    assert choice.final is not None and evaluate(version.ref, at).main.value == choice.final.value
    assert said(served(version.ref, at).engine, "a lovely day") in ("good", "bad")
