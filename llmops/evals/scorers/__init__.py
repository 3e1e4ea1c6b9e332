"""Scorers: how a generated answer becomes a mark. Each is a line of `table.py`; its knobs are in `core/scorers.py`."""
