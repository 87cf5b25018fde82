"""Parquet: the file tells its types, which must be those declared or safely turned into them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt

from tasks.errors import FileError
from tasks.formats.casting import ARROW_TYPES, EXPECTED, first_bad, without_nan
from tasks.formats.compression import MAX_BYTES
from tasks.formats.layout import Layout, shorten, under

# Dictionaries and run lengths can hold a billion rows in a kilobyte: 8 bytes a value, at least.
_VALUE_BYTES = 8


def read_parquet(data: bytes, layout: Layout) -> tuple[pa.Table, pa.Array, list[str]]:
    """Reads a Parquet file.

    Whole numbers of any width, floats that are whole, decimals, dictionaries and timestamps of any
    unit are turned into the declared type where no value changes (digits beyond the microsecond
    are cut off); a NaN is a missing value. Texts are not parsed: a text column declared as a number
    is refused.

    Returns:
        The declared columns, the number of each row (from 1), and notices.

    Raises:
        FileError: see `tasks.formats.read_file`.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        found = file.schema_arrow.names
        layout, notices = under(layout, found, line=None)
        _bounded(file, layout)
        table = file.read(columns=list(layout.columns))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError, pa.ArrowKeyError) as error:
        cut = data[:4] == b"PAR1" and data[-4:] not in (b"PAR1", b"PARE")
        reason = "it ends before its footer" if cut else str(error).splitlines()[0]
        raise FileError(
            f"{layout.uri}: not a readable Parquet file: {shorten(reason, 160)}",
            uri=layout.uri,
            hint="deliver the file again, whole",
        ) from error
    columns = {name: _cast(table.column(name), kind, name, layout) for name, kind in layout.columns.items()}
    rows = pa.array(np.arange(1, table.num_rows + 1, dtype=np.int64))
    return pa.table(columns), rows, notices


def _bounded(file: pq.ParquetFile, layout: Layout) -> None:
    """Raises FileError where the rows would take more memory than any delivered file may."""
    meta = file.metadata
    size = sum(meta.row_group(i).total_byte_size for i in range(meta.num_row_groups))
    size = max(size, meta.num_rows * len(layout.columns) * _VALUE_BYTES)
    if size > MAX_BYTES:
        raise FileError(
            f"{layout.uri}: {meta.num_rows:,} rows expand to {size:,} bytes, beyond {MAX_BYTES:,}",
            uri=layout.uri,
            hint="split the file",
        )


def _cast(column: pa.ChunkedArray, kind: str, name: str, layout: Layout) -> pa.ChunkedArray:
    """Turns a column of the file into the declared type."""
    if isinstance(column.type, pa.BaseExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    if pt.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    if not _FITS[kind](column.type):
        raise FileError(
            f"{layout.uri}, column {name!r}: the file's type {column.type} is not {EXPECTED[kind]} "
            f"(declared as {kind})",
            uri=layout.uri,
            column=name,
            hint="declare the column's type as it is in the file, or deliver it as declared",
        )
    try:
        return _convert(column, kind)
    except pa.ArrowInvalid as error:
        bad = first_bad(column, lambda part: _convert(part, kind))
        raise FileError(
            f"{layout.uri}, line {bad + 1}, column {name!r}: {shorten(column[bad].as_py())} is not {EXPECTED[kind]}",
            uri=layout.uri,
            line=bad + 1,
            column=name,
            hint="correct the value, or declare another type",
        ) from error


def _convert(column: pa.ChunkedArray, kind: str) -> pa.ChunkedArray:
    if kind == "float":
        # a whole number beyond 2**53 changes a little: a float is what was asked for
        return without_nan(pc.cast(column, pa.float64(), safe=False))
    if kind == "int" and pt.is_floating(column.type):
        return pc.cast(without_nan(pc.cast(column, pa.float64())), pa.int64())
    if kind in ("timestamp", "local_timestamp"):
        # what carries no zone is UTC, as in texts
        return pc.cast(column, options=pc.CastOptions(ARROW_TYPES[kind], allow_time_truncate=True))
    return pc.cast(column, ARROW_TYPES[kind])


def _is_text(kind: pa.DataType) -> bool:
    return pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind)


_FITS = {
    # a column without any value is written as type null by some writers: it fits every type
    "string": lambda kind: _is_text(kind) or pt.is_null(kind),
    "int": lambda kind: pt.is_integer(kind) or pt.is_floating(kind) or pt.is_decimal(kind) or pt.is_null(kind),
    "float": lambda kind: pt.is_integer(kind) or pt.is_floating(kind) or pt.is_decimal(kind) or pt.is_null(kind),
    "bool": lambda kind: pt.is_boolean(kind) or pt.is_null(kind),
    "date": lambda kind: pt.is_date(kind) or pt.is_null(kind),
    "timestamp": lambda kind: pt.is_timestamp(kind) or pt.is_null(kind),
    "local_timestamp": lambda kind: (pt.is_timestamp(kind) and kind.tz is None) or pt.is_null(kind),
}
