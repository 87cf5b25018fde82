"""Bounded decompression: a small file that expands without end is refused, not read."""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from typing import BinaryIO

import pyarrow as pa

from tasks.errors import FileError

COMPRESSIONS = {".gz": "gzip", ".gzip": "gzip", ".zip": "zip", ".zst": "zstd", ".zstd": "zstd"}
"""Compression by a file name's ending."""

MAX_BYTES = 8 << 30
"""No file may expand beyond this many bytes: what a step's memory can hold, with room for the table."""
MAX_RATIO = 200
"""Nor beyond this many times its own size: real data stays below 50, archive bombs begin at 1000."""
FREE_BYTES = 64 << 20
"""A file may always expand to this many bytes, whatever the ratio (constant columns compress well)."""

_STEP = 8 << 20
_MAGIC = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"\x28\xb5\x2f\xfd": "zstd"}


def decompress(data: bytes, *, compression: str, uri: str) -> bytes:
    """Returns the file's plain bytes.

    Args:
        data: the file as delivered.
        compression: `none`, `gzip` (several members in a row are one file), `zip` (with exactly
            one file in it) or `zstd`.
        uri: the file, for messages.

    Raises:
        FileError: damaged or cut short, not of this compression, or beyond the bounds.
    """
    actual = next((name for magic, name in _MAGIC.items() if data.startswith(magic)), None)
    if compression == "none":
        if actual:
            raise FileError(
                f"{uri}: is {actual} data, but neither its name nor the source says so",
                uri=uri,
                hint=f"declare compression: {actual}, or deliver it plain",
            )
        return data
    if compression not in COMPRESSIONS.values():
        raise FileError(f"{uri}: compression {compression!r} is not known", uri=uri, hint="use gzip, zip or zstd")
    if actual != compression:
        begins = "is empty" if not data else f"is {actual}" if actual else f"begins with {data[:8]!r}"
        raise FileError(f"{uri}: expected {compression} data, but it {begins}", uri=uri, hint="deliver the file again")
    try:
        if compression == "gzip":
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
                return _read(stream, size=len(data), uri=uri)
        if compression == "zip":
            return _read_zip(data, uri)
        with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
            return _read(stream, size=len(data), uri=uri)
    except EOFError as error:
        raise FileError(f"{uri}: cut short: the {compression} data ends early", uri=uri, hint=_AGAIN) from error
    except (OSError, zlib.error, zipfile.BadZipFile, pa.ArrowInvalid) as error:
        # zstd has no exception of its own for a missing end
        if "runcated" in str(error):
            raise FileError(f"{uri}: cut short: the {compression} data ends early", uri=uri, hint=_AGAIN) from error
        raise FileError(f"{uri}: damaged {compression} data: {error}", uri=uri, hint=_AGAIN) from error


_AGAIN = "deliver the file again, whole"


def _read_zip(data: bytes, uri: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        # macOS adds a shadow of every file under __MACOSX/
        members = [m for m in archive.infolist() if not m.is_dir() and not m.filename.startswith("__MACOSX/")]
        if len(members) != 1:
            names = ", ".join(member.filename for member in members[:5])
            raise FileError(
                f"{uri}: expected one file in the archive, found {len(members)}{': ' + names if names else ''}",
                uri=uri,
                hint="deliver one file in each archive",
            )
        if members[0].flag_bits & 0x1:
            raise FileError(f"{uri}: the archive is encrypted", uri=uri, hint="deliver it without a password")
        try:
            with archive.open(members[0]) as stream:
                return _read(stream, size=len(data), uri=uri)
        except NotImplementedError as error:
            raise FileError(f"{uri}: {error}", uri=uri, hint="use zip's deflate, or gzip") from error


def _read(stream: BinaryIO, *, size: int, uri: str) -> bytes:
    """Reads to the end, or refuses once the bound for a file of `size` bytes is passed."""
    limit = min(MAX_BYTES, max(FREE_BYTES, size * MAX_RATIO))
    parts, total = [], 0
    while part := stream.read(_STEP):
        total += len(part)
        if total > limit:
            raise FileError(
                f"{uri}: {size:,} bytes expand beyond {limit:,}; refused as an archive bomb",
                uri=uri,
                hint="split the file, or deliver it plain",
            )
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
