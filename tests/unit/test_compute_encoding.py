"""Encoding of feature tables."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from tasks.compute.encoding import Encoding, encode, fit_encoding
from tasks.errors import SpecError


def _table(**columns) -> pa.Table:
    return pa.table(columns)


def test_categories_are_sorted_and_become_their_place():
    table = _table(carrier=["UA", "AA", None, "UA"], distance=[10, 20, None, 40])
    encoding = fit_encoding(table, ["distance", "carrier"])
    assert encoding == Encoding(("distance", "carrier"), ("q", "c"), {"carrier": ("AA", "UA")})
    matrix = encode(table, encoding)
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix, [[10, 1], [20, 0], [np.nan, np.nan], [40, 1]])


def test_a_category_that_training_did_not_see_is_missing():
    encoding = fit_encoding(_table(carrier=["UA"]), ["carrier"])
    matrix = encode(_table(carrier=["ZZ", "UA", ""]), encoding)
    np.testing.assert_array_equal(matrix, [[np.nan], [0], [np.nan]])


def test_the_order_of_rows_and_parts_does_not_change_the_encoding():
    parts = [_table(carrier=["b", "a"]), _table(carrier=["c"]), _table(carrier=pa.array([], pa.string()))]
    assert fit_encoding(parts, ["carrier"]) == fit_encoding(reversed(parts), ["carrier"])
    assert fit_encoding(parts, ["carrier"]).categories == {"carrier": ("a", "b", "c")}


def test_columns_that_are_no_feature_are_ignored_and_order_is_the_encodings():
    encoding = fit_encoding(_table(b=[1.0], a=[2.0], flight_id=["x"]), ["a", "b"])
    np.testing.assert_array_equal(encode(_table(flight_id=["y"], b=[3.0], a=[4.0]), encoding), [[4, 3]])


def test_bools_decimals_and_dictionaries_are_encoded():
    table = _table(
        late=[True, False, None],
        price=pa.array([Decimal("1.50"), None, Decimal("2.00")], pa.decimal128(9, 2)),
        origin=pa.array(["JFK", None, "EWR"]).dictionary_encode(),
    )
    encoding = fit_encoding(table, table.column_names)
    assert encoding.kinds == ("q", "q", "c")
    expected = [[1, 1.5, 1], [0, np.nan, np.nan], [np.nan, 2, 0]]
    np.testing.assert_array_equal(encode(table, encoding), np.array(expected, dtype=np.float32))


def test_dictionaries_that_differ_from_chunk_to_chunk_are_encoded_like_their_texts():
    parts = [["b", None, "zz"], [], ["a", "b", ""], [None, None]]
    texts = pa.chunked_array([pa.array(part, pa.string()) for part in parts])
    unlike = pa.chunked_array([pa.array(part, pa.string()).dictionary_encode() for part in parts])
    nulls_inside = pa.DictionaryArray.from_arrays(pa.array([0, 1, None], pa.int8()), pa.array([None, "b"]))
    encoding = Encoding(("c",), ("c",), {"c": ("", "a", "b")})
    np.testing.assert_array_equal(encode(_table(c=unlike), encoding), encode(_table(c=texts), encoding))
    np.testing.assert_array_equal(encode(_table(c=nulls_inside), encoding), [[np.nan], [2], [np.nan]])


def test_large_strings_and_string_views_are_texts():
    for kind in (pa.large_string(), pa.string_view()):
        table = _table(origin=pa.array(["JFK", "EWR"], kind))
        assert encode(table, fit_encoding(table, ["origin"])).tolist() == [[1.0], [0.0]]


def test_an_infinity_and_a_number_too_large_for_the_matrix_are_missing():
    table = _table(x=[float("inf"), -float("inf"), 1e300, 1.0])
    assert np.isnan(encode(table, fit_encoding(table, ["x"]))[:3]).all()


def test_a_sliced_and_chunked_table_encodes_like_a_whole_one():
    whole = _table(x=list(range(10)), c=list("abcdefghij"))
    chunked = pa.concat_tables([whole.slice(0, 3), whole.slice(3, 0), whole.slice(3)])
    encoding = fit_encoding(whole, ["x", "c"])
    np.testing.assert_array_equal(encode(chunked, encoding), encode(whole, encoding))
    batch = whole.combine_chunks().to_batches()[0].slice(2, 3)
    np.testing.assert_array_equal(encode(batch, encoding), encode(whole, encoding)[2:5])


def test_no_rows_give_an_empty_matrix_of_the_right_width():
    table = _table(x=[1.0], c=["a"])
    assert encode(table.slice(0, 0), fit_encoding(table, ["x", "c"])).shape == (0, 2)


@pytest.mark.parametrize("value", [dt.datetime(2013, 1, 1), dt.date(2013, 1, 1), dt.time(4), dt.timedelta(1), [1.0]])
def test_a_moment_or_a_list_is_refused_by_the_features_name(value):
    with pytest.raises(SpecError, match="feature 'departure' is of type"):
        fit_encoding(_table(departure=[value]), ["departure"])


def test_a_missing_column_is_refused_by_its_name():
    encoding = fit_encoding(_table(a=[1], b=[2]), ["a", "b"])
    with pytest.raises(SpecError, match="feature 'b' is not in the data, which has a"):
        encode(_table(a=[1]), encoding)


def test_a_column_that_changed_from_number_to_text_is_refused():
    encoding = fit_encoding(_table(a=[1]), ["a"])
    with pytest.raises(SpecError, match="'a' is of type string, the model was trained on numbers"):
        encode(_table(a=["1"]), encoding)
    with pytest.raises(SpecError, match="text in one part"):
        fit_encoding([_table(a=[1]), _table(a=["1"])], ["a"])


def test_a_column_without_any_value_takes_the_kind_of_the_other_parts():
    empty, full = _table(c=pa.nulls(2)), _table(c=["x", "y"])
    encoding = fit_encoding([empty, full], ["c"])
    assert encoding.kinds == ("c",)
    assert np.isnan(encode(empty, encoding)).all()
    assert fit_encoding(empty, ["c"]).kinds == ("q",)


def test_no_feature_at_all_is_refused():
    with pytest.raises(SpecError, match="no feature column"):
        fit_encoding(_table(a=[1]), [])


def test_an_encoding_survives_json():
    encoding = fit_encoding(_table(a=[1.5], c=["é"], d=[True]), ["d", "c", "a"])
    assert Encoding.from_dict(json.loads(json.dumps(encoding.to_dict()))) == encoding
