"""Partitions that are written from a stream and read in batches, in a folder and on S3."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pyarrow as pa
import pytest

from tasks.domain.run import RunRef
from tasks.errors import PopulationError, SpecError, StorageError, SupersededError
from tasks.lake import Entry, open_lake
from tasks.lake.racing import replace_untouched
from tasks.lake.table import Table
from tasks.settings import Settings
from tests.support.rows import COLUMNS, PARTITION_BY, put, rows, values_of

A, B, C = ("2013-11-03T01+0530", 1), ("2013-11-03T01-0500", 1), ("all", 12)


@pytest.fixture
def table(storage: Settings) -> Table:
    return open_lake(storage).table("demo/predictions")


def files_on_disk(table: Table) -> int:
    return sum(info.key.endswith(".parquet") for info in table.store.list(f"{table.name}/partition_key="))


def replace(table: Table, stream: Callable, pinned: int, *entries: Entry, **changes) -> tuple[int, frozenset]:
    request = {"pinned": pinned, "columns": COLUMNS, "partition_by": PARTITION_BY, "run": RunRef("streamed")}
    return replace_untouched(table, stream=stream, entries={one.key: one for one in entries}, **(request | changes))


def values(*each: int) -> pa.RecordBatch:
    return pa.record_batch({"x": pa.array(each, pa.int64())})  # its partition is the stream's to tell


def test_a_stream_becomes_one_commit_with_a_file_for_each_partition(table: Table) -> None:
    put(table, B, [9])

    def stream(keys: Iterable):
        yield from [(A, values(1, 2)), (A, values(3)), (C, values()), (B, rows(B, 4).to_batches()[0])]

    version, written = replace(table, stream, 1, Entry(A, 3), Entry(B, 1), Entry(C, 0))
    assert (version, written) == (2, {A, B, C})
    assert values_of(table) == {A: [1, 2, 3], B: [4]} and files_on_disk(table) == 3
    assert table.entries()[C].rows == 0
    from deltalake import DeltaTable

    others = DeltaTable(table.uri, storage_options=table.storage_options()).to_pyarrow_table()
    assert sorted(others["partition_key"].to_pylist()) == [A[0]] * 3 + [B[0]]


def test_a_partition_that_is_lost_on_the_way_leaves_the_rest_written_once(table: Table) -> None:
    pinned = put(table, A, [1])
    asked = []

    def stream(keys: Iterable):
        for key in keys:
            asked.append(key)
            yield key, values(2)
            if key == B:
                put(table, B, [7], run="faster")

    version, written = replace(table, stream, pinned, Entry(A, 1), Entry(B, 1), Entry(C, 1))
    assert written == {A, C} and asked == [A, B, C]
    assert values_of(table, version) == {A: [2], B: [7], C: [2]}
    assert files_on_disk(table) == 4  # among them the first one's, which version 1 names


def test_what_is_not_confirmed_when_it_is_written_is_not_published(table: Table) -> None:
    def stream(keys: Iterable):
        return ((key, values(2)) for key in keys)

    pinned = put(table, B, [7])
    _, written = replace(table, stream, pinned, Entry(A, 1), Entry(B, 1), confirm=lambda: [A])
    assert written == {A} and values_of(table) == {A: [2], B: [7]} and files_on_disk(table) == 2

    def refused() -> list:
        raise SupersededError("another champion")

    with pytest.raises(SupersededError, match="another champion"):
        replace(table, stream, table.version(), Entry(C, 1), confirm=refused)
    assert files_on_disk(table) == 2


def test_a_stream_that_breaks_leaves_nothing_behind(table: Table) -> None:
    put(table, A, [1])

    def stream(keys: Iterable):
        yield A, values(2)
        yield B, values(3)
        raise RuntimeError("the model broke")

    with pytest.raises(RuntimeError, match="the model broke"):
        replace(table, stream, 1, Entry(A, 1), Entry(B, 1))
    assert table.version() == 1 and values_of(table) == {A: [1]} and files_on_disk(table) == 1


def test_a_stream_is_counted_before_the_commit(table: Table) -> None:
    put(table, A, [1])
    with pytest.raises(PopulationError, match="has 1 rows, its entry says 2"):
        replace(table, lambda keys: [(A, values(2))], 1, Entry(A, 2))
    with pytest.raises(PopulationError, match="which is not to be replaced"):
        replace(table, lambda keys: [(A, values(2)), (B, values(2))], 1, Entry(A, 1))
    with pytest.raises(SpecError, match="lacks x and has also y"):
        replace(table, lambda keys: [(A, pa.record_batch({"y": [2]}))], 1, Entry(A, 1))
    assert table.version() == 1 and files_on_disk(table) == 1


def test_batches_are_the_rows_of_a_snapshot_in_their_order(table: Table) -> None:
    put(table, A, range(10))
    pinned = put(table, C, range(100, 103))
    put(table, A, [7])
    found = list(table.batches(version=pinned, keys=[C, A], columns=["x"], batch_rows=4))
    assert [(key, batch["x"].to_pylist()) for key, batch in found] == [
        (A, [0, 1, 2, 3]),
        (A, [4, 5, 6, 7]),
        (A, [8, 9]),
        (C, [100, 101, 102]),
    ]
    with pytest.raises(StorageError, match="no column 'z'"):
        list(table.batches(version=pinned, keys=[A], columns=["z"], batch_rows=4))


def test_a_column_that_is_younger_than_a_file_reads_as_null(table: Table) -> None:
    put(table, A, [1])
    wider = COLUMNS.append(pa.field("y", pa.string()))
    data = rows(B, 2).append_column("y", pa.array(["new"]))
    entries = [Entry(B, 1)]
    table.replace(pinned=1, columns=wider, partition_by=PARTITION_BY, data=data, entries=entries, run=RunRef("wider"))
    found = table.batches(version=table.version(), keys=[A, B], columns=["y", "x"], batch_rows=10)
    assert [batch.to_pylist() for _, batch in found] == [[{"y": None, "x": 1}], [{"y": "new", "x": 2}]]
