"""The exam of a tuned model: memorised or understood? Its door is `examine.py`."""
