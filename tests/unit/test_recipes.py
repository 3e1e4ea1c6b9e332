"""Recipes as YAML: what is right loads to the same value, what is wrong gets two lines and never a traceback."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from llmops.core.errors import RequestError
from llmops.core.method import LoRA, Training
from llmops.core.recipe import Baselines, Evaluation, Recipe
from llmops.core.sources import Conversation, Cut, Data, Labelled, PromptReply, Source
from llmops.core.tasks import Classify, Reply
from llmops.data.new import recipe_yaml
from llmops.data.recipes import apply_sets, load_recipe, parse_recipe

GOOD = """\
name: tone
data:
  sources:
    - from: path:rows.csv
      shape: {kind: labelled, text: review, label: mood}
task: {kind: classify, question: Which?, labels: [yes, no]}
method: {kind: lora, rank: 8}
training:
  learning_rate: 1e-3
  epochs: 2
"""


def test_scalars_mean_what_their_field_says() -> None:
    recipe = parse_recipe(GOOD.replace("rows.csv", "2020-01-01"), "x")
    assert isinstance(recipe.task, Classify) and recipe.task.labels == ("yes", "no")
    assert (recipe.training.learning_rate, recipe.training.epochs, recipe.method.rank) == (0.001, 2.0, 8)
    assert recipe.data.sources[0].from_ == "path:2020-01-01"
    numbers = parse_recipe(GOOD.replace("[yes, no]", "[0, 1.0, null, '~', true]").replace("null, ", ""), "x")
    assert isinstance(numbers.task, Classify) and numbers.task.labels == ("0", "1.0", "~", "true")


WRONG = {
    "unknown field": (GOOD.replace("rank: 8", "rnak: 8"), "line 7", "'rnak' in method", "did you mean 'rank'?"),
    "unknown top": (GOOD.replace("training:", "trainign:"), "line 8", "'trainign'", "did you mean 'training'?"),
    "unknown deep": (GOOD.replace("text:", "txt:"), "line 5", "'txt' in data.sources.0.shape", "did you mean 'text'?"),
    "misspelt and so missing": (GOOD.replace("from:", "form:"), "line 4", "'form'", "did you mean 'from'?"),
    "field of another kind": (GOOD.replace("classify", "reply"), "line 6", "'question' in task", "measures"),
    "no such kind": (GOOD.replace("labelled", "label"), "line 5", "'labelled'", "kind"),
    "no kind": (GOOD.replace("kind: labelled, ", ""), "line 5", "needs a field 'kind'", "kind"),
    "no number": (GOOD.replace("epochs: 2", "epochs: many"), "line 10", "training.epochs must be a number", "passes"),
    "half a number": (GOOD.replace("rank: 8", "rank: 8.5"), "line 7", "whole number", "rank"),
    "too small": (GOOD.replace("rank: 8", "rank: 0"), "line 7", "method.rank must be at least 1", "rank"),
    "too large": (GOOD.replace("1e-3", "10"), "line 9", "must be at most 1", "learning rate"),
    "huge": (GOOD.replace("rank: 8", f"rank: {'9' * 5000}"), "line 7", "method.rank", "rank"),
    "no list": (GOOD.replace("[yes, no]", "yes"), "line 6", "must be a list", "label"),
    "no mapping": (GOOD.replace("{kind: lora, rank: 8}", "lora"), "line 7", "must be a mapping", "rank"),
    "no text": (GOOD.replace("[yes, no]", "[[yes], no]"), "line 6", "task.labels.0 must be text, not a list", "change"),
    "one label": (GOOD.replace("[yes, no]", "[yes]"), "line 6", "at least 2 entries", "label"),
    "same label": (GOOD.replace("[yes, no]", "[yes, Yes]"), "line 6", "two labels are the same word", "change"),
    "bad name": (GOOD.replace("name: tone", "name: My Tone"), "line 1", "lower-case", "change"),
    "missing": (GOOD.replace("name: tone\n", ""), "line 1", "name is missing", "change"),
    "does not fit": (
        GOOD.replace("{kind: labelled, text: review, label: mood}", "{kind: conversation}"),
        "",
        "fit",
        "",
    ),
    "nothing": (GOOD.replace("name: tone", "name:"), "line 1", "must be text, not nothing", "change"),
    "endless cut": (GOOD.replace("mood}", "mood, cut: {at_least: {yes: inf}}}"), "", "cut of label 'yes'", "finite"),
    "a list": ("- a\n", "line 1", "the recipe must be a mapping", "fields"),
    "a word": ("tone\n", "line 1", "the recipe must be a mapping", "fields"),
    "empty": ("# nothing\n", "", "is empty", "llmops new"),
    "twice": (GOOD + "name: other\n", "line 11, column 1", "'name' stands twice, first on line 1", "mend"),
    "broken": (GOOD + "evaluation: [a\n", "line 12, column 1", "broken YAML", "mend"),
    "tab": (GOOD + "\tx: 1\n", "line 11", "broken YAML", "mend"),
    "two documents": (GOOD + "---\nx: 1\n", "line 11", "second document", "mend"),
    "a tag": (GOOD + "about: !!python/object/apply:os.system [ls]\n", "line 11", "tag", "mend"),
    "an unknown alias": (GOOD + "about: *x\n", "line 11", "alias *x", "mend"),
    "an alias of itself": ("a: &a [*a]\n", "line 1", "alias *a", "mend"),
    "too deep": ("a: " + "[" * 5000, "line 1", "nested deeper", "mend"),
    "a key that is a list": ("? [a]\n: b\n", "line 1", "must be plain text", "mend"),
    "a control character": ("a: \x00\n", "", "broken YAML", "mend"),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_a_wrong_recipe_gets_two_plain_lines(case: tuple[str, str, str, str], tmp_path: Path) -> None:
    text, place, what, fix = case
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RequestError) as error:
        load_recipe(str(path))
    assert "bad.yaml" in error.value.what and place in error.value.what and what in error.value.what
    assert fix in error.value.fix
    assert str(error.value).count("\n") == 1
    assert "pydantic" not in str(error.value) and "Input should" not in str(error.value)


def test_an_alias_may_be_used_but_a_bomb_of_them_is_refused() -> None:
    text = GOOD.replace("- from:", "- &rows\n      from:").replace("task:", "    - *rows\ntask:")
    assert len(parse_recipe(text, "x").data.sources) == 2
    bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
    bomb += "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 20))
    with pytest.raises(RequestError, match="aliases counted in full"):
        parse_recipe(bomb, "x")


def test_more_than_a_mebibyte_is_refused_before_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "big.yaml").write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(RequestError, match="larger than 1 MiB"):
        load_recipe(str(tmp_path / "big.yaml"))


def test_a_recipe_is_found_by_path_and_by_name_and_the_nearest_is_named(tmp_path: Path) -> None:
    (tmp_path / "tone.yaml").write_text(GOOD)
    assert load_recipe("tone", [tmp_path / "none", tmp_path]) == load_recipe(str(tmp_path / "tone.yaml"))
    with pytest.raises(RequestError, match="did you mean 'tone'"):
        load_recipe("tune", [tmp_path])
    for none in ("none.yaml", "x" * 5000, "a\0b"):
        with pytest.raises(RequestError, match="there is no file"):
            load_recipe(none, [tmp_path])
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9")
    with pytest.raises(RequestError, match="byte 10 is not UTF-8"):
        load_recipe(str(tmp_path / "latin.yaml"))


def test_a_set_changes_one_field() -> None:
    recipe = parse_recipe(GOOD, "x")
    sets = ["method.rank=32", "data.sources.0.train_rows=10", "evaluation.slices=[domain]", "training.epochs=null"]
    changed = apply_sets(recipe, [*sets, "data.sources.0.shape.cut.at_least.yes=0.5", "about=a = b"])
    assert (changed.method.rank, changed.data.sources[0].train_rows, changed.evaluation.slices) == (32, 10, ("domain",))
    assert (changed.training.epochs, changed.about) == (None, "a = b")
    assert changed.data.sources[0].shape == Labelled(text="review", label="mood", cut=Cut(at_least={"yes": 0.5}))
    assert apply_sets(recipe, []) is recipe and recipe.method.rank == 8


@pytest.mark.parametrize(
    ("change", "what", "fix"),
    [
        ("method.rnak=3", "there is no field 'rnak' in method", "did you mean 'rank'"),
        ("metod.rank=3", "there is no field 'metod'", "did you mean 'method'"),
        ("data.sources.4.train_rows=3", "no place '4'", "from 0 to 0"),
        ("name.x=3", "name is a plain value", "set name itself"),
        ("method.rank=many", "method.rank must be a whole number", "rank"),
        ("method.rank", "is no change", "FIELD=VALUE"),
        ("=3", "is no change", "FIELD=VALUE"),
        ("method.rank=[", "broken YAML", "mend"),
    ],
)
def test_a_wrong_set_names_itself(change: str, what: str, fix: str) -> None:
    with pytest.raises(RequestError) as error:
        apply_sets(parse_recipe(GOOD, "x"), [change])
    assert what in error.value.what and f"--set {change}" in error.value.what and fix in error.value.fix


RECIPES = [
    parse_recipe(GOOD, "x"),
    Recipe(name="a", data=Data(sources=(Source(from_="chitchat"),)), task=Reply()),
    Recipe(
        name="much",
        about="yes: no # 'quoted' \"twice\"\nand a line, \N{GRINNING FACE} \u2028 caf\u00e9",
        base="path:model",
        data=Data(
            heldout_share=0.125,
            sources=(
                Source(
                    from_="path:~/a b.csv",
                    shape=Labelled(
                        text="null", label="~", cut=Cut(at_least={"yes": 1e-9, "1": 2.0}, at_most={"no": -0.5})
                    ),
                    sha256="0" * 64,
                    fields={"on": "off", "1": "null"},
                    keep_fields=("true", "3.0"),
                    group="2020-01-01",
                    train_rows=3,
                    heldout_rows=4,
                ),
            ),
        ),
        task=Classify(question="~", labels=("yes", "null", "1", "- x", "#")),
        method=LoRA(rank=4, alpha=0.1, dropout=0.0),
        training=Training(learning_rate=1e-5, precision="bfloat16", seed=7),
        baselines=Baselines(word_list="vader/lexicon"),
        evaluation=Evaluation(slices=("on",), prompts=("What's up?", "")),
    ),
    Recipe(
        name="replies",
        data=Data(
            sources=(Source(from_="path:a", shape=PromptReply(prompt="p")), Source(from_="b", shape=Conversation()))
        ),
        task=Reply(system="", measures=("pick_reply", "bits_per_byte"), opening="x"),
    ),
]


@pytest.mark.parametrize("recipe", RECIPES, ids=[recipe.name for recipe in RECIPES])
def test_a_recipe_written_as_yaml_loads_back_to_itself(recipe: Recipe) -> None:
    assert parse_recipe(recipe_yaml(recipe), "x") == recipe
    assert parse_recipe(recipe_yaml(recipe), "x").id == recipe.id


def mutated(text: str, chance: random.Random) -> str:
    """A recipe with a few characters, lines or values broken."""
    junk = [
        "",
        ":",
        "- ",
        "{",
        "]",
        "'",
        '"',
        "&a ",
        "*a",
        "!!x ",
        "\t",
        "null",
        "\x00",
        "\ud7ff",
        "9e999",
        "-1",
        "?",
        "|",
    ]
    for _ in range(chance.randint(1, 4)):
        at, length = chance.randrange(len(text) + 1), chance.choice((0, 1, 3, 20))
        way = chance.random()
        if way < 0.6:
            text = text[:at] + chance.choice(junk) + text[at + length :]
        elif way < 0.8:
            lines = text.split("\n")
            lines.insert(chance.randrange(len(lines)), chance.choice(lines))
            text = "\n".join(lines)
        else:
            words = text.split(" ")
            one, two = chance.randrange(len(words)), chance.randrange(len(words))
            words[one], words[two] = words[two], words[one]
            text = " ".join(words)
    return text


def test_malformed_recipes_give_errors_and_never_tracebacks() -> None:
    chance = random.Random(2026)
    refused = 0
    for number in range(600):
        text = mutated(recipe_yaml(chance.choice(RECIPES)), chance)
        try:
            recipe = parse_recipe(text, f"{number}.yaml")
            assert parse_recipe(recipe_yaml(recipe), "again") == recipe
        except RequestError as error:
            refused += 1
            assert error.what.startswith(f"{number}.yaml") and error.fix
    assert refused > 300
