"""How a training's window is cut into spans."""

from __future__ import annotations

import pytest

from tasks.spans import Window


@pytest.mark.parametrize(
    ("rows", "columns", "judging", "sizes"),
    [
        ([400_000] * 5, 24, None, [2, 2, 1]),
        ([10_000] * 9, 1_000, None, [4, 4, 1]),  # 40 million values, not a million rows
        ([50_000, 10_000], 1_000, None, [1, 1]),  # one partition is never divided
        ([10] * 6, 24, "4", [4, 2]),
        ([0, 0, 5], 3, None, [3]),
    ],
)
def test_a_span_holds_no_more_rows_nor_values_than_a_process_can(rows, columns, judging, sizes):
    keys = [str(place) for place in range(len(rows))]
    spans = Window(None, None, None, dict(zip(keys, rows, strict=True)), columns, judging).spans()
    assert [span.partitions for span in spans] == sizes
    assert [key for span in spans for key in (span.first, span.last)] == [
        key for place in range(len(sizes)) for key in (keys[sum(sizes[:place])], keys[sum(sizes[: place + 1]) - 1])
    ]
