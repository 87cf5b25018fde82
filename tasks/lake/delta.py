"""Delta tables as delta-rs sees them: the only module that knows deltalake.

A snapshot is a table at a version. What is committed through it becomes exactly the next version,
or nothing: delta-rs's own retries are off, since whether to go on after another writer's commit is
decided in `publish`.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tasks.errors import StorageError
from tasks.lake.log import Key

if TYPE_CHECKING:
    import pyarrow.dataset as pads
    import pyarrow.fs as pafs

    from tasks.lake.datafiles import NewFile

_CONFIGURATION = {
    # Commits are the state from which what is due is computed: they are never cleaned.
    "delta.enableExpiredLogCleanup": "false",
    "delta.logRetentionDuration": "interval 36500 days",
    # No column statistics: they would put people's values into the log, beyond the reach of erasure.
    "delta.dataSkippingNumIndexedCols": "0",
}
_NUMBER = re.compile(r"(\d+)")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class DataFile:
    """A Parquet file of a snapshot. The partition columns are not in it: `key` has their values.

    Attributes:
        uri: absolute path, or `s3://…`.
        path: relative to the table.
        key: values of the partition columns.
        rows: number of rows.
        size: bytes.
    """

    uri: str
    path: str
    key: Key
    rows: int
    size: int


class Snapshot:
    """The table at a URI, at one version.

    Raises:
        StorageError: there is no such version, or the store failed.
    """

    def __init__(self, uri: str, version: int, options: Mapping[str, str]) -> None:
        from deltalake import DeltaTable

        self.uri = uri
        self.version = version
        self._options = dict(options)
        with _told(f"table {uri} can't be opened at version {version}"):
            self._table = DeltaTable(uri, version=version, storage_options=self._options)

    @property
    def schema(self) -> pa.Schema:
        return pa.schema(self._table.schema().to_arrow())

    @property
    def partition_by(self) -> tuple[str, ...]:
        return tuple(self._table.metadata().partition_columns)

    def advance(self) -> None:
        """Becomes the newest snapshot; only what was committed since is read."""
        with _told(f"table {self.uri} can't be read behind version {self.version}"):
            self._table.update_incremental()
        self.version = self._table.version()

    def files(self, keys: Iterable[Key] | None) -> list[DataFile]:
        """Data files of some partitions (None: all), in the order of keys and of writing."""
        wanted = None if keys is None else set(keys)
        # pa.table asks whether it is a frame of pandas, and imports that: half a second of each step
        actions = pa.RecordBatchReader.from_stream(self._table.get_add_actions(flatten=True)).read_all()
        found = zip(*(actions[f"partition.{name}"].to_pylist() for name in self.partition_by), strict=True)
        columns = [actions[name].to_pylist() for name in ("path", "num_records", "size_bytes")]
        files = [
            DataFile(f"{self.uri}/{path}", path, key, rows, size)
            for path, rows, size, key in zip(*columns, found, strict=True)
            if wanted is None or key in wanted
        ]
        return in_order(files)

    def dataset(self, files: Sequence[DataFile]) -> pads.Dataset:
        """The rows of files in their order, with the snapshot's columns; they are opened late."""
        import pyarrow.dataset as pads

        layout = pads.ParquetFileFormat(default_fragment_scan_options=pads.ParquetFragmentScanOptions(pre_buffer=True))
        filesystem = self._filesystem(files)
        schema = self.schema
        fragments = []
        for file in files:
            place = None
            for name, value in zip(self.partition_by, file.key, strict=True):
                equal = pads.field(name) == pa.scalar(value, schema.field(name).type)
                place = equal if place is None else place & equal
            fragments.append(layout.make_fragment(file.path, filesystem, partition_expression=place))
        return pads.FileSystemDataset(fragments, schema, layout, filesystem)

    def batches(
        self, files: Sequence[DataFile], *, columns: Sequence[str], batch_rows: int
    ) -> Iterator[tuple[Key, pa.RecordBatch]]:
        """Rows of files in the order of `dataset`, read one row group at a time.

        A dataset's scanner reads several files and row groups ahead, however large they are.
        """
        import pyarrow.parquet as pq

        schema, filesystem = self.schema, self._filesystem(files)
        lacking = [name for name in columns if name not in schema.names]
        if lacking:
            raise StorageError(f"table {self.uri} has no column {lacking[0]!r} at version {self.version}")
        wanted = pa.schema([schema.field(name) for name in columns])
        for file in files:
            with (
                self.reading(),
                filesystem.open_input_file(file.path) as opened,
                pq.ParquetFile(opened, pre_buffer=True) as parquet,
            ):
                for group in range(parquet.num_row_groups):
                    for batch in parquet.iter_batches(batch_rows, row_groups=[group], columns=list(columns)):
                        yield file.key, _conformed(batch, wanted)

    @contextmanager
    def reading(self):
        """Tells of a data file that is gone, or of a store that fails.

        Raises:
            StorageError: names the file and the version.
        """
        from deltalake.exceptions import DeltaError

        try:
            yield
        except FileNotFoundError as error:
            raise StorageError(
                f"table {self.uri} lacks a data file of version {self.version}: {error}",
                hint="was it vacuumed since it was pinned, or by another tool? pin again; else restore the file",
            ) from error
        except (OSError, DeltaError) as error:
            raise StorageError(
                f"table {self.uri}: a data file of version {self.version} can't be read: {_plain(error)}",
                hint="is the store up? run the step again",
            ) from error

    def commit(
        self,
        *,
        add: Sequence[NewFile],
        remove: Sequence[DataFile],
        metadata: dict[str, Any],
        data_change: bool = True,
    ) -> None:
        """Makes the next version of the table.

        Args:
            data_change: False where the rows are those that were there: a compaction.

        Raises:
            StorageError: another writer made it first, or the store failed: then it may or may not be made.
        """
        from deltalake import CommitProperties
        from deltalake.transaction import AddAction, RemoveAction

        now = int(time.time() * 1000)
        adds = [
            AddAction(file.path, file.size, file.values, now, data_change, json.dumps({"numRecords": file.rows}))
            for file in add
        ]
        removes = [
            RemoveAction(
                file.path, data_change, now, file.size, dict(zip(self.partition_by, map(str, file.key), strict=True))
            )
            for file in remove
        ]
        with _told(f"table {self.uri}: version {self.version + 1} was not committed"):
            self._table.create_write_transaction(
                [*adds, *removes],
                "append",  # with the removals named one by one; "overwrite" would look for its own
                self._table.schema(),
                list(self.partition_by),
                commit_properties=CommitProperties(custom_metadata=metadata, max_commit_retries=0),
            )

    def add_columns(self, fields: Sequence[pa.Field]) -> None:
        """Makes the next version, with more columns; they are null in the rows that are there.

        Raises:
            StorageError: as `commit`.
        """
        from deltalake import CommitProperties
        from deltalake.schema import Schema

        new = Schema.from_arrow(pa.schema([field.with_nullable(True) for field in fields])).fields
        with _told(f"table {self.uri}: version {self.version + 1} was not committed"):
            self._table.alter.add_columns(new, commit_properties=CommitProperties(max_commit_retries=0))

    def checkpoint(self) -> None:
        """Writes the snapshot's state beside the log, so that opening it reads no earlier commit.

        Raises:
            StorageError: the store failed.
        """
        with _told(f"table {self.uri}: no checkpoint was written at version {self.version}"):
            self._table.create_checkpoint()

    def _filesystem(self, files: Sequence[DataFile]) -> pafs.FileSystem:
        import pyarrow.fs as pafs

        if not self.uri.startswith("s3://"):
            return pafs.SubTreeFileSystem(self.uri, pafs.LocalFileSystem())
        from deltalake.fs import DeltaStorageHandler

        # delta-rs's own, so with the same credential, and with sizes from the log: no request for each file's.
        sizes = {file.path: file.size for file in files}
        return pafs.PyFileSystem(DeltaStorageHandler.from_table(self._table._table, self._options, sizes))


def in_order(files: Iterable[DataFile]) -> list[DataFile]:
    """Files in the order of keys and, within one, of writing."""
    return sorted(files, key=lambda file: (file.key, _natural(file.path)))


def create_table(uri: str, columns: pa.Schema, partition_by: Sequence[str], options: Mapping[str, str]) -> None:
    """Makes version 0: a table without rows.

    Raises:
        StorageError: it is there already, or the store failed.
    """
    from deltalake import CommitProperties, DeltaTable
    from deltalake.schema import Schema

    with _told(f"table {uri} was not created"):
        DeltaTable.create(
            uri,
            Schema.from_arrow(columns),
            partition_by=list(partition_by),
            configuration=_CONFIGURATION,
            storage_options=dict(options),
            # With retries the loser of two creators would create the table once more, as version 1.
            commit_properties=CommitProperties(max_commit_retries=0),
        )


@contextmanager
def _told(what: str):
    from deltalake.exceptions import DeltaError

    try:
        yield
    except (DeltaError, OSError) as error:
        raise StorageError(f"{what}: {_plain(error)}") from error


def _plain(error: BaseException) -> str:
    """An error in one line: delta-rs draws its causes as a coloured tree."""
    return " ".join(_COLOUR.sub("", str(error)).replace("↳", ":").split()).replace(" : ", ": ")


def _conformed(batch: pa.RecordBatch, wanted: pa.Schema) -> pa.RecordBatch:
    """The batch with the table's columns and types: a file may be older than a column, or another tool's."""
    if batch.schema.equals(wanted):
        return batch
    arrays = [
        batch.column(field.name).cast(field.type)
        if field.name in batch.schema.names
        else pa.nulls(batch.num_rows, field.type)
        for field in wanted
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=wanted)


def _natural(path: str) -> list[str | int]:
    # part-10 comes after part-2: the order in which rows were written. Every second part is a number.
    parts: list[str | int] = _NUMBER.split(path)  # type: ignore[assignment]
    parts[1::2] = map(int, parts[1::2])
    return parts
