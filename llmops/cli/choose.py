"""The verbs that look before a model is made: `choose`, and `forecast`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, get_args

from typer import Option

import llmops
from llmops.cli.make import Recipe, Sets
from llmops.cli.recipes import find_recipe
from llmops.cli.session import FetchingSession

if TYPE_CHECKING:
    from llmops.core.choice import Contest


@dataclass(frozen=True)
class ContestOptions:
    """The terms of a tournament."""

    budget: Annotated[float, Option("--budget", metavar="MINUTES", min=0.1, help="For everything.")] = 10.0
    margin: Annotated[
        float | None,
        Option("--margin", metavar="SHARE", min=0, help="How much worse is not worse; a point (0.01) if left out."),
    ] = None
    answers: Annotated[
        int, Option("--answers", metavar="N", min=1, help="The cheapest is that for so many answers.")
    ] = 10_000
    train_rows: Annotated[
        int | None, Option("--train-rows", metavar="N", min=20, help="At most so many training rows take part.")
    ] = None
    base: Annotated[
        list[str] | None, Option("--base", metavar="BASE", help="Base model; repeatable. Else those that are here.")
    ] = None
    rank: Annotated[
        list[int] | None, Option("--rank", metavar="N", min=1, help="Rank of LoRA; repeatable. Else 4, 16, 64.")
    ] = None
    only: Annotated[
        list[str] | None,
        Option(
            "--only",
            metavar="KIND",
            help="Takes part: majority, word_list, tfidf, frozen, nearest, zero_shot, few_shot, tuned; repeatable.",
        ),
    ] = None
    searches: Annotated[
        int, Option("--search", metavar="N", min=0, help="So many more settings of LoRA, proposed by optuna.")
    ] = 0

    def contest(self) -> Contest:
        """The same as a value. Raises `RequestError` for an unknown kind."""
        from pydantic import ValidationError

        from llmops.core.choice import Contest, Kind
        from llmops.core.errors import RequestError

        given = {
            "budget_s": 60 * self.budget,
            "margin": self.margin,
            "answers": self.answers,
            "train_rows": self.train_rows,
            "bases": tuple(self.base or ()),
            "searches": self.searches,
            "only": tuple(self.only or ()),
            **({"ranks": tuple(self.rank)} if self.rank else {}),
        }
        try:
            return Contest.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            raise RequestError(
                f"{first['input']!r} is none of the kinds of rows", f"one of: {', '.join(get_args(Kind))}"
            ) from error


def choose(
    recipe: Recipe,
    sets: Sets = None,
    terms: ContestOptions = ContestOptions(),
    session: FetchingSession = FetchingSession(),
) -> None:
    """Do I need a language model at all? Hold a tournament, and pick the cheapest row that is not worse than the best.

    Takes part: the commonest label, a word list, TF-IDF; on each base a linear model and nearest neighbours of its
    hidden states, zero-shot and few-shot prompts, prompt tuning, LoRA at several ranks (by successive halving, in what
    is left of the budget). A part of the training rows chooses, in the mix of sources and labels of the held-out rows,
    which judge once, at the end; what is fitted in a moment is tried on three such parts. A cost that nobody would
    notice is no reason: of rows that differ by less than a millisecond an answer and 100 MB the better is picked.
    Interrupted, the same command goes on.

    Example: llmops choose tone --budget 5 --base smollm2-135m-q4
    """
    contest = terms.contest()
    found = llmops.choose(find_recipe(recipe, sets or [], session.at), session.at, contest)
    session.show(found)
    session.say(f"page: {session.at.root / 'choices' / found.id / 'choice.html'}")


def forecast(
    recipe: Recipe,
    sets: Sets = None,
    rows: Annotated[
        int, Option("--rows", metavar="N", min=1, help="How many more training rows there might be.")
    ] = 500,
    session: FetchingSession = FetchingSession(),
) -> None:
    """Would more data help? Learn from ever larger parts of the training rows, and say what the next rows would add.

    The rows that cost little to make are learned several times from nested subsets; a power law through their scores on
    the held-out rows goes on from there, with a 90 % band. Where the band holds 0, it says "cannot tell".

    Example: llmops forecast tone --rows 1000
    """
    session.show(llmops.forecast(find_recipe(recipe, sets or [], session.at), session.at, rows))
