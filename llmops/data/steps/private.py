"""Private data out of the rows: typed placeholders in its place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from llmops.core.cleaning import Private
from llmops.core.private import find_private, may_hold_private, replace_spans
from llmops.data.mapping import Example
from llmops.data.steps.change import Change, Edit, alter, fields_of, texts_of


def private(step: Private, rows: Sequence[Example]) -> Iterator[Change]:
    """Rows with placeholders for private data; those that cannot be scanned are dropped, not passed."""

    def masked(text: str) -> Edit | None:
        spans = find_private(text, step.find, step.regions)
        if not spans:
            return None
        return Edit(replace_spans(text, spans), dict(Counter(span.kind for span in spans)), tuple(spans))

    said = [[text for _, text in (*texts_of(row), *fields_of(row))] for row in rows]
    long = {at for at, texts in enumerate(said) if max(map(len, texts)) > step.longest}
    suspects = may_hold_private(["\n".join(texts) if at not in long else "" for at, texts in enumerate(said)])
    yield from (Change(at, "too long to scan for private data") for at in sorted(long))
    for change in alter([rows[at] for at in suspects], masked, fields=True):
        yield change._replace(at=suspects[change.at])
