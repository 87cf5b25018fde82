"""Checkpoints: a table's state beside its log, so that opening it takes no longer with its age.

delta-rs writes one behind every hundredth commit. All of them together grow with the square of a table's age, so
of the old ones only the first of each thousand versions is kept: an old version is opened from it and from at most
a thousand commits. A checkpoint is derived from the commits, which stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.lake.table import Table

EVERY = 100
"""Commits that are read at most after the newest checkpoint; delta-rs's own number."""
_KEPT = 1000
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\.parquet")


@dataclass(frozen=True)
class Checkpoints:
    """A table's checkpoints after maintenance, or as they would be.

    Attributes:
        newest: version of the newest; -1 for none.
        deleted: how many were deleted.
        size: their bytes.
    """

    newest: int = -1
    deleted: int = 0
    size: int = 0


def tend(table: Table, *, before: datetime, every: int = EVERY, dry_run: bool = False) -> Checkpoints:
    """Writes a checkpoint where the newest is too old, and thins those out that were written before a moment.

    Args:
        before: aware moment.
        every: commits after the newest checkpoint from which on another is written.
        dry_run: only says what would be done.

    Raises:
        StorageError: the store failed.
    """
    folder = f"{table.name}/_delta_log/"
    infos = {
        int(match[1]): info
        for info in table.store.list(folder)
        if (match := _CHECKPOINT.fullmatch(info.key.removeprefix(folder)))
    }
    newest, version = max(infos, default=-1), table.version()
    if version - newest > every:
        newest = version
        if not dry_run:
            table.snapshot(version).checkpoint()
    kept = {min(group) for group in _by_thousands(infos).values()} | {newest}
    old = [info for number, info in infos.items() if number not in kept and info.modified <= before]
    if not dry_run:
        for info in old:
            table.store.delete(info.key)
    return Checkpoints(newest, len(old), sum(info.size for info in old))


def _by_thousands(versions: Iterable[int]) -> dict[int, list[int]]:
    groups: dict[int, list[int]] = {}
    for version in versions:
        groups.setdefault(version // _KEPT, []).append(version)
    return groups
