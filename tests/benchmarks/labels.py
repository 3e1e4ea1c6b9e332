"""The time of a label through the endpoint, by the model in one forward pass and by a cheap row.

One question after the other. `python -m tests.benchmarks.labels` prints one JSON line each.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from pathlib import Path

from llmops.core.dataset import Message
from llmops.pipeline.engines import served
from llmops.serving.classify import CheapLabels, LabelReader
from llmops.serving.engine import ClassifierEngine
from llmops.serving.prove_site import TOKEN, Line, endpoint
from llmops.serving.serve import Served as Version
from llmops.serving.serve import ServeSettings
from llmops.store.workspace import Workspace
from tests.benchmarks.serving import MODEL


def main() -> None:
    """Print a line for each."""
    names = ("positive", "negative", "neutral")
    with tempfile.TemporaryDirectory() as folder:
        one = served(MODEL, Workspace.find(Path(folder), environ={}))
        assert one.renderer is not None

        def ask(text: str) -> tuple[Message, ...]:
            return (Message(role="system", content="What is the mood?"), Message(role="user", content=text))

        cheap = ClassifierEngine(names, lambda text: (0.2, 0.3, 0.5))
        versions = [
            Version("model:1", (), one.engine, one.renderer, labels=LabelReader(one.engine, one.renderer, names, ask)),
            Version("cheap:1", (), cheap, None, labels=CheapLabels(cheap)),
        ]
        with endpoint(versions, Path(folder), ServeSettings(token=TOKEN)) as (url, _):
            for version in versions:
                took = sorted(asyncio.run(_label_times(url, version.version, 200)))[:-1]
                p50, p99 = (round(1000 * took[int(len(took) * share)], 1) for share in (0.5, 0.99))
                line = {"benchmark": f"a label by {version.version}", "unit": "ms", "p50": p50, "p99": p99}
                print(json.dumps(line), flush=True)
        one.engine.close()


async def _label_times(url: str, model: str, count: int) -> list[float]:
    line, took = await Line.open(url), []
    for number in range(count):
        began = time.perf_counter()
        line.send(
            "POST", "/v1/classify", {"model": model, "input": f"number {number} was a fine day with rain at the end"}
        )
        assert await line.head() == 200
        await line.body()
        took.append(time.perf_counter() - began)
    await line.close()
    return took


if __name__ == "__main__":
    main()
