"""Serving: a version answers over HTTP, and every answer is on record."""
