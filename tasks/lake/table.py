"""A Delta table: read at a version, written in one way.

A snapshot is a table at a version. Every read names its version; the only write is `replace`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import StorageError
from tasks.lake.credentials import storage_options
from tasks.lake.log import Commit, DeltaLog, Entry, Key
from tasks.lake.objects import ObjectStore
from tasks.lake.state import StateIndex
from tasks.lake.vacuum import standing_files

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset as pads

    from tasks.domain.run import RunRef
    from tasks.lake.delta import DataFile, Snapshot
    from tasks.lake.publish import Took
    from tasks.lake.staging import Staged
    from tasks.settings import Settings

_FEW = 50  # commits that are read from the log at once rather than through the index


class Table:
    """The Delta table at a name below the lake's root; it need not exist."""

    def __init__(self, name: str, *, uri: str, store: ObjectStore, settings: Settings) -> None:
        self.name = name
        self.uri = uri
        self.log = DeltaLog(store, name)
        self.store = store
        self._settings = settings
        digest = hashlib.sha256(uri.encode()).hexdigest()[:16]
        self._index = StateIndex(self.log, settings.home / "cache" / "state" / f"{name.replace('/', '.')}-{digest}")

    def version(self) -> int:
        """The newest version; -1 when the table does not exist."""
        return self.log.version()

    def entries(self, version: int | None = None) -> dict[Key, Entry]:
        """The newest entry of each partition, at a version (None: the newest)."""
        return self._index.entries(self.version() if version is None else version)

    def commits(self, since: int = -1, version: int | None = None) -> list[Commit]:
        """The commits after version `since`, up to `version` (None: the newest)."""
        last = self.version() if version is None else version
        if last - since <= _FEW:
            return self.log.read_range(since + 1, last)
        return self._index.commits(last)[since + 1 :]

    def files(self, *, version: int, keys: Iterable[Key] | None = None) -> list[DataFile]:
        """The data files that hold a snapshot's rows, of all partitions or of some, in the order of keys.

        Raises:
            StorageError: there is no such version; VacuumedError: its rows are no longer kept.
        """
        return standing_files(self, self.snapshot(version), keys) if version >= 0 else []

    def dataset(self, *, version: int, keys: Iterable[Key] | None = None) -> pads.Dataset:
        """A snapshot as an Arrow dataset, lazily read: all partitions, or only the files of some.

        Raises:
            StorageError: there is no such version; VacuumedError: its rows are no longer kept.
        """
        snapshot = self.snapshot(version)
        return snapshot.dataset(standing_files(self, snapshot, keys))

    def read(
        self, *, version: int, keys: Iterable[Key] | None = None, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """A snapshot's rows, in the order of keys and, within one, as they were written.

        Args:
            version: the version that was pinned.
            keys: partitions to read, others' files are not opened; None: all.
            columns: None: all, with the partition columns.

        Raises:
            StorageError: there is no such version; VacuumedError: its rows are no longer kept.
        """
        snapshot = self.snapshot(version)
        with snapshot.reading():
            rows = snapshot.dataset(standing_files(self, snapshot, keys))
            return rows.to_table(columns=None if columns is None else list(columns))

    def batches(
        self, *, version: int, keys: Iterable[Key], columns: Sequence[str], batch_rows: int
    ) -> Iterator[tuple[Key, pa.RecordBatch]]:
        """The rows of `read` as they come, each with its partition's key; memory follows the batch, not the table.

        Args:
            version, keys: see `read`.
            columns: without the partition columns.
            batch_rows: at most so many rows at a time; the compressed row group they come from is held too.

        Raises:
            StorageError: there is no such version, or it has no such column; VacuumedError: its rows are
                no longer kept.
        """
        snapshot = self.snapshot(version)
        return snapshot.batches(standing_files(self, snapshot, keys), columns=columns, batch_rows=batch_rows)

    def replace(
        self,
        *,
        pinned: int,
        columns: pa.Schema,
        partition_by: tuple[str, ...],
        data: pa.Table | pa.RecordBatchReader | Staged,
        entries: Sequence[Entry],
        run: RunRef,
        took: Took | None = None,
    ) -> int:
        """Replaces exactly the partitions that `entries` name, in one atomic commit.

        Args:
            pinned: the version that the data was computed against; -1 when there was no table.
            columns: names and types of all columns; new ones are added to the table.
            partition_by: the partition columns, strings or integers.
            data: the new rows of those partitions, or files that were staged for them.
            entries: one for each partition, with its number of rows.
            run: who writes.
            took: asked at the commit what the run took until then; kept beside the entries, see `Commit`.

        Returns:
            The table's version that holds the rows.

        Raises:
            SupersededError: somebody else wrote one of the partitions since `pinned`.
            PopulationError: rows of other partitions, or not as many as an entry says; nothing is written.
            SpecError: the columns don't fit the table's.
            StorageError: the store failed, or too many others wrote at the same time.
        """
        from tasks.lake.publish import publish
        from tasks.lake.store_check import ensure_checked

        ensure_checked(self._settings)
        return publish(
            self,
            pinned=pinned,
            columns=columns,
            partition_by=partition_by,
            data=data,
            entries=entries,
            run=run,
            took=took,
        )

    def snapshot(self, version: int) -> Snapshot:
        """The table at a version, opened by delta-rs.

        Raises:
            StorageError: there is no such version.
        """
        from tasks.lake.delta import Snapshot

        if version < 0:
            raise StorageError(f"table {self.name!r} has no version {version}: nothing was written to it yet")
        return Snapshot(self.uri, version, self.storage_options())

    def storage_options(self) -> dict[str, str]:
        """What delta-rs needs to reach the table."""
        return storage_options(self.uri, self._settings)

    def upload(self, folder: Path, paths: Iterable[str]) -> None:
        """Puts local files below the table, under the same relative paths."""
        for path in paths:
            self.store.put_file(f"{self.name}/{path}", folder / path)

    def remove_orphans(self, paths: Iterable[str]) -> None:
        """Deletes data files, by path below the table, that no commit names."""
        for path in paths:
            self.store.delete(f"{self.name}/{path}")

    @property
    def folder(self) -> Path | None:
        """The table's folder; None on S3."""
        return None if self.uri.startswith("s3://") else Path(self.uri)

    @property
    def history(self) -> timedelta:
        """How long files stay that no version of the time names."""
        return timedelta(days=self._settings.history_days)

    @property
    def spool(self) -> Path:
        """Where data files lie until they are uploaded."""
        return self._settings.home / "cache" / "spool"
