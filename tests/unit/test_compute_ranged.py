"""Training rows that lie in a store: a worker fetches what it trains on, and no more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.compute.rows import TrainingData, deal, fit_encoding_files, read_rows, survey
from tasks.errors import StorageError
from tasks.lake.objects import FolderStore

ROWS, GROUPS = 20_000, 8
KEY = "rows/00000.parquet"


class Counting(FolderStore):
    """Counts the bytes that leave it, and can break after some of them."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.fetched, self.breaks_after = 0, None

    def get_range(self, key: str, start: int, length: int) -> bytes:
        if self.breaks_after is not None and self.fetched > self.breaks_after:
            raise StorageError(f"{key}: the wire was cut")
        found = super().get_range(key, start, length)
        self.fetched += len(found)
        return found


@pytest.fixture
def store(tmp_path: Path) -> Counting:
    """One file of 8 row groups of 20 000 rows: two numbers, a text and a label."""
    random = np.random.default_rng(3)
    rows = GROUPS * ROWS
    table = pa.table(
        {
            "x": random.normal(size=rows),
            "y": random.normal(size=rows),
            "c": random.choice(["a", "b", "c"], rows),
            "label": random.integers(0, 2, rows).astype(float),
        }
    )
    (tmp_path / "rows").mkdir()
    pq.write_table(table, tmp_path / KEY, row_group_size=ROWS)
    return Counting(tmp_path)


def _local(store: Counting) -> TrainingData:
    return TrainingData((str(store.root / KEY),))


def test_rows_in_a_store_are_those_of_the_file(store: Counting):
    local, stored = _local(store), TrainingData((KEY,), store=store)
    encoding = fit_encoding_files(local, ["x", "y", "c"])
    assert fit_encoding_files(stored, ["x", "y", "c"]) == encoding
    one, other = survey(local, encoding.columns), survey(stored, encoding.columns)
    assert (one.rows, one.low, one.high, one.empty) == (other.rows, other.low, other.high, other.empty)
    for mine, theirs in zip(
        read_rows(one.groups, local, encoding), read_rows(other.groups, stored, encoding), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)


def test_all_workers_together_fetch_each_row_group_once(store: Counting):
    stored = TrainingData((KEY,), store=store)
    encoding = fit_encoding_files(stored, ["x", "y", "c"])
    groups = survey(stored, encoding.columns).groups
    assert len(groups) == GROUPS
    store.fetched = 0
    for hand in deal(groups, 4):
        read_rows(hand, stored, encoding)
    size = (store.root / KEY).stat().st_size
    assert 0.9 * size < store.fetched < 1.25 * size  # the rest is each worker's look at the footer: 64 KiB


def test_a_group_alone_and_a_column_alone_cost_their_own_bytes(store: Counting):
    stored = TrainingData((KEY,), store=store)
    encoding = fit_encoding_files(stored, ["x"])
    groups = survey(stored, encoding.columns).groups
    store.fetched = 0
    read_rows(groups[:1], stored, encoding)
    assert store.fetched < 0.15 * (store.root / KEY).stat().st_size


def test_a_store_that_breaks_in_the_middle_says_so_itself(store: Counting):
    stored = TrainingData((KEY,), store=store)
    encoding = fit_encoding_files(stored, ["x", "y", "c"])
    groups = survey(stored, encoding.columns).groups
    store.fetched, store.breaks_after = 0, 200_000
    with pytest.raises(StorageError, match=r"rows/00000\.parquet: the wire was cut"):
        read_rows(groups, stored, encoding)


def test_a_file_that_the_store_has_not_is_missing(store: Counting):
    with pytest.raises(FileNotFoundError, match=r"rows/1\.parquet"):
        survey(TrainingData(("rows/1.parquet",), store=store), ["x"])
