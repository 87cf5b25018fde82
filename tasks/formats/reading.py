"""One delivered file and its declaration -> a typed table; the only entry to this package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from tasks.formats.casting import ARROW_TYPES
from tasks.formats.compression import decompress
from tasks.formats.layout import layout_of

if TYPE_CHECKING:
    from tasks.domain.source import SourceSpec

LINE_COLUMN = "_line"
"""Name of the added column: where each row stood in its file, 1-based."""
_LINE = pa.field(LINE_COLUMN, pa.int64(), nullable=False)


@dataclass(frozen=True)
class Parsed:
    """What a file held.

    Attributes:
        table: declared columns in declared order and type, then `_line` (int64, never null).
        notices: what was unusual and let pass, such as columns that nobody declared.
        rows: number of rows.
    """

    table: pa.Table
    notices: tuple[str, ...]
    rows: int


def read_file(data: bytes, *, uri: str, source: SourceSpec) -> Parsed:
    """Reads one delivered file.

    Args:
        data: the whole file, as delivered.
        uri: its address: its endings tell format and compression where the source doesn't
            declare them, and messages name it.
        source: the declaration: `columns`, `renamed`, `undeclared`, `format`, `compression`, `encoding`,
            `delimiter`, `decimal`, `nulls`.

    Returns:
        The typed table. `_line` is the 1-based line of the file where the row begins (a CSV's
        header is line 1; blank lines and line breaks in quotes count), for Parquet the row's number.

    Raises:
        FileError: the file is of another format, damaged, in another encoding, expands beyond
            reason, lacks a column, has a malformed row, or a value isn't of its column's type.
    """
    layout = layout_of(uri, source)
    plain = decompress(data, compression=layout.compression, uri=uri)
    # A reader is imported when its format comes up: a run reads one format, and pays for one.
    if layout.format == "parquet":
        from tasks.formats.parquet import read_parquet as read
    elif layout.format == "jsonl":
        from tasks.formats.jsonlines import read_jsonl as read
    else:
        from tasks.formats.delimited import read_csv as read
    table, lines, notices = read(plain, layout)
    table = table.rename_columns(list(source.columns))  # a file may have other names for them
    table = table.append_column(_LINE, lines)
    return Parsed(table=table, notices=tuple(notices), rows=table.num_rows)


def no_rows(columns: Mapping[str, str]) -> pa.Table:
    """What an empty file would give: declared columns and `_line`. Shape (0, columns + 1)."""
    return arrow_schema(columns).append(_LINE).empty_table()


def arrow_schema(columns: Mapping[str, str]) -> pa.Schema:
    """Returns the Arrow schema of declared columns, without `_line`."""
    return pa.schema([(name, ARROW_TYPES[kind]) for name, kind in columns.items()])
