"""Floor 0: the values. Nothing in here knows a file, a token or a device."""
