"""Vacuum: data files that no retained version names are deleted, and what reads an older version then.

A version is retained when it was the newest at some moment of the retention. The files of the first retained
version and those that any later commit added stay; of the others, those that are older than the retention go: files
of versions before, and what killed writers left behind. Nothing of the log is ever deleted. Earlier versions can be
kept by name: of each of their partitions that was replaced since, the files that it last lay in stay too.

Before the first deletion a mark says from which version on all files are there, as an object
`_vacuumed/<version>` beside the data, whose name Delta's readers pass over. A snapshot before the mark takes a
partition whose files are gone from the marked version where no commit touched it in between, since a compaction
leaves the rows as they are; otherwise it takes what the partition last lay in before that commit, if that version
was kept, and if it was not, its rows are gone, and the reader is told so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from tasks.errors import VacuumedError
from tasks.lake.log import Commit, Key, spell

if TYPE_CHECKING:
    from tasks.lake.delta import DataFile, Snapshot
    from tasks.lake.objects import ObjectInfo
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


def vacuum(table: Table, *, before: datetime, keep: Collection[int] = (), dry_run: bool = False) -> Vacuumed:
    """Deletes the data files that are older than `before` and that no version names which was the newest since.

    Args:
        before: aware moment; no run may be at work that began before it.
        keep: earlier versions whose rows stay readable all the same. What an earlier vacuum deleted stays gone.
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
    first = table.snapshot(retained)
    named = {file.path for file in first.files(None)}
    named |= table.log.added(retained + 1, table.version())
    for version in {version for version in keep if 0 <= version < retained}:
        replaced = _replaced(table, version, retained, first.partition_by, table.entries(version))
        named |= {file.path for file in _last_files(table, replaced)}
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
    replaced = _replaced(table, snapshot.version, marked, snapshot.partition_by, moved)
    kept = _last_files(table, replaced)
    _check_there(table, snapshot, replaced, kept)
    compacted = moved - {key for _, keys in replaced for key in keys}
    stayed = [file for file in files if file.key not in moved]
    return in_order(stayed + [file for file in later if file.key in compacted] + kept)


def _replaced(
    table: Table, version: int, last: int, by: Sequence[str], keys: Iterable[Key]
) -> list[tuple[Commit, list[Key]]]:
    """The commits behind `version`, up to `last`, that were the first to touch some of the partitions, and which."""
    names, found = {spell(by, key): key for key in keys}, []
    for commit in table.commits(since=version, version=last):
        touched = [names.pop(name) for name in sorted(commit.touched & names.keys())]
        if touched:
            found.append((commit, touched))
    return found


def _last_files(table: Table, replaced: Iterable[tuple[Commit, list[Key]]]) -> list[DataFile]:
    """The files that partitions lay in when they were replaced: after the last compaction before that.

    Limitation: the table is opened once for each of the commits.
    """
    return [file for commit, keys in replaced for file in table.snapshot(commit.version - 1).files(keys)]


def _check_there(
    table: Table, snapshot: Snapshot, replaced: list[tuple[Commit, list[Key]]], kept: list[DataFile]
) -> None:
    listed = {info.key for info in table.store.list(f"{table.name}/")} if kept else set()
    lost = {file.key for file in kept if f"{table.name}/{file.path}" not in listed}
    for commit, keys in replaced:
        for key in keys:
            if key in lost:
                marked = table.store.list(f"{table.name}/{_MARKS}")[-1]
                vacuumed = marked.modified.isoformat(timespec="seconds")
                raise VacuumedError(
                    f"table {table.name!r}: the rows that {spell(snapshot.partition_by, key)} had at version {snapshot.version} were vacuumed; "
                    f"run {commit.run_id or 'of another tool'!r} replaced them at version {commit.version}",
                    table=table.name,
                    version=snapshot.version,
                    replaced=commit.recorded_at,
                    vacuumed=vacuumed,
                    hint=f"pin again; version {_version_of(marked)} and later ones are whole",
                )


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
    return _version_of(marks[-1]) if marks else 0


def _version_of(mark: ObjectInfo) -> int:
    return int(mark.key.rpartition("/")[2])


def _is_data(path: str) -> bool:
    """Whether a path below the table is a partition's Parquet file: no log, no mark, nothing of another tool's."""
    return path.endswith(".parquet") and not path.startswith(("_", ".")) and "=" in path.partition("/")[0]
