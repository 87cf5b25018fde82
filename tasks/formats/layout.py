"""How one file is to be read, and the words for what is off in it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from tasks.errors import FileError
from tasks.formats.compression import COMPRESSIONS

if TYPE_CHECKING:
    from tasks.domain.source import SourceSpec

FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
"""Format by a file name's ending, compression's own ending taken off."""


@dataclass(frozen=True)
class Layout:
    """How one file is to be read: the declaration, with what the file's name adds to it.

    Attributes:
        uri: the file, for messages.
        compression: `none`, `gzip`, `zip` or `zstd`.
        format: `csv`, `jsonl` or `parquet`.
        columns: declared type by column name, in order.
        renamed: other names under which a column may come, by column.
        strict: whether columns that nobody declared are refused.
        encoding: a Python codec's name, or auto; used for CSV and JSON lines.
        delimiter: one character, CSV only.
        decimal: decimal mark, CSV only.
        nulls: texts that stand for a missing value, CSV only.
    """

    uri: str
    compression: str
    format: str
    columns: Mapping[str, str]
    renamed: Mapping[str, tuple[str, ...]]
    strict: bool
    encoding: str
    delimiter: str
    decimal: str
    nulls: tuple[str, ...]


def layout_of(uri: str, source: SourceSpec) -> Layout:
    """Combines the declaration with the file name's endings, which count where nothing is declared.

    Raises:
        FileError: neither the declaration nor the name tells the format.
    """
    suffixes = [suffix.lower() for suffix in PurePosixPath(uri).suffixes]
    by_name = COMPRESSIONS.get(suffixes[-1]) if suffixes else None
    ending = (suffixes[:-1] if by_name else suffixes)[-1:]
    file_format = source.format if source.format != "auto" else FORMATS.get(ending[0]) if ending else None
    if file_format is None:
        raise FileError(
            f"{uri}: the file's name does not tell its format",
            uri=uri,
            hint=f"declare format: csv, jsonl or parquet, or use one of the endings {', '.join(FORMATS)}",
        )
    return Layout(
        uri=uri,
        compression=source.compression if source.compression != "auto" else by_name or "none",
        format=file_format,
        columns=dict(source.columns),
        renamed=source.renamed,
        strict=source.undeclared == "refuse",
        encoding=source.encoding,
        delimiter="\t" if ending == [".tsv"] and source.delimiter == "," else source.delimiter,
        decimal=source.decimal,
        nulls=source.nulls,
    )


def under(layout: Layout, found: Sequence[str], *, line: int | None = 1) -> tuple[Layout, list[str]]:
    """The declaration under the names that a file has, and what is to be said of its columns.

    Raises:
        FileError: a declared column is missing or comes under two names, or one is there that is refused.
    """
    names, notices = {}, []
    for column in layout.columns:
        there = [name for name in (column, *layout.renamed.get(column, ())) if name in found]
        if len(there) > 1:
            raise twice(layout, column, there, line=line)
        names[column] = there[0] if there else column
    if error := missing_column(
        layout, [*found, *(column for column, name in names.items() if name in found)], line=line
    ):
        raise error
    notices += taken(layout, {name: column for column, name in names.items() if name != column})
    own = replace(layout, columns={names[column]: kind for column, kind in layout.columns.items()})
    return own, notices + extra_columns(own, found, line=line)


def twice(layout: Layout, column: str, there: Sequence[str], *, line: int | None) -> FileError:
    """The error for a column that comes under several of its names."""
    where = f", line {line}" if line is not None else ""
    return FileError(
        f"{layout.uri}{where}: column {column!r} comes {len(there)} times, as {' and '.join(map(repr, there))}",
        uri=layout.uri,
        line=line,
        column=column,
        hint="deliver it once, or take the name that is another column out of the source's renamed",
    )


def taken(layout: Layout, names: Mapping[str, str]) -> list[str]:
    """Returns the notice on columns under other names (name in the file -> column), or nothing."""
    pairs = ", ".join(f"{name} as {column}" for name, column in names.items())
    return [f"{layout.uri}: took {pairs}, as the source's renamed says"] if names else []


def missing_column(layout: Layout, found: Sequence[str], *, line: int | None = 1) -> FileError | None:
    """Returns the error for declared columns that `found` lacks, or None where all are there."""
    missing = [name for name in layout.columns if name not in found]
    if not missing:
        return None
    names = ", ".join(repr(name) for name in missing)
    new = [name for name in dict.fromkeys(found) if name not in layout.columns]
    near = difflib.get_close_matches(missing[0], new, 1, 0.6) or (new if len(new) == len(missing) == 1 else [])
    hint = "deliver the column, or take it out of the source's columns"
    if near:
        hint = f"did {near[0]!r} replace it? this line of the source takes it: renamed: {{{missing[0]}: [{near[0]}]}}"
    where = f", line {line}" if line is not None else ""
    declared = (
        f"; declared and not there: {shorten(', '.join(missing), 200)} | there and not declared: {shorten(', '.join(new), 200)}"
        if new
        else ""
    )
    return FileError(
        f"{layout.uri}{where}: column{'s' if len(missing) > 1 else ''} {names} not in the file, "
        f"which has {shorten(', '.join(dict.fromkeys(found)), 200) or 'no columns'}{declared}",
        uri=layout.uri,
        line=line,
        column=missing[0],
        hint=hint,
    )


def extra_columns(layout: Layout, found: Sequence[str], *, line: int | None = 1) -> list[str]:
    """Returns the notice on columns that nobody declared, or nothing.

    Raises:
        FileError: they are refused.
    """
    extra = [name for name in found if name not in layout.columns]
    if extra and layout.strict:
        raise FileError(
            f"{layout.uri}: columns that the source does not declare: {', '.join(extra)}; it declares {shorten(', '.join(layout.columns), 200)}",
            uri=layout.uri,
            line=line,
            column=extra[0],
            hint=f"declare it, such as `{extra[0]}: string` under columns, or let such columns pass: undeclared: ignore",
        )
    return [f"{layout.uri}: ignored columns that the source does not declare: {', '.join(extra)}"] if extra else []


def shorten(text: object, limit: int = 60) -> str:
    """Returns the text, its middle left out beyond `limit` characters."""
    text = str(text)
    return text if len(text) <= limit else f"{text[: limit - 20]} ... {text[-15:]}"
