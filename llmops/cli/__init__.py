"""Floor 4, an edge: the command line. It parses, calls one verb of `pipeline`, and shows what came back."""
