"""What llama.cpp is asked beyond plain text: constraints, chances, choices, and adapters of one base side by side."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from llmops.core.context import Surroundings
from llmops.core.dataset import Message
from llmops.core.errors import LlmopsError
from llmops.core.serving import Sampling
from llmops.lm.base import load_tokenizer
from llmops.lm.gguf import write_gguf
from llmops.lm.gguf_adapter import is_plain_lora, write_lora_gguf
from llmops.lm.render import Renderer
from llmops.serving.chat import stream_reply
from llmops.serving.classify import LabelReader
from llmops.serving.constraint import Constraint, constraint_of, json_fault, json_grammar
from llmops.serving.engine import Engine, Piece, Prompt
from llmops.serving.llamacpp import LlamaCppEngine
from llmops.serving.requests import RegexFormat, Tool
from llmops.serving.serve import Served, ServeSettings, running
from llmops.serving.tools import SPELLINGS
from llmops.store.ledger import Ledger
from tests.unit.serving_samples import TOKEN
from tests.unit.tiny_model import tiny_llama

HOT = Sampling(max_tokens=400, temperature=1.0, seed=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_llama(tmp_path_factory.mktemp("tiny"), spread=0.2)
    write_gguf(folder, folder / "tiny.gguf")
    for number, rank_stabilised in enumerate((False, True)):
        adapter(folder, folder / f"adapter-{number}", number, rank_stabilised)
        write_lora_gguf(folder, folder / f"adapter-{number}", folder / f"adapter-{number}.gguf")
    return folder


def adapter(base: Path, out: Path, seed: int, rank_stabilised: bool) -> None:
    """A LoRA of random factors, large enough to change every answer."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    config = LoraConfig(r=4, lora_alpha=8, target_modules=names, use_rslora=rank_stabilised)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    torch.manual_seed(seed)
    for name, value in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(value, std=0.2)
    model.save_pretrained(out)


@pytest.fixture(scope="module")
def renderer(folder: Path) -> Renderer:
    return Renderer(load_tokenizer(folder))


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[LlamaCppEngine]:
    paths = [folder / f"adapter-{number}.gguf" for number in range(2)]
    engine = LlamaCppEngine(folder / "tiny.gguf", threads=1, context_tokens=512, slots=4, adapters=paths)
    yield engine
    engine.close()


def said(engine: Engine, held: Constraint | None = None, likeliest: int | None = None) -> list[Piece]:
    async def through() -> list[Piece]:
        prompt = Prompt((1, 20, 30, 40), "", frozenset({2}), held, likeliest)
        return [piece async for piece in engine.stream(prompt, HOT)]

    return asyncio.run(through())


def text(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


SCHEMAS: list[dict[str, Any]] = [
    {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"enum": ["x", "y"]}}, "required": ["a", "b"]},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 3},
    {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
    {"const": {"a": [1, "two"]}},
    {"$ref": "#/$defs/t", "$defs": {"t": {"enum": ["deep"]}}},
    {"type": "string", "maxLength": 5, "pattern": "^\\d+$"},
    {"type": "integer", "minimum": 3, "maximum": 7},
]
PATTERNS = [
    "^[a-c]{3}/[0-9]{2}$",
    r"\d{3}-\w{2}[\s\d]x",
    "(?i)yes|no",
    r"[^\n]{2,5}!",
    'a"b',
    "(ab|cd){0,9}e",
    r"\p{L}{2}",
    "/",
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=range(len(SCHEMAS)))
def test_an_answer_keeps_to_its_schema(engine: LlamaCppEngine, schema: dict[str, Any]) -> None:
    closed = {**schema, "additionalProperties": False} if schema.get("type") == "object" else schema
    pieces = said(engine, Constraint(json_grammar(closed), {}, json_fault(closed)))
    assert pieces[-1].finish == "stop" and json_fault(closed)(text(pieces)) is None
    assert text(pieces) == json.dumps(json.loads(text(pieces)), ensure_ascii=False, separators=(",", ":"))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_an_answer_keeps_to_its_pattern(engine: LlamaCppEngine, pattern: str) -> None:
    held = constraint_of(RegexFormat(type="regex", pattern=pattern))
    assert held is not None
    pieces = said(engine, held)
    assert pieces[-1].finish == "stop" and held.fault(text(pieces)) is None


def test_the_engine_alone_lets_through_what_it_cannot_follow(engine: LlamaCppEngine) -> None:
    """The planted fault: this is why a schema is checked first, and an answer last."""
    schema = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}
    assert json_fault(schema)(text(said(engine, Constraint(json_grammar_unchecked(schema), {}, lambda _: None))))


def json_grammar_unchecked(schema: dict[str, Any]) -> str:
    return f"%llguidance {{}}\nstart: %json {json.dumps(schema)}"


def test_a_forced_call_is_a_call(engine: LlamaCppEngine) -> None:
    parameters = {
        "type": "object",
        "properties": {"c": {"enum": ["Oslo"]}},
        "required": ["c"],
        "additionalProperties": False,
    }
    one = Tool.model_validate({"type": "function", "function": {"name": "weather", "parameters": parameters}})
    for spelling in SPELLINGS.values():
        answer = text(said(engine, spelling.forced([one])))
        rest, (call,) = spelling.read(answer, ["weather"])
        assert rest == "" and json.loads(call["function"]["arguments"]) == {"c": "Oslo"}


def test_chances_and_choices_are_those_of_transformers(folder: Path, engine: LlamaCppEngine) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder.as_posix(), gguf_file="tiny.gguf", dtype=torch.float32)
    with torch.no_grad():
        theirs = model(torch.tensor([[1, 20, 30, 40]])).logits[0, -1].log_softmax(-1)
    first = said(engine, likeliest=20)[0].chances[0]
    assert len(first.likeliest) == 20
    best = theirs.topk(20).values.tolist()
    assert [one.logprob for one in first.likeliest] == pytest.approx(best, abs=0.1)  # it multiplies in 8 bits
    options = [50, 60, 2, 200]  # 2 ends an answer
    ours = asyncio.run(engine.choose([1, 20, 30, 40], options))
    assert sum(ours) == pytest.approx(1, abs=1e-3)
    assert ours == pytest.approx(theirs[options].softmax(-1).tolist(), abs=0.02)


def test_labels_that_begin_alike_are_parted_where_they_part(engine: LlamaCppEngine, renderer: Renderer) -> None:
    labels = ("the cat", "the dog", "the cat sat", "12")
    reader = LabelReader(engine, renderer, labels, lambda text: (Message(role="user", content=text),))
    chances = asyncio.run(reader.chances("the mat", reader.ids("the mat")))
    assert sum(chances) == pytest.approx(1, abs=1e-3) and min(chances) > 0


def ask(engine: Engine, renderer: Renderer, words: str) -> str:
    return "".join(stream_reply(engine, renderer, [Message(role="user", content=words)], Sampling(max_tokens=24)))


def next_tokens(engine: Engine, renderer: Renderer) -> list[list[float]]:
    """The chances of every token after eight questions."""
    asked = [renderer.prompt_ids([Message(role="user", content=f"question {one}")]) for one in range(8)]
    return [asyncio.run(engine.choose(ids, range(130, 384))) for ids in asked]


def test_an_adapter_beside_its_base_answers_as_it_does_merged(
    folder: Path, engine: LlamaCppEngine, renderer: Renderer, tmp_path: Path
) -> None:
    from llmops.lm.adapters import merge

    for number in range(2):
        merge(folder, folder / f"adapter-{number}", tmp_path / str(number))
        write_gguf(tmp_path / str(number), tmp_path / f"{number}.gguf")
        merged = LlamaCppEngine(tmp_path / f"{number}.gguf", threads=1, context_tokens=512, slots=4)
        theirs = next_tokens(merged, renderer)
        merged.close()
        beside, without = next_tokens(engine.adapter(number), renderer), next_tokens(engine, renderer)
        assert max(map(_distance, beside, theirs)) < 0.05, "the adapter at work"
        assert min(map(_distance, without, theirs)) > 0.5, "the base alone, the planted fault"


def _distance(ours: list[float], theirs: list[float]) -> float:
    """Kullback-Leibler divergence in nats."""
    return sum(t * math.log(t / max(o, 1e-9)) for o, t in zip(ours, theirs, strict=True) if t > 0)


def test_versions_on_one_base_asked_at_once_never_mix(
    engine: LlamaCppEngine, renderer: Renderer, tmp_path: Path
) -> None:
    served = [
        Served("a:1", (), engine.adapter(0), renderer),
        Served("b:1", (), engine.adapter(1), renderer),
        Served("base", (), engine, renderer),
    ]
    names = [one.version for one in served] * 10
    alone = [ask(one.engine, renderer, f"q {number // 3}") for number, one in enumerate(served * 10)]
    assert len(set(alone[:3])) == 3
    ledger = Ledger(f"sqlite:///{tmp_path / 'l.db'}")
    with running(served, ledger, ServeSettings(token=TOKEN), Surroundings()) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key=TOKEN, max_retries=0)

        def put(number: int) -> str:
            words = [{"role": "user", "content": f"q {number // 3}"}]
            answer = client.chat.completions.create(model=names[number], messages=words, max_tokens=24)  # type: ignore[arg-type]
            return answer.choices[0].message.content or ""

        with ThreadPoolExecutor(15) as pool:
            together = list(pool.map(put, range(30)))
    assert together == alone


def test_what_is_no_plain_lora_is_refused(folder: Path, tmp_path: Path) -> None:
    assert is_plain_lora(folder / "adapter-0") and not is_plain_lora(folder)
    config = json.loads((folder / "adapter-0" / "adapter_config.json").read_text())
    for odd in ({"use_dora": True}, {"peft_type": "IA3"}, {"rank_pattern": {"q_proj": 2}}):
        (tmp_path / "adapter_config.json").write_text(json.dumps({**config, **odd}))
        with pytest.raises(LlmopsError, match="no plain LoRA"):
            write_lora_gguf(folder, tmp_path, tmp_path / "out.gguf")
    with pytest.raises(LlmopsError, match="no adapter file"):
        LlamaCppEngine(folder / "tiny.gguf", 1, 128, 1, [tmp_path / "none.gguf"])
