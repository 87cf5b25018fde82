"""Chunks of a range: all of it, in order, none empty, none much heavier than its share."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.chunks import cut_chunks


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=60), st.data())
def test_chunks_are_the_range_cut(weights: list[int], data: st.DataObject):
    count = data.draw(st.integers(1, len(weights)))
    chunks = cut_chunks(weights, count)
    assert len(chunks) == count and all(chunks)
    assert [place for chunk in chunks for place in chunk] == list(range(len(weights)))
    # one that holds several partitions exceeds its share by two of the heaviest at most
    share = sum(weights) / count
    for chunk in chunks:
        if len(chunk) > 1:
            assert sum(weights[place] for place in chunk) <= share + 2 * max(weights)
