"""JSON lines: Arrow's reader for what is plainly right, the standard library's for the rest and for errors."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Set
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json as pajson

from tasks.errors import FileError
from tasks.formats.casting import ARROW_TYPES, EXPECTED, cast_texts, first_bad, without_nan
from tasks.formats.encoding import as_utf8
from tasks.formats.layout import Layout, extra_columns, missing_column, shorten, taken, twice

_BLOCK = 8 << 20
_TEXTUAL = ("string", "date", "timestamp", "local_timestamp")
# After an object's end: white space, then something that is neither a comma or bracket of an
# enclosing value nor the next line's object.
_AFTER_OBJECT = re.compile(rb"\}[ \t]*(?:[^\s,\]}]|[\r\n]\s*[^\s{])")


def read_jsonl(data: bytes, layout: Layout) -> tuple[pa.Table, pa.Array, list[str]]:
    """Reads JSON lines: one object on each line, blank lines passed over.

    A key that a row lacks is null in it; one that all rows lack is a missing column. Numbers are
    JSON numbers (`3.0` is a whole one, `NaN` is missing), dates and times are texts. A file
    without rows is a partition without rows.

    Returns:
        The declared columns, the line of each row, and notices.

    Raises:
        FileError: see `tasks.formats.read_file`.
    """
    data, notices = as_utf8(data, layout)
    first = next(_rows(data, layout), None)
    if first is None:
        empty = pa.table({name: pa.array([], ARROW_TYPES[kind]) for name, kind in layout.columns.items()})
        return empty, pa.array([], pa.int64()), [*notices, f"{layout.uri}: has no rows"]
    others = {name: column for column, names in layout.renamed.items() for name in names}
    seen = dict.fromkeys(others.get(name, name) for name in first[1])
    escaped = b"\\u" in data  # a name may be written with escapes
    others = {name: column for name, column in others.items() if escaped or name.encode() in data}
    read = None if others else _fast(data, first[1].keys(), layout)
    table, lines, used = (*read, {}) if read else _exact(data, layout, others)
    notices += taken(layout, used) + extra_columns(layout, list(seen))
    columns = {}
    for name, kind in layout.columns.items():
        column = table.column(name)
        if kind in _TEXTUAL:
            column = _cast(column, kind, name, lines, layout)
        columns[name] = without_nan(column) if kind == "float" else column
    return pa.table(columns), lines, notices


def _fast(data: bytes, keys: Set[str], layout: Layout) -> tuple[pa.Table, pa.Array] | None:
    """Reads with Arrow, or returns None where the file isn't plain enough to be sure of the result.

    Args:
        data: the file.
        keys: the first row's keys.
        layout: the declaration.
    """
    # Arrow takes two objects on a line, or one over several, and crashes the process on a row that is
    # `null`: so it only gets files in which every line is an object and nothing follows it.
    rows = data.count(b"\n{") + data.startswith(b"{")
    breaks = data.rstrip().count(b"\n") + 1
    if rows != breaks or _AFTER_OBJECT.search(data):
        return None
    schema = pa.schema(
        [(name, pa.string() if kind in _TEXTUAL else ARROW_TYPES[kind]) for name, kind in layout.columns.items()]
    )
    try:
        table = pajson.read_json(
            pa.BufferReader(data),
            read_options=pajson.ReadOptions(block_size=min(len(data) + 1, _BLOCK)),
            parse_options=pajson.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
    except pa.ArrowInvalid:
        return None
    if table.num_rows != rows:
        return None
    # All null: the key may be nowhere, which is a missing column.
    if any(table.column(name).null_count == rows and name not in keys for name in layout.columns):
        return None
    return table.select(list(layout.columns)), pa.array(np.arange(1, rows + 1, dtype=np.int64))


def _exact(data: bytes, layout: Layout, others: Mapping[str, str]) -> tuple[pa.Table, pa.Array, dict[str, str]]:
    """Reads row by row; slow, and knows the line of every fault.

    Args:
        others: other name -> column.

    Returns:
        The rows, their lines, and which of the other names there are.
    """
    used: dict[str, str] = {}
    lines: list[int] = []
    values: dict[str, list] = {name: [] for name in layout.columns}
    seen: dict[str, None] = {}
    for line, row in _rows(data, layout):
        lines.append(line)
        if others:
            used |= {name: others[name] for name in row if name in others}
            row = _named(row, others, line, layout)
        seen.update(dict.fromkeys(row))
        for name, kind in layout.columns.items():
            values[name].append(_checked(row.get(name), kind, name, line, layout))
    if error := missing_column(layout, list(seen), line=None):
        raise error
    columns = {
        name: pa.chunked_array([pa.array(values[name], pa.string() if kind in _TEXTUAL else ARROW_TYPES[kind])])
        for name, kind in layout.columns.items()
    }
    return pa.table(columns), pa.array(lines, pa.int64()), used


def _named(row: dict[str, Any], others: Mapping[str, str], line: int, layout: Layout) -> dict[str, Any]:
    """A row under the columns' own names."""
    named: dict[str, Any] = {}
    for name, value in row.items():
        column = others.get(name, name)
        if column in named:
            raise twice(layout, column, [one for one in row if others.get(one, one) == column], line=line)
        named[column] = value
    return named


def _rows(data: bytes, layout: Layout) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields each row with its line, or raises FileError on what is no JSON object."""
    start, line = 0, 0
    while start < len(data):
        end = data.find(b"\n", start)
        end = len(data) if end < 0 else end
        text, start, line = data[start:end], end + 1, line + 1
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except ValueError as error:  # an unpaired surrogate is a UnicodeDecodeError, which is one too
            cut = start > len(data)
            raise FileError(
                f"{layout.uri}, line {line}: not JSON: {error.args[0]} in {shorten(text.decode(), 80)!r}",
                uri=layout.uri,
                line=line,
                hint="the file ends here: deliver it again, whole" if cut else "write one JSON object on each line",
            ) from error
        except RecursionError as error:
            raise FileError(f"{layout.uri}, line {line}: nested too deeply", uri=layout.uri, line=line) from error
        if not isinstance(row, dict):
            raise FileError(
                f"{layout.uri}, line {line}: expected an object, found {shorten(text.decode(), 80)!r}",
                uri=layout.uri,
                line=line,
                hint="write one JSON object on each line",
            )
        yield line, row


def _checked(value: Any, kind: str, name: str, line: int, layout: Layout) -> Any:
    """Returns the value as Arrow takes it, or raises FileError where its JSON type isn't the declared one."""
    if value is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind in _TEXTUAL and isinstance(value, str) and _encodable(value):
        return value
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind == "float" and number and (isinstance(value, float) or abs(value) < 1 << 1000):
        return float(value)
    # an infinity or a NaN is beyond the bounds, or not within them
    if kind == "int" and number and -(1 << 63) <= value < 1 << 63 and value == int(value):
        return int(value)
    epoch = kind in ("timestamp", "local_timestamp") and number
    hint = "write times as texts, not as seconds since 1970" if epoch else "correct the value, or declare another type"
    raise FileError(
        f"{layout.uri}, line {line}, column {name!r}: {shorten(json.dumps(value))} is not {EXPECTED[kind]}",
        uri=layout.uri,
        line=line,
        column=name,
        hint=hint,
    )


def _encodable(text: str) -> bool:
    """Returns whether a text has no lone surrogate: JSON can write one, UTF-8 can't."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _cast(column: pa.ChunkedArray, kind: str, name: str, lines: pa.Array, layout: Layout) -> pa.ChunkedArray:
    try:
        return cast_texts(column, kind)
    except pa.ArrowInvalid as error:
        bad = first_bad(column, lambda part: cast_texts(part, kind))
        line = lines[bad].as_py()
        raise FileError(
            f"{layout.uri}, line {line}, column {name!r}: {shorten(column[bad].as_py())!r} is not {EXPECTED[kind]}",
            uri=layout.uri,
            line=line,
            column=name,
            hint="correct the value, or declare another type",
        ) from error
