"""What a recipe decides about a whole set: labels, people's corrections, swaps, mixtures; each in the ledger."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from llmops.core.dataset import DatasetManifest
from llmops.core.errors import RequestError
from llmops.core.people import Corrected, Correction, Note
from llmops.core.recipe import Recipe
from llmops.core.review import BiasAudit, DropLabels, KeepLabels, Relabel
from llmops.core.sources import Data, Labelled, PromptReply, Replay, Source
from llmops.core.tasks import Classify, Rate
from llmops.data.bias import audit
from llmops.data.doctor import diagnose, treat
from llmops.data.mixture import most_rows
from llmops.data.people import fault
from llmops.data.prepare import prepare
from llmops.data.swaps import swaps
from llmops.pipeline.people import correct, write_note
from llmops.store.files import read_jsonl
from llmops.store.workspace import Workspace
from tests.unit.sample_values import row, workspace

LABELS = ("bad", "good")
TASK = Classify(question="Good or bad?", labels=LABELS)
GOOD, BAD = ("lovely", "bright", "kind", "splendid", "warm"), ("dull", "rude", "broken", "cold", "awful")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.chdir(tmp_path)
    return workspace(tmp_path / "ws")


def texts(number: int, flipped: float = 0.0, seed: int = 1) -> tuple[list[tuple[str, str]], list[bool]]:
    """(text and label, whether the label was flipped): a word decides among words that do not."""
    draw = random.Random(seed)
    rows, wrong = [], []
    for place in range(number):
        good = place % 2 == 1
        words = [draw.choice(GOOD if good else BAD), draw.choice(GOOD if good else BAD)]
        filler = [f"thing{draw.randrange(900)}" for _ in range(8)]
        flip = draw.random() < flipped
        rows.append((" ".join([filler[0], words[0], *filler[1:], words[1]]), LABELS[good != flip]))
        wrong.append(flip)
    return rows, wrong


def write(rows: list[tuple[str, str]], name: str = "x.csv", columns: str = "text,label") -> None:
    lines = [columns, *(f'"{text}",{label}' for text, label in rows)]
    Path(name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def recipe(**data: object) -> Recipe:
    sources = (Source(from_="path:x.csv", shape=Labelled()),)
    return Recipe(name="try", data=Data.model_validate({"sources": sources, "steps": (), **data}), task=TASK)


def ledger(at: Workspace, manifest: DatasetManifest, name: str, step: str) -> list[dict[str, object]]:
    lines = read_jsonl(at.folder(DatasetManifest, manifest.id) / name)
    return [line for line in lines if line["step"] == step]


def test_the_doctor_ranks_flipped_labels_first_and_keeps_every_row_unless_told_otherwise() -> None:
    made, wrong = texts(300, flipped=0.1)
    rows = [row(place, text, label) for place, (text, label) in enumerate(made)]
    found = diagnose(rows, LABELS, KeepLabels())
    first = [int(issue.row[1:]) for issue in found.issues[:20]]
    assert np.mean([wrong[place] for place in first]) > 0.9
    assert found.done == "nothing" and treat(found) == ({}, {})


@pytest.mark.parametrize("doctor", [DropLabels(), Relabel()])
def test_a_treatment_that_helps_is_given_and_each_row_is_in_the_ledger(
    here: Workspace, doctor: DropLabels | Relabel
) -> None:
    made, wrong = texts(900, flipped=0.3)
    write(made)
    manifest = prepare(recipe(labels=doctor), here)
    truth = {text: LABELS[(label == "good") != flip] for (text, label), flip in zip(made, wrong, strict=True)}
    right = [one.label == truth[one.text] for one in here.rows(manifest.id, "train")]
    assert np.mean(right) > 0.85  # 0.7 before
    step = manifest.steps[-1]
    assert step.step == "labels"
    name = "dropped.jsonl" if doctor.kind == "drop" else "altered.jsonl"
    lines = ledger(here, manifest, name, "labels")
    assert len(lines) == (sum(step.dropped.values()) if doctor.kind == "drop" else sum(step.altered.values())) > 50


def test_where_labels_are_right_doing_nothing_is_best_and_it_says_so(here: Workspace) -> None:
    said: list[str] = []
    at = workspace(here.root, said=said)
    write(texts(300)[0])
    manifest = prepare(recipe(labels=DropLabels()), at)
    assert "labels" not in {step.step for step in manifest.steps}
    assert any("doing nothing is best" in line for line in said)


def test_too_few_rows_of_a_label_are_not_judged() -> None:
    rows = [row(place, f"text {place}", LABELS[place == 0]) for place in range(30)]
    assert "too few to judge" in diagnose(rows, LABELS, DropLabels()).because


def test_a_correction_of_a_file_lands_in_the_next_set_with_its_author(here: Workspace) -> None:
    write(texts(60)[0])
    first = prepare(recipe(), here)
    wrong = here.rows(first.id, "train")[0]
    other = "bad" if wrong.label == "good" else "good"
    Path("fix.csv").write_text(f"id,label,author,note\n{wrong.id},{other},ada,irony\n", encoding="utf-8")
    second = prepare(recipe(corrections=("fix.csv",)), here)
    mended = next(one for one in here.rows(second.id, "train") if one.id == wrong.id)
    assert (mended.label, mended.reply, mended.group) == (other, other, wrong.group)
    assert second.id != first.id and second.rows_read == first.rows_read
    lines = ledger(here, second, "altered.jsonl", "corrections")
    assert [line["id"] for line in lines] == [wrong.id] and "by ada" in str(lines[0]["changes"])


def test_a_correction_made_in_the_app_lands_in_the_next_set_of_that_recipe_only(here: Workspace) -> None:
    write(texts(60)[0])
    first = prepare(recipe(), here)
    wrong = here.rows(first.id, "heldout")[0]
    other = "bad" if wrong.label == "good" else "good"
    event = correct(first.id, wrong.id, other, here, note="read it again")
    assert event.correction.author == "ada" and here.ledger.read(Corrected, "try") == [event]
    second = prepare(recipe(), here)
    assert next(one for one in here.rows(second.id, "heldout") if one.id == wrong.id).label == other
    assert prepare(recipe(corrections=()), here).id == first.id
    note = write_note(first.id, "half of it is irony", here, wrong.id, ("irony",))
    assert here.ledger.read(Note, "try") == [note]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{id},neutral,ada,", "none of the labels"),
        ("{id},,ada,", "either a label or a reply"),
        ("{id},good,,", "an author"),
        (",good,ada,", "an id"),
    ],
)
def test_a_correction_that_cannot_be_carried_out_names_its_line(here: Workspace, line: str, says: str) -> None:
    write(texts(60)[0])
    Path("fix.csv").write_text(f"id,label,author,note\n{line.format(id='0' * 16)}\n", encoding="utf-8")
    with pytest.raises(RequestError, match=rf"fix.csv, line 2: .*{says}"):
        prepare(recipe(corrections=("fix.csv",)), here)
    with pytest.raises(RequestError, match="no file of corrections"):
        prepare(recipe(corrections=("no.csv",)), here)


def test_corrections_by_hand_are_checked_too(here: Workspace) -> None:
    write(texts(60)[0])
    made = prepare(recipe(), here)
    one = here.rows(made.id, "train")[0].id
    for bad in (lambda: correct(made.id, "0" * 16, "good", here), lambda: correct(made.id, one, "neutral", here),
                lambda: correct(made.id, one, " ", here), lambda: write_note(made.id, " ", here)):  # fmt: skip
        with pytest.raises(RequestError):
            bad()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("He lost his keys, and I told him.", "She lost her keys, and I told her."),
        ("HE SAID THE BOOK IS HIS!", "SHE SAID THE BOOK IS HERS!"),
        ("An actor is a man", "An actress is a woman"),
        ("The theatre was full", None),
        ("He met her", None),
    ],
)
def test_a_swap_leaves_a_sentence_or_is_not_made(before: str, after: str | None) -> None:
    swap = next(one for one in swaps({}) if one.name == "male > female")
    assert swap.text(before) == after


def test_her_is_swapped_only_where_it_can_be_told_what_it_is() -> None:
    swap = next(one for one in swaps({}) if one.name == "female > male")
    assert swap.text("I saw her and she ran.") == "I saw him and he ran."
    assert swap.text("I saw her dog.") is None
    american = next(one for one in swaps({}) if one.name == "American > German")
    assert american.text("an American in america") == "a German in america"


def test_swaps_are_added_with_their_origin_and_counted(here: Workspace) -> None:
    rows = [
        (f"{who} is {text}", label) for who, (text, label) in zip(["he", "she", "it"] * 40, texts(120)[0], strict=True)
    ]
    write(rows)
    manifest = prepare(recipe(bias=BiasAudit(swaps=1.0)), here)
    made = [one for one in here.rows(manifest.id, "train") if "made" in one.fields]
    assert len(made) == manifest.rows_made == manifest.steps[-1].made > 30
    kept = {one.id: one for one in here.rows(manifest.id, "train")}
    for one in made:
        origin = kept[one.fields["made_from"]]
        assert (one.label, one.group, one.line) == (origin.label, origin.group, origin.line)
        assert {one.text.split()[0], origin.text.split()[0]} == {"he", "she"}
    assert manifest.rows_train + manifest.rows_heldout == manifest.rows_read + manifest.rows_made
    assert not any("made" in one.fields for one in here.rows(manifest.id, "heldout"))


def test_the_audit_finds_a_label_that_goes_with_a_group_and_is_calm_where_none_does() -> None:
    made = texts(400)[0]
    biased = [row(n, f"{'she' if label == 'bad' else 'he'} is {text}", label) for n, (text, label) in enumerate(made)]
    fair = [row(n, f"{('she', 'he')[n // 2 % 2]} is {text}", label) for n, (text, label) in enumerate(made)]
    loud, calm = audit(biased, LABELS, BiasAudit()), audit(fair, LABELS, BiasAudit())
    assert all(line.difference["good"].high < 0 for line in loud.groups if line.group == "female")
    assert all(line.difference["good"].low < 0 < line.difference["good"].high for line in calm.groups)
    shift = {line.swap: line.shift["good"] for line in loud.swaps}
    assert shift["male > female"].high < 0 < shift["female > male"].low
    assert all(abs(line.shift["good"].value) < 0.05 for line in calm.swaps)


def test_a_mixture_has_the_shares_that_the_recipe_names(here: Workspace) -> None:
    write(texts(200, seed=1)[0], "x.csv")
    write(texts(100, seed=2)[0], "y.csv")
    pair = tuple(
        Source(from_=f"path:{name}.csv", shape=Labelled(), weight=weight) for name, weight in (("x", 3), ("y", 1))
    )
    manifest = prepare(recipe(sources=pair), here)
    rows = [one.source for one in here.rows(manifest.id, "train")]
    assert rows.count("path:x.csv") / len(rows) == pytest.approx(0.75, abs=0.01)
    assert manifest.steps[-1].step == "mixture" and prepare(recipe(sources=pair), here).id == manifest.id
    with pytest.raises(RequestError, match="has no weight"):
        most_rows({}, recipe(sources=(pair[0], pair[1].replace(weight=None))).data)


def test_general_rows_are_replayed_in_train_only_and_asked_no_question(here: Workspace) -> None:
    write(texts(200)[0])
    lines = [f'"what about thing{n} and thing{n + 1}?","a reply that says remark{n} at length"' for n in range(90)]
    Path("chat.csv").write_text("prompt,reply\n" + "\n".join(lines) + "\n", encoding="utf-8")
    general = Replay(source=Source(from_="path:chat.csv", shape=PromptReply()), share=0.1)
    manifest = prepare(recipe(replay=general), here)
    train = here.rows(manifest.id, "train")
    replayed = [one for one in train if one.label is None]
    assert len(replayed) / len(train) == pytest.approx(0.1, abs=0.01)
    assert all(one.messages[0].role == "user" for one in replayed)
    assert all(one.label is not None for one in here.rows(manifest.id, "heldout"))


def test_a_correction_that_finds_no_row_is_said(here: Workspace, tmp_path: Path) -> None:
    write(texts(200)[0])
    Path("c.csv").write_text("id,label,author\n0123456789abcdef,good,Ann\n", encoding="utf-8")
    said: list[str] = []
    prepare(recipe(corrections=["c.csv"]), workspace(tmp_path / "ws", said=said))
    assert "1 of 1 name no row that is kept; the first is 0123456789abcdef" in " ".join(said)


@pytest.mark.parametrize(("said", "right"), [("3.5", True), ("abc", False), ("3", False), ("nan", False)])
def test_a_corrected_number_is_a_number_spelt_as_the_task_spells_it(said: str, right: bool) -> None:
    task = Rate(question="How good?", decimals=1)
    assert (fault(Correction(row="a", reply=said, author="Ann"), task) is None) == right


@pytest.mark.parametrize("check", [{"leaks": {"same": ["autor"]}}, {"bias": {"columns": ["autor"]}}])
def test_a_check_by_a_field_that_no_source_has_is_refused(here: Workspace, check: dict[str, object]) -> None:
    write(texts(200)[0])
    with pytest.raises(RequestError, match="names 'autor', which is a field of no source"):
        prepare(recipe(**check), here)


def test_a_source_that_stands_twice_in_a_mixture_is_refused() -> None:
    source = Source(from_="path:a.csv", weight=1)
    with pytest.raises(RequestError, match=r"'path:a\.csv' stands twice"):
        most_rows({"path:a.csv": 10}, Data(sources=(source, source.replace(weight=3.0))))
    with pytest.raises(ValueError, match="finite"):
        Source(from_="path:a.csv", weight=float("inf"))


def test_a_set_is_called_by_the_name_of_its_recipe_too(here: Workspace) -> None:
    write(texts(200)[0])
    first = prepare(recipe(), here)
    newest = prepare(recipe(heldout_share=0.4), here)
    assert first.id != newest.id and here.get(DatasetManifest, "try").id == newest.id
    with pytest.raises(RequestError, match="no dataset 'tr-y'"):
        here.get(DatasetManifest, "tr-y")
