"""What a table does, in a folder and on S3: snapshots, exact replacement, the fence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pyarrow as pa
import pytest

from tasks.domain.run import RunRef
from tasks.errors import PopulationError, SpecError, StorageError, SupersededError, Terminal
from tasks.lake import Entry, open_lake
from tasks.lake.schema import arrow_schema
from tasks.lake.table import Table
from tasks.settings import REPOSITORY, Settings
from tests.support.faulty_proxy import FaultyProxy
from tests.support.rows import COLUMNS, PARTITION_BY, put, rows, values_of
from tests.support.s3 import S3Proxy

A, B, C = ("2013-11-03T01-0400", 1), ("2013-11-03T01-0500", 1), ("all", 12)


@pytest.fixture
def table(storage: Settings) -> Table:
    return open_lake(storage).table("sources/weather/clean")


def files_on_disk(table: Table) -> int:
    return sum(info.key.endswith(".parquet") for info in table.store.list(f"{table.name}/partition_key="))


def replace(table: Table, data: pa.Table | pa.RecordBatchReader, *entries: Entry, run: str = "run") -> int:
    return table.replace(
        pinned=table.version(),
        columns=COLUMNS,
        partition_by=PARTITION_BY,
        data=data,
        entries=entries,
        run=RunRef(run),
    )


def test_an_hour_east_of_greenwich_round_trips_through_our_reader_and_others(table: Table) -> None:
    key = ("2013-11-03T01+0530", 1)
    version = put(table, key, [1, 2, 3])
    assert values_of(table, version) == {key: [1, 2, 3]}
    assert table.read(version=version, keys=[key])["x"].to_pylist() == [1, 2, 3]
    from deltalake import DeltaTable

    others = DeltaTable(table.uri, storage_options=table.storage_options()).to_pyarrow_table()
    assert others["partition_key"].to_pylist() == [key[0]] * 3
    assert values_of(table, put(table, key, [4])) == {key: [4]}


def test_a_table_that_was_never_written_is_empty(table: Table) -> None:
    assert table.version() == -1
    assert table.entries() == {} and table.commits() == [] and table.files(version=-1) == []
    with pytest.raises(StorageError, match="nothing was written"):
        table.read(version=-1)


def test_every_version_stays_readable(table: Table) -> None:
    first = put(table, A, [1, 2], known_at="2013-11-03T06:00:00+00:00")
    second = put(table, B, [3])
    third = put(table, A, [4, 5, 6])
    assert (first, second, third) == (1, 2, 3) and table.version() == 3
    assert values_of(table, first) == {A: [1, 2]}
    assert values_of(table, second) == {A: [1, 2], B: [3]}
    assert values_of(table, third) == {A: [4, 5, 6], B: [3]}
    assert table.entries(second)[A] == Entry(A, 2, {"known_at": "2013-11-03T06:00:00+00:00"})
    assert table.entries() == {A: Entry(A, 3), B: Entry(B, 1)}
    assert [entry.version for entry in table.entries().values()] == [third, second]
    with pytest.raises(StorageError, match="version 9"):
        table.read(version=9)


def test_a_commit_says_who_wrote_what(table: Table) -> None:
    put(table, A, [1], run="score__2013-11-03", attempt=2, model_version=7)
    (commit,) = table.commits(since=0)
    assert (commit.version, commit.run_id, commit.attempt, commit.actor) == (1, "score__2013-11-03", 2, "millrace")
    assert commit.entries == (Entry(A, 1, {"model_version": 7}),)
    assert table.entries()[A].recorded_at == commit.recorded_at and commit.recorded_at.endswith("+00:00")


def test_reading_some_partitions_opens_their_files_only(table: Table) -> None:
    put(table, A, [1, 2])
    version = put(table, B, [3])
    (gone,) = table.files(version=version, keys=[A])
    table.store.delete(f"{table.name}/{gone.path}")
    assert table.read(version=version, keys=[B])["x"].to_pylist() == [3]
    assert table.read(version=version, keys=[B], columns=["revision", "x"]).column_names == ["revision", "x"]
    assert [file.rows for file in table.files(version=version)] == [2, 1]


def test_reading_nothing_has_the_tables_columns(table: Table) -> None:
    put(table, A, [1])
    version = put(table, A, [])
    for empty in (table.read(version=version), table.read(version=1, keys=[]), table.read(version=1, keys=[B])):
        assert empty.schema.equals(COLUMNS) and empty.num_rows == 0
    assert table.entries()[A].rows == 0


def test_one_commit_replaces_several_partitions_in_order(table: Table) -> None:
    put(table, A, [0])
    put(table, C, [9])
    mixed = pa.concat_tables([rows(A, 1), rows(B, 2, 3), rows(A, 4), rows(B, 5)])
    version = replace(table, mixed.to_reader(max_chunksize=1), Entry(B, 3), Entry(A, 2))
    assert version == 3 and values_of(table) == {A: [1, 4], B: [2, 3, 5], C: [9]}


def test_writing_twice_is_the_same_as_writing_once(table: Table) -> None:
    first = put(table, A, [1, 2])
    second = put(table, A, [1, 2])
    assert values_of(table, first) == values_of(table, second)
    assert len(table.files(version=second)) == 1


def test_rows_of_another_partition_are_refused(table: Table) -> None:
    put(table, B, [1])
    with pytest.raises(PopulationError, match="partition_key=2013-11-03T01-0500"):
        replace(table, pa.concat_tables([rows(A, 1), rows(B, 2)]), Entry(A, 1))
    assert table.version() == 1 and values_of(table) == {B: [1]} and files_on_disk(table) == 1


def test_a_wrong_number_of_rows_publishes_nothing(table: Table) -> None:
    put(table, A, [1])
    for data, count in ((rows(A, 2, 3), 3), (rows(A), 1), (rows(A, 2), 0)):
        with pytest.raises(PopulationError, match="its entry says"):
            replace(table, data, Entry(A, count))
    assert table.version() == 1 and values_of(table) == {A: [1]} and files_on_disk(table) == 1


def test_a_stream_that_breaks_publishes_nothing(table: Table) -> None:
    put(table, A, [1])

    def broken():
        yield from rows(A, 2).to_batches()
        raise PopulationError("3 rows in, 2 rows out")

    with pytest.raises(PopulationError, match="3 rows in"):
        replace(table, pa.RecordBatchReader.from_batches(COLUMNS, broken()), Entry(A, 1))
    assert table.version() == 1 and values_of(table) == {A: [1]}


def test_each_column_type_comes_back_as_it_was(table: Table) -> None:
    kinds = ("string", "int", "float", "bool", "date", "timestamp", "local_timestamp")
    columns = arrow_schema({**{f"{kind}_column": kind for kind in kinds}, "partition_key": "string"})
    texts = ["", "1", "1.5", "true", "2013-03-10", "2013-03-10T07:30:00.123456Z", "2013-03-10T02:30:00.123456"]
    full = [pa.array([text, None]).cast(field.type) for text, field in zip(texts, columns, strict=False)]
    data = pa.table([*full, pa.array(["2013-03-10"] * 2)], schema=columns)
    version = table.replace(
        pinned=-1,
        columns=columns,
        partition_by=("partition_key",),
        data=data.set_column(0, "string_column", data["string_column"].dictionary_encode()),
        entries=[Entry(("2013-03-10",), 2)],
        run=RunRef("run"),
    )
    assert table.read(version=version).equals(data)


def test_a_new_column_is_null_in_old_rows_and_another_type_is_refused(table: Table) -> None:
    put(table, A, [1])
    wider = COLUMNS.append(pa.field("y", pa.timestamp("us")))
    data = rows(B, 2).append_column("y", pa.array([0], pa.timestamp("us")))
    request = {"partition_by": PARTITION_BY, "entries": [Entry(B, 1)], "run": RunRef("run"), "pinned": 1}
    version = table.replace(columns=wider, data=data, **request)
    assert table.read(version=version)["y"].is_null().to_pylist() == [True, False]
    put(table, C, [3])  # a writer that does not know the column yet
    assert table.read(version=table.version(), keys=[C])["y"].to_pylist() == [None]
    other = COLUMNS.set(0, pa.field("x", pa.string()))
    with pytest.raises(SpecError, match="'x' is int64, not string"):
        table.replace(columns=other, data=rows(B, 2).cast(other), **{**request, "pinned": table.version()})
    with pytest.raises(SpecError, match="lacks y"):
        table.replace(columns=wider, data=rows(B, 2), **{**request, "pinned": table.version()})
    assert files_on_disk(table) == 3


def test_a_zombie_never_overwrites_its_successor(table: Table) -> None:
    pinned = put(table, A, [1])
    newer = put(table, A, [2], run="successor")
    with pytest.raises(SupersededError, match="run 'successor' at version 2"):
        put(table, A, [3], pinned=pinned, run="zombie")
    assert table.version() == newer and values_of(table) == {A: [2]}


def test_a_zombie_is_refused_where_its_successor_created_the_partition(table: Table) -> None:
    pinned = put(table, A, [1])
    put(table, B, [2], run="successor")
    with pytest.raises(SupersededError):
        put(table, B, [3], pinned=pinned, run="zombie")
    with pytest.raises(SupersededError):
        put(table, B, [3], pinned=-1, run="zombie that saw no table")
    assert values_of(table) == {A: [1], B: [2]}


def test_a_zombie_is_refused_where_its_successor_emptied_the_partition(table: Table) -> None:
    pinned = put(table, A, [1])
    put(table, A, [], run="successor")
    with pytest.raises(SupersededError):
        put(table, A, [3], pinned=pinned, run="zombie")
    assert values_of(table) == {}


def test_an_earlier_attempt_of_the_same_run_is_fenced_when_its_result_differs(table: Table) -> None:
    pinned = put(table, A, [1])
    put(table, A, [2], run="run", attempt=2, digest="two")
    with pytest.raises(SupersededError):
        put(table, A, [3], pinned=pinned, run="run", attempt=1, digest="three")
    assert values_of(table) == {A: [2]}


def test_stale_writers_of_other_partitions_land(table: Table) -> None:
    pinned = put(table, A, [1])
    put(table, B, [2])
    assert put(table, C, [3], pinned=pinned) == 3
    assert values_of(table) == {A: [1], B: [2], C: [3]}


def test_ten_writers_on_ten_partitions_all_land_in_a_new_table(storage: Settings) -> None:
    start = Barrier(10, timeout=60)

    def write(number: int) -> int:
        mine = open_lake(storage).table("flights/predictions")
        start.wait()
        for value in range(2):
            version = put(
                mine, (f"day-{number}", 1), [number, value], pinned=-1 if value == 0 else None, run=f"r{number}"
            )
        return version

    with ThreadPoolExecutor(10) as pool:
        versions = list(pool.map(write, range(10)))
    table = open_lake(storage).table("flights/predictions")
    assert table.version() == max(versions) == 20
    assert values_of(table) == {(f"day-{number}", 1): [number, 1] for number in range(10)}


def test_of_many_writers_of_one_partition_one_wins(storage: Settings) -> None:
    start = Barrier(6, timeout=60)

    def write(number: int) -> int | None:
        mine = open_lake(storage).table("flights/predictions")
        start.wait()
        try:
            put(mine, A, [number], pinned=1, run=f"r{number}")
        except SupersededError:
            return None
        return number

    table = open_lake(storage).table("flights/predictions")
    put(table, B, [0])
    with ThreadPoolExecutor(6) as pool:
        won = [number for number in pool.map(write, range(6)) if number is not None]
    assert len(won) == 1 and table.version() == 2
    assert values_of(table) == {A: won, B: [0]} and files_on_disk(table) == 2


def test_a_column_added_by_two_writers_at_once_is_added(storage: Settings) -> None:
    start = Barrier(4, timeout=60)
    wider = COLUMNS.append(pa.field("y", pa.float64()))

    def write(number: int) -> None:
        mine = open_lake(storage).table("flights/predictions")
        key = (f"day-{number}", 1)
        start.wait()
        mine.replace(
            pinned=1,
            columns=wider,
            partition_by=PARTITION_BY,
            data=rows(key, number).append_column("y", pa.array([float(number)])),
            entries=[Entry(key, 1)],
            run=RunRef(f"r{number}"),
        )

    table = open_lake(storage).table("flights/predictions")
    put(table, A, [7])
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert sorted(table.read(version=table.version(), columns=["y"])["y"].to_pylist(), key=str) == [
        0.0,
        1.0,
        2.0,
        3.0,
        None,
    ]


WRITE_AND_DIE = """
import os, signal, sys
import pyarrow as pa
from pathlib import Path
from tasks.domain.run import RunRef
from tasks.lake import Entry, open_lake
from tasks.settings import Settings
from tests.support.rows import COLUMNS, PARTITION_BY, rows

moment, key, home, lake, endpoint = sys.argv[1:6]
table = open_lake(Settings(home=Path(home), lake=lake, s3_endpoint=endpoint or None)).table("sources/weather/clean")

def batches():
    yield from rows((key, 1), 1, 2).to_batches()
    if moment == "while writing":
        os.kill(os.getpid(), signal.SIGKILL)

table.replace(pinned=1, columns=COLUMNS, partition_by=PARTITION_BY, run=RunRef("run", 1),
              data=pa.RecordBatchReader.from_batches(COLUMNS, batches()),
              entries=[Entry((key, 1), 2, {"digest": "d"})])
os.kill(os.getpid(), signal.SIGKILL)
"""


def die(moment: str, settings: Settings, key: str) -> None:
    program = [
        sys.executable,
        "-c",
        WRITE_AND_DIE,
        moment,
        key,
        settings.home,
        settings.lake,
        settings.s3_endpoint or "",
    ]
    done = subprocess.run(
        program, cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def test_an_attempt_killed_after_its_commit_finds_its_own_result(table: Table, storage: Settings) -> None:
    put(table, B, [0], run="other")
    die("after the commit", storage, A[0])
    put(table, C, [5], run="other")
    assert put(table, A, [1, 2], pinned=1, run="run", attempt=2, digest="d") == 2
    assert table.version() == 3 and values_of(table)[A] == [1, 2] and files_on_disk(table) == 3


def test_an_attempt_killed_while_writing_leaves_nothing_that_is_read(table: Table, storage: Settings) -> None:
    put(table, B, [0], run="other")
    die("while writing", storage, A[0])
    assert table.version() == 1 and values_of(table) == {B: [0]}
    assert put(table, A, [1, 2], pinned=1, run="run", attempt=2, digest="d") == 2
    assert values_of(table) == {A: [1, 2], B: [0]}


def test_a_commit_whose_answer_was_lost_is_recognised(s3_settings: Settings, s3_endpoint: str) -> None:
    table = open_lake(s3_settings).table("flights/predictions")
    put(table, A, [1])
    with S3Proxy(s3_endpoint, lose_answer=f"/_delta_log/{2:020d}.json") as proxy:
        behind = open_lake(s3_settings.model_copy(update={"s3_endpoint": proxy.endpoint})).table("flights/predictions")
        assert put(behind, A, [2], run="me") == 2
        assert len(proxy.lost) == 1
    assert table.version() == 2 and values_of(table) == {A: [2]} and files_on_disk(table) == 2


def test_any_delta_reader_sees_the_same_rows(table: Table, storage: Settings) -> None:
    from deltalake import DeltaTable

    put(table, A, [1, 2])
    put(table, B, [3])
    put(table, A, [4])
    other = DeltaTable(table.uri, storage_options=table.storage_options())
    assert sorted(pa.table(other.scan())["x"].to_pylist()) == [3, 4]
    assert sorted(other.to_pyarrow_table()["x"].to_pylist()) == [3, 4]
    assert other.history(1)[0]["millrace"]["run_id"] == "run"


def test_compaction_touches_no_partition(table: Table) -> None:
    from deltalake import DeltaTable

    put(table, B, [0])
    both = pa.concat_tables([rows(A, *range(100)), rows(A, *range(100, 200))])
    pinned = replace(table, both, Entry(A, 200))
    handle = DeltaTable(table.uri, storage_options=table.storage_options())
    handle.create_write_transaction([], "append", handle.schema(), list(PARTITION_BY))
    DeltaTable(table.uri, storage_options=table.storage_options()).optimize.z_order(["x"])
    assert table.version() > pinned + 1 and table.commits(since=pinned)[-1].touched == frozenset()
    put(table, A, [7], pinned=pinned)
    assert values_of(table) == {A: [7], B: [0]}


def test_another_tools_write_fences_too(table: Table) -> None:
    from deltalake import DeltaTable

    pinned = put(table, A, [1])
    put(table, B, [2])
    DeltaTable(table.uri, storage_options=table.storage_options()).delete("partition_key = '2013-11-03T01-0400'")
    with pytest.raises(SupersededError, match="another tool"):
        put(table, A, [3], pinned=pinned)
    assert values_of(table) == {B: [2]}


def test_the_table_is_not_partitioned_anew(table: Table) -> None:
    put(table, A, [1])
    with pytest.raises(SpecError, match="partitioned by partition_key, revision"):
        table.replace(
            pinned=1,
            columns=COLUMNS,
            partition_by=("partition_key",),
            data=rows(B, 1),
            entries=[Entry((B[0],), 1)],
            run=RunRef("run"),
        )


def test_a_lake_that_went_back_in_time_is_noticed(table: Table, storage: Settings) -> None:
    put(table, A, [1])
    newest = put(table, A, [2])
    table.store.delete(table.log.key(newest))
    with pytest.raises(StorageError, match="behind version 2"):
        put(table, A, [3], pinned=newest)


def test_the_index_is_kept_below_the_home(table: Table, storage: Settings) -> None:
    put(table, A, [1])
    table.entries()
    assert len(list(Path(storage.home, "cache", "state").glob("*/000000.json"))) == 1
    open_lake(storage).drop_state()
    assert open_lake(storage).table(table.name).entries() == {A: Entry(A, 1)}


def test_a_data_file_that_the_store_does_not_give_is_a_transient_error_in_one_line(
    s3_settings: Settings, s3_endpoint: str
) -> None:
    with FaultyProxy(s3_endpoint, seed=1, share=0.0, stall=1.5) as proxy:
        behind = s3_settings.model_copy(update={"s3_endpoint": proxy.endpoint, "s3_timeout": 1.0})
        table = open_lake(behind).table("sources/weather/clean")
        version = put(table, ("2013-11-03", 1), [1])
        snapshot, files = table.snapshot(version), table.files(version=version)
        proxy.share = 1.0
        with pytest.raises(StorageError, match="a data file of version 1 can't be read: ") as told:
            list(snapshot.batches(files, columns=["x"], batch_rows=10))
    assert str(told.value).isprintable() and not isinstance(told.value, Terminal)
