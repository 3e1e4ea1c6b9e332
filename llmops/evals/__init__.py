"""Evaluation: one subject on one suite becomes an `EvalReport`."""
