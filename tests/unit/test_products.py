"""Products in C, and weights that stay in their file: the same numbers as torch's, with less memory."""

from __future__ import annotations

import itertools
import json
import mmap
from pathlib import Path
from typing import Any

import pytest
import torch

from llmops.core.context import silent
from llmops.lm import likelihood
from llmops.lm.adapters import CONFIG, load_in_place
from llmops.lm.base import load_weights
from llmops.lm.fast import equip, fast_decoder, kernels
from llmops.lm.fast.decoder import Decoder
from llmops.lm.fast.frozen import Frozen
from llmops.lm.fast.head import Vocabulary, shared_logprobs
from llmops.lm.fast.plain import Plain
from llmops.lm.likelihood import end_logprobs
from llmops.lm.mapped import Lying, lying_of, map_weights
from llmops.lm.model import LocalModel
from llmops.lm.stage import LocalSpeaker, rounded
from tests.unit.test_likelihood import apart, questions


def able(dtype: torch.dtype, ability: str, otherwise: str) -> kernels.Compiled:
    """The kernels of one type of numbers, where they can do what is tested."""
    if not kernels.working_compiler():
        pytest.skip("no C compiler here")
    made = kernels.Compiled(dtype)
    if not getattr(made, ability):
        pytest.skip(otherwise)
    return made


@pytest.fixture(scope="module")
def compiled() -> kernels.Compiled:
    return able(torch.float32, "faster", "torch's own products are the ones to use on this processor")


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(96, 5, 3), (101, 20, 70), (200, 800, 64), (131, 1601, 130)])
def test_a_product_is_that_of_torch_whatever_its_sides(
    compiled: kernels.Compiled, rows: int, inputs: int, outputs: int
) -> None:
    x, weight, onto = drawn(rows, inputs), drawn(outputs, inputs), drawn(rows, outputs)
    # Columns of a wider matrix, as q, k and v are: what stands beside them is not touched.
    wide, ours = torch.zeros(rows, outputs + 7), torch.empty(rows, outputs)
    compiled.product(x, weight, wide[:, 3 : 3 + outputs])
    compiled.product(x, weight, ours, onto)
    expected = x.double() @ weight.double().T
    assert (wide[:, 3 : 3 + outputs] - expected).abs().max() < 2e-6 * inputs
    assert (ours - expected - onto).abs().max() < 2e-6 * inputs
    assert not wide[:, :3].any() and not wide[:, -4:].any()


@pytest.mark.parametrize("cap", [0.0, 2.0])
@pytest.mark.parametrize(("states", "inputs", "words"), [(7, 40, 130), (520, 900, 9000)])
def test_log_probabilities_are_those_of_all_logits(
    compiled: kernels.Compiled, states: int, inputs: int, words: int, cap: float
) -> None:
    hidden, head = drawn(states, inputs) / inputs**0.5, drawn(words, inputs) * 3
    targets = torch.arange(3 * states) % words
    places = torch.arange(states).repeat_interleave(3)
    logits = hidden @ head.T
    expected = (cap * (logits / cap).tanh() if cap else logits).log_softmax(-1)[places, targets]
    found = shared_logprobs(Vocabulary(compiled, head, cap), hidden, places, targets)
    assert (found - expected).abs().max() < 1e-4
    hidden[3, 0] = torch.nan
    found = shared_logprobs(Vocabulary(compiled, head, cap), hidden, places, targets)
    assert found.isnan().tolist() == (places == 3).tolist()


def test_the_same_log_probabilities_every_time(compiled: kernels.Compiled) -> None:
    hidden, head = drawn(50, 64), drawn(3000, 64)
    places = torch.arange(50)
    runs = [shared_logprobs(Vocabulary(compiled, head, 0.0), hidden, places, places) for _ in range(5)]
    assert all(torch.equal(one, other) for one, other in itertools.pairwise(runs))


def test_weights_apart_give_what_weights_together_give() -> None:
    layers = [torch.nn.Linear(24, width, bias=False).requires_grad_(False) for width in (16, 8, 8)]
    x, dy = drawn(9, 24), drawn(9, 32)
    together = Frozen(layers, Plain())
    apart_ = Frozen(layers, Plain())
    apart_.parts = [(layer.weight.detach(), rows) for layer, rows in zip(layers, apart_.rows, strict=True)]
    for made in (together, apart_):
        y, dx = torch.empty(9, 32), torch.empty(9, 24)
        made.forward(x, y)
        made.backward(dy, dx)
        assert torch.allclose(y, torch.cat([layer(x) for layer in layers], 1), atol=1e-6)
        assert torch.allclose(dx, dy @ torch.cat([layer.weight for layer in layers]), atol=1e-5)


def test_weights_lie_in_their_file_and_are_what_they_were(tiny_base: Path) -> None:
    plain, mapped = load_weights(tiny_base), map_weights(load_weights(tiny_base), tiny_base)
    for (name, one), other in zip(plain.named_parameters(), mapped.parameters(), strict=True):
        assert lying_of(other) is not None, name
        assert torch.equal(one, other)
    decoder = equip(mapped, "plain").__dict__["_llmops_fast"]
    assert all(fused.frozen.lying for block in decoder.stack.blocks for fused in block.fused())
    assert decoder.fits()


def test_another_precision_is_a_copy(tiny_base: Path) -> None:
    halved = map_weights(load_weights(tiny_base, "bfloat16"), tiny_base)
    assert not any(lying_of(weight) for weight in halved.parameters())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_model_opened_in_place_is_the_one_that_transformers_loads(tiny_base: Path, precision: str) -> None:
    opened, loaded = load_in_place(tiny_base, None, precision, "cpu"), load_weights(tiny_base, precision)
    ids = torch.arange(3, 40)[None]
    assert opened.dtype == loaded.dtype and opened.config.dtype == loaded.config.dtype
    assert torch.equal(opened(ids).logits, loaded(ids).logits)
    assert all((lying_of(weight) is not None) == (precision == "float32") for weight in opened.parameters())


@pytest.mark.parametrize(("start", "stays"), [(True, True), ("pissa", False), ("olora", False)])
def test_an_adapter_that_takes_from_its_base_has_a_copy_of_it(
    start: Any, stays: bool, tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / CONFIG).write_text(json.dumps({"init_lora_weights": start}))
    monkeypatch.setattr("llmops.lm.adapters.load_adapter", lambda weights, folder: weights)
    opened = load_in_place(tiny_base, tmp_path, "float32", "cpu")
    assert all((lying_of(weight) is not None) == stays for weight in opened.parameters())


@pytest.mark.parametrize("kind", ["plain", "compiled"])
@pytest.mark.parametrize("shared", [0, 40])
def test_a_sparing_pass_lets_every_layer_go_and_finds_the_same(
    kind: str, shared: int, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "compiled" and not kernels.working_compiler():
        pytest.skip("no C compiler here")
    monkeypatch.setattr(likelihood, "pack_tokens", lambda device: 90)
    ends = questions(shared)
    expected = end_logprobs(equip(load_weights(tiny_base), kind), ends, "cpu", silent, "scoring")
    gone: list[int] = []
    real = Lying.let_go
    monkeypatch.setattr(Lying, "let_go", lambda self: (gone.append(self.start), real(self)))
    model = equip(map_weights(load_weights(tiny_base), tiny_base), kind)
    monkeypatch.setattr(likelihood, "SPARING_TOKENS", 10**9)
    assert apart(end_logprobs(model, ends, "cpu", silent, "scoring"), expected) < 1e-5
    assert not gone
    monkeypatch.setattr(likelihood, "SPARING_TOKENS", 1)
    assert apart(end_logprobs(model, ends, "cpu", silent, "scoring"), expected) < 1e-5
    layers = [layer.weight for block in decoder_of(model).stack.layers for group in block for layer in group]
    assert {lying_of(weight).start for weight in layers} <= set(gone)  # type: ignore[union-attr]


def decoder_of(model: Any) -> Decoder:
    found: Decoder = model.__dict__["_llmops_fast"]
    return found


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux says what is resident")
def test_pages_that_were_let_go_are_not_in_memory_and_come_back(tmp_path: Path) -> None:
    path = tmp_path / "numbers"
    path.write_bytes(bytes(range(256)) * 4096)
    with path.open("rb") as file:
        pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    numbers = torch.frombuffer(bytearray(8), dtype=torch.uint8)  # torch before it measures
    assert sum(pages[:: mmap.PAGESIZE]) == 0 and len(numbers) == 8
    assert resident(path) >= len(pages) // 2
    Lying(pages, 5000, len(pages) - 5000).let_go()
    assert resident(path) <= 2 * mmap.PAGESIZE
    assert pages[70_001] == 70_001 % 256


def resident(path: Path) -> int:
    """Bytes of a mapped file that are in this process's memory."""
    text = Path("/proc/self/smaps").read_text()
    about = text[text.index(str(path)) :]
    return int(next(line for line in about.splitlines() if line.startswith("Rss:")).split()[1]) * 1024


def test_weights_in_a_file_are_exchanged_where_they_are_rounded_not_written_to(tiny_base: Path) -> None:
    model = LocalModel.open(tiny_base, None, "float32", "cpu", "base", 1)
    before = [weight.clone() for weight in model.weights.parameters()]
    assert all(lying_of(weight) for weight in model.weights.parameters())
    rounded(LocalSpeaker(model), "q8_0")
    for was, weight in zip(before, model.weights.parameters(), strict=True):
        assert (
            torch.equal(was, weight) if weight.ndim == 1 else lying_of(weight) is None and not torch.equal(was, weight)
        )
    assert fast_decoder(model.weights) is not None
