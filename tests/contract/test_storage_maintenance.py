"""Compaction, vacuum and checkpoints, in a folder and on S3: files become fewer, rows and entries stay."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from threading import Barrier

import numpy as np
import pyarrow as pa
import pytest

from tasks.domain.run import RunRef
from tasks.errors import StorageError, SupersededError, VacuumedError
from tasks.lake import Entry, open_lake
from tasks.lake.checkpoints import tend
from tasks.lake.compact import Compacted, compact
from tasks.lake.staging import Staged
from tasks.lake.table import Table
from tasks.lake.vacuum import vacuum
from tasks.maintain import maintain
from tasks.settings import Settings
from tests.support.rows import COLUMNS, PARTITION_BY, later, put, put_scattered, rows, scatter, values_of

A, B, C = ("2013-11-03T01+0530", 1), ("2013-11-03T01-0500", 1), ("all", 12)
RUN = RunRef("maintain")
FILE = 1 << 20


@pytest.fixture
def table(storage: Settings) -> Table:
    return open_lake(storage).table("sources/weather/clean")


def data_files(table: Table) -> int:
    return sum(info.key.endswith(".parquet") for info in table.store.list(f"{table.name}/partition_key="))


def logged(table: Table) -> list[str]:
    return [info.key for info in table.store.list(f"{table.name}/_delta_log/") if info.key.endswith(".json")]


def test_a_compaction_leaves_rows_their_order_and_entries_as_they_were(table: Table) -> None:
    put(table, A, [3, 1, 2], known_at="2013-11-03T06:00:00+00:00")
    put_scattered(table, B, list(range(12, 0, -1)))
    before, entries = values_of(table), table.entries()
    assert len(table.files(version=table.version())) == 15
    assert compact(table, file_bytes=FILE, run=RUN, dry_run=True) == Compacted(2, 13, 0)
    assert compact(table, file_bytes=FILE, run=RUN) == Compacted(2, 13, 0)
    assert values_of(table) == before == {A: [3, 1, 2], B: list(range(12, 0, -1))}
    assert table.entries() == entries and [one.version for one in table.entries().values()] == [1, 2]
    assert len(table.files(version=table.version())) == 2
    (commit,) = table.commits(since=table.version() - 1)
    assert (commit.run_id, commit.entries, commit.touched) == ("maintain", (), frozenset())
    version = table.version()
    assert compact(table, file_bytes=FILE, run=RUN) == Compacted() and table.version() == version


def test_a_large_partition_lies_in_as_many_files_as_it_needs(table: Table) -> None:
    values = np.random.default_rng(1).integers(0, 2**62, 300_000)
    data = pa.table({"x": values, "partition_key": ["a"] * len(values), "revision": [1] * len(values)}, COLUMNS)
    request = {"pinned": -1, "columns": COLUMNS, "partition_by": PARTITION_BY, "run": RUN}
    table.replace(data=data, entries=[Entry(("a", 1), len(values))], **request)
    assert compact(table, file_bytes=600_000, run=RUN) == Compacted()  # one file, however large, is none too many
    scatter(table, 30_000)
    many = len(table.files(version=table.version()))
    done = compact(table, file_bytes=600_000, run=RUN)
    files = table.files(version=table.version())
    assert done == Compacted(1, many - len(files), 0) and 1 < len(files) < 6 < many
    assert all(file.size >= 600_000 for file in files[:-1])
    assert np.array_equal(table.read(version=table.version())["x"].to_numpy(), values)
    assert compact(table, file_bytes=600_000, run=RUN) == Compacted()


def test_partitions_are_never_joined(table: Table) -> None:
    for revision in range(3):
        put(table, ("a", revision), [revision])
    assert compact(table, file_bytes=FILE, run=RUN) == Compacted() and table.version() == 3


def test_who_pinned_a_version_before_a_compaction_reads_it_and_does_not_lose(table: Table) -> None:
    pinned = put_scattered(table, A, [1, 2])
    compact(table, file_bytes=FILE, run=RUN)
    assert values_of(table, pinned) == {A: [1, 2]}
    put(table, A, [3], pinned=pinned)
    assert values_of(table) == {A: [3]} and len(table.files(version=table.version())) == 1


def test_a_compaction_loses_against_whoever_wrote_its_partition_since_and_the_others_are_compacted(
    table: Table,
) -> None:
    put(table, A, [1, 2])
    put_scattered(table, B, [3, 4])
    seen = table.version()
    put(table, A, [5, 6, 7], run="somebody else")
    put(table, C, [8])
    assert compact(table, file_bytes=FILE, run=RUN, version=seen) == Compacted(1, 1, 1)
    assert values_of(table) == {A: [5, 6, 7], B: [3, 4], C: [8]} and data_files(table) == 1 + 1 + 1 + 1 + 2 + 2 + 1
    assert compact(table, file_bytes=FILE, run=RUN, version=seen) == Compacted(0, 0, 2)


def test_of_compactions_at_once_one_lands(storage: Settings) -> None:
    table = open_lake(storage).table("t")
    put_scattered(table, A, [3, 1, 2])
    start, version = Barrier(4, timeout=60), table.version()

    def work(_: int) -> Compacted:
        mine = open_lake(storage).table("t")
        start.wait()
        return compact(mine, file_bytes=FILE, run=RUN, version=version)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(work, range(4)))
    assert sorted(found, key=lambda one: one.left) == [Compacted(1, 2, 0)] + [Compacted(0, 0, 1)] * 3
    assert values_of(table) == {A: [3, 1, 2]} and table.version() == version + 1


def test_a_writer_and_compactions_at_once_end_with_what_was_written_last(storage: Settings) -> None:
    table = open_lake(storage).table("t")
    put(table, A, [0])
    start = Barrier(3, timeout=60)

    def write() -> None:
        mine = open_lake(storage).table("t")
        start.wait()
        for number in range(6):
            put(mine, A, [number, number + 1], run=f"run-{number}")

    def work() -> None:
        mine = open_lake(storage).table("t")
        start.wait()
        for _ in range(4):
            scatter_if_it_can(mine)
            compact(mine, file_bytes=FILE, run=RUN)

    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(write), pool.submit(work), pool.submit(work)]:
            done.result()
    compact(table, file_bytes=FILE, run=RUN)
    assert values_of(table) == {A: [5, 6]} and table.entries()[A].run_id == "run-5"
    assert len(table.files(version=table.version())) == 1


def scatter_if_it_can(table: Table) -> None:
    with suppress(StorageError):  # another writer was faster
        scatter(table)


def test_a_vacuum_deletes_what_no_retained_version_names_and_nothing_else(table: Table) -> None:
    first = put_scattered(table, A, [1, 2])
    put(table, B, [3])
    put(table, B, [4])
    compact(table, file_bytes=FILE, run=RUN)
    orphan = f"{table.name}/partition_key=x/revision=1/part-0-of-a-killed-run.parquet"
    table.store.put(orphan, b"half a file")
    table.store.put(f"{table.name}/notes.parquet", b"no data file of ours")
    before, entries, log = values_of(table), table.entries(), logged(table)
    assert data_files(table) == 1 + 2 + 1 + 1 + 1 + 1
    planned = vacuum(table, before=later(1), dry_run=True)
    assert data_files(table) == 7 and len(planned.paths) == 5
    assert vacuum(table, before=later(1)) == planned
    assert data_files(table) == 2 and not table.store.exists(orphan)
    assert table.store.exists(f"{table.name}/notes.parquet") and logged(table) == log
    assert values_of(table) == before and table.entries() == entries
    assert vacuum(table, before=later(1)).paths == ()
    assert table.read(version=first, keys=[A])["x"].to_pylist() == [1, 2]  # compacted since, but never replaced


def test_what_is_young_stays_files_of_earlier_versions_and_of_runs_at_work(table: Table) -> None:
    pinned = put_scattered(table, A, [1, 2])
    put(table, A, [3])
    table.store.put(f"{table.name}/partition_key=x/revision=1/part-0-staged.parquet", b"of a run at work")
    files = data_files(table)
    assert vacuum(table, before=later(-1)).paths == () and data_files(table) == files
    assert values_of(table, pinned) == {A: [1, 2]}


def test_a_version_that_was_the_newest_within_the_retention_stays_whole(table: Table) -> None:
    gone = put(table, A, [1])
    kept = put(table, A, [2])
    moment = datetime.now(UTC)
    time.sleep(1.1)  # S3 tells whole seconds
    put(table, A, [3])
    assert len(vacuum(table, before=moment).paths) == 1
    assert values_of(table, kept) == {A: [2]} and values_of(table) == {A: [3]}
    with pytest.raises(VacuumedError, match="version 1 were vacuumed"):
        values_of(table, gone)


def test_files_that_were_written_before_the_retention_and_committed_within_it_stay(table: Table) -> None:
    put(table, B, [0])
    stream = lambda keys: ((key, batch) for key in keys for batch in rows(A, 1, 2).to_batches())  # noqa: E731
    with Staged(table, columns=COLUMNS, partition_by=PARTITION_BY, data=stream) as staged:
        staged.keep(staged.write([A]))
        moment = datetime.now(UTC)
        time.sleep(1.1)
        request = {"pinned": 1, "columns": COLUMNS, "partition_by": PARTITION_BY, "run": RunRef("slow")}
        table.replace(data=staged, entries=[Entry(A, 2)], **request)
    assert vacuum(table, before=moment).paths == () and values_of(table) == {A: [1, 2], B: [0]}


def test_a_run_that_takes_longer_than_the_retention_commits_nothing(storage: Settings) -> None:
    """A vacuum may have deleted its files."""
    put(open_lake(storage).table("t"), A, [1])
    slow = open_lake(storage.model_copy(update={"history_days": 0.0})).table("t")
    with pytest.raises(StorageError, match="a vacuum may have taken their files"):
        put(slow, A, [2])
    assert values_of(slow) == {A: [1]} and data_files(slow) == 1


def test_a_version_whose_rows_are_gone_says_so_and_its_other_partitions_are_read(table: Table) -> None:
    first = put_scattered(table, A, [1, 2])
    both = put_scattered(table, B, [3])
    compact(table, file_bytes=FILE, run=RUN)
    put(table, A, [5], run="score__2013-11-03")
    vacuum(table, before=later(1))
    for version, keys in ((first, None), (both, None), (both, [A])):
        with pytest.raises(VacuumedError, match="'score__2013-11-03' replaced them at version") as caught:
            table.read(version=version, keys=keys)
        assert not caught.value.retry
        with pytest.raises(VacuumedError):
            list(table.batches(version=version, keys=[A], columns=["x"], batch_rows=9))
    assert table.read(version=both, keys=[B])["x"].to_pylist() == [3]
    assert [b["x"].to_pylist() for _, b in table.batches(version=both, keys=[B], columns=["x"], batch_rows=9)] == [[3]]
    with pytest.raises(SupersededError):  # the fence needs no data files
        put(table, A, [9], pinned=both, run="zombie")


def test_a_version_that_is_kept_is_read_whole_after_its_partitions_were_compacted_and_replaced(table: Table) -> None:
    put_scattered(table, A, [1, 2])
    put_scattered(table, B, [3, 4])
    kept = put(table, C, [5])
    compact(table, file_bytes=FILE, run=RUN)
    put(table, A, [6], run="score__2013-11-03")
    vacuum(table, before=later(1), keep=[kept])
    put(table, B, [7])
    put(table, A, [8])
    assert vacuum(table, before=later(1), keep=[kept, kept + 100, -1], dry_run=True).paths != ()
    vacuum(table, before=later(1), keep=[kept])
    assert vacuum(table, before=later(1), keep=[kept]).paths == ()
    assert values_of(table, kept) == {A: [1, 2], B: [3, 4], C: [5]}
    assert values_of(table) == {A: [8], B: [7], C: [5]}
    # the present files, and one each of what A and B were, however many they lay in at first
    assert data_files(table) == 3 + 2
    vacuum(table, before=later(1))
    with pytest.raises(VacuumedError, match="'score__2013-11-03' replaced them") as caught:
        values_of(table, kept)
    assert (caught.value.table, caught.value.version) == (table.name, kept)
    assert all(text.endswith("+00:00") for text in (caught.value.replaced, caught.value.vacuumed))
    assert values_of(table) == {A: [8], B: [7], C: [5]} and data_files(table) == 3


def test_a_data_file_that_somebody_else_deleted_is_told_by_name(table: Table) -> None:
    version = put(table, A, [1])
    (file,) = table.files(version=version)
    table.store.delete(f"{table.name}/{file.path}")
    with pytest.raises(StorageError, match=r"lacks a data file of version 1.*part-0-"):
        table.read(version=version)
    with pytest.raises(StorageError, match=r"lacks a data file of version 1.*part-0-"):
        list(table.batches(version=version, keys=[A], columns=["x"], batch_rows=9))


def test_vacuums_at_once_with_other_retentions_never_take_back_what_the_other_said(storage: Settings) -> None:
    table = open_lake(storage).table("t")
    for number in range(4):
        put(table, A, [number])
    start = Barrier(4, timeout=60)

    def work(_: int) -> None:
        mine = open_lake(storage).table("t")
        start.wait()
        vacuum(mine, before=later(1))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    marks = table.store.list("t/_vacuumed/")
    assert [int(mark.key.rpartition("/")[2]) for mark in marks] == [4] and data_files(table) == 1
    with pytest.raises(VacuumedError):
        values_of(table, 3)


def test_a_table_is_opened_from_a_checkpoint_and_old_ones_are_few(table: Table) -> None:
    for number in range(6):
        put(table, B, [number])
        if number in (1, 3):
            table.snapshot(number + 1).checkpoint()
    before = values_of(table)
    assert tend(table, before=later(1), dry_run=True, every=9).newest == 4
    planned = tend(table, before=later(1), dry_run=True, every=1)
    assert (planned.newest, planned.deleted) == (6, 1) and checkpoints(table) == [2, 4]
    assert tend(table, before=later(-1)).deleted == 0
    assert tend(table, before=later(1), every=1) == planned and checkpoints(table) == [2, 6]
    assert tend(table, before=later(1), every=1).deleted == 0
    assert values_of(table) == before and values_of(table, 5)[B] == [4] and table.version() == 6


def checkpoints(table: Table) -> list[int]:
    names = [info.key.rpartition("/")[2] for info in table.store.list(f"{table.name}/_delta_log/")]
    return [int(name[:20]) for name in names if name.endswith(".checkpoint.parquet")]


def test_the_verb_maintains_each_table_whatever_becomes_of_the_others(storage: Settings) -> None:
    lake = open_lake(storage)
    one, broken = lake.table("sources/a/clean"), lake.table("sources/b/clean")
    put_scattered(one, A, [1, 2])
    put_scattered(broken, A, [1, 2])
    broken.store.delete(f"{broken.name}/{broken.files(version=broken.version())[0].path}")
    request = {"lake": lake, "history": later(0) - later(1), "file_bytes": FILE, "run": RUN, "now": later(0)}
    names = ("sources/b/clean", "sources/never/clean", "sources/a/clean")
    planned = maintain(names=names, dry_run=True, **request).tables
    assert [(found.table, found.saved) for found in planned] == [("sources/b/clean", 1), ("sources/a/clean", 1)]
    first, second = maintain(names=names, **request).tables
    assert "lacks a data file" in first.problem and not second.problem
    assert (second.compacted, second.saved, second.files, second.deleted) == (1, 1, 1, 3)
    assert values_of(one) == {A: [1, 2]} and data_files(one) == 1
