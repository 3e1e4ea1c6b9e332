"""Serve the app on a free port with a pipeline that is a fake: `python -m tests.browser.serve WORKSPACE TOKEN [WORDS]`.

The fake answers at once and from nothing, so that the app is tested without weights. Prints the app's link.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HOLD = "hold"  # while a file of this name lies in the workspace, answers stop half way


def load_app() -> types.ModuleType:
    """The app as the command line loads it: the folder `app` as the package `llmops_app`."""
    folder = ROOT / "app"
    spec = importlib.util.spec_from_file_location(
        "llmops_app", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["llmops_app"] = module
    spec.loader.exec_module(module)
    return importlib.import_module("llmops_app.main")


class FakeChat:
    """A chat session that says who it is, repeats what it was asked, and adds `words`."""

    def __init__(self, ref: str, at: Any, words: str) -> None:
        self.ref, self.at, self.words = ref, at, words
        self.last: Any = None

    def say(self, messages: Sequence[Any], sampling: Any, keep_text: bool = True) -> Iterator[str]:
        from llmops.core.serving import Exchange

        text = f"I am {self.ref}. You said: {messages[-1].content} {self.words}"
        for number, word in enumerate(text.split(" ")):
            while number == 3 and (self.at.root / HOLD).exists():
                time.sleep(0.02)
            yield word + " "
        self.last = Exchange(
            id=os.urandom(8).hex(),
            version=self.ref,
            at=self.at.world.clock(),
            prompt_sha256="0" * 64,
            sampling=sampling,
            prompt_tokens=9,
            answer_tokens=len(text.split()),
            first_token_s=0.1,
            total_s=0.4,
            finish="stop",
            messages=tuple(messages) if keep_text else (),
            answer=text if keep_text else None,
        )
        self.at.ledger.append(self.last, self.ref.split(":")[0], self.last.id)

    def close(self) -> None:
        self.at.world.say(f"{self.ref} closed")


def fake_makers(words: str) -> tuple[Any, ...]:
    """The verbs that read a recipe or a file, or steer a run."""
    from llmops.core.dataset import Message
    from llmops.core.errors import RequestError
    from llmops.core.recipe import Recipe
    from llmops.core.run import RunEvent
    from llmops.core.sources import Labelled
    from llmops.core.tasks import Classify
    from llmops.data.new import Look

    def load(path_or_name: str, sets: Sequence[str], at: Any) -> Any:
        import yaml

        data = yaml.safe_load(Path(path_or_name).read_text())
        if not isinstance(data, dict) or "name" not in data:
            raise RequestError(f"the recipe has no name {words}", "write name: something")
        return Recipe.model_validate(data)

    def new(rows: Path, name: str | None, at: Any) -> Any:
        look = Look(
            file=rows.name,
            rows=100,
            columns=("text", words),
            shape=Labelled(),
            task=Classify(question=words, labels=("a", words)),
            why=(f"two columns, one with few values {words}",),
            labels={"a": 50, words: 50},
            rows_train=80,
            rows_heldout=20,
            rendered=tuple(
                (Message(role="user", content=words), Message(role="assistant", content=words)) for _ in range(5)
            ),
            warnings=(words,) if words else (),
        )
        text = f"name: {name or 'mine'}\ndata:\n  sources:\n    - from: path:{rows}\ntask:\n  kind: reply\n"
        return look, text

    def stop(run_ref: str, at: Any) -> Any:
        at.add_event(run_ref, RunEvent(kind="interrupted", at=at.world.clock(), step=35, note="asked to stop"))
        return at.run(run_ref)

    return load, new, stop


def fake_lookers(words: str) -> tuple[Any, ...]:
    """The verbs that look at tokens."""
    from llmops.core.views import RoundTrip, RowView, SetView, TokenView

    def tokens(text: str) -> list[Any]:
        parts = [part + " " for part in text.split(" ")]
        return [
            TokenView(
                text=part,
                id=number + 5,
                trained=number >= len(parts) // 2,
                probability=(0.97, 0.6, 0.08)[number % 3],
                alternatives=((f"{words} other", 0.2), (" and\n", 0.1)),
            )
            for number, part in enumerate(parts)
        ]

    def inspect_reply(ref: str, prompt: str, reply: str | None, at: Any) -> list[Any]:
        return tokens(reply or f"This is what {ref} would have said to {prompt}\nand {words}")

    def inspect_row(dataset: str, number: int, base: str | None, at: Any) -> Any:
        row = at.rows(dataset, "train")[number]
        return RowView(
            number=number,
            id=row.id,
            source=row.source,
            line=row.line,
            tokens=tuple(tokens(" ".join(message.content for message in row.messages))),
            end_trained=True,
            fault=f"begin twice {words}",
            round_trip=RoundTrip(same=False, at=3, ours=f"ours {words}", theirs=f"theirs {words}"),
            rejected=f"worse {words}",
        )

    def inspect_set(dataset: str, base: str | None, at: Any) -> Any:
        numbers = {"rows": 9, "tokens": 90, "trained": 30, "shortest": 4, "longest": 20, "left_out": 1}
        trips = {"end_trained": 9, "round_trips": 9, "same": 8, "first_other": 3}
        return SetView(dataset=dataset, base=f"{base} {words}", faults={f"begin twice {words}": 1}, **numbers, **trips)

    return inspect_reply, inspect_row, inspect_set


def fake_pipeline(words: str) -> types.ModuleType:
    """The verbs that the app calls, over the real workspace but without a model."""
    from llmops.core.health import HealthReport, Window
    from llmops.core.outcome import Outcome
    from llmops.core.serving import Feedback
    from llmops.store.files import read_json
    from tests.unit import sample_exams

    def health(name: str, at: Any, keep: bool = True) -> Any:
        window = Window(
            since=None,
            until=at.world.clock(),
            requests=12,
            errors=0,
            prompt_tokens=90,
            answer_tokens=240,
            thumbs_up=3,
            thumbs_down=1,
            edits=1,
        )
        found = (f"12 requests since the promotion, no error. {words}", "Half of the answers took less than 0.4 s.")
        return HealthReport(name=name, version=f"{name}:2", now=window, before=window, findings=found)

    def outcome(run_ref: str, at: Any) -> Any:
        return Outcome.model_validate(read_json(at.run_folder(run_ref) / "outcome.json"))

    def chat(ref: str, at: Any) -> Any:
        return FakeChat(ref, at, words)

    def feedback(exchange: str, thumb: str | None, edit: str | None, at: Any) -> Any:
        said = Feedback(exchange=exchange, thumb=thumb, edit=edit, author=at.world.author, at=at.world.clock())
        at.ledger.append(said, "tone", exchange)
        return said

    def examined(ref: str, at: Any) -> Any:
        return sample_exams.examined(words)

    def on_trial(name: str, at: Any) -> None:
        return None

    module = types.ModuleType("llmops.pipeline")
    verbs = (health, outcome, chat, feedback, examined, on_trial, *fake_lookers(words), *fake_makers(words))
    vars(module).update({verb.__name__: verb for verb in verbs})
    return module


def main(folder: str, token: str, words: str = "") -> None:
    import llmops
    from llmops.core.context import Surroundings
    from llmops.store.workspace import Workspace

    sys.modules["llmops.pipeline"] = llmops.pipeline = fake_pipeline(words)  # type: ignore[attr-defined]
    app = load_app()
    app.LLMOPS = (sys.executable, "-m", "tests.browser.job")  # type: ignore[attr-defined]
    at = Workspace.find(Path(folder), Surroundings(say=lambda line: print(line, flush=True)), environ={})
    app.open_app(at, "127.0.0.1", 0, token)


if __name__ == "__main__":
    main(*sys.argv[1:])
