"""The fast decoder: what transformers computes row by row, forward and backward, within rounding."""

from __future__ import annotations

import random
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from llmops.core.errors import LlmopsError
from llmops.core.method import DoRA, LoRA, Method
from llmops.core.plan import Machine
from llmops.lm import fast
from llmops.lm.fast import families, head, kernels, spans
from llmops.lm.fast.plain import Plain, Turn
from llmops.lm.fast.room import Lender
from llmops.lm.pack import Pack, hidden_states, logits_of, pack_rows, token_logprobs
from llmops.planning.decoder import decoder_for

KINDS = ("plain", "compiled")
SIZES = {
    "vocab_size": 128, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 256, "pad_token_id": 0,
    "attn_implementation": "eager", "initializer_range": 0.15,
}  # fmt: skip


@pytest.fixture(autouse=True)
def compiler(request: pytest.FixtureRequest) -> None:
    if "compiled" in request.node.name and not kernels.working_compiler():
        pytest.skip("no C compiler here")


def bare(family: str, dtype: torch.dtype = torch.float32) -> Any:
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    if family == "llama":
        model: Any = LlamaForCausalLM(LlamaConfig(**SIZES))
    else:
        kinds = ["sliding_attention", "full_attention", "sliding_attention"]
        model = Gemma3ForCausalLM(
            Gemma3TextConfig(**SIZES, sliding_window=8, query_pre_attn_scalar=16, layer_types=kinds)
        )
    for name, weight in model.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(weight, 1.0 if family == "llama" else 0.0, 0.3)
    return model.to(dtype).eval().requires_grad_(False)


def adapted(family: str, dtype: torch.dtype = torch.float32, **choices: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    choices = {"r": 3, "lora_alpha": 6, "target_modules": "all-linear", "init_lora_weights": False, **choices}
    return get_peft_model(bare(family, dtype), LoraConfig(**choices))


@pytest.fixture(scope="module")
def pack() -> Pack:
    """Rows of several lengths, some with a common beginning, one wholly inside another."""
    rng = random.Random(1)
    rows = [[rng.randrange(128) for _ in range(size)] for size in (5, 30, 12, 40, 33)]
    rows += [rows[3][:20] + rows[1][:7], rows[3][:20] + rows[2], rows[3][:10]]
    (found,) = pack_rows(rows, 10_000)
    return found


@pytest.fixture(scope="module")
def apart() -> Pack:
    """Rows that share nothing and are no longer than a block, so that each key is in one block only."""
    rng = random.Random(2)
    (found,) = pack_rows([[first, *(rng.randrange(128) for _ in range(6 + first))] for first in range(10)], 10_000)
    return found


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of 40 tokens are cut into blocks here, as rows of a thousand are in earnest."""
    for cut in (spans.groups_of, spans.blocks_of):
        monkeypatch.setattr(cut, "__defaults__", (16,))


def row_by_row(model: Any, pack: Pack) -> Tensor:
    """The hidden states TD that transformers computes for each row alone."""
    found: dict[int, Tensor] = {}
    for path in pack.paths:
        ids = torch.tensor([[pack.ids[place] for place in path]])
        hidden_TD = model.get_base_model().get_decoder()(input_ids=ids, use_cache=False).last_hidden_state[0]
        for place, hidden_D in zip(path, hidden_TD, strict=True):
            found.setdefault(place, hidden_D)
    return torch.stack([found[place] for place in range(len(pack.ids))])


def slopes(model: Any, compute: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    """Hidden states, and the gradients of all factors of their product with fixed noise, in one vector."""
    model.zero_grad()
    hidden_TD = compute()
    noise_TD = torch.randn(hidden_TD.shape, generator=torch.Generator().manual_seed(0))
    (hidden_TD.float() * noise_TD).sum().backward()
    return hidden_TD.detach().float(), torch.cat([w.grad.flatten() for w in model.parameters() if w.requires_grad])


def off(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_hidden_states_and_gradients_are_those_of_rows_one_by_one(family: str, kind: str, pack: Pack) -> None:
    model = adapted(family)
    theirs = slopes(model, lambda: row_by_row(model, pack))
    fast.equip(model, kind)
    ours = slopes(model, lambda: hidden_states(model, pack, "cpu"))
    assert off(ours[0], theirs[0]) < 1e-5 and off(ours[1], theirs[1]) < 2e-5


def test_a_token_that_sees_one_of_another_row_is_noticed(pack: Pack) -> None:
    model = adapted("llama")
    theirs = slopes(model, lambda: row_by_row(model, pack))
    fast.equip(model, "plain")
    leaky = Pack(pack.rows, pack.ids, pack.positions, [*pack.paths[:-1], [pack.paths[0][0], *pack.paths[-1]]])
    ours = slopes(model, lambda: hidden_states(model, leaky, "cpu"))
    assert off(ours[0], theirs[0]) > 1e-3 and off(ours[1], theirs[1]) > 1e-3


@pytest.mark.parametrize("rows", ["pack", "apart"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_in_bfloat16_it_is_no_further_from_float32_than_transformers(
    family: str, kind: str, rows: str, request: pytest.FixtureRequest
) -> None:
    pack = request.getfixturevalue(rows)
    exact_model, model = adapted(family), adapted(family, torch.bfloat16)
    exact_model.load_state_dict({name: weight.float() for name, weight in model.state_dict().items()})
    exact = slopes(exact_model, lambda: row_by_row(exact_model, pack))
    theirs = slopes(model, lambda: row_by_row(model, pack))
    fast.equip(model, kind)
    ours = slopes(model, lambda: hidden_states(model, pack, "cpu"))
    for mine, their, right in zip(ours, theirs, exact, strict=True):
        assert off(mine, right) < 1.25 * off(their, right)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_pack_gives_the_same_bits_and_keeping_little_too(kind: str, pack: Pack) -> None:
    model = fast.equip(adapted("llama", torch.bfloat16), kind)
    first, again = (slopes(model, lambda: hidden_states(model, pack, "cpu")) for _ in range(2))
    model.get_base_model().gradient_checkpointing_enable()
    lean = slopes(model, lambda: hidden_states(model, pack, "cpu"))
    assert torch.equal(first[1], again[1]) and torch.equal(first[1], lean[1]) and torch.equal(first[0], lean[0])


def test_compiled_passes_may_have_other_threads_forward_than_back(pack: Pack) -> None:
    model, before = fast.equip(adapted("llama", torch.bfloat16), "compiled"), torch.get_num_threads()

    def forward_on(threads: int) -> Tensor:
        torch.set_num_threads(threads)
        hidden_TD = hidden_states(model, pack, "cpu")
        torch.set_num_threads(3 - threads)
        return hidden_TD

    try:
        one, two = (slopes(model, partial(forward_on, threads)) for threads in (1, 2))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])


@pytest.mark.parametrize("kind", KINDS)
def test_packs_that_wait_for_their_backward_pass_do_not_share_memory(kind: str, pack: Pack) -> None:
    model = fast.equip(adapted("llama", torch.bfloat16), kind)
    alone = slopes(model, lambda: hidden_states(model, pack, "cpu"))
    waiting = hidden_states(model, pack, "cpu")
    hidden_states(model, Pack(ids=[5] * 90, positions=list(range(90))), "cpu").sum().backward()
    assert all(torch.equal(a, b) for a, b in zip(slopes(model, lambda: waiting), alone, strict=True))


def test_memory_is_lent_to_one_pack_at_a_time_and_then_again() -> None:
    lender = Lender(torch.bfloat16)
    first, second = lender.lend(100, 100), lender.lend(100, 100)
    assert first is not second
    one, other = first.kept.take(3, 5), first.kept.take(1, 4)
    one.fill_(1), other.fill_(2)
    assert bool((one == 1).all()) and other.data_ptr() % 64 == 0
    assert first.kept.take(10, 10).shape == (10, 10), "what does not fit is allocated by itself"
    first.give_back()
    assert lender.lend(90, 100) is first and first.kept.used == 0
    first.give_back()
    assert lender.lend(150, 100) is first, "there is room to spare, of which no page is touched"
    first.give_back()
    assert len(lender.lend(201, 100).kept.memory) == 402


def test_a_loss_that_is_still_at_hand_keeps_no_room(pack: Pack) -> None:
    model = fast.equip(adapted("llama"), "plain")
    total = hidden_states(model, pack, "cpu").sum()
    total.backward()
    lender = fast.fast_head(model.get_base_model()).lender
    (home,) = lender.free
    room = weakref.ref(home.kept)
    size = len(home.kept.memory)
    del home
    assert room() is not None
    lender.lend(size + 1, 1)
    assert room() is None and total.isfinite()


def test_one_forward_pass_is_gone_back_through_once(pack: Pack) -> None:
    model = fast.equip(adapted("llama"), "plain")
    total = hidden_states(model, pack, "cpu").sum()
    total.backward(retain_graph=True)
    with pytest.raises(LlmopsError, match="already"):
        total.backward()


def test_an_adapter_that_is_switched_off_has_no_effect(pack: Pack) -> None:
    model = fast.equip(adapted("llama"), "plain")
    with torch.no_grad(), model.disable_adapter():
        assert off(hidden_states(model, pack, "cpu"), row_by_row(model, pack)) < 1e-5
    with torch.no_grad():
        assert off(hidden_states(model, pack, "cpu"), row_by_row(model, pack)) < 1e-5


def merged(model: Any) -> Any:
    model.merge_adapter()
    return model


def replaced(model: Any) -> Any:
    layer = model.get_base_model().get_decoder().layers[1].mlp.down_proj.base_layer
    layer.weight.data = layer.weight.data * 2
    return model


@pytest.mark.parametrize("change", [merged, replaced])
def test_weights_that_changed_under_it_are_noticed(change: Callable[[Any], Any], pack: Pack) -> None:
    model = change(fast.equip(adapted("llama"), "plain"))
    assert fast.fast_decoder(model.get_base_model()) is None
    with torch.no_grad():
        assert off(hidden_states(model, pack, "cpu"), row_by_row(model, pack)) < 1e-4


@pytest.mark.parametrize("choices", [{"use_dora": True}, {"lora_dropout": 0.1}, {"target_modules": ["embed_tokens"]}])
def test_what_only_transformers_knows_is_left_to_it(choices: dict[str, Any]) -> None:
    model = fast.equip(adapted("llama", **choices), "plain")
    assert fast.fast_decoder(model.get_base_model()) is None


def test_weights_that_are_trained_themselves_are_left_to_transformers() -> None:
    model = fast.equip(bare("llama").requires_grad_(True), "plain")
    assert fast.fast_decoder(model) is None


def test_some_layers_may_carry_an_adapter_and_others_none(pack: Pack) -> None:
    model = adapted("llama", target_modules=["k_proj", "down_proj"])
    theirs = slopes(model, lambda: row_by_row(model, pack))
    fast.equip(model, "plain")
    ours = slopes(model, lambda: hidden_states(model, pack, "cpu"))
    assert off(ours[0], theirs[0]) < 1e-5 and off(ours[1], theirs[1]) < 2e-5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cap", [None, 3.0])
def test_log_probabilities_in_chunks_are_those_of_all_logits(
    kind: str, cap: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "CHUNK_BYTES", 3 * 128 * 4)
    model = fast.equip(bare("gemma3"), kind)
    model.config.final_logit_softcapping = cap
    torch.manual_seed(0)
    hidden_ND = torch.randn(11, 32, requires_grad=True)
    targets_N, weights_N = torch.randint(0, 128, (11,)), torch.randn(11)
    theirs_N = logits_of(model, hidden_ND).log_softmax(-1).gather(1, targets_N[:, None])[:, 0]
    (theirs,) = torch.autograd.grad((theirs_N * weights_N).sum(), hidden_ND)
    ours_N = token_logprobs(model, hidden_ND, targets_N)
    (ours,) = torch.autograd.grad((ours_N * weights_N).sum(), hidden_ND)
    assert off(ours_N.detach(), theirs_N.detach()) < 1e-5 and off(ours, theirs) < 1e-5


def passes_over(passes: Plain, dtype: torch.dtype, spoil: bool = False) -> dict[str, Tensor]:
    """What each pass makes of the same numbers; with `spoil`, of numbers with a NaN among them."""
    torch.manual_seed(3)
    x, dy, gu, heads = (torch.randn(size).to(dtype) for size in ((7, 40), (7, 40), (7, 80), (7, 3, 16)))
    if spoil:
        for tensor in (x, gu, heads):
            tensor.view(-1)[5] = float("nan")
    w, turn = torch.randn(40), Turn(torch.randn(7, 8), torch.randn(7, 8))
    places, counts = torch.tensor([[0, 0, 1, 2], [3, 4, 5, 6]]), torch.tensor([3, 4], dtype=torch.int32)
    found = {"norm": torch.empty(7, 60, dtype=dtype)[:, :40], "norm_backward": dy.clone()}
    passes.norm(x, w, 1e-5, found["norm"])
    passes.norm_backward(x, w, 1e-5, dy, found["norm_backward"], True)
    for gelu in (False, True):
        found[f"gate {gelu}"], found[f"again {gelu}"] = (torch.empty(7, 40, dtype=dtype) for _ in range(2))
        found[f"gate_backward {gelu}"] = gu.clone()
        passes.gate(gu, found[f"gate {gelu}"], gelu)
        passes.gate_backward(found[f"gate_backward {gelu}"], dy, found[f"again {gelu}"], gelu)
    found["spread"] = passes.spread(heads, places, counts, turn, 0.5)
    found["collect"], found["total"] = torch.zeros(7, 3, 16, dtype=dtype), torch.zeros(7, 3, 16)
    passes.collect(found["spread"], places, counts, turn, 0.5, found["collect"])
    passes.accumulate(found["spread"], places, counts, found["total"])
    found["settle"] = torch.empty(7, 3, 16, dtype=dtype)
    passes.settle(found["total"], turn, found["settle"])
    found["scores"] = found["spread"] @ found["spread"].transpose(-1, -2)
    found["slope"] = torch.randn(found["scores"].shape).to(dtype)
    passes.softmax(found["scores"], counts, 3)
    passes.softmax_backward(found["scores"], found["slope"], counts, 3)
    found["logits"] = gu.clone()
    found["log_share"] = passes.log_share(found["logits"], torch.arange(7), 2.0)
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_each_compiled_pass_is_the_one_in_torch_within_rounding(dtype: torch.dtype) -> None:
    rounding = 1e-6 if dtype is torch.float32 else 2**-7
    ours, plain = passes_over(kernels.Compiled(dtype), dtype), passes_over(Plain(), dtype)
    for name, right in plain.items():
        torch.testing.assert_close(ours[name].float(), right.float(), rtol=rounding, atol=4 * rounding, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_no_pass_loses_a_nan(kind: str) -> None:
    found = passes_over(kernels.passes_of(kind, torch.bfloat16), torch.bfloat16, spoil=True)
    silent = {name for name, tensor in found.items() if not tensor.isnan().any()}
    assert not silent


def test_the_families_that_are_named_are_those_that_are_known() -> None:
    assert set(fast.FAMILIES) == set(families.FAMILIES)


@pytest.mark.parametrize(
    ("method", "family", "compiled_by", "on_cpu", "decoder"),
    [
        (LoRA(), "llama", "cc", True, "compiled"),
        (LoRA(), "gemma3_text", "", True, "plain"),
        (LoRA(), "qwen2", "cc", True, "transformers"),
        (LoRA(), "llama", "cc", False, "transformers"),
        (LoRA(dropout=0.1), "llama", "cc", True, "transformers"),
        (DoRA(), "llama", "cc", True, "transformers"),
    ],
)
def test_a_plan_names_the_decoder_with_its_reason(
    method: Method, family: str, compiled_by: str, on_cpu: bool, decoder: str
) -> None:
    machine = Machine(
        processor="p", cores=2, memory_bytes=1, free_bytes=1, device="cpu", float32_flops=1, bfloat16_flops=1,
        compiler=compiled_by,
    )  # fmt: skip
    found, because = decoder_for(method, machine, family, on_cpu)
    assert found == decoder and because


@pytest.mark.parametrize("cap", [0.0, 30.0])
def test_log_probabilities_in_bfloat16_are_as_fine_as_their_states(cap: float) -> None:
    draw = torch.Generator().manual_seed(0)
    words_VD = torch.randn(500, 64, generator=draw).bfloat16()
    hidden_UD = (3 * torch.randn(40, 64, generator=draw)).bfloat16()
    hidden_UD[0] = 2 * words_VD[7]  # as good as certain of one word
    places, targets = torch.arange(40).repeat_interleave(3), torch.randint(0, 500, (120,), generator=draw)
    targets[0] = targets[2] = 7  # asked for twice
    logits_UV = hidden_UD.double() @ words_VD.double().T  # up to 100: bfloat16 tells them apart in steps of a half
    expected = (cap * (logits_UV / cap).tanh() if cap else logits_UV).log_softmax(-1)[places, targets]
    found = head.shared_logprobs(head.Vocabulary(Plain(), words_VD, cap), hidden_UD, places, targets)
    assert found.max() <= 1e-6 and (found[0] - expected[0]).abs() < 1e-3
    # Between the words of a place nothing is left of the steps; the other words keep theirs in the total.
    gaps, right = ((one.view(40, 3) - one.view(40, 3)[:, :1]) for one in (found, expected))
    assert (gaps - right).abs().max() < 0.01
