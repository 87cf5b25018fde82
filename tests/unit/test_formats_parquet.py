"""Parquet files: which types fit the declared ones, and what damaged files are told."""

import decimal
import io
from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.domain.source import SourceSpec
from tasks.errors import FileError
from tasks.formats import parquet, read_file


def written(table, **options):
    stream = io.BytesIO()
    pq.write_table(table, stream, **options)
    return stream.getvalue()


def read(data, columns, **options):
    source = SourceSpec(name="s", uri="{landing}/{partition}.parquet", columns=columns, **options)
    return read_file(data if isinstance(data, bytes) else written(data), uri="x.parquet", source=source)


def values(array, kind):
    return read(pa.table({"x": array}), {"x": kind}).table.column("x").to_pylist()


def failure(data, columns):
    with pytest.raises(FileError) as caught:
        read(data, columns)
    return caught.value


def test_declared_columns_come_in_declared_order_with_row_numbers():
    parsed = read(pa.table({"z": [1, 2], "b": [True, None], "a": ["x", "y"]}), {"a": "string", "b": "bool"})
    assert parsed.table.to_pylist() == [{"a": "x", "b": True, "_line": 1}, {"a": "y", "b": None, "_line": 2}]
    assert "z" in parsed.notices[0]


@pytest.mark.parametrize(
    ("array", "kind", "expected"),
    [
        (pa.array([1, None], pa.int8()), "int", [1, None]),
        (pa.array([1.0, float("nan"), None]), "int", [1, None, None]),
        (pa.array([decimal.Decimal("2.00")]), "int", [2]),
        (pa.array([1.5, float("nan")], pa.float32()), "float", [1.5, None]),
        (pa.array([decimal.Decimal("2.50")]), "float", [2.5]),
        (pa.array([(1 << 53) + 1]), "float", [float(1 << 53)]),
        (pa.array(["a", None]).dictionary_encode(), "string", ["a", None]),
        (pa.array(["a"], pa.large_string()), "string", ["a"]),
        (pa.array([None, None]), "timestamp", [None, None]),
        (pa.array([0], pa.date64()), "date", [date(1970, 1, 1)]),
        (pa.array([1], pa.timestamp("ms")), "timestamp", [datetime(1970, 1, 1, 0, 0, 0, 1000, UTC)]),
        (
            pa.array([1999], pa.timestamp("ns", "America/New_York")),
            "timestamp",
            [datetime(1970, 1, 1, 0, 0, 0, 1, UTC)],
        ),
        (pa.array([1999], pa.timestamp("ns")), "local_timestamp", [datetime(1970, 1, 1, 0, 0, 0, 1)]),
    ],
)
def test_types_that_lose_nothing_are_turned_into_the_declared_one(array, kind, expected):
    assert values(array, kind) == expected


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (pa.array(["1"]), "int"),
        (pa.array([1]), "string"),
        (pa.array([1]), "bool"),
        (pa.array(["2013-01-05"]), "date"),
        (pa.array([1], pa.timestamp("us")), "date"),
        (pa.array([1]), "timestamp"),
        (pa.array([1], pa.timestamp("us", "UTC")), "local_timestamp"),
        (pa.array([b"x"]), "string"),
        (pa.array([[1]]), "float"),
    ],
)
def test_another_type_is_refused_with_both_types_named(array, kind):
    error = failure(pa.table({"x": array}), {"x": kind})
    assert error.column == "x"
    assert f"declared as {kind}" in str(error)


def test_a_value_that_does_not_fit_is_named_with_its_row():
    error = failure(pa.table({"x": [1.0, 2.0, 3.5]}), {"x": "int"})
    assert (error.line, error.column) == (3, "x")
    assert "3.5 is not a whole number" in str(error)
    assert failure(pa.table({"x": pa.array([1, 1 << 63], pa.uint64())}), {"x": "int"}).line == 2


def test_a_missing_column_is_named():
    assert failure(pa.table({"x": [1]}), {"x": "int", "y": "int"}).column == "y"


def test_a_damaged_file_is_refused():
    data = written(pa.table({"x": np.arange(10_000)}), compression="snappy")
    assert "ends before its footer" in str(failure(data[:-100], {"x": "int"}))
    assert "not a readable Parquet file" in str(failure(b"a,b\n1,2\n" * 3, {"x": "int"}))
    assert "not a readable Parquet file" in str(failure(b"", {"x": "int"}))
    middle = len(data) // 3
    assert "not a readable" in str(failure(data[:20] + b"\xff" * middle + data[20 + middle :], {"x": "int"}))


def test_a_small_file_that_expands_beyond_the_bound_is_refused(monkeypatch):
    zeros = pa.chunked_array([pa.array(np.zeros(1 << 20, np.int64))] * 4)
    data = written(pa.table({"x": zeros}))
    assert len(data) < 100_000
    assert read(data, {"x": "int"}).rows == 4 << 20
    monkeypatch.setattr(parquet, "MAX_BYTES", 16 << 20)
    assert "4,194,304 rows expand" in str(failure(data, {"x": "int"}))


def test_a_file_without_rows_keeps_its_types():
    parsed = read(pa.table({"x": pa.array([], pa.int32())}), {"x": "int"})
    assert (parsed.rows, parsed.table.schema.field("x").type) == (0, pa.int64())


def test_a_column_under_another_name_is_taken():
    parsed = read(pa.table({"n": [1]}), {"count": "int"}, renamed={"count": ["n"]})
    assert parsed.table.column("count").to_pylist() == [1] and "took n as count" in parsed.notices[0]
