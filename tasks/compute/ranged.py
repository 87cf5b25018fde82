"""A file in a store, of which only the asked-for bytes travel: to a reader of Parquet it is a file like any other."""

from __future__ import annotations

import io
from typing import Protocol


class Sized(Protocol):
    """What is known of an object without its bytes."""

    @property
    def size(self) -> int: ...


class Store(Protocol):
    """Where a file's bytes are, by key; it travels to the workers by pickle."""

    def head(self, key: str) -> Sized | None: ...

    def get_range(self, key: str, start: int, length: int) -> bytes: ...


class RangedFile(io.RawIOBase):
    """An object as a file that is read and never written; each read is one request for that range.

    Raises:
        FileNotFoundError: there is no such object.
    """

    def __init__(self, store: Store, key: str) -> None:
        found = store.head(key)
        if found is None:
            raise FileNotFoundError(f"there is no object {key}")
        self._store, self._key, self._size, self._at = store, key, found.size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._size - self._at)
        length = left if size is None or size < 0 else min(size, left)
        if not length:
            return b""
        data = self._store.get_range(self._key, self._at, length)
        self._at += len(data)
        return data
