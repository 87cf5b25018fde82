"""Which texts of a column another row holds too, quickly told or not, is what counting them says."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tasks.quality import kernels

TEXTS = st.none() | st.text("ab\0é日", max_size=20) | st.sampled_from(["", "x" * 64, "x" * 65, "12345678abcdefgh"])


@given(
    parts=st.lists(st.lists(TEXTS, max_size=6), min_size=1, max_size=4),
    kind=st.sampled_from([pa.string(), pa.large_string()]),
    cut=st.integers(0, 3),
)
def test_repeated_texts_are_those_that_are_counted_twice(parts, kind, cut):
    column = pa.chunked_array([pa.array(part, kind) for part in parts]).slice(cut)
    texts = column.to_pylist()
    assert kernels.repeated([column]).tolist() == [texts.count(text) > 1 for text in texts]


def test_many_identities_are_told_apart_by_their_hashes_alone():
    texts = [f"{place:07d}-{place % 7}é" for place in range(100_000)]
    column = pa.chunked_array([pa.array(texts[:60_000]), pa.array(texts[60_000:]), pa.array([], pa.string())])
    assert kernels._surely_distinct(column)
    assert not kernels._surely_distinct(pa.chunked_array([pa.array(texts), pa.array(texts[99_999:])]))
    assert kernels.repeated([pa.chunked_array([pa.array([*texts, texts[5]])])]).sum() == 2


def test_texts_that_differ_in_length_or_in_the_order_of_words_have_different_hashes():
    texts = ["", "\0", "\0" * 8, "\0" * 9, "a" * 8 + "b" * 8, "b" * 8 + "a" * 8, "a" * 8, "a" * 9, "é" * 4]
    hashes = kernels._hashes(pa.array(texts), 16)
    assert len(np.unique(hashes)) == len(texts)
    np.testing.assert_array_equal(kernels._hashes(pa.array(["z", *texts]).slice(1), 16), hashes)
