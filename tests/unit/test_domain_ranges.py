"""What a range of days holds, and how it is cut."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from tasks.domain.ranges import Chunk, chunks_of, delivery_chunks, range_trainings
from tests.support.specs import pipeline


@pytest.mark.parametrize(
    ("partitions", "sizes"),
    [
        (0, []),
        (1, [1]),
        (31, [31]),
        (40, [31, 9]),
        (200, [34] * 5 + [30]),
        (365, [61] * 5 + [60]),
        (800, [124] * 6 + [56]),
    ],
)
def test_a_range_is_cut_into_a_few_fat_chunks(partitions, sizes):
    keys = [f"k{number:03d}" for number in range(partitions)]
    chunks = chunks_of("late", keys)
    assert [chunk.partitions for chunk in chunks] == sizes
    ends = [chunk.partition.partition("..") for chunk in chunks]
    assert [first for first, _, _ in ends] == [keys[sum(sizes[:place])] for place in range(len(sizes))]
    assert [last or first for first, _, last in ends] == [
        keys[sum(sizes[: place + 1]) - 1] for place in range(len(sizes))
    ]


def test_each_source_of_a_pipeline_has_chunks_of_its_own():
    chunks = delivery_chunks(pipeline(), date(2013, 1, 1), date(2013, 2, 9))
    expected = [("2013-01-01..2013-01-31", 31), ("2013-02-01..2013-02-09", 9)]
    assert chunks == [Chunk(name, text, count) for name in ("rows", "truth") for text, count in expected]


def test_trainings_of_a_range_have_data_enough_by_now():
    spec = pipeline()

    def keys(first: date, last: date, now: datetime) -> list[str]:
        return [one.key for one in range_trainings(spec, first, last, now)]

    year = date(2013, 1, 1), date(2013, 12, 31)
    assert keys(*year, datetime(2013, 3, 15, tzinfo=UTC)) == ["2013-02", "2013-03"]
    assert keys(*year, datetime(2013, 3, 1, 8, tzinfo=UTC)) == ["2013-02"]  # March's cut is at nine
    assert keys(date(2013, 2, 2), date(2013, 3, 1), datetime(2014, 1, 1, tzinfo=UTC)) == ["2013-03"]
