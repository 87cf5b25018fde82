"""Small tables of rows for tests of the lake."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa

from tasks.domain.run import RunRef
from tasks.lake import Entry
from tasks.lake.datafiles import write_partition
from tasks.lake.log import Key
from tasks.lake.table import Table

COLUMNS = pa.schema([("x", pa.int64()), ("partition_key", pa.string()), ("revision", pa.int64())])
PARTITION_BY = ("partition_key", "revision")


def rows(key: tuple[str, int], *values: int) -> pa.Table:
    """Rows of one partition, with `x` as given."""
    count = len(values)
    return pa.table({"x": list(values), "partition_key": [key[0]] * count, "revision": [key[1]] * count}, COLUMNS)


def put(
    table: Table,
    key: tuple[str, int],
    values: Sequence[int],
    *,
    pinned: int | None = None,
    run: str = "run",
    attempt: int = 1,
    **meta: object,
) -> int:
    """Replaces one partition; pinned at the newest version unless told otherwise."""
    return table.replace(
        pinned=table.version() if pinned is None else pinned,
        columns=COLUMNS,
        partition_by=PARTITION_BY,
        data=rows(key, *values),
        entries=[Entry(key, len(values), meta)],
        run=RunRef(run, attempt),
    )


def values_of(table: Table, version: int | None = None) -> dict[tuple[str, int], list[int]]:
    """The values of `x` by partition, in the order in which they are read."""
    found: dict[tuple[str, int], list[int]] = {}
    for row in table.read(version=table.version() if version is None else version).to_pylist():
        found.setdefault((row["partition_key"], row["revision"]), []).append(row["x"])
    return found


def put_scattered(table: Table, key: tuple[str, int], values: Sequence[int], *, run: str = "run") -> int:
    """As `put`, a data file for each value."""
    version = put(table, key, values, run=run)
    scatter(table)
    return version


def scatter(table: Table, rows: int = 1) -> None:
    """Has so many rows lie in a data file, in the order of before: what a compaction undoes."""
    snapshot = table.snapshot(table.version())
    old, new = snapshot.files(None), []
    inside = [name for name in snapshot.schema.names if name not in snapshot.partition_by]
    with TemporaryDirectory() as spool:
        folder = table.folder or Path(spool)
        batches = snapshot.batches(old, columns=inside, batch_rows=rows)
        for number, (key, batch) in enumerate(batches):
            values = dict(zip(snapshot.partition_by, key, strict=True))
            write_partition(
                [batch], values=values, columns=snapshot.schema, folder=folder, number=number, written=new.append
            )
        if table.folder is None:
            table.upload(folder, [file.path for file in new])
    snapshot.commit(add=new, remove=old, metadata={}, data_change=False)


def replace_again(table: Table, key: Key) -> int:
    """Commits a partition's own rows anew, as a run that computed them again would."""
    pinned = table.version()
    same = table.read(version=pinned, keys=[key])
    return table.replace(
        pinned=pinned,
        columns=same.schema,
        partition_by=table.snapshot(pinned).partition_by,
        data=same,
        entries=[Entry(key, same.num_rows, table.entries()[key].meta)],
        run=RunRef("again"),
    )


def later(days: int) -> datetime:
    """A moment that many days from now."""
    return datetime.now(UTC) + timedelta(days=days)
