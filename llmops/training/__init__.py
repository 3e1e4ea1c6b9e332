"""The training room: a `Plan` goes in at `train.py`, a `Run` comes out."""
