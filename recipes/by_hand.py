"""Every verb in turn, printed: the page to learn llmops from. About four minutes on two cores.

Run it: `python -m recipes.by_hand` (it keeps what it makes in the nearest workspace, as the command line does).
"""

import os
from pathlib import Path

import llmops
from llmops import Classify, Data, Evaluation, Message, Recipe, Sampling, Source, Surroundings, Training, Workspace


def show(verb: str, text: object) -> None:
    print(f"\n--- {verb}\n{text}")


def main(at: Workspace | None = None, base: str = "smollm2-135m-q4") -> None:
    """Walk the life of a small model by hand. `at` and `base` are for tests; a person needs neither."""
    at = at or Workspace.find(world=Surroundings(say=print))

    recipe = Recipe(
        name="by-hand",
        base=base,
        data=Data(sources=(Source(from_="vader/tweets", train_rows=160, heldout_rows=60),)),
        task=Classify(question="Positive or negative?", labels=("negative", "positive")),
        training=Training(epochs=1),
        evaluation=Evaluation(slices=("domain",)),
    )
    show("Recipe: what is intended", f"{recipe.name}: {recipe.task.kind}, base {recipe.base}")

    manifest = llmops.prepare(recipe, at)
    show("prepare", f"{manifest.rows_read:,} rows read = {manifest.rows_train} to train + {manifest.rows_heldout} held "
         f"out + {manifest.rows_dropped:,} dropped: {manifest.dropped}")  # fmt: skip

    plan = llmops.plan(recipe, manifest, at)
    reasons = [f"{decision.field} = {decision.value}: {decision.because}" for decision in plan.decisions]
    show("plan", "\n".join(reasons))

    views = llmops.inspect_row(manifest.id, 0, base, at).tokens
    show("inspect: [what is trained] of one row", "".join(f"[{v.text}]" if v.trained else v.text for v in views))

    run = llmops.train(plan, at)
    losses = [step.loss_nats for step in at.steps(run.id)]
    show("train", f"{run.id} {run.status}: loss {losses[0]:.2f} to {losses[-1]:.2f} nats in {run.seconds:.0f} s")

    reports = {**llmops.measure_cheap(plan, at), "tuned": llmops.evaluate(run.id, at)}
    rows = [f"{name:10} {r.main.value:.2f} ({r.main.low:.2f} to {r.main.high:.2f})" for name, r in reports.items()]
    show("evaluate, beside the cheap rows", "\n".join(rows))

    found = llmops.compare(reports["tfidf"].id, reports["tuned"].id, at)
    gain = found.overall
    interval = f"{gain.delta:+.2f} ({gain.low:+.2f} to {gain.high:+.2f}, p {gain.p:.2g})"
    show("compare", f"tuned - tfidf = {interval}: {found.verdict}")
    show("pick", llmops.pick(list(reports.values())).because)

    version = llmops.register(reports["tuned"].id, at)
    show("register", f"{version.ref}, from {version.dataset}, {version.plan}, {version.report}")
    try:
        show("promote", llmops.promote(version.ref, at).because)
    except llmops.Refusal as refusal:
        show("promote, refused", refusal)

    text = "What a lovely surprise, thank you all!"
    talk = llmops.chat(version.ref, at)
    try:
        answer = "".join(talk.say([Message(role="user", content=text)], Sampling(max_tokens=8), keep_text=True))
    finally:
        talk.close()
    show(f"chat: {text}", answer)
    llmops.feedback(talk.last.id, "up", None, at)

    show("health", "\n".join(llmops.health(version.name, at).findings))
    kept = llmops.curate(version.name, at.root / "curated.jsonl", at)
    show("curate", f"{kept} rows for the next data set in {Path(at.root / 'curated.jsonl')}")


if __name__ == "__main__":
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # as the command line does
    main()
