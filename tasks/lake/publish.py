"""The one way to write a table, and the fence against zombies.

The proof is short. Data files are written first, and nobody reads them. Then, in rounds: let `head`
be the newest version. Every commit after `pinned` up to `head` is read; if one of them touched a
partition of ours, we have lost. Else the commit is offered as exactly version `head + 1`, a log
object that only one writer can create (delta-rs with a handle at `head` and no retries of its own).
If another writer took it, the next round reads that one too. So between `pinned` and our commit no
commit touches our partitions: a zombie never overwrites its successor, and writers on different
partitions all land.
"""

from __future__ import annotations

import json
import random
import re
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tasks.errors import PopulationError, SpecError, StorageError, SupersededError
from tasks.lake.datafiles import NewFile, flush
from tasks.lake.delta import Snapshot, create_table
from tasks.lake.log import METADATA, Commit, Entry, Key, spell
from tasks.lake.staging import Staged

if TYPE_CHECKING:
    from tasks.domain.run import RunRef
    from tasks.lake.table import Table

ROUNDS = 200
"""Commits in a row that others may take before a writer gives up."""
_LONGEST_PAUSE = 0.5  # seconds
Took = Callable[[], dict[str, Any]]
"""Tells, when a commit is offered, what the run took so far; no part of the entries, so that twins stay the same."""
_PLAIN = re.compile(r"[A-Za-z0-9._+-]+")


def publish(
    table: Table,
    *,
    pinned: int,
    columns: pa.Schema,
    partition_by: tuple[str, ...],
    data: pa.Table | pa.RecordBatchReader | Staged,
    entries: Sequence[Entry],
    run: RunRef,
    took: Took | None = None,
) -> int:
    """See `Table.replace`."""
    _check_request(columns, partition_by, entries)
    if not isinstance(data, Staged):
        with Staged(table, columns=columns, partition_by=partition_by, data=data) as staged:
            return publish(
                table,
                pinned=pinned,
                columns=columns,
                partition_by=partition_by,
                data=staged,
                entries=entries,
                run=run,
                took=took,
            )
    write = _Write(table, pinned, columns, partition_by, entries, run, took)
    done = write.look(table.version())  # before the work: a zombie mostly ends here
    if done is not None:
        return done.version
    write.make_table()
    keys = [entry.key for entry in entries]
    written = data.write(keys)
    write.check_population(written)
    data.keep(written)
    keys = data.confirm(keys)
    if data.refused:
        write.leave(data.refused)
        written = data.write(keys)
    data.offering()
    version, ours = write.commit(written)
    if ours:
        data.committed(written)
    return version


class _Write:
    """One attempt at one commit."""

    def __init__(
        self,
        table: Table,
        pinned: int,
        columns: pa.Schema,
        partition_by: tuple[str, ...],
        entries: Sequence[Entry],
        run: RunRef,
        took: Took | None,
    ) -> None:
        self.table = table
        self.pinned = pinned
        self.seen = pinned  # every commit after `pinned` up to here is known to leave our partitions alone
        self.columns = columns
        self.partition_by = partition_by
        self.entries = {spell(partition_by, entry.key): entry for entry in entries}
        self.run = run
        self.took = took
        self.write_id = uuid.uuid4().hex  # tells our own commit when the answer to it was lost

    def look(self, head: int) -> Commit | None:
        """Reads the commits since the last look.

        Returns:
            The commit that already is this very write, or None.

        Raises:
            SupersededError: another one touched our partitions.
        """
        if head < self.seen:
            raise StorageError(
                f"table {self.table.name!r} is at version {head}, behind version {self.seen} that was pinned",
                hint="was the lake restored or deleted? pin again",
            )
        own = None
        for commit in self.table.commits(since=self.seen, version=head):
            touched = commit.touched & self.entries.keys()
            if touched and not self._is_this(commit):
                raise SupersededError(
                    f"table {self.table.name!r}: {', '.join(sorted(touched)[:3])} was written by "
                    f"run {commit.run_id or 'of another tool'!r} at version {commit.version}, "
                    f"after version {self.pinned} was pinned",
                    hint="nothing to do: the newer result stands",
                )
            own = commit if touched else own
        self.seen = head
        return own

    def make_table(self) -> None:
        """Creates the table if there is none; of two creators the later one finds it there."""
        if self.seen >= 0:
            return
        try:
            create_table(self.table.uri, self.columns, self.partition_by, self.table.storage_options())
        except StorageError:
            if self.table.version() < 0:
                raise

    def check_population(self, written: Sequence[NewFile]) -> None:
        """Compares the rows in the files with what the entries promise."""
        found = dict.fromkeys(self.entries, 0)
        for file in written:
            name = spell(tuple(file.values), file.values.values())
            if name not in found:
                raise PopulationError(
                    f"table {self.table.name!r}: the data has rows of {name}, which is not to be replaced",
                    hint="nothing was written",
                )
            found[name] += file.rows
        for name, entry in self.entries.items():
            if found[name] != entry.rows:
                raise PopulationError(
                    f"table {self.table.name!r}: {name} has {found[name]} rows, its entry says {entry.rows}",
                    hint="nothing was written",
                )

    def leave(self, keys: Collection[Key]) -> None:
        """Has the commit replace all but these partitions."""
        self.entries = {name: entry for name, entry in self.entries.items() if entry.key not in keys}

    def commit(self, written: Sequence[NewFile]) -> tuple[int, bool]:
        """Offers the commit until it is taken or known to be superseded.

        Returns:
            Its version, and whether it names these files: an earlier attempt's holds the same rows in others.
        """
        snapshot = self.table.snapshot(self.table.version())
        for number in range(ROUNDS):
            head = snapshot.version
            done = self.look(head)
            if done is not None:
                return done.version, done.write_id == self.write_id
            missing = self._missing_columns(snapshot)
            try:
                if missing:
                    # A version of its own that touches no partition: columns are only ever added.
                    snapshot.add_columns(missing)
                else:
                    self._offer(snapshot, written)
                    flush_log(self.table, head + 1)
                    return head + 1, True
            except StorageError:
                snapshot.advance()
                if snapshot.version == head:  # nobody was faster: the store failed
                    raise
                pause(number)
            snapshot.advance()
        raise StorageError(
            f"table {self.table.name!r}: {ROUNDS} commits in a row were taken by other writers",
            hint="run the step again, with fewer writers at a time",
        )

    def _is_this(self, commit: Commit) -> bool:
        """Whether a commit is this write: its answer was lost, or an earlier attempt died after it."""
        if commit.write_id == self.write_id:
            return True
        keys = {entry.key: entry for entry in commit.entries}
        return commit.run_id == self.run.run_id and all(
            entry.key in keys and _same(entry, keys[entry.key]) for entry in self.entries.values()
        )

    def _offer(self, snapshot: Snapshot, written: Sequence[NewFile]) -> None:
        """One try to commit as the version behind the snapshot's."""
        old = snapshot.files([entry.key for entry in self.entries.values()])
        metadata = {
            "run_id": self.run.run_id,
            "attempt": self.run.attempt,
            "actor": self.run.actor,
            "write_id": self.write_id,
            "recorded_at": datetime.now(UTC).isoformat(),
            "partition_by": list(self.partition_by),
            "entries": [
                {"key": list(entry.key), "rows": entry.rows, "meta": entry.meta} for entry in self.entries.values()
            ],
        }
        if self.took is not None:
            metadata["took"] = self.took()
        snapshot.commit(add=written, remove=old, metadata={METADATA: metadata})

    def _missing_columns(self, snapshot: Snapshot) -> list[pa.Field]:
        there = snapshot.schema
        if snapshot.partition_by != self.partition_by:
            raise SpecError(
                f"table {self.table.name!r} is partitioned by {', '.join(snapshot.partition_by)}, "
                f"not by {', '.join(self.partition_by)}"
            )
        for field in self.columns:
            if field.name in there.names and there.field(field.name).type != field.type:
                raise SpecError(
                    f"table {self.table.name!r}: column {field.name!r} is {there.field(field.name).type}, "
                    f"not {field.type}",
                    hint="give the column of another type another name",
                )
        return [field for field in self.columns if field.name not in there.names]


def flush_log(table: Table, version: int) -> None:
    """Has a commit reach the disk."""
    # delta-rs leaves it to the system when that happens; acknowledged means it did.
    if table.folder is not None:
        flush(table.folder / "_delta_log" / f"{version:020d}.json")
        flush(table.folder / "_delta_log")


def pause(number: int) -> None:
    """Lets others go first after the `number`-th round that another writer won."""
    time.sleep(random.uniform(0, min(_LONGEST_PAUSE, 0.01 * 2 ** min(number, 10))))


def _same(entry: Entry, other: Entry) -> bool:
    if entry.rows != other.rows:
        return False
    if "digest" in entry.meta and "digest" in other.meta:
        return entry.meta["digest"] == other.meta["digest"]
    return json.loads(json.dumps(entry.meta)) == other.meta


def _check_request(columns: pa.Schema, partition_by: tuple[str, ...], entries: Sequence[Entry]) -> None:
    """Refuses what only a mistake in the calling code can ask for."""
    if not entries or not partition_by:
        raise ValueError("expected at least one entry and one partition column")
    if len({entry.key for entry in entries}) < len(entries):
        raise ValueError("a partition is named by two entries")
    for name in partition_by:
        if name not in columns.names or not (
            pa.types.is_string(columns.field(name).type) or pa.types.is_integer(columns.field(name).type)
        ):
            raise ValueError(f"partition column {name!r}: expected it among the columns, as string or integer")
    for entry in entries:
        for name, value in zip(partition_by, entry.key, strict=True):
            kind = str if pa.types.is_string(columns.field(name).type) else int
            # Other characters would need escapes in paths, which Delta readers undo in different ways.
            if type(value) is not kind or not _PLAIN.fullmatch(str(value)):
                raise ValueError(f"key {entry.key}: {name} must be a plain {kind.__name__}, found {value!r}")
        json.dumps(entry.meta, allow_nan=False)  # ValueError or TypeError before any work, not after
