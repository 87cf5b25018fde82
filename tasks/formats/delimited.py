"""CSV: texts read by Arrow, cast column by column; the standard library's reader finds lines when needed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from tasks.errors import FileError
from tasks.formats.casting import EXPECTED, cast_texts, first_bad
from tasks.formats.encoding import as_utf8
from tasks.formats.layout import Layout, shorten, under

# A row must fit into a block.
_BLOCK = 16 << 20


def read_csv(data: bytes, layout: Layout) -> tuple[pa.Table, pa.Array, list[str]]:
    """Reads a CSV file with a header.

    Quotes are `"`, doubled within a field; a field in quotes may break over lines; blank lines
    are passed over. Texts listed in `layout.nulls` are null, quoted or not.

    Returns:
        The declared columns, the line on which each row begins, and notices.

    Raises:
        FileError: see `tasks.formats.read_file`.
    """
    data, said = as_utf8(data, layout)
    header = _header(data, layout)
    layout, notices = under(layout, header)
    for name in layout.columns:
        if header.count(name) > 1:
            raise FileError(
                f"{layout.uri}, line 1: column {name!r} comes {header.count(name)} times",
                uri=layout.uri,
                line=1,
                column=name,
                hint="deliver each column once",
            )
    texts = _texts(data, header, layout)
    lines = _lines(data, texts.num_rows, layout)
    columns = {}
    for name, kind in layout.columns.items():
        column = texts.column(name)
        try:
            columns[name] = cast_texts(column, kind, decimal=layout.decimal)
        except pa.ArrowInvalid as error:
            bad = first_bad(column, lambda part, kind=kind: cast_texts(part, kind, decimal=layout.decimal))
            line, value = lines[bad].as_py(), column[bad].as_py()
            raise FileError(
                f"{layout.uri}, line {line}, column {name!r}: {shorten(value)!r} is not {EXPECTED[kind]}",
                uri=layout.uri,
                line=line,
                column=name,
                hint="correct the value, or declare the column's type, decimal mark or nulls otherwise",
            ) from error
    return pa.table(columns), lines, said + notices


def _rows(data: bytes, layout: Layout) -> Iterator[tuple[int, list[str]]]:
    """Yields each row that isn't blank with the line on which it begins, the header first; slow and exact."""
    stream = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", newline="")
    reader = csv.reader(stream, delimiter=layout.delimiter)
    csv.field_size_limit(_BLOCK)  # its default refuses a field of 131 kB
    line = 1
    try:
        for fields in reader:
            if fields:
                yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:
        raise FileError(f"{layout.uri}, line {line}: {error}", uri=layout.uri, line=line) from error


def _header(data: bytes, layout: Layout) -> list[str]:
    """Returns the header's names."""
    _, names = next(_rows(data, layout), (1, []))
    if not names:
        raise FileError(
            f"{layout.uri}: is empty; expected a header line with {', '.join(layout.columns)}",
            uri=layout.uri,
            line=1,
            hint="deliver the file again; no rows are a header alone",
        )
    return names


def _texts(data: bytes, header: list[str], layout: Layout) -> pa.Table:
    """Reads the declared columns, and the file's last one, as texts."""
    if not data.endswith((b"\n", b"\r")):
        data += b"\n"  # Arrow refuses a header that no line break ends
    quoted = b'"' in data
    names = list(layout.columns)
    if quoted and header[-1] not in names and header.count(header[-1]) == 1:
        names.append(header[-1])
    try:
        texts = pacsv.read_csv(
            pa.BufferReader(data),
            read_options=pacsv.ReadOptions(block_size=min(len(data) + 1, _BLOCK)),
            parse_options=pacsv.ParseOptions(delimiter=layout.delimiter, newlines_in_values=quoted),
            convert_options=pacsv.ConvertOptions(
                include_columns=names,
                column_types=dict.fromkeys(names, pa.string()),
                strings_can_be_null=True,
                null_values=list(layout.nulls),
                check_utf8=False,  # checked when it was decoded
            ),
        )
    except pa.ArrowInvalid as error:
        raise _malformed(data, header, layout, error) from error
    # Arrow takes a file that ends within quotes: its last field then holds all that followed, the
    # final line break too. Few fields end so on purpose: only then is the slow reader asked.
    if quoted and texts.num_rows:
        last = texts.column(header[-1])[-1].as_py() if header[-1] in names else "\n"
        if last is not None and last.endswith(("\n", "\r")):
            _refuse_open_quote(data, layout)
    return texts


def _malformed(data: bytes, header: list[str], layout: Layout, error: Exception) -> FileError:
    """Returns the error for the first row whose fields don't fit the header."""
    for line, fields in _rows(data, layout):
        if len(fields) != len(header):
            many = len(fields) > len(header)
            last = header[-1] if many else header[len(fields)]
            return FileError(
                f"{layout.uri}, line {line}: {len(fields)} fields where the header has {len(header)}: "
                f"{shorten(layout.delimiter.join(fields), 80)!r}",
                uri=layout.uri,
                line=line,
                column=None if many else last,
                hint="quote fields that hold the delimiter" if many else f"the row ends before column {last!r}",
            )
    return FileError(f"{layout.uri}: not a readable CSV file: {error}", uri=layout.uri)


def _refuse_open_quote(data: bytes, layout: Layout) -> None:
    """Raises FileError where the file ends within quotes."""
    stream = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", newline="")
    reader = csv.reader(stream, delimiter=layout.delimiter, strict=True)
    line = 1
    try:
        for _ in reader:
            line = reader.line_num + 1
    except csv.Error as error:
        if "unexpected end of data" in str(error):
            raise FileError(
                f"{layout.uri}, line {line}: a quote opens in the row that begins here and never closes",
                uri=layout.uri,
                line=line,
                hint="deliver the file again, whole, or double the quotes within a field",
            ) from error


def _lines(data: bytes, rows: int, layout: Layout) -> pa.Array:
    """Returns the line on which each row begins."""
    breaks = data.count(b"\n") + data.count(b"\r") - data.count(b"\r\n")
    if breaks + (not data.endswith((b"\n", b"\r"))) == rows + 1:
        # as many lines as rows and a header: no blank lines, no line breaks in quotes
        return pa.array(np.arange(2, rows + 2, dtype=np.int64))
    lines = [line for line, _ in _rows(data, layout)][1:]
    if len(lines) != rows:
        raise FileError(
            f"{layout.uri}: not a readable CSV file: {rows} rows by one reader, {len(lines)} by another",
            uri=layout.uri,
            hint="check its quotes",
        )
    return pa.array(lines, pa.int64())
