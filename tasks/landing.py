"""What lies in the landing zone for a source's partition: one file, or several that are one delivery.

Only what is whole counts: where the source declares a mark that is put last (`complete`), or a receipt beside each file
(`receipt`), the delivery has come when they are there.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from tasks.domain.partition import Partition
from tasks.domain.source import SourceSpec
from tasks.errors import FileError, StorageError
from tasks.lake import ObjectInfo, ObjectStore

LOOKS = 5
"""How often files are read that change while they are read."""


@dataclass(frozen=True)
class Delivered:
    """A delivery.

    Attributes:
        files: address and bytes of each, in the order of their names.
        info: of all of them together: sizes summed, the moment of the last write.
    """

    files: tuple[tuple[str, bytes], ...]
    info: ObjectInfo

    @property
    def digest(self) -> str:
        """SHA-256 of the file's bytes; of several, of their names and digests."""
        found = [(uri, hashlib.sha256(data).hexdigest()) for uri, data in self.files]
        if len(found) == 1:
            return found[0][1]
        return hashlib.sha256("".join(f"{digest}  {uri}\n" for uri, digest in found).encode()).hexdigest()


def arrived(source: SourceSpec, partition: Partition, landing: ObjectStore, root: str) -> ObjectInfo | None:
    """What listings say of a delivery; None while it has not come whole."""
    return _together(source.location(partition, root), _listed(source, partition, landing, root))


def fetch(source: SourceSpec, partition: Partition, landing: ObjectStore, root: str) -> Delivered | None:
    """A delivery's files, all of the same moment; None where it has not come whole.

    Raises:
        FileError: a file is not what its receipt says.
        StorageError: the files keep changing.
    """
    uri = source.location(partition, root)
    listed = _listed(source, partition, landing, root)
    for _ in range(LOOKS):
        info = _together(uri, listed)
        if info is None:
            return None
        try:
            files = tuple((one.key, landing.get(one.key)) for one in listed)
            receipts = [landing.get(one.key + source.receipt) for one in listed] if source.receipt else []
        except FileNotFoundError:
            return None
        before, listed = listed, _listed(source, partition, landing, root)
        if listed == before:
            for (name, data), receipt in zip(files, receipts, strict=bool(source.receipt)):
                _check(name, data, receipt)
            return Delivered(files, info)
    raise StorageError(f"{uri} changes while it is read", hint="is it still being written? deliver files by renaming")


def _listed(source: SourceSpec, partition: Partition, landing: ObjectStore, root: str) -> list[ObjectInfo]:
    """The files of a delivery in the order of their names; none while it is not whole."""
    uri, mark = source.location(partition, root), source.mark(partition, root)
    if mark is not None and landing.head(mark) is None:
        return []
    if "*" in uri:
        uri = unquote(urlsplit(uri).path) if uri.startswith("file://") else uri  # as listings tell their files
        shape = re.compile("[^/]*".join(map(re.escape, uri.split("*"))))
        found = sorted(landing.list(uri[: uri.index("*")]), key=lambda one: one.key)
        found = [
            one for one in found if shape.fullmatch(one.key) and one.key != mark and not _is_receipt(source, one.key)
        ]
    else:
        found = [one for one in [landing.head(uri)] if one is not None]
    whole = source.receipt is None or all(landing.head(one.key + source.receipt) for one in found)
    return found if whole else []


def _is_receipt(source: SourceSpec, key: str) -> bool:
    return source.receipt is not None and key.endswith(source.receipt)


def _together(uri: str, listed: Sequence[ObjectInfo]) -> ObjectInfo | None:
    if not listed:
        return None
    return ObjectInfo(uri, sum(one.size for one in listed), max(one.modified for one in listed))


def _check(uri: str, data: bytes, receipt: bytes) -> None:
    """Hold a file against its receipt: its size in bytes, or its SHA-256 or MD5 as the usual tools write it.

    Raises:
        FileError: it is cut short or another file, or the receipt is none.
    """
    words = receipt.decode("utf-8", "replace").split()
    told = words[0].lower() if words else ""
    if re.fullmatch(r"\d{1,15}", told):
        if len(data) != int(told):
            short = "cut short: " if len(data) < int(told) else ""
            raise FileError(
                f"{uri}: {short}{len(data):,} bytes where its receipt says {int(told):,}", uri=uri, hint=_AGAIN
            )
    elif re.fullmatch(r"[0-9a-f]{64}|[0-9a-f]{32}", told):
        kind = "sha256" if len(told) == 64 else "md5"
        found = hashlib.new(kind, data, usedforsecurity=False).hexdigest()
        if found != told:
            raise FileError(f"{uri}: its {kind} is {found}, its receipt says {told}", uri=uri, hint=_AGAIN)
    else:
        raise FileError(
            f"{uri}: its receipt says {told[:80]!r}; expected a number of bytes, a SHA-256 or an MD5",
            uri=uri,
            hint="write it as `sha256sum` does",
        )


_AGAIN = "deliver the file again, whole, and its receipt after it"
