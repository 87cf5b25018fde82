"""Vacuum: data files that no retained version names are deleted, and what reads an older version then.

A version is retained when it was the newest at some moment of the retention. The files of the first retained
version and those that any later commit added stay; of the others, those that are older than the retention go: files
of versions before, and what killed writers left behind. Nothing of the log is ever deleted.

Before the first deletion a mark says from which version on all files are there, as an object
`_vacuumed/<version>` beside the data, whose name Delta's readers pass over. A snapshot before the mark takes a
partition whose files are gone from the marked version where no commit touched it in between, since a compaction
leaves the rows as they are; otherwise its rows are gone, and the reader is told so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from tasks.errors import VacuumedError
from tasks.lake.log import Key, spell

if TYPE_CHECKING:
    from tasks.lake.delta import DataFile, Snapshot
    from tasks.lake.table import Table

_MARKS = "_vacuumed/"


@dataclass(frozen=True)
class Vacuumed:
    """What a vacuum deleted, or would delete.

    Attributes:
        paths: data files, relative to the table.
        size: their bytes.
    """

    paths: tuple[str, ...] = ()
    size: int = 0


def vacuum(table: Table, *, before: datetime, dry_run: bool = False) -> Vacuumed:
    """Deletes the data files that are older than `before` and that no version names which was the newest since.

    Args:
        before: aware moment; no run may be at work that began before it.
        dry_run: only says what would be deleted.

    Raises:
        StorageError: the store failed; what was deleted until then is no loss.
    """
    store, top = table.store, f"{table.name}/"
    # Before the log is read: what a commit names that comes in between is in the listing of the log.
    listed = [info for info in store.list(top) if info.modified <= before and _is_data(info.key.removeprefix(top))]
    retained = _first_retained(table, before)
    if not listed or retained < 0:
        return Vacuumed()
    named = {file.path for file in table.snapshot(retained).files(None)}
    named |= table.log.added(retained + 1, table.version())
    doomed = [info for info in listed if info.key.removeprefix(top) not in named]
    found = Vacuumed(tuple(info.key.removeprefix(top) for info in doomed), sum(info.size for info in doomed))
    if doomed and not dry_run:
        _mark(table, retained)
        for info in doomed:
            store.delete(info.key)
    return found


def standing_files(table: Table, snapshot: Snapshot, keys: Iterable[Key] | None) -> list[DataFile]:
    """The files that hold the rows of a snapshot's partitions (None: all), whatever was compacted and vacuumed since.

    Raises:
        VacuumedError: a partition was replaced since, and its rows were deleted.
    """
    from tasks.lake.delta import in_order

    files = snapshot.files(keys)
    marked = _marked(table)
    if snapshot.version >= marked:
        return files
    later = table.snapshot(marked).files({file.key for file in files})
    there = {file.path for file in later}
    moved = {file.key for file in files if file.path not in there}
    if not moved:
        return files
    names = {spell(snapshot.partition_by, key): key for key in moved}
    for commit in table.commits(since=snapshot.version, version=marked):
        for name in sorted(commit.touched & names.keys()):
            raise VacuumedError(
                f"table {table.name!r}: the rows that {name} had at version {snapshot.version} were vacuumed; "
                f"run {commit.run_id or 'of another tool'!r} replaced them at version {commit.version}",
                hint=f"pin again; version {marked} and later ones are whole",
            )
    stayed = [file for file in files if file.key not in moved]
    return in_order(stayed + [file for file in later if file.key in moved])


def _first_retained(table: Table, before: datetime) -> int:
    """The newest version when `before` was the present; 0 when the table is younger, -1 when there is none."""
    moments = table.log.moments()
    later = [version for version, moment in moments.items() if moment > before]
    return max(min(later, default=max(moments, default=-1) + 1) - 1, 0 if moments else -1)


def _mark(table: Table, version: int) -> None:
    # One object for each version, the greatest counts: of two vacuums at once none takes back what the other says.
    table.store.put_if_absent(f"{table.name}/{_MARKS}{version:020d}", b"")
    for info in table.store.list(f"{table.name}/{_MARKS}"):
        if info.key < f"{table.name}/{_MARKS}{version:020d}":
            table.store.delete(info.key)


def _marked(table: Table) -> int:
    marks = table.store.list(f"{table.name}/{_MARKS}")
    return int(marks[-1].key.rpartition("/")[2]) if marks else 0


def _is_data(path: str) -> bool:
    """Whether a path below the table is a partition's Parquet file: no log, no mark, nothing of another tool's."""
    return path.endswith(".parquet") and not path.startswith(("_", ".")) and "=" in path.partition("/")[0]
