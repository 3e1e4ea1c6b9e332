"""The planning room: a recipe, its rows and this machine go in at `plan.py`, a `Plan` comes out."""
