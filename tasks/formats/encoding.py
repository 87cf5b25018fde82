"""Any declared text encoding -> UTF-8, and where a byte is that doesn't fit it."""

from __future__ import annotations

import codecs
import csv
from dataclasses import replace

from tasks.errors import FileError
from tasks.formats.layout import Layout

_BOM = "\ufeff"
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_LOOKED_AT = 1 << 20
"""Bytes from which an encoding is told."""


def as_utf8(data: bytes, layout: Layout) -> tuple[bytes, list[str]]:
    """Returns the text as UTF-8 without a byte order mark, and what is to be said of its encoding.

    Raises:
        FileError: a byte isn't of the declared encoding, nobody knows that encoding, or none fits.
    """
    if layout.encoding == "auto":
        found = _detected(data, layout)
        layout = replace(layout, encoding=found)
        notices = [] if found == "utf-8" else [f"{layout.uri}: read as {found}, as its bytes look"]
        return _decoded(data, layout), notices
    return _decoded(data, layout), []


def _detected(data: bytes, layout: Layout) -> str:
    """UTF-8 where the bytes are; otherwise what a byte order mark or the frequency of letters says."""
    for mark, name in _MARKS.items():
        if data.startswith(mark):
            return name
    try:
        data.decode()
    except UnicodeDecodeError:
        from charset_normalizer import from_bytes

        best = from_bytes(data[:_LOOKED_AT]).best()
        if best is None:
            raise FileError(
                f"{layout.uri}: no encoding fits its bytes", uri=layout.uri, hint="declare the source's encoding"
            ) from None
        return best.encoding
    return "utf-8"


def _decoded(data: bytes, layout: Layout) -> bytes:
    try:
        codec = codecs.lookup(layout.encoding).name
        text = data.decode(codec)
    except LookupError as error:
        raise FileError(
            f"{layout.uri}: encoding {layout.encoding!r} is not known", uri=layout.uri, hint="declare one of Python's"
        ) from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = _csv_column(data, error.start, layout) if layout.format == "csv" and line > 1 else None
        where = f", line {line}" + (f", column {column!r}" if column else "")
        utf16 = data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        raise FileError(
            f"{layout.uri}{where}: byte 0x{data[error.start]:02x} in {_around(data, error.start)!r} "
            f"is not {layout.encoding}",
            uri=layout.uri,
            line=line,
            column=column,
            hint=f"declare the source's encoding; it looks like {'utf-16' if utf16 else 'latin-1 or cp1252'}",
        ) from error
    if codec == "utf-8" and not text.startswith(_BOM):
        return data
    return text.removeprefix(_BOM).encode()


def _csv_column(data: bytes, at: int, layout: Layout) -> str | None:
    """Returns the column that holds a byte, as well as it can be told in a text that isn't decoded."""
    header = data[: data.find(b"\n")].decode(layout.encoding, "replace").removeprefix(_BOM).rstrip("\r")
    row = data[data.rfind(b"\n", 0, at) + 1 : at].decode(layout.encoding, "replace")
    names = next(csv.reader([header], delimiter=layout.delimiter), [])
    fields = next(csv.reader([row], delimiter=layout.delimiter), [""])
    return names[len(fields) - 1] if len(fields) <= len(names) else None


def _around(data: bytes, at: int) -> str:
    """Returns the text around a byte, within its line."""
    start = max(data.rfind(b"\n", 0, at) + 1, at - 20)
    end = data.find(b"\n", at)
    return data[start : min(at + 10, end if end >= 0 else len(data))].decode("ascii", "backslashreplace")
