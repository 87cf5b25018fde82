"""Refuses a store that would lose commits.

Delta's log and the champion ledger rest on one thing: of two writers of a new key, one loses. A
store that ignores `If-None-Match: *` lets both win, silently, so it is found out before the first
real write.
"""

from __future__ import annotations

import errno
import hashlib
import uuid
from typing import TYPE_CHECKING

from tasks.errors import StorageError, UnsafeStoreError
from tasks.lake.objects import open_store

if TYPE_CHECKING:
    from tasks.settings import Settings


def ensure_checked(settings: Settings) -> None:
    """Check the lake's store before the first write from this home; later calls only look at the note of it."""
    digest = hashlib.sha256(f"{settings.lake_uri} {settings.s3_endpoint}".encode()).hexdigest()[:16]
    note = settings.home / "cache" / "store" / digest
    if not note.exists():
        check_store(settings)
        note.parent.mkdir(parents=True, exist_ok=True)
        note.touch()


def check_store(settings: Settings) -> None:
    """Puts one new key twice below the lake's root; the second put must lose.

    Raises:
        UnsafeStoreError: both were taken, or the store can't do conditional puts.
        StorageError: the store can't be reached, or the bucket isn't there.
    """
    root = settings.lake_uri
    store = open_store(root, settings)
    key = f"_store_check/{uuid.uuid4().hex}"
    hint = "use a store with atomic conditional puts: AWS S3, Ceph, SeaweedFS 4.20 or later, or a local folder"
    try:
        first = store.put_if_absent(key, b"first")
        second = store.put_if_absent(key, b"second")
        kept = store.get(key)
    except FileNotFoundError as error:
        raise StorageError(f"the store at {root} lost a key that it had just taken", hint=hint) from error
    except StorageError as error:
        if _is_refusal(error):
            raise UnsafeStoreError(
                f"the store at {root} can't put a key only once: {error.message}", hint=hint
            ) from error
        raise
    store.delete(key)
    if not first or second or kept != b"first":
        raise UnsafeStoreError(f"the store at {root} let two writers win the same key", hint=hint)


def _is_refusal(error: StorageError) -> bool:
    """Whether the store answered that it has no such thing, rather than that it has trouble just now."""
    cause = error.__cause__
    if isinstance(cause, OSError):  # a file system without hard links
        return cause.errno in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)
    response = getattr(cause, "response", None) or {}
    return response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 501
