"""Floor 1: everything that knows tokens, weights and devices."""
