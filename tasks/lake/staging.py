"""The data files of one write while no commit names them: written once, however often a commit is tried."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pyarrow as pa

from tasks.errors import PopulationError, SpecError, StorageError, SupersededError
from tasks.lake.datafiles import NewFile, flush_files, write_files, write_partition
from tasks.lake.log import Key, spell

if TYPE_CHECKING:
    from tasks.lake.table import Table

Stream = Callable[[Sequence[Key]], Iterable[tuple[Key, pa.RecordBatch]]]
"""Gives the rows of partitions as they come, each partition's together; its key columns may be left out."""

Confirm = Callable[[], Collection[Key]]
"""Asked when the rows are written and before the commit: the partitions that may be published still."""


class Staged:
    """Files of one write; a context manager that deletes those which no commit names, nor ever will.

    Args:
        table: the table to be written.
        columns: names and types of all columns.
        partition_by: the partition columns.
        data: all rows at once, or a stream that is asked only for partitions that are still to be written.
        confirm: see `Confirm`; left out, all may be published.
        most: bytes from which on the rows of a stream's partition go into another file; None: one file.

    Attributes:
        refused: the partitions that were not confirmed when it was last asked.
    """

    def __init__(
        self,
        table: Table,
        *,
        columns: pa.Schema,
        partition_by: tuple[str, ...],
        data: pa.Table | pa.RecordBatchReader | Stream,
        confirm: Confirm | None = None,
        most: int | None = None,
    ) -> None:
        self.refused: frozenset[Key] = frozenset()
        self._confirm = confirm
        self._most = most
        self._table = table
        self._columns = columns
        self._partition_by = partition_by
        self._data = data
        self._written: dict[str, list[NewFile]] = {}  # by the partition as `spell` names it
        self._kept: set[str] = set()
        self._committed: set[str] = set()
        self._began = time.time()  # the system's clock: it goes on while the machine sleeps
        self._uncertain = False  # a commit was offered and its answer is not known
        self._spool: TemporaryDirectory | None = None

    def __enter__(self) -> Staged:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        known = kind is None or issubclass(kind, PopulationError | SupersededError | SpecError)
        if known or not self._uncertain:
            self._drop()
        if self._spool is not None:
            self._spool.cleanup()

    def write(self, keys: Sequence[Key]) -> list[NewFile]:
        """The files of partitions, written where they are not yet.

        Raises:
            SpecError: the data's columns are not the table's.
            StorageError: the disk is full or refuses.
        """
        names = {key: spell(self._partition_by, key) for key in keys}
        todo = [key for key, name in names.items() if name not in self._written]
        if todo and callable(self._data):
            self._written |= {names[key]: [] for key in todo}
            self._write_stream(todo)
        elif todo:
            self._written |= {name: [] for name in names.values()}
            for file in write_files(
                self._data, columns=self._columns, partition_by=self._partition_by, folder=self._folder
            ):
                self._written.setdefault(spell(tuple(file.values), file.values.values()), []).append(file)
        wanted = self._written if not callable(self._data) else names.values()
        return [file for name in wanted for file in self._written[name]]

    def keep(self, files: Sequence[NewFile]) -> None:
        """Has files be where the table's are, before a commit names them."""
        new = [file for file in files if file.path not in self._kept]
        if self._table.folder is not None:
            flush_files(self._folder, new)
        else:
            self._table.upload(self._folder, [file.path for file in new])
        self._kept |= {file.path for file in new}

    def confirm(self, keys: Sequence[Key]) -> list[Key]:
        """Those of the partitions that may be published still.

        Raises:
            SupersededError: none of them.
        """
        allowed = keys if self._confirm is None else self._confirm()
        confirmed = [key for key in keys if key in allowed]
        self.refused = frozenset(keys) - frozenset(confirmed)
        if not confirmed:
            raise SupersededError(f"table {self._table.name!r}: none of the partitions may be published any more")
        return confirmed

    def offering(self) -> None:
        """From here to `committed` or a known loss, nobody can say whether a commit names the files.

        Raises:
            StorageError: they were begun longer ago than a vacuum lets files be that no commit names.
        """
        if time.time() - self._began > self._table.history.total_seconds():
            raise StorageError(
                f"table {self._table.name!r}: the rows were begun more than {self._table.history} ago, and a vacuum may "
                "have taken their files for a killed run's",
                hint="nothing was written; run the step again, and set history_days above what it takes",
            )
        self._uncertain = True

    def committed(self, files: Sequence[NewFile]) -> None:
        """These files are named by a commit."""
        self._committed |= {file.path for file in files}

    def _write_stream(self, keys: Sequence[Key]) -> None:
        wanted = set(keys)
        for key, rows in groupby(self._data(keys), key=itemgetter(0)):
            if key not in wanted:
                raise PopulationError(
                    f"table {self._table.name!r}: rows of {spell(self._partition_by, key)} came, which is not to be replaced",
                    hint="nothing was written",
                )
            files = self._written[spell(self._partition_by, key)]
            batches: Iterator[pa.RecordBatch] = (batch for _, batch in rows)
            while (first := next(batches, None)) is not None:
                write_partition(
                    chain([first], batches),
                    values=dict(zip(self._partition_by, key, strict=True)),
                    columns=self._columns,
                    folder=self._folder,
                    number=len(files),
                    written=files.append,
                    most=self._most,
                )

    @property
    def _folder(self) -> Path:
        """The table's own folder, or a spool whose files are uploaded."""
        if self._table.folder is not None:
            return self._table.folder
        if self._spool is None:
            self._table.spool.mkdir(parents=True, exist_ok=True)
            self._spool = TemporaryDirectory(dir=self._table.spool)
        return Path(self._spool.name)

    def _drop(self) -> None:
        paths = [file.path for files in self._written.values() for file in files if file.path not in self._committed]
        with suppress(StorageError):  # what stays behind, no reader sees
            self._table.remove_orphans(path for path in paths if self._table.folder is not None or path in self._kept)
