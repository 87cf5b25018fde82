"""Named bytes in a folder, behind the few operations that a folder and S3 share.

Keys are relative texts with slashes, as on S3. Writes are atomic: a reader sees all of an object
or none of it, and what was acknowledged survives a crash of the machine.
"""

from __future__ import annotations

import io
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from tasks.errors import StorageError

if TYPE_CHECKING:
    from tasks.settings import Settings


@dataclass(frozen=True)
class ObjectInfo:
    """What a listing says of an object.

    Attributes:
        key: its name in the store.
        size: bytes.
        modified: aware UTC moment of its last write; whole seconds on S3.
    """

    key: str
    size: int
    modified: datetime


class ObjectStore(Protocol):
    """A folder or a bucket. A missing key raises FileNotFoundError, a failing store StorageError."""

    def get(self, key: str) -> bytes: ...

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """So many bytes, at least one, from the place `start`, which the object has; fewer only where it ends."""

    def put(self, key: str, data: bytes) -> None:
        """Writes the object, replacing one that is there."""

    def put_file(self, key: str, path: Path) -> None:
        """As `put`, with the bytes of a local file of any size."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Writes the object unless the key is taken; of any number of writers exactly one gets True."""

    def head(self, key: str) -> ObjectInfo | None:
        """What a listing would say of this one object; None when it isn't there."""

    def exists(self, key: str) -> bool: ...

    def list(self, prefix: str = "", *, after: str = "") -> list[ObjectInfo]:
        """Objects whose key begins with `prefix` and sorts behind `after`, in the order of keys."""

    def delete(self, key: str) -> None:
        """Removes the object; a missing one is no error."""

    def sweep(self, before: datetime, *, dry_run: bool = False) -> int:
        """Removes what killed writers left of writes that they began before a moment; how many such writes."""


class FolderStore:
    """Objects as files below a folder.

    A write goes to a temporary name, is flushed to the disk and then renamed (or hard-linked, where
    it must be the first), so neither a crash nor a second writer leaves half an object.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    def get(self, key: str) -> bytes:
        path = self._path(key)
        with _told(path):
            return path.read_bytes()

    def get_range(self, key: str, start: int, length: int) -> bytes:
        path = self._path(key)
        with _told(path), open(path, "rb") as file:
            file.seek(start)
            return file.read(length)

    def put(self, key: str, data: bytes) -> None:
        path = self._path(key)
        with _told(path):
            os.replace(_write_beside(path, data), path)
            _flush_folder(path.parent)

    def put_file(self, key: str, path: Path) -> None:
        target = self._path(key)
        with _told(target), open(path, "rb") as source:
            os.replace(_write_beside(target, source), target)
            _flush_folder(target.parent)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        path = self._path(key)
        with _told(path):
            temporary = _write_beside(path, data)
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            finally:
                temporary.unlink()
            _flush_folder(path.parent)
            return True

    def head(self, key: str) -> ObjectInfo | None:
        path = self._path(key)
        try:
            with _told(path):
                stat = path.stat()
        except FileNotFoundError:
            return None
        return None if path.is_dir() else _info(key, stat)

    def exists(self, key: str) -> bool:
        return self.head(key) is not None

    def list(self, prefix: str = "", *, after: str = "") -> list[ObjectInfo]:
        folder = prefix.rpartition("/")[0]
        top = self._path(folder) if folder else self.root
        with _told(top):
            found = _walk(top, f"{folder}/" if folder else "", prefix, after)
            return sorted(found, key=lambda info: info.key)

    def delete(self, key: str) -> None:
        path = self._path(key)
        with suppress(FileNotFoundError), _told(path):
            path.unlink()

    def sweep(self, before: datetime, *, dry_run: bool = False) -> int:
        count = 0
        with _told(self.root):
            for folder, _, names in os.walk(self.root):
                for name in filter(_is_temporary, names):
                    file = Path(folder, name)
                    with suppress(FileNotFoundError):  # its writer has just ended
                        if file.stat().st_mtime < before.timestamp():
                            count += 1
                            if not dry_run:
                                file.unlink()
        return count

    def _path(self, key: str) -> Path:
        if not key or any(part in ("", ".", "..") for part in key.split("/")):
            raise ValueError(f"{key!r} is no object key: expected names joined by single slashes")
        return self.root / key


class UriStore:
    """Objects by absolute URI: `/folder/file`, `file:///folder/file` or `s3://bucket/key`.

    The landing zone is read through it: a source's `uri` may point anywhere.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stores: dict[str, ObjectStore] = {}

    def get(self, key: str) -> bytes:
        store, _, inner = self._locate(key)
        return store.get(inner)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        store, _, inner = self._locate(key)
        return store.get_range(inner, start, length)

    def put(self, key: str, data: bytes) -> None:
        store, _, inner = self._locate(key)
        store.put(inner, data)

    def put_file(self, key: str, path: Path) -> None:
        store, _, inner = self._locate(key)
        store.put_file(inner, path)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        store, _, inner = self._locate(key)
        return store.put_if_absent(inner, data)

    def head(self, key: str) -> ObjectInfo | None:
        store, base, inner = self._locate(key)
        info = store.head(inner)
        return info and replace(info, key=base + info.key)

    def exists(self, key: str) -> bool:
        store, _, inner = self._locate(key)
        return store.exists(inner)

    def list(self, prefix: str = "", *, after: str = "") -> list[ObjectInfo]:
        store, base, inner = self._locate(prefix)
        infos = store.list(inner, after=self._locate(after)[2] if after else "")
        return [replace(info, key=base + info.key) for info in infos]

    def delete(self, key: str) -> None:
        store, _, inner = self._locate(key)
        store.delete(inner)

    def _locate(self, uri: str) -> tuple[ObjectStore, str, str]:
        if uri.startswith("s3://"):
            bucket, _, key = uri.removeprefix("s3://").partition("/")
            if bucket not in self._stores:
                self._stores[bucket] = open_store(f"s3://{bucket}", self._settings)
            return self._stores[bucket], f"s3://{bucket}/", key
        path = unquote(urlsplit(uri).path) if uri.startswith("file://") else uri
        if not path.startswith("/"):
            raise ValueError(f"{uri!r} is no absolute URI: expected /folder/file, file:// or s3://bucket/key")
        return self._stores.setdefault("/", FolderStore("/")), "/", path.lstrip("/")


def open_store(uri: str, settings: Settings) -> ObjectStore:
    """The store at a root: an absolute folder or `s3://bucket/prefix`; connects when first used."""
    if uri.startswith("s3://"):
        from tasks.lake.s3 import S3Store

        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        return S3Store(bucket, prefix, settings)
    return FolderStore(uri)


@contextmanager
def _told(path: Path):
    """Turns the system's errors into ours; a missing file stays FileNotFoundError."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (IsADirectoryError, NotADirectoryError) as error:
        raise FileNotFoundError(f"there is no object {path}") from error
    except OSError as error:
        raise StorageError(
            f"{path}: {error.strerror or error}", hint="check the disk and who owns the folder"
        ) from error


def _walk(folder: Path, base: str, prefix: str, after: str) -> Iterator[ObjectInfo]:
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        key = base + entry.name
        if entry.is_dir():
            below = key + "/"
            # Only folders that can hold keys with the prefix are opened.
            if below.startswith(prefix) or prefix.startswith(below):
                yield from _walk(Path(entry.path), below, prefix, after)
        elif key.startswith(prefix) and key > after and not _is_temporary(entry.name):
            try:
                yield _info(key, entry.stat())
            except FileNotFoundError:  # deleted since the folder was read
                continue


def _info(key: str, stat: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key, stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC))


def _is_temporary(name: str) -> bool:
    return name.startswith(".") and name.endswith(".tmp")


def _write_beside(path: Path, data: bytes | BinaryIO) -> Path:
    _make_folder(path.parent)
    temporary = path.parent / f".{uuid.uuid4().hex}.tmp"
    try:
        with open(temporary, "xb") as file:
            shutil.copyfileobj(io.BytesIO(data) if isinstance(data, bytes) else data, file, 1 << 20)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _flush_folder(folder.parent)


def _flush_folder(folder: Path) -> None:
    # A name is durable only once its folder is: without this a crash can undo an acknowledged write.
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
