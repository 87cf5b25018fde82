"""How a range is cut into chunks."""

from __future__ import annotations

from tasks.domain.chunks import chunk_count, cut_chunks


def test_each_worker_gets_a_few_chunks_of_a_long_range():
    assert chunk_count(365, workers=4, lookback=28, most=365) == 12


def test_chunks_are_not_shorter_than_the_lookback_while_each_worker_has_one():
    assert chunk_count(100, workers=2, lookback=28, most=365) == 3
    assert chunk_count(30, workers=2, lookback=28, most=365) == 2


def test_there_are_never_more_chunks_than_partitions():
    assert chunk_count(3, workers=8, lookback=0, most=365) == 3
    assert chunk_count(1, workers=8, lookback=28, most=0.1) == 1


def test_chunks_fit_a_workers_memory_down_to_one_partition():
    assert chunk_count(100, workers=2, lookback=28, most=10) == 10
    assert chunk_count(100, workers=2, lookback=28, most=7.5) == 14
    assert chunk_count(100, workers=2, lookback=28, most=-20) == 100


def test_equal_partitions_make_equal_chunks():
    assert cut_chunks([5] * 12, 4) == [range(0, 3), range(3, 6), range(6, 9), range(9, 12)]
    assert cut_chunks([1] * 5, 1) == [range(0, 5)]


def test_a_heavy_partition_makes_a_short_chunk():
    assert cut_chunks([1, 1, 1, 1, 40, 1, 1, 1, 1], 3) == [range(0, 4), range(4, 5), range(5, 9)]
    assert cut_chunks([100, 1, 1, 1], 2) == [range(0, 1), range(1, 4)]
    assert cut_chunks([1, 1, 1, 100], 2) == [range(0, 3), range(3, 4)]
