"""Laws of encoding, dealing and the paired test."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.compute.encoding import Encoding, encode, fit_encoding
from tasks.compute.metrics import metric, paired_block_bootstrap
from tasks.compute.rows import RowGroup, deal

TEXTS = st.lists(st.none() | st.text(max_size=4), max_size=30)
NUMBERS = st.lists(st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=30, max_size=30)


@settings(deadline=None)
@given(TEXTS, NUMBERS)
def test_an_encoded_row_can_be_read_back(texts, numbers):
    numbers = numbers[: len(texts)]
    table = pa.table({"n": pa.array(numbers, pa.float32()), "t": pa.array(texts, pa.string())})
    encoding = Encoding.from_dict(fit_encoding(table, ["t", "n"]).to_dict())
    matrix = encode(table, encoding)
    categories = encoding.categories["t"]
    back = [None if np.isnan(code) else categories[int(code)] for code in matrix[:, 0]]
    assert back == texts
    assert [None if np.isnan(value) else float(value) for value in matrix[:, 1]] == numbers


@settings(deadline=None)
@given(TEXTS.filter(len), st.integers(1, 5))
def test_encoding_in_parts_is_encoding_at_once(texts, size):
    table = pa.table({"t": pa.array(texts, pa.string())})
    parts = [table.slice(start, size) for start in range(0, len(texts), size)]
    encoding = fit_encoding(table, ["t"])
    assert fit_encoding(parts, ["t"]) == encoding
    whole = encode(table, encoding)
    np.testing.assert_array_equal(np.concatenate([encode(part, encoding) for part in parts]), whole)


@settings(deadline=None)
@given(st.lists(st.integers(1, 2_000_000), min_size=1, max_size=40), st.integers(1, 8))
def test_dealt_groups_are_all_there_once_and_fairly(rows, workers):
    groups = [RowGroup(str(place), 0, count) for place, count in enumerate(rows)]
    hands = deal(groups, workers)
    assert sorted(group.path for hand in hands for group in hand) == sorted(g.path for g in groups)
    loads = [sum(group.rows for group in hand) for hand in hands]
    assert min(loads) > 0
    assert max(loads) - min(loads) <= max(rows)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_gain_of_two_models_turns_its_sign_when_they_change_places(data):
    count = data.draw(st.integers(4, 60))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    name = data.draw(st.sampled_from(["auc", "logloss", "rmse", "mae", "accuracy"]))
    y = np.r_[0.0, 1.0, (random.random(count - 2) < 0.5)]
    a, b = np.round(random.random(count), 1), np.round(random.random(count), 1)
    blocks = random.integers(0, 5, count)
    there = paired_block_bootstrap(name, y, a, b, blocks, repeats=50, seed=1)
    back = paired_block_bootstrap(name, y, b, a, blocks, repeats=50, seed=1)
    np.testing.assert_allclose([back.gain, back.low, back.high], [-there.gain, -there.high, -there.low], atol=1e-12)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 80))
def test_auc_is_the_share_of_pairs_in_the_right_order(seed, count):
    random = np.random.default_rng(seed)
    y = np.r_[0.0, 1.0, (random.random(count - 2) < 0.4)]
    p = np.round(random.random(count), 1)
    high, low = p[y == 1][:, None], p[y == 0][None, :]
    assert abs(metric("auc", y, p) - float(((high > low) + (high == low) / 2).mean())) < 1e-12
