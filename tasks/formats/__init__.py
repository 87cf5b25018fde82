"""Delivered files become typed Arrow tables: CSV, JSON lines and Parquet, compressed or not.

`read_file` takes the bytes of one file and the source's declaration, and returns the declared
columns in the declared order and types, plus `_line`. Whatever is off raises a `FileError` that
names the file, the line and the column, shows the value and says what was expected; nothing is
guessed, and no row is dropped.
"""

from tasks.formats.casting import ARROW_TYPES
from tasks.formats.reading import LINE_COLUMN, Parsed, arrow_schema, no_rows, read_file

__all__ = ["ARROW_TYPES", "LINE_COLUMN", "Parsed", "arrow_schema", "no_rows", "read_file"]
