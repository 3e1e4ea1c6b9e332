"""The data card: everything is on it, and whatever the rows hold is shown as text."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from llmops.core.recipe import Recipe
from llmops.core.sources import Data, Labelled, PromptReply, Source
from llmops.core.tasks import Classify, Reply
from llmops.data.card import write_card
from llmops.data.prepare import prepare
from llmops.pipeline.people import correct, write_note
from llmops.store.workspace import Workspace
from tests.unit.sample_values import workspace
from tests.unit.test_data_review import recipe, texts, write

HOSTILE = "<script>alert(1)</script> <img src=x onerror=alert(1)> {{7*7}} | `x` [a](javascript:alert(1)) \u202e"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.chdir(tmp_path)
    return workspace(tmp_path / "ws")


class Seen(HTMLParser):
    """What a browser would see of a page: its elements, their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.said = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.said += data


def test_the_card_has_every_section_and_fetches_nothing(here: Workspace) -> None:
    rows = [(f"{who} is {text}", label) for who, (text, label) in zip(["he", "she"] * 80, texts(160)[0], strict=True)]
    write([*rows, rows[0], ("", "good")])
    manifest = prepare(recipe(), here)
    page = write_card(manifest, here)
    html, markdown = page.read_text(encoding="utf-8"), page.with_suffix(".md").read_text(encoding="utf-8")
    for heading in ("Where the rows come from", "Step by step", "How long they are", "Labels", "Leaks", "Drawn alike?",
                    "Duplicates and private data", "Labels to check", "Who is named, and how"):  # fmt: skip
        assert f"<h2>{heading}</h2>" in html, heading
    assert html.count("<svg") == 4 and "male (" in html and "male &gt; female" in html
    assert not re.search(r"(src|href)=|url\(|@import|<script|https?:", html)
    for heading in ("Sources", "Steps", "Lengths, in words", "Labels", "Leaks", "Labels to check", "Groups"):
        assert f"## {heading}" in markdown, heading
    assert f"| path:x.csv | unknown | {manifest.rows_read} |" in markdown


def test_whatever_rows_labels_names_and_notes_hold_is_text(here: Workspace) -> None:
    labels = (f"{HOSTILE} a", f"{HOSTILE} b")
    task = Classify(question=HOSTILE, labels=labels)
    lines = [f'"{HOSTILE} {text}","{labels[n % 2]}"' for n, (text, _) in enumerate(texts(80)[0])]
    Path("x.csv").write_text("text,label\n" + "\n".join([*lines, f'"{HOSTILE}","{HOSTILE}"']) + "\n", encoding="utf-8")
    source = Source(from_="path:x.csv", shape=Labelled(), licence=HOSTILE)
    manifest = prepare(Recipe(name="try", data=Data(sources=(source,), steps=()), task=task), here)
    write_note(manifest.id, HOSTILE, here, tags=(HOSTILE,))
    correct(manifest.id, here.rows(manifest.id, "train")[0].id, labels[0], here, HOSTILE)
    page = write_card(manifest, here)
    seen = Seen(page.read_text(encoding="utf-8"))
    assert not {"script", "img", "a", "iframe"} & set(seen.tags)
    assert not {name for name in seen.attributes if name.startswith("on")} and "src" not in seen.attributes
    assert "<script>alert(1)</script>" in seen.said and "{{7*7}}" in seen.said
    markdown = page.with_suffix(".md").read_text(encoding="utf-8")
    assert not re.search(r"(?<!\\)(<script|<img|\[a|\](?=\()|`x|\{\{)", markdown)  # every sign of it is escaped
    assert "\u202e" not in page.read_text(encoding="utf-8")


def test_a_set_of_replies_has_a_card_without_labels(here: Workspace) -> None:
    lines = [f'"what about thing{n} and thing{n + 1}?","it is remark{n} at length"' for n in range(60)]
    Path("x.csv").write_text("prompt,reply\n" + "\n".join(lines) + "\n", encoding="utf-8")
    source = Source(from_="path:x.csv", shape=PromptReply())
    manifest = prepare(Recipe(name="try", data=Data(sources=(source,), steps=()), task=Reply()), here)
    html = write_card(manifest, here).read_text(encoding="utf-8")
    assert "Labels to check" not in html and "How long they are" in html
