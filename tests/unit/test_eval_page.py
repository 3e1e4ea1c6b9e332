"""A page shows every answer and fetches nothing; whatever a text says, it stays a text."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from llmops.core.errors import RequestError
from llmops.core.report import Answer, EvalReport, Sample, Score, Subject, Suite
from llmops.core.scorers import Includes
from llmops.core.suites import Choose, Generate, make_question
from llmops.evals.choices import choose
from llmops.evals.generate import generate
from llmops.evals.pages import template
from llmops.evals.pages.pair import comparison_page
from llmops.evals.pages.report import by_length, confusion, report_page
from llmops.evals.suite import question_suite
from llmops.experiments.compare import compare
from llmops.lm.scripted import ScriptedModel
from llmops.pipeline.pages import page
from tests.unit.sample_exams import EMPTY, examined, ledger
from tests.unit.test_evals_groups import calibrated

HOSTILE = [
    "<script>document.title='OWNED'</script>",
    "</script><script>document.title='OWNED'</script>",
    "<img src=x onerror=\"document.title='OWNED'\">",
    "<svg onload=\"document.title='OWNED'\">",
    "\"><iframe src=javascript:document.title='OWNED'></iframe>",
    "'><body onload=document.title='OWNED'>",
    "<!-- --><script>document.title='OWNED'</script>",
    "<!--<script>",
    "]]><script>document.title='OWNED'</script>",
    "</title><script>document.title='OWNED'</script>",
    "</style><script>document.title='OWNED'</script>",
    "</textarea><img src=x onerror=document.title='OWNED'>",
    "<a href=javascript:document.title='OWNED'>x</a>",
    "<details open ontoggle=document.title='OWNED'>",
    "<math><mi//xlink:href=\"data:x,<script>document.title='OWNED'</script>\">",
    "<object data=data:text/html,x></object>",
    "<embed src=//example.org/x>",
    "<link rel=stylesheet href=//example.org/x.css>",
    "<meta http-equiv=refresh content=0;url=//example.org>",
    "<base href=//example.org/>",
    "<form action=//example.org><input name=x autofocus onfocus=document.title='OWNED'>",
    "{{ 7 * 7 }}{% for x in y %}",
    "${document.title='OWNED'}",
    "\\u003cscript\\u003edocument.title='OWNED'\\u003c/script\\u003e",
    "&lt;script&gt;document.title='OWNED'&lt;/script&gt;",
    "\u2028document.title='OWNED'\u2029",
    "\u202egnp.exe\u202c",
    "\x00\x1b[31mred\x9b",
    "<style>*{display:none}</style>",
    "<x style='background:url(//example.org)' onmouseover=document.title='OWNED'>",
]
assert len(HOSTILE) == 30
NAMES = """html head meta title style body main header p h1 h2 h3 div b span section table tbody tr th td code br
    noscript input select option button footer script svg text line rect circle details summary dl dt dd"""
ALLOWED = frozenset(NAMES.split())
NAMES = """lang charset name content http-equiv class id type placeholder aria-label aria-live aria-pressed role style
    value hidden disabled open viewbox x y x1 y1 x2 y2 cx cy r rx width height text-anchor data-name"""
ATTRIBUTES = frozenset(NAMES.split())


class Nodes(HTMLParser):
    """What stands in a document that should not: unknown elements, handlers, addresses, a third script."""

    def __init__(self) -> None:
        super().__init__()
        self.strange: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        if tag not in ALLOWED:
            self.strange.append(tag)
        self.strange += [f"{tag} {name}" for name, _ in attributes if name not in ATTRIBUTES]
        self.strange += [
            f"{tag} style" for name, value in attributes if name == "style" and "--share" not in str(value)
        ]


def strange(html: str) -> list[str]:
    nodes = Nodes()
    nodes.feed(html)
    metas = len(re.findall("<meta ", html))
    return [*nodes.strange, *["script"] * (nodes.scripts - 2), *["meta"] * (metas - 3)]


def hostile_report(kind: str = "base") -> EvalReport:
    """Every text of a report is hostile."""
    answers = []
    for place, text in enumerate(HOSTILE * 2):
        notes = {text: text, "scorer_read": text}
        answers.append(
            Answer(
                row=f"{place}{text}",
                prompt=text,
                expected=HOSTILE[place % 3],
                answered=HOSTILE[(place + (kind == "base")) % 3],
                marks={"accuracy": float(place % 2)},
                probability=0.5,
                fields={text: text, "error": text} if place % 7 == 0 else {text: text},
                notes=notes,
                samples=(Sample(seed=0, answered=text, mark=0.5, notes=notes),),
            )
        )
    score = Score(metric="accuracy", value=0.5, low=0.4, high=0.6, n=60)
    slices = {f"{text}={text}": score for text in HOSTILE}
    suite = Suite(
        dataset=HOSTILE[0],
        rows_sha256="0" * 64,
        measures=("accuracy", HOSTILE[1]),
        slices=(HOSTILE[0],),
        asking=Generate(scorer=Includes(), sampling={"stop": (HOSTILE[2],)}),
    )
    scores = {"accuracy": score.replace(slices=slices), HOSTILE[1]: score.replace(metric=HOSTILE[1])}
    return EvalReport(subject=Subject(kind=kind, ref=HOSTILE[3]), suite=suite, scores=scores, answers=tuple(answers))


def hostile_pages() -> Iterator[tuple[str, str]]:
    base, tuned = hostile_report(), hostile_report("tuned")
    hostile = examined("".join(HOSTILE))
    yield "report", report_page(base, hostile)
    flipped = tuned.replace(answers=tuple(one.replace(marks={"accuracy": 1.0}) for one in tuned.answers))
    yield "pair", comparison_page(compare(base, flipped), base, flipped)


def rendered(chromium: str, file: Path) -> str:
    """The document after its script has run."""
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", "--dump-dom"]
    return subprocess.run([*command, file.as_uri()], capture_output=True, timeout=60, check=True).stdout.decode()


def test_no_text_of_a_report_becomes_a_node(chromium, tmp_path):
    for name, html in hostile_pages():
        assert strange(html) == []
        file = tmp_path / f"{name}.html"
        file.write_text(html, encoding="utf-8")
        dom = rendered(chromium, file)
        assert strange(dom) == []
        assert "<title>OWNED" not in dom
        assert dom.count('class="answer"') == 50, "its script has run"
        assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08]", html)


def test_a_page_that_does_not_escape_is_found(chromium, tmp_path, monkeypatch):
    monkeypatch.setattr(template, "_templates", lambda made=template._templates(): made.overlay(autoescape=False))
    template._templates().cache = None
    html = report_page(hostile_report(), examined("".join(HOSTILE)))
    section = html[html.index('id="exam"') : html.index('id="answers"')]
    assert {"img", "iframe", "script"} <= set(strange(section))
    assert {"img", "iframe", "script"} <= set(strange(html))


def test_a_text_inside_the_data_cannot_end_it():
    from llmops.evals.pages.answers import embedded

    for text in HOSTILE:
        made = str(embedded({"text": text}))
        assert not set("<>&\u2028\u2029") & set(made)
        assert json.loads(made) == {"text": text}


def test_a_page_fetches_nothing_and_runs_its_own_script_only():
    html = report_page(hostile_report())
    policy = re.search(r'content-security-policy" content="([^"]+)"', html)
    assert policy is not None
    assert policy[1].startswith("default-src &#39;none&#39;") or policy[1].startswith("default-src 'none'")
    assert "script-src 'sha256-" in policy[1]
    assert "unsafe-inline'; script" in policy[1], "of styles only"
    assert not re.search(r'(?:src|href)="', html)


def tuned_and_base() -> tuple[EvalReport, EvalReport]:
    questions = [
        make_question(
            f"Is {place} even?{' Say so.' * (place % 5)}\nA:",
            (" yes" if place % 2 == 0 else " no",),
            (" yes", " no"),
            {"size": "small" if place < 30 else "large"},
        )
        for place in range(60)
    ]
    suite = question_suite("even", Choose(), questions, ("size",))

    def likes(knows: int):
        def logprob(prompt: Any, reply: str) -> float:
            number = int(re.findall(r"\d+", prompt[-1].content)[0])
            right = (number % 2 == 0) == (reply.strip() == "yes")
            return -0.1 if right == (number < knows) else -2.3

        return ScriptedModel(logprob=logprob)

    base = choose(likes(20), Subject(kind="base", ref="small"), suite, questions)
    tuned = choose(likes(50), Subject(kind="tuned", ref="even:1"), suite, questions)
    return tuned, base


def embedded_data(html: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)
    assert found is not None
    return json.loads(found[1])


def test_every_answer_is_on_the_page():
    tuned, _ = tuned_and_base()
    html = report_page(tuned)
    data = embedded_data(html)
    assert [one["row"] for one in data["answers"]] == [answer.row for answer in tuned.answers]
    assert [one["verdict"] for one in data["answers"][48:52]] == ["right", "right", "wrong", "wrong"]
    for shown in ("even:1", "0.833", "size=large", "What was taken for what", "By length of what was asked"):
        assert shown in html


def test_the_worst_slice_comes_first():
    html = report_page(tuned_and_base()[0])
    assert html.index(">size=large</td>") < html.index(">size=small</td>")


def test_answers_that_flipped_come_first_in_a_comparison():
    tuned, base = tuned_and_base()
    html = comparison_page(compare(base, tuned), base, tuned)
    data = embedded_data(html)["answers"]
    assert len(data) == 60
    assert {one["verdict"] for one in data[:30]} == {"gained"}
    assert {one["verdict"] for one in data[30:]} == {"both right", "both wrong"}
    assert "even:1 is better than small by accuracy" in html
    with pytest.raises(RequestError, match="two other reports"):
        comparison_page(compare(base, tuned), tuned, base)


def test_two_cheap_rows_of_one_plan_are_told_apart_by_their_kind():
    assert template.called(Subject(kind="word_list", ref="pl-9267eed2d273")) == "word list"
    assert template.called(Subject(kind="tfidf", ref="pl-9267eed2d273")) == "tfidf"
    assert template.called(Subject(kind="tfidf", ref="tone:2")) == "tone:2"


def test_a_generated_answer_shows_its_samples_and_what_was_read():
    questions = [make_question(f"Say {place}", (str(place),)) for place in range(20)]
    suite = question_suite("say", Generate(scorer=Includes(), samples=2, sampling={"temperature": 1.0}), questions)
    report = generate(ScriptedModel(), Subject(kind="base", ref="echo"), suite, questions)
    data = embedded_data(report_page(report))["answers"]
    assert len(data[0]["said"]["samples"]) == 2
    assert data[0]["verdict"] == "right"


def test_rows_are_grouped_by_length_without_a_row_lost():
    tuned, _ = tuned_and_base()
    groups = by_length(tuned.answers, "accuracy")
    assert len(groups) > 1
    assert sum(score.n for score in groups.values()) == 60
    same = [answer.replace(prompt="x") for answer in tuned.answers]
    assert by_length(same, "accuracy") == {}


def test_what_was_taken_for_what_is_counted_for_labels_only():
    tuned, _ = tuned_and_base()
    found = confusion(tuned.answers)
    assert found is not None
    assert [sum(cell[0] for cell in cells) for _, cells in found["rows"]] == [30, 30]
    assert confusion([one.replace(answered=one.row) for one in tuned.answers]) is None


def test_a_page_is_written_for_a_report_and_a_comparison(workspace):
    tuned, base = tuned_and_base()
    made = compare(base, tuned)
    for fact in (tuned, base, made):
        workspace.put(fact)
    file = page(tuned.id, workspace)
    assert file.name == f"{tuned.id}.html"
    assert "even:1" in file.read_text(encoding="utf-8")
    assert "even:1 is better" in page(made.id, workspace).read_text(encoding="utf-8")
    assert workspace.ids(type(made)) == [made.id]


def test_the_page_shows_the_exam_and_the_ledger():
    html = report_page(tuned_and_base()[0], examined())
    for part in ("memorised", "0.311", "23.4, 19.9", "-0.613", "2a text", "+11.7 %", "-0.417", "instructions a text"):
        assert part in html
    assert html.count("<svg") >= 3 + report_page(tuned_and_base()[0]).count("<svg")
    assert "0.211 to +0.411" in html and "-0.517 to -0.317" in html, "with their intervals"
    assert 'id="exam"' not in report_page(tuned_and_base()[0]), "a cheap row has neither"


def test_a_report_without_an_exam_shows_the_command_that_makes_it():
    html = report_page(tuned_and_base()[0], EMPTY)
    assert "llmops evaluate tone:1 --exam" in html and "llmops evaluate tone:1 --forgetting" in html
    assert "memorised</p>" not in html
    html = report_page(tuned_and_base()[0], EMPTY.replace(cannot_sit="tone:1 learned task 'rate'"))
    assert "There is no exam: tone:1 learned task" in html and "--exam" not in html


def test_the_curve_says_what_it_shows_and_what_chance_shows():
    made = calibrated(temperature=3.0, n=300)
    answers = tuple(one.replace(probability=max(one.chances.values())) for one in made.answers)
    html = report_page(made.replace(answers=answers))
    assert "the model is too sure" in html and "a calibrated model of as many rows shows" in html
    assert "calibration error" not in report_page(made.replace(answers=answers[:20]))


def test_the_curve_begins_where_its_points_do_and_its_line_is_where_said_is_right():
    from llmops.core.calibration import ReliabilityBin
    from llmops.evals.pages.plots import reliability

    bins = [ReliabilityBin(said=share, right=share, low=share - 0.04, high=share, n=60) for share in (0.66, 0.8, 0.99)]
    drawn = str(reliability(bins, "sure"))
    assert ">60%<" in drawn and ">80%<" in drawn and ">100%<" in drawn
    ends = re.search(r'x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)" y2="([\d.]+)" class="zero"', drawn)
    assert ends is not None
    x1, y1, x2, y2 = map(float, ends.groups())
    for x, y in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', drawn):
        assert (float(x) - x1) / (x2 - x1) == pytest.approx((float(y) - y1) / (y2 - y1), abs=0.002)


def test_what_is_lost_is_drawn_left_of_its_margin():
    from llmops.evals.pages.learned import abilities

    drawn = str(abilities(ledger(change=-0.5)))
    marks = [float(x) for x in re.findall(r'<line x1="([\d.]+)"[^>]*class="zero"', drawn)]
    (dot,) = (float(x) for x in re.findall(r'<circle cx="([\d.]+)"', drawn))
    assert dot < marks[0] < marks[1] and 'class="sure"' in drawn
    assert 'class="gain"' in str(abilities(ledger(change=0.2)))


def test_answers_are_found_filtered_sorted_and_opened_in_a_browser(chromium, tmp_path):
    from playwright.sync_api import sync_playwright

    tuned, base = tuned_and_base()
    one, two = tmp_path / "one.html", tmp_path / "two.html"
    one.write_text(report_page(tuned), encoding="utf-8")
    two.write_text(comparison_page(compare(base, tuned), base, tuned), encoding="utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page()
        errors: list[str] = []
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.goto(one.as_uri())
        rows = tab.locator("details.answer")
        assert rows.count() == 50
        tab.click("#next")
        assert rows.count() == 10
        tab.click("#verdicts button:has-text('wrong')")
        assert rows.count() == 10
        tab.fill("#find", "55 even")
        assert rows.count() == 1
        rows.first.locator("summary").click()
        assert "Is 55 even?" in rows.first.locator("dd").first.inner_text()
        tab.fill("#find", "")
        tab.click("#verdicts button:has-text('all')")
        tab.select_option("#slice", "size=large")
        assert tab.inner_text("#found").startswith("30 of 60")
        tab.select_option("#order", "worst first")
        assert rows.first.locator(".chip").inner_text() == "wrong"
        tab.goto(two.as_uri())
        assert rows.first.locator(".chip").inner_text().startswith("gained")
        browser.close()
    assert errors == []
