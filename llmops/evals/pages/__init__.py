"""One HTML page of an evaluation or a comparison: nothing is fetched, every text is escaped, every answer is there."""
