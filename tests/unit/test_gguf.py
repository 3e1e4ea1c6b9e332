"""GGUF: what is written reads back as the same model and the same tokens."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from llmops.core.errors import LlmopsError
from llmops.lm import gguf as ours
from tests.unit.tiny_model import tiny_llama


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("tiny"), spread=0.1)


@pytest.fixture(scope="module")
def written(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    ours.write_gguf(folder, out)
    return out


def divergence(folder: Path, gguf: Path) -> float:
    """Mean KL divergence in nats a token between the folder's model and the GGUF, read back by transformers."""
    import torch
    from transformers import AutoModelForCausalLM

    before = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    after = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    ids = torch.arange(3, 67)[None]
    with torch.no_grad():
        p, q = before(ids).logits.log_softmax(-1), after(ids).logits.log_softmax(-1)
    return float((p.exp() * (p - q)).sum(-1).mean())


def test_the_file_reads_back_as_the_same_model(folder: Path, written: Path) -> None:
    assert divergence(folder, written) < 1e-3


def test_fewer_bits_cost_more_and_make_a_smaller_file(folder: Path, tmp_path: Path) -> None:
    made = {}
    for kind in ours.KINDS:
        (tmp_path / kind).mkdir()
        ours.write_gguf(folder, tmp_path / kind / "tiny.gguf", kind)
        file = tmp_path / kind / "tiny.gguf"
        made[kind] = file.stat().st_size, divergence(folder, file)
    sizes, costs = zip(*made.values(), strict=True)
    assert sorted(sizes, reverse=True) == list(sizes)  # the table goes from many bits to few
    assert made["f16"][1] < made["q8_0"][1] < made["q5_1"][1] < made["q4_1"][1] < 0.1, costs
    assert made["f16"][1] < made["bf16"][1] < made["q5_0"][1] and made["bf16"][0] == made["f16"][0]
    assert made["q8_0"][1] < made["q5_0"][1] < made["q4_0"][1] < 0.1, costs


def test_embeddings_norms_and_odd_rows_keep_more_than_the_rest() -> None:
    kept = {
        ("model.layers.0.self_attn.q_proj.weight", (64, 64)): "Q4_0",
        ("model.embed_tokens.weight", (384, 64)): "Q8_0",
        ("lm_head.weight", (384, 64)): "Q8_0",
        ("model.norm.weight", (64,)): "F32",
        ("model.layers.0.mlp.down_proj.weight", (64, 100)): "F16",
    }
    assert {key: ours.weight_type(*key, "q4_0").name for key in kept} == kept
    for whole in ("f16", "bf16"):
        assert ours.weight_type("model.embed_tokens.weight", (384, 100), whole).name == whole.upper()


def test_a_model_whose_heads_are_not_reordered_is_noticed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llama = ours.FAMILIES["LlamaForCausalLM"]
    wrong = ours.Family(llama.arch, llama.add_numbers, llama.add_tokens, lambda _, value, __: value, False)
    monkeypatch.setitem(ours.FAMILIES, "LlamaForCausalLM", wrong)
    ours.write_gguf(folder, tmp_path / "wrong.gguf")
    assert divergence(folder, tmp_path / "wrong.gguf") > 1e-3


def test_tokens_types_ids_and_template_are_those_of_the_tokenizer(folder: Path, written: Path) -> None:
    from gguf import GGUFReader, TokenType
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    fields = GGUFReader(written).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    assert {text: tokens.index(text) for text in tokenizer.get_vocab()} == tokenizer.get_vocab()
    assert len(tokens) == 384
    assert set(types[:3]) == {TokenType.CONTROL}
    assert set(types[len(tokenizer) :]) == {TokenType.UNUSED}
    assert fields["tokenizer.ggml.eos_token_id"].contents() == tokenizer.eos_token_id
    assert fields["tokenizer.ggml.bos_token_id"].contents() == tokenizer.bos_token_id
    assert fields["tokenizer.chat_template"].contents() == tokenizer.chat_template
    merges = json.loads((folder / "tokenizer.json").read_text())["model"]["merges"]
    assert fields["tokenizer.ggml.merges"].contents() == [" ".join(pair) for pair in merges]
    assert fields["tokenizer.ggml.pre"].contents() == "gpt-2"


def test_the_same_folder_gives_the_same_bytes(folder: Path, written: Path, tmp_path: Path) -> None:
    ours.write_gguf(folder, tmp_path / "again.gguf")
    assert (tmp_path / "again.gguf").read_bytes() == written.read_bytes()


def copy_with(folder: Path, to: Path, file: str, **changes: object) -> Path:
    shutil.copytree(folder, to)
    data = json.loads((to / file).read_text())
    (to / file).write_text(json.dumps({**data, **changes}))
    return to


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("config.json", {"architectures": ["GPT2LMHeadModel"]}),
        ("config.json", {"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}),
        ("config.json", {"vocab_size": 100}),
        ("tokenizer.json", {"pre_tokenizer": {"type": "Whitespace"}}),
        ("tokenizer.json", {"normalizer": {"type": "Lowercase"}}),
        ("tokenizer.json", {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}]}}),
    ],
)
def test_what_gguf_cannot_say_is_refused_and_nothing_is_left_behind(
    folder: Path, tmp_path: Path, file: str, changes: dict[str, object]
) -> None:
    odd = copy_with(folder, tmp_path / "odd", file, **changes)
    with pytest.raises(LlmopsError):
        ours.write_gguf(odd, tmp_path / "out.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["odd"]


def test_a_model_with_a_tensor_that_gguf_does_not_know_is_refused(folder: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    odd = tmp_path / "odd"
    shutil.copytree(folder, odd)
    save_file({"model.surprise.weight": torch.zeros(32, 32)}, odd / "model-2.safetensors")
    with pytest.raises(LlmopsError, match="surprise"):
        ours.write_gguf(odd, tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()


def test_a_token_that_would_be_split_otherwise_is_spelt_smollm() -> None:
    digits = {"type": "Digits", "individual_digits": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    rule = {"type": "Sequence", "pretokenizers": [digits, byte_level]}
    assert ours._splitting_rule({"model": {"type": "BPE"}, "pre_tokenizer": rule}) == "smollm"


def test_a_normalizer_that_does_nothing_is_none() -> None:
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    nothing = {"type": "Sequence", "normalizers": []}
    tokenizer = {"model": {"type": "BPE"}, "pre_tokenizer": byte_level, "normalizer": nothing}
    assert ours._splitting_rule(tokenizer) == "gpt-2"
    lower = {"type": "Sequence", "normalizers": [nothing, {"type": "Lowercase"}]}
    with pytest.raises(LlmopsError, match="normalizer"):
        ours._splitting_rule({**tokenizer, "normalizer": lower})
