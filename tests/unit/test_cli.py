"""The command line: exit codes, errors in two lines, one JSON document, and nothing else on standard output."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import llmops
from llmops.cli import main, recipes
from llmops.cli.session import MachineOptions
from llmops.core.errors import Interrupted, LlmopsError, Refusal, RequestError
from llmops.core.plan import Wishes

REVIEWS = "text,label\n" + "".join(
    f"the {thing} was {word} on day {day},{label}\n"
    for day, thing in enumerate(("soup", "film", "bus", "song", "room", "tea") * 5)
    for word, label in (("good", "positive"), ("bad", "negative"))
)
RECIPE = """name: reviews
data:
  sources:
    - from: path:reviews.csv
      shape: {kind: labelled, text: text, label: label}
task: {kind: classify, question: "How does it sound?", labels: [positive, negative]}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in, with a home and a workspace of its own."""
    for name in [name for name in os.environ if name.startswith("LLMOPS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reviews.csv").write_text(REVIEWS)
    (tmp_path / "reviews.yaml").write_text(RECIPE)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, list[str]]:
    """Exit code, standard output, and the lines on standard error."""
    code = main.run(arguments)
    out, err = capsys.readouterr()
    return code, out, err.splitlines()


def complaint(lines: list[str]) -> list[str]:
    """The lines of an error: what went before it (the workspace's path) is dropped."""
    return lines[[line.startswith("error: ") for line in lines].index(True) :]


WRONG_REQUESTS = {
    "unknown verb": (["trian"], "trian"),
    "unknown option": (["list", "--colour"], "--colour"),
    "missing argument": (["promote"], "VERSION"),
    "a word where a number belongs": (["plan", "reviews.yaml", "--threads", "many"], "--threads"),
    "a number that makes no sense": (["plan", "reviews.yaml", "--threads", "0"], "threads"),
    "unknown recipe": (["prepare", "nosuch"], "nosuch"),
    "missing recipe file": (["prepare", "nosuch.yaml"], "nosuch.yaml"),
    "unknown field": (["prepare", "unknown_field.yaml"], "lable"),
    "missing column": (["prepare", "missing_column.yaml"], "verdict"),
    "empty file": (["prepare", "empty_rows.yaml"], "empty.csv"),
    "empty recipe": (["prepare", "empty.yaml"], "empty.yaml"),
    "broken YAML": (["prepare", "broken.yaml"], "broken.yaml"),
    "unknown field in --set": (["prepare", "reviews.yaml", "--set", "method.rnak=8"], "rnak"),
    "new on a missing file": (["new", "nosuch.csv"], "nosuch.csv"),
    "new on an empty file": (["new", "empty.csv"], "empty.csv"),
    "unknown version": (["chat", "nosuch"], "nosuch"),
    "unknown run": (["stop", "nosuch"], "nosuch"),
    "unknown plan": (["train", "nosuch"], "nosuch"),
    "unknown kind": (["list", "wishes"], "wishes"),
    "unknown thing": (["show", "nosuch"], "nosuch"),
    "inspect with two questions": (["inspect", "last", "--row", "0", "--prompt", "x"], "not both"),
}


@pytest.mark.parametrize("case", WRONG_REQUESTS)
def test_a_wrong_request_ends_with_2_and_two_lines_that_name_the_fault(
    case: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "unknown_field.yaml").write_text(RECIPE.replace("label: label", "lable: label"))
    (folder / "missing_column.yaml").write_text(RECIPE.replace("label: label", "label: verdict"))
    (folder / "empty.csv").write_text("")
    (folder / "empty.yaml").write_text("")
    (folder / "empty_rows.yaml").write_text(RECIPE.replace("reviews.csv", "empty.csv"))
    (folder / "broken.yaml").write_text("name: [reviews\n")
    arguments, named = WRONG_REQUESTS[case]
    code, out, lines = run(capsys, *arguments)
    told = complaint(lines)
    assert (code, out, len(told)) == (2, "", 2), (code, out, lines)
    assert named in told[0]
    assert told[1].startswith("fix: ")


def test_a_wrong_request_leaves_nothing_half_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "bad.yaml").write_text(RECIPE.replace("label: label", "label: verdict"))
    run(capsys, "prepare", "bad.yaml")
    assert [path.name for path in (folder / ".llmops").rglob("*") if path.is_file()] == [".gitignore"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RequestError("no such thing", "name another"), 2),
        (LlmopsError("it broke", "try again"), 1),
        (Refusal("not better", "bring evidence"), 1),
        (ValueError("a fault\nof ours"), 1),
        (KeyboardInterrupt(), 130),
        (Interrupted("run r-1 is interrupted at step 3 of 9", "go on with --resume r-1"), 130),
    ],
)
def test_every_failure_has_its_exit_code_and_two_lines(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake(monkeypatch, "rollback", raises(error))
    found, out, lines = run(capsys, "rollback", "tone")
    told = complaint(lines)
    assert (found, out, len(told)) == (code, "", 2)
    assert told[1].startswith("fix: ")


@pytest.mark.parametrize(
    ("verb", "ref", "advice"),
    [
        ("train", "pl-1", "can be resumed"),
        ("choose", "tone", "goes on where it was"),
        ("evaluate", "tone", "ask again"),
    ],
)
def test_whoever_stops_a_verb_reads_how_to_go_on_with_it(
    verb: str, ref: str, advice: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("llmops.cli.session.Session.at", property(raises(KeyboardInterrupt())))
    assert advice in complaint(run(capsys, verb, ref)[2])[1]


def test_a_traceback_is_shown_with_debug_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake(monkeypatch, "rollback", raises(ValueError("a fault of ours")))
    assert "Traceback" not in "".join(run(capsys, "rollback", "tone")[2])
    with pytest.raises(ValueError, match="a fault of ours"):
        run(capsys, "rollback", "tone", "--debug")


def test_an_error_cannot_command_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake(monkeypatch, "rollback", raises(RequestError("red \x1b[31m alert [bold]\nsecond line", "fix")))
    told = complaint(run(capsys, "rollback", "tone")[2])
    assert told == ["error: red �[31m alert [bold] second line", "fix: fix"]


def test_without_a_verb_the_life_of_a_model_is_told_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys)
    assert code == 0
    life = ["new", "prepare", "plan", "train", "evaluate", "compare", "register", "promote", "serve", "health"]
    order = [out.index(f"│ {verb} ") for verb in life]
    assert order == sorted(order)


def verbs() -> Iterator[str]:
    """Every verb of the command line."""
    for group in main.VERBS.values():
        for verb in group:
            yield verb.__name__.rstrip("_")


@pytest.mark.parametrize("verb", verbs())
def test_the_help_of_every_verb_teaches_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, verb, "--help")
    assert code == 0
    assert f"Example: llmops {verb}" in out
    for option in ("--workspace", "--json", "--debug"):
        assert option in out


def test_prepare_as_json_prints_one_document_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, lines = run(capsys, "prepare", "reviews.yaml", "--json")
    manifest = json.loads(out)
    assert code == 0
    assert manifest["id"].startswith("ds-")
    assert manifest["rows_train"] + manifest["rows_heldout"] + sum(manifest["dropped"].values()) == 60
    assert sum(line.startswith("workspace ") for line in lines) == 1


def test_new_writes_a_recipe_that_prepares(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "reviews.yaml").unlink()
    code, out, _ = run(capsys, "new", "reviews.csv", "--json")
    assert code == 0
    assert json.loads(out)["recipe"] == "reviews.yaml"
    assert run(capsys, "prepare", "reviews.yaml")[0] == 0


def test_new_takes_a_persons_word_for_a_column(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "odd.csv").write_text(REVIEWS.replace("text,label", "a,b"))
    code, out, _ = run(capsys, "new", "odd.csv", "--text", "a", "--label", "b", "--json")
    assert code == 0
    assert json.loads(out)["look"]["shape"]["label"] == "b"
    assert run(capsys, "new", "odd.csv", "--label", "verdict")[0] == 2


def test_new_never_overwrites_a_recipe(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, lines = run(capsys, "new", "reviews.csv")
    assert code == 2
    assert "exists already" in complaint(lines)[0]
    assert (folder / "reviews.yaml").read_text() == RECIPE


def test_lists_of_nothing_are_an_empty_document(capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("versions", "runs", "plans", "datasets", "reports", "comparisons", "promotions"):
        code, out, _ = run(capsys, "list", kind, "--json")
        assert (code, json.loads(out)) == (0, [])


def test_the_catalogue_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "list", "catalogue", "--json")
    assert code == 0
    assert "chitchat" in out


def test_workspace_is_the_one_that_was_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "prepare", "reviews.yaml", "--workspace", "elsewhere")
    assert list((folder / "elsewhere" / "datasets").iterdir())
    assert not (folder / ".llmops").exists()


def test_machine_options_are_the_fields_of_wishes() -> None:
    assert [field.name for field in fields(MachineOptions)] == list(Wishes.model_fields)


def test_machine_options_reach_the_verb(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[Any] = []
    fake(monkeypatch, "prepare", lambda recipe, at: "rows")
    fake(monkeypatch, "plan", lambda recipe, manifest, at, wishes: seen.append((recipe, manifest, wishes)) or {})
    code, _, _ = run(capsys, "plan", "reviews.yaml", "--budget", "60", "--max-memory", "4", "--set", "method.rank=4")
    ((recipe, manifest, wishes),) = seen
    assert code == 0
    assert recipe.method.rank == 4
    assert manifest == "rows"
    assert wishes == Wishes(budget_s=60, max_memory_gb=4)


@pytest.mark.parametrize(
    ("option", "value"),
    [("--device", "tpu"), ("--device", "cuda:x"), ("--threads", "0"), ("--budget", "-3"), ("--max-memory", "0")],
)
def test_a_machine_option_that_makes_no_sense_is_refused_by_the_name_that_was_typed(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, lines = run(capsys, "plan", "reviews.yaml", option, value)
    what, fix = complaint(lines)
    assert (code, out) == (2, "")
    assert what.startswith(f"error: {option} {value}")
    assert fix.startswith(f"fix: {option} takes: ")


def test_no_code_of_an_emoji_is_drawn_where_it_is_a_text(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, _, lines = run(capsys, "run", "a:x:b.yaml")
    assert "a:x:b.yaml" in complaint(lines)[0]


def test_new_writes_into_a_folder_that_is_not_there_yet(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, _ = run(capsys, "new", "reviews.csv", "--out", "mine/first.yaml")
    assert code == 0
    assert recipes.find_recipe("mine/first.yaml", [], None).name == "reviews"  # type: ignore[arg-type]


def test_a_path_that_the_system_refuses_is_told_in_two_lines(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, lines = run(capsys, "new", "reviews.csv", "--out", "reviews.csv/first.yaml")
    assert code == 1
    assert "reviews.csv" in complaint(lines)[0]
    assert "unexpected" not in complaint(lines)[0]


def test_no_line_of_a_new_recipe_breaks_on_a_screen_of_80_columns(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "new", "reviews.csv", "--out", "first.yaml")
    assert max(len(line) for line in (folder / "first.yaml").read_text().splitlines() if line.startswith("#")) <= 80


@pytest.mark.parametrize("verb", ["run", "plan"])
def test_an_unknown_tracker_is_refused_before_anything_is_prepared(
    verb: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, lines = run(capsys, verb, "reviews.yaml", "--tracker", "excel")
    assert code == 2 and "no tracker 'excel'" in complaint(lines)[0]
    assert not (folder / ".llmops").exists()


@pytest.mark.parametrize(("status", "code"), [("finished", 0), ("interrupted", 130), ("failed", 1)])
def test_a_training_that_was_not_finished_is_no_success(
    status: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    noon = "2026-11-23T12:00:00Z"
    run_value = {
        "id": "r-1",
        "name": "tone",
        "plan": "pl-1",
        "dataset": "ds-1",
        "status": status,
        "step": 3,
        "steps": 9,
    }
    done = llmops.Run.model_validate({**run_value, "created": noon, "updated": noon, "seconds": 1.0})
    monkeypatch.setattr("llmops.cli.make.planned", lambda *given: None)
    fake(monkeypatch, "train", lambda plan, at, resume: done)
    found, out, lines = run(capsys, "train", "--json")
    assert (found, json.loads(out)["status"]) == (code, status)
    assert (complaint(lines)[1] == "fix: llmops train --resume r-1") if code else True


@pytest.mark.parametrize("name", ["chosen", "continue", "instruct", "prefer", "smalltalk", "thumbs", "tone"])
def test_every_shipped_recipe_loads_from_its_file_and_bears_its_name(name: str, workspace: Any) -> None:
    assert recipes.find_recipe(name, [], workspace).name == name


def test_a_python_recipe_is_run_because_it_was_named(folder: Path, workspace: Any) -> None:
    (folder / "mine.py").write_text(
        "import llmops\nRECIPE = llmops.load('reviews.yaml', [], None).replace(about='by hand')\n"
    )
    assert recipes.find_recipe("mine.py", ["method.rank=2"], workspace).about == "by hand"
    assert recipes.find_recipe("mine.py", ["method.rank=2"], workspace).method.rank == 2


@pytest.mark.parametrize("body", ["x = 1\n", "import nosuchmodule\n", "def (\n", "RECIPE = {}\n"])
def test_a_python_file_without_a_recipe_is_a_wrong_request(body: str, folder: Path, workspace: Any) -> None:
    (folder / "mine.py").write_text(body)
    with pytest.raises(RequestError):
        recipes.find_recipe("mine.py", [], workspace)


class Parrot:
    """A `Chat` that answers with the last message, in pieces, and remembers that it was closed."""

    version = "tone:1"
    closed = False

    def say(self, messages: Any, sampling: Any) -> Iterator[str]:
        yield f"{len(messages)}: "
        yield messages[-1].content

    def close(self) -> None:
        self.closed = True


def test_chat_keeps_the_conversation_until_an_empty_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parrot = Parrot()
    fake(monkeypatch, "chat", lambda ref, at: parrot)
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\nagain\n/new\nafresh\n\nnever read\n"))
    code, out, _ = run(capsys, "chat", "tone")
    assert (code, out) == (0, "1: hello\n3: again\n1: afresh\n")
    assert parrot.closed


def test_chat_as_json_prints_the_conversation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake(monkeypatch, "chat", lambda ref, at: Parrot())
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n"))
    code, out, _ = run(capsys, "chat", "tone", "--json")
    assert code == 0
    said = json.loads(out)
    assert said["version"] == "tone:1"
    assert [message["content"] for message in said["messages"]] == ["hello", "1: hello"]


def fake(monkeypatch: pytest.MonkeyPatch, verb: str, function: Any) -> None:
    """Put `function` in the place of a verb."""
    monkeypatch.setattr(llmops, verb, function, raising=False)


def raises(error: BaseException) -> Any:
    """A verb that fails."""

    def failing(*given: Any) -> Any:
        raise error

    return failing
