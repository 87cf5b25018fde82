"""Scratch folders of trainings: one for each process, gone when it ends, however it ends."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """A folder of this process's own, gone at the end; what killed processes left goes with it.

    A living process holds a lock on its folder's file `.lock`, which the system frees when it dies. Folders are
    made and swept under one lock beside `parent`, so that one whose file nobody has locked is a dead process's.
    """
    parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        with _locked(parent.with_name(f"{parent.name}.lock")):
            for old in parent.iterdir():
                if not _in_use(old):
                    shutil.rmtree(old, ignore_errors=True)  # its last processes may be at their end, and still write
            folder = Path(held.enter_context(tempfile.TemporaryDirectory(dir=parent, ignore_cleanup_errors=True)))
            held.enter_context(_locked(folder / ".lock"))
        yield folder


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    with open(file, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _in_use(folder: Path) -> bool:
    try:
        with open(folder / ".lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # killed before it had one, or just going by itself
        return False
    return False
