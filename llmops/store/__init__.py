"""Floor 1: where things are kept. The workspace's files, the ledger of events, and the cache of fetched sources."""
