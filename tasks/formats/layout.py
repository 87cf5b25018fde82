"""How one file is to be read, and the words for what is off in it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
        encoding: a Python codec's name; used for CSV and JSON lines.
        delimiter: one character, CSV only.
        decimal: decimal mark, CSV only.
        nulls: texts that stand for a missing value, CSV only.
    """

    uri: str
    compression: str
    format: str
    columns: Mapping[str, str]
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
        encoding=source.encoding,
        delimiter="\t" if ending == [".tsv"] and source.delimiter == "," else source.delimiter,
        decimal=source.decimal,
        nulls=source.nulls,
    )


def missing_column(layout: Layout, found: Sequence[str], *, line: int | None = 1) -> FileError | None:
    """Returns the error for declared columns that `found` lacks, or None where all are there."""
    missing = [name for name in layout.columns if name not in found]
    if not missing:
        return None
    names = ", ".join(repr(name) for name in missing)
    near = difflib.get_close_matches(missing[0], [name for name in found if name not in layout.columns], 1, 0.6)
    hint = f"did {near[0]!r} replace it?" if near else "deliver the column, or take it out of the source's columns"
    where = f", line {line}" if line is not None else ""
    return FileError(
        f"{layout.uri}{where}: column{'s' if len(missing) > 1 else ''} {names} not in the file, "
        f"which has {shorten(', '.join(found), 200) or 'no columns'}",
        uri=layout.uri,
        line=line,
        column=missing[0],
        hint=hint,
    )


def extra_columns(layout: Layout, found: Sequence[str]) -> list[str]:
    """Returns the notice on columns that nobody declared, or nothing."""
    extra = [name for name in found if name not in layout.columns]
    return [f"{layout.uri}: ignored columns that the source does not declare: {', '.join(extra)}"] if extra else []


def shorten(text: object, limit: int = 60) -> str:
    """Returns the text, its middle left out beyond `limit` characters."""
    text = str(text)
    return text if len(text) <= limit else f"{text[: limit - 20]} ... {text[-15:]}"
