"""Compaction: a partition in more files than its size needs is written again as few, with the very same rows.

The commit changes no data (Delta's dataChange false) and carries no entry: it touches no partition, so nobody who
pinned an earlier version loses against it, and the state that is read from commits stays as it was. It loses
itself: it names the files that it read, is offered as exactly the version behind one at which just those are the
partition's, and leaves out every partition of which that is no longer so.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa

from tasks.errors import StorageError
from tasks.lake.delta import DataFile, Snapshot
from tasks.lake.log import METADATA, Key, spell
from tasks.lake.publish import ROUNDS, flush_log, pause
from tasks.lake.staging import Staged

if TYPE_CHECKING:
    from tasks.domain.run import RunRef
    from tasks.lake.datafiles import NewFile
    from tasks.lake.table import Table

_AT_ONCE = 100  # partitions of one commit: what a killed compaction has to do again
_BATCH_ROWS = 65_536

Parts = Mapping[Key, Sequence[DataFile]]
"""Partitions and their files."""


@dataclass(frozen=True)
class Compacted:
    """What a compaction did, or would do.

    Attributes:
        partitions: how many partitions were written again.
        files: how many fewer files they lie in.
        left: partitions that somebody else wrote meanwhile.
    """

    partitions: int = 0
    files: int = 0
    left: int = 0


def compact(
    table: Table, *, file_bytes: int, run: RunRef, version: int | None = None, dry_run: bool = False
) -> Compacted:
    """Writes the partitions of a table again that lie in more files than they need.

    Args:
        file_bytes: a file that has so many bytes takes no further rows.
        version: what is looked at, None for the newest; partitions that were written since are left alone.
        dry_run: only says what would be done; how many files it would save is then estimated.

    Raises:
        StorageError: the store failed, or too many others wrote at the same time.
    """
    version = table.version() if version is None else version
    if version < 0:
        return Compacted()
    snapshot = table.snapshot(version)
    scattered = [(key, files) for key, files in _by_key(snapshot.files(None)).items() if _saved(files, file_bytes) > 0]
    if dry_run:
        return Compacted(len(scattered), sum(_saved(files, file_bytes) for _, files in scattered))
    done = Compacted()
    for start in range(0, len(scattered), _AT_ONCE):
        one = _rewrite(table, snapshot, dict(scattered[start : start + _AT_ONCE]), file_bytes, run)
        done = Compacted(done.partitions + one.partitions, done.files + one.files, done.left + one.left)
    return done


def _rewrite(table: Table, snapshot: Snapshot, parts: Parts, file_bytes: int, run: RunRef) -> Compacted:
    def rows(keys: Sequence[Key]) -> Iterator[tuple[Key, pa.RecordBatch]]:
        files = [file for key in keys for file in parts[key]]
        yield from snapshot.batches(files, columns=inside, batch_rows=_BATCH_ROWS)

    columns, by = snapshot.schema, snapshot.partition_by
    inside = [name for name in columns.names if name not in by]
    with Staged(table, columns=columns, partition_by=by, data=rows, most=file_bytes) as staged:
        written: dict[Key, list[NewFile]] = {key: staged.write([key]) for key in parts}
        _check(table, parts, written, by)
        staged.keep([file for files in written.values() for file in files])
        staged.offering()
        landed = _commit(table, snapshot.version, parts, written, run)
        staged.committed([file for key in landed for file in written[key]])
    saved = sum(len(parts[key]) - len(written[key]) for key in landed)
    return Compacted(len(landed), saved, len(parts) - len(landed))


def _check(table: Table, parts: Parts, written: Mapping[Key, list[NewFile]], by: Sequence[str]) -> None:
    for key, files in parts.items():
        had, has = sum(file.rows for file in files), sum(file.rows for file in written[key])
        if had != has:
            raise StorageError(
                f"table {table.name!r}: {spell(by, key)} has {had} rows by its log, {has} in its files",
                hint="nothing was compacted; a data file is not what was committed: restore it",
            )


def _commit(
    table: Table, version: int, parts: Parts, written: Mapping[Key, list[NewFile]], run: RunRef
) -> frozenset[Key]:
    """Offers the commit until it is taken, or none of the partitions lies where it did; the keys that landed."""
    snapshot = table.snapshot(version)
    snapshot.advance()
    for number in range(ROUNDS):
        live = _by_key(snapshot.files(parts))
        ours = frozenset(key for key in parts if _paths(live.get(key, ())) == _paths(written[key]) and written[key])
        left = [key for key, files in parts.items() if _paths(live.get(key, ())) == _paths(files)]
        if ours or not left:  # the answer to our commit was lost, or everybody else was faster
            return ours
        head = snapshot.version
        metadata = {
            "run_id": run.run_id,
            "attempt": run.attempt,
            "actor": run.actor,
            "write_id": uuid.uuid4().hex,
            "recorded_at": datetime.now(UTC).isoformat(),
            "partition_by": list(snapshot.partition_by),
            "compacted": len(left),
        }
        try:
            snapshot.commit(
                add=[file for key in left for file in written[key]],
                remove=[file for key in left for file in parts[key]],
                metadata={METADATA: metadata},
                data_change=False,
            )
            flush_log(table, head + 1)
            return frozenset(left)
        except StorageError:
            snapshot.advance()
            if snapshot.version == head:  # nobody was faster: the store failed
                raise
            pause(number)
        snapshot.advance()
    raise StorageError(
        f"table {table.name!r}: {ROUNDS} commits in a row were taken by other writers",
        hint="run it again at a quieter hour",
    )


def _saved(files: Sequence[DataFile], file_bytes: int) -> int:
    """Files that a partition would lie in fewer, none or less where it is well; after a compaction it is."""
    return len(files) - (sum(file.size for file in files) // file_bytes + 1)


def _by_key(files: Sequence[DataFile]) -> dict[Key, list[DataFile]]:
    found: dict[Key, list[DataFile]] = {}
    for file in files:
        found.setdefault(file.key, []).append(file)
    return found


def _paths(files: Sequence[DataFile] | Sequence[NewFile]) -> set[str]:
    return {file.path for file in files}
