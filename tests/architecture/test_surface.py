"""What people build on changes only on purpose, and the README's picture is the house."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

import llmops
from llmops import pipeline
from tests.architecture import surface
from tests.architecture.quiet import heavy_modules
from tests.architecture.readme import readme_tells_the_truth
from tests.architecture.tree import REPOSITORY

HOW = "if the change is meant: python -m tests.architecture.surface, and a line in CHANGELOG.md"
HELP = "from llmops.cli.main import run; assert run(['--help']) == 0"


def test_the_public_names_are_those_in_the_file() -> None:
    assert surface.public_names(llmops) == surface.NAMES.read_text(encoding="utf-8"), HOW


def test_the_grammar_is_that_in_the_file() -> None:
    assert surface.grammar(surface.command_line()) == surface.GRAMMAR.read_text(encoding="utf-8"), HOW


def test_a_changed_signature_shows_in_the_names() -> None:
    before = surface.public_names(SimpleNamespace(__all__=["f"], f=lambda a: a))
    assert before == "f(a)\n"
    assert surface.public_names(SimpleNamespace(__all__=["f"], f=lambda a, b=1: a)) == "f(a, b=)\n"


def test_a_new_option_shows_in_the_grammar() -> None:
    def two_verbs(verb: object) -> str:
        cli = typer.Typer()
        cli.command("other")(lambda: None)
        cli.command("verb")(verb)
        return surface.grammar(typer.main.get_command(cli))

    def before(name: str) -> None: ...
    def after(name: str, many: list[str] = typer.Option([], "--many", metavar="WORD")) -> None: ...

    assert two_verbs(before) == "other\n\nverb NAME\n"
    assert two_verbs(after) == "other\n\nverb NAME\n    --many WORD ...\n"


def test_type_checkers_see_the_same_names_as_the_interpreter() -> None:
    assert surface.reexported(REPOSITORY / "llmops" / "__init__.py") == set(llmops.__all__)


def test_every_verb_of_the_pipeline_is_public() -> None:
    assert set(pipeline.__all__) <= set(llmops.__all__)


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        llmops.trian  # type: ignore[attr-defined]


@pytest.mark.parametrize("code", ["import llmops", HELP, "from llmops.cli.main import run; run(['train', '--help'])"])
def test_nothing_heavy_is_loaded_before_it_is_needed(code: str) -> None:
    assert heavy_modules(code, REPOSITORY) == []


def test_a_heavy_import_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("")
    (tmp_path / "planted.py").write_text("import torch\n")
    assert heavy_modules("import planted", tmp_path) == ["torch"]


def test_the_readme_draws_the_house_as_it_is() -> None:
    assert readme_tells_the_truth(REPOSITORY) == []


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """A repository whose README is right."""
    for part in ("core", "lm"):
        (tmp_path / "llmops" / part).mkdir(parents=True)
        (tmp_path / "llmops" / part / "__init__.py").touch()
    (tmp_path / "llmops" / "errors.py").touch()
    (tmp_path / "app").mkdir()
    (tmp_path / ".venv").mkdir()
    tree = "llmops/  # the package\n├── core/  # the values\n├── lm/\n└── errors.py  # two lines\napp/\n"
    (tmp_path / "README.md").write_text(f"# x\n\n```\n{tree}```\n")
    return tmp_path


def test_a_readme_that_is_right_passes(drawn: Path) -> None:
    assert readme_tells_the_truth(drawn) == []


def test_a_readme_may_begin_with_the_repository_itself(drawn: Path) -> None:
    tree = "llmops/\n  llmops/\n    core/\n    lm/\n  app/\n"
    (drawn / "README.md").write_text(f"```text\n{tree}```\n")
    assert readme_tells_the_truth(drawn) == []


def test_a_readme_that_draws_what_is_not_there_is_found(drawn: Path) -> None:
    (drawn / "llmops" / "errors.py").unlink()
    assert readme_tells_the_truth(drawn) == ["README.md draws llmops/errors.py, which is not there"]


def test_a_readme_that_forgets_a_room_or_a_folder_is_found(drawn: Path) -> None:
    (drawn / "llmops" / "data").mkdir()
    (drawn / "llmops" / "data" / "__init__.py").touch()
    (drawn / "recipes").mkdir()
    assert readme_tells_the_truth(drawn) == ["README.md does not draw llmops/data", "README.md does not draw recipes"]


def test_a_readme_without_a_tree_is_found(drawn: Path) -> None:
    (drawn / "README.md").write_text("# x\n")
    assert readme_tells_the_truth(drawn) == ["README.md has no fenced block that begins with llmops/"]
