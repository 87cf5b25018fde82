"""Small tables of rows for tests of the lake."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from tasks.domain.run import RunRef
from tasks.lake import Entry
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
