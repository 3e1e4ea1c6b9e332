"""The other half of `VllmEngine`: vLLM stepping in an environment of its own, by whose Python this file is run.

It needs vLLM and the standard library, nothing of llmops. `python vllm_host.py MODEL CONTEXT_TOKENS SLOTS` says
`{"ready": true}` once it answers. A line in is a question, `{"ask": ID, "ids": [...], ...}`, or the end of one,
`{"leave": ID}`; a line out is what one step added to each answer, `{"ID": {"text", "tokens", "ended", "chances"}}`, or
`{"ID": {"error": WHY}}`. It ends with its input, whatever it is at, and says everything else on its standard error.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import traceback
from collections.abc import Iterator
from importlib import import_module
from typing import Any

Json = dict[str, Any]
MOST_TOLD = 64
SHARP = 16  # logits of a place that are worked out in float32


def lines_in() -> queue.SimpleQueue[str]:
    """The lines of the standard input as they come. Behind the last one this process ends."""
    found: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            found.put(line)
        os._exit(0)  # vLLM's own end waits for what nobody reads any more, and loading takes a minute

    threading.Thread(target=read, daemon=True).start()
    return found


def open_engine(model: str, context_tokens: int, slots: int) -> Any:
    """vLLM on a folder of safetensors, in this process: what it computes and what it says take turns on the cores."""
    asked = import_module("vllm.engine.arg_utils").EngineArgs(
        model=model,
        dtype="bfloat16",
        max_model_len=context_tokens,
        max_num_seqs=slots,
        max_logprobs=MOST_TOLD,
        # Prompts of one task begin alike; what they share is computed once, in whole blocks (of 128 by default).
        block_size=32,
        structured_outputs_config={"backend": "guidance"},
        disable_log_stats=True,
    )
    mix(import_module("vllm.v1.sample.sampler").Sampler)
    engine = import_module("vllm.v1.engine.llm_engine").LLMEngine.from_engine_args(asked)
    engine.apply_model(sharpen)
    return engine


def sharpen(model: Any) -> None:
    """Work out the largest logits again in float32, from here on.

    In bfloat16 logits near 32 have steps of a quarter: of equal ones the first word of the vocabulary would be said.
    Left as they are where the head is no plain product of the last states with rows that can be read.
    """
    head, asked = getattr(model, "lm_head", None), getattr(model, "logits_processor", None)
    rows_VH = getattr(head, "weight", None)
    if asked is None or asked.soft_cap or asked.scale != 1.0:
        return
    if rows_VH is None or rows_VH.ndim != 2 or getattr(head, "bias", None) is not None:
        return
    rough = model.compute_logits

    def compute_logits(states_BH: Any) -> Any:
        logits_BV = rough(states_BH)
        if logits_BV is None or states_BH.shape[-1] != rows_VH.shape[1]:
            return logits_BV
        logits_BV = logits_BV.float()
        best_BK = logits_BV.topk(SHARP, sorted=False).indices
        sharp_BK1 = rows_VH[best_BK].float() @ states_BH.float()[:, :, None]
        return logits_BV.scatter_(1, best_BK, sharp_BK1[:, :, 0])

    model.compute_logits = compute_logits


def mix(sampler: Any) -> None:
    """Let who names options and who is told the likeliest be answered in one step, from here on.

    vLLM 0.32 tells nobody the likeliest in a step in which anybody named options: so there all others name theirs.
    """
    rough = sampler.gather_specific_token_logprobs

    def gather_specific_token_logprobs(self: Any, nats_BV: Any, named: dict[int, list[int]], sampled_B: Any) -> Any:
        others = [row for row in range(len(nats_BV)) if row not in named]
        if named and others:
            best = nats_BV[others].topk(MOST_TOLD).indices.tolist()
            named = {**named, **dict(zip(others, best, strict=True))}
        return rough(self, nats_BV, named, sampled_B)

    sampler.gather_specific_token_logprobs = gather_specific_token_logprobs


def sampling(asked: Json) -> Any:
    """A question's own words as vLLM's."""
    vllm = import_module("vllm.sampling_params")
    return vllm.SamplingParams(
        temperature=asked["temperature"],
        top_p=asked["top_p"],
        seed=asked["seed"],
        max_tokens=asked["max_tokens"],
        stop=asked["stop"],
        stop_token_ids=asked["end_ids"],
        logprobs=asked["likeliest"],
        logprob_token_ids=asked.get("options"),
        structured_outputs=vllm.StructuredOutputsParams(grammar=asked["grammar"]) if asked["grammar"] else None,
        output_kind=vllm.RequestOutputKind.DELTA,
    )


def said(output: Any) -> Json:
    """What one step added to one answer."""
    one = output.outputs[0]
    found: Json = {"text": one.text, "tokens": list(one.token_ids), "ended": one.finish_reason}
    if one.logprobs:
        found["chances"] = [
            [[token, chance.decoded_token or "", chance.logprob] for token, chance in place.items()]
            for place in one.logprobs
        ]
    return found


def waiting(lines: queue.SimpleQueue[str], busy: bool) -> Iterator[str]:
    """The lines that have come; where there is nothing else to do, at least one."""
    if not busy:
        yield lines.get()
    while not lines.empty():
        yield lines.get()


def main() -> None:
    """Answer until the input ends."""
    model, context_tokens, slots = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    # What vLLM and its libraries print goes to the standard error: the standard output is for answers.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lines = lines_in()
    engine = open_engine(model, context_tokens, slots)

    def tell(what: Json) -> None:
        out.write(json.dumps(what) + "\n")
        out.flush()

    tell({"ready": True})
    while True:
        for line in waiting(lines, engine.has_unfinished_requests()):
            asked = json.loads(line)
            if "leave" in asked:
                engine.abort_request([asked["leave"]])
                continue
            try:
                engine.add_request(asked["ask"], {"prompt_token_ids": asked["ids"]}, sampling(asked))
            except Exception as error:  # what one question cannot have is no other's business
                tell({asked["ask"]: {"error": str(error)}})
        found = {output.request_id: said(output) for output in engine.step() if output.outputs}
        if found:
            tell(found)


if __name__ == "__main__":
    try:
        main()
    except BaseException:
        traceback.print_exc()
        os._exit(1)  # whoever waits hears of it once this process is gone, and threads of vLLM may go on
