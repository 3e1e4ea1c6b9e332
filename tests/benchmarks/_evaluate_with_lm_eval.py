"""The other side of `evaluation.py`: EleutherAI's lm-eval with its `hf` model, in the environment of the peers.

Reads a job (JSON), asks every option of every question through `HFLM.loglikelihood`, and prints what it found. A job
without a batch size tries a few on a part of the questions, and prints the fastest: in a process of its own, so that
what the others held is not in the peak of the one that counts. Loading is not counted.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

BATCHES = (1, 4, 16)
TRIED = 0.2  # share of the questions that batch sizes are tried on


def main() -> None:
    """Run one job."""
    import torch
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    job: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(job["threads"])
    model = HFLM(pretrained=job["base"], dtype=job["precision"], device="cpu", batch_size=1)

    def ask(questions: list[Any], batch: int) -> tuple[float, float, list[list[float]]]:
        model.batch_size_per_gpu = batch
        pairs = [(text, option) for text, options in questions for option in options]
        made = [
            Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=place)
            for place, pair in enumerate(pairs)
        ]
        start, busy = time.perf_counter(), time.process_time()
        found = iter(model.loglikelihood(made, disable_tqdm=True))
        spent, worked = time.perf_counter() - start, time.process_time() - busy
        return spent, worked, [[next(found)[0] for _ in options] for _, options in questions]

    questions = job["questions"]
    ask(questions[:2], 1)
    if "batch" not in job:
        part = questions[-max(1, round(TRIED * len(questions))) :]
        tried = {batch: ask(part, batch)[0] for batch in BATCHES}
        print(json.dumps({"batch": min(tried, key=lambda batch: tried[batch])}))
        return
    seconds, cpu_seconds, nats = ask(questions, job["batch"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found = {"seconds": seconds, "cpu_seconds": cpu_seconds, "nats": nats, "peak_bytes": peak, "batch": job["batch"]}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
