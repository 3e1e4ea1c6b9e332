"""The cleaning steps, one a file: each says what becomes of a row. `table.py` lists them."""
