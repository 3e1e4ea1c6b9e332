"""The room of rows: reads sources line by line, maps, deduplicates and splits them, and accounts for every one."""
