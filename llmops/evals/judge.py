"""The scorer `judge`: a model says what it thinks of an answer. Its prompt and its verdict are kept, word for word.

A verdict that cannot be read is data and no mark. The answer is text in the prompt: one that says `{expected}` says
just that, and control tokens in it are plain text to the renderer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from llmops.core.context import Track
from llmops.core.dataset import Message
from llmops.core.errors import RequestError
from llmops.core.scorers import Judge
from llmops.core.serving import Sampling
from llmops.core.suites import Question
from llmops.evals.score import Failed, ask_each
from llmops.evals.scorers.mark import Given, Marked, Marker, Tools
from llmops.evals.scorers.texts import fold

SIGNS = " \t*_`\"'("
BEGINS = re.compile(r"[.,:;!?)*\"]|\s[-–—]\s")
DENIALS = frozenset(("not", "never", "isnt", "wasnt", "cannot", "hardly"))
PLACES = re.compile(r"\{(question|expected|answer)\}")


class Verdict(NamedTuple):
    """What a judge said, and the mark that it means; None where it cannot be read."""

    said: str
    mark: float | None


def judge(knobs: Judge, tools: Tools) -> Marker:
    """The mark of the judge's verdict."""
    model = tools.judges.get(knobs.model)
    if model is None:
        raise RequestError(f"there is no judge {knobs.model!r}", "name a base, a version or a run as the judge's model")
    sampling = Sampling(max_tokens=knobs.max_tokens)

    def ask(prompts: Sequence[str], track: Track) -> list[str]:
        messages = [(Message(role="user", content=prompt),) for prompt in prompts]
        return list(model.reply(messages, sampling, track))

    def mark(given: Given) -> list[Marked]:
        prompts = [fill(knobs.prompt, answer, question) for answer, question in given]
        said = ask_each(ask, prompts, tools.track)
        return [_marked(one, prompt, knobs) for one, prompt in zip(said, prompts, strict=True)]

    return mark


def _marked(said: str | Failed, prompt: str, knobs: Judge) -> Marked:
    if isinstance(said, Failed):
        return Marked(None, {"judge_prompt": prompt, "scorer_error": f"the judge failed: {said.why}"})
    verdict = read_verdict(said, knobs.verdicts)
    kept = {"judge_prompt": prompt, "judge_verdict": said}
    if verdict.mark is None:
        kept["scorer_error"] = f"the verdict is none of {', '.join(knobs.verdicts)}: {said[:100]!r}"
    return Marked(verdict.mark, kept)


def fill(prompt: str, answer: str, question: Question) -> str:
    """The prompt about one answer. All places are filled in one go, so that no text can open another place."""
    texts = {"question": question.asked, "expected": "\n".join(question.expected), "answer": answer}
    return PLACES.sub(lambda hit: texts[hit[1]], prompt)


def read_verdict(said: str, verdicts: dict[str, float]) -> Verdict:
    """The verdict in what a judge said: a word that its first line begins with, or that its last line ends with.

    Behind the first word a sign must stand (`Right, because …`), since `Right answer: …` repeats the question. A word
    that is denied (`not right`) is no verdict, unless the denial is one itself; nor are two that differ.
    """
    words = {fold(word): mark for word, mark in verdicts.items()}
    lines = [line for line in said.splitlines() if fold(line)]
    if not lines:
        return Verdict(said, None)
    begun, ended = fold(BEGINS.split(lines[0].strip(SIGNS), maxsplit=1)[0]), fold(lines[-1])
    found = {begun} & words.keys()
    at_end = [word for word in words if ended == word or ended.endswith(f" {word}")]
    if at_end:
        longest = max(at_end, key=len)
        before = ended.removesuffix(longest).split()
        found |= set() if before and before[-1] in DENIALS else {longest}
    marks = {words[word] for word in found}
    return Verdict(said, marks.pop() if len(marks) == 1 else None)
