"""Validation by Great Expectations itself: which rows are set aside, which partitions are stopped."""

import json
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from tasks.errors import SpecError
from tasks.quality import load_suite, validate
from tasks.quality.frames import to_pandas


@pytest.fixture
def suite(tmp_path):
    def made(*expectations):
        path = tmp_path / "contract.json"
        path.write_text(json.dumps({"name": "s", "expectations": expectations}))
        return load_suite(path)

    return made


def expectation(kind, meta=None, severity="critical", **kwargs):
    return {"type": f"expect_{kind}", "kwargs": kwargs, "meta": meta or {}, "severity": severity}


def between(column, low=None, high=None, **more):
    limits = {name: value for name, value in (("min_value", low), ("max_value", high)) if value is not None}
    return expectation("column_values_to_be_between", column=column, **limits, **more)


def table(rows=100, **columns):
    start = datetime(2013, 1, 1, tzinfo=UTC)
    return pa.table(
        {
            "id": [f"f{i}" for i in range(rows)],
            "x": pa.array(np.arange(rows, dtype=float)),
            "n": pa.array([None, *range(1, rows)], pa.int64()),
            "at": pa.array([start + timedelta(hours=i) for i in range(rows)], pa.timestamp("us", "UTC")),
            "wall": pa.array([datetime(2013, 1, 1)] * rows, pa.timestamp("us")),
            "day": [date(2013, 1, 1) + timedelta(days=i) for i in range(rows)],
            "_line": np.arange(2, rows + 2),
            **columns,
        }
    )


def one(suite, data=None):
    (verdict,) = validate([("k", table() if data is None else data)], suite)
    json.dumps(verdict.results, allow_nan=False)
    return verdict


def rows(verdict):
    return [(row.row_index, row.column, row.value) for row in verdict.rejected]


def test_rows_that_break_a_row_level_expectation_are_set_aside_and_do_not_stop(suite):
    verdict = one(suite(between("x", 2, 97)))
    assert verdict.success
    assert verdict.table_failures == ()
    assert rows(verdict) == [(0, "x", "0"), (1, "x", "1"), (98, "x", "98"), (99, "x", "99")]
    assert verdict.rejected[0].expectation == "expect_column_values_to_be_between"
    assert verdict.statistics == {"rows": 100, "rejected_rows": 4, "expectations": 1, "met": 0}
    assert verdict.results["success"] is False


def test_a_row_that_breaks_two_expectations_comes_twice_in_the_suites_order(suite):
    verdict = one(suite(between("n", 3), between("x", 2), expectation("column_values_to_not_be_null", column="n")))
    assert rows(verdict) == [(0, "x", "0"), (0, "n", None), (1, "n", "1"), (1, "x", "1"), (2, "n", "2")]
    assert verdict.rejected_rows == [0, 1, 2]


def test_mostly_decides_whether_the_partition_stops_and_never_which_rows_go(suite):
    kept = one(suite(between("x", 3, mostly=0.9)))
    assert (kept.success, len(kept.rejected)) == (True, 3)
    stopped = one(suite(between("x", 30, mostly=0.9)))
    assert (stopped.success, len(stopped.rejected)) == (False, 30)
    (failure,) = stopped.table_failures
    assert (failure.column, failure.message) == ("x", "30 of 100 rows break it, where 0.9 must keep it")


def test_rows_marked_keep_stay(suite):
    verdict = one(suite(between("x", 3, meta={"keep": True})))
    assert (verdict.success, verdict.rejected) == (True, ())
    assert verdict.statistics["met"] == 0
    assert not one(suite(between("x", 3, meta={"keep": True}, mostly=0.99))).success


def test_warnings_only_report(suite):
    verdict = one(
        suite(
            between("x", 3, severity="warning", mostly=1),
            expectation("table_row_count_to_equal", value=1, severity="info"),
        )
    )
    assert (verdict.success, verdict.rejected, verdict.statistics["met"]) == (True, (), 0)


def test_an_expectation_on_the_whole_table_stops_the_partition(suite):
    verdict = one(
        suite(
            expectation("table_row_count_to_be_between", min_value=500),
            expectation("column_mean_to_be_between", column="x", max_value=10),
            expectation("column_to_exist", column="absent"),
            expectation("table_columns_to_match_set", column_set=["id", "x", "n", "at", "wall", "day"]),
        )
    )
    assert not verdict.success
    assert [failure.column for failure in verdict.table_failures] == ["", "x", "absent"]
    assert "observed 100" in verdict.table_failures[0].message
    assert "observed 49.5, expected {'max_value': 10}" in str(verdict.table_failures[1])


def test_quantiles_out_of_range_stop_the_partition_and_nothing_else(suite):
    ranges = {"quantiles": [0.1, 0.5], "value_ranges": [[50, 60], [0, 1000]]}
    verdict = one(suite(expectation("column_quantile_values_to_be_between", column="x", quantile_ranges=ranges)))
    assert not verdict.success
    assert verdict.results["results"][0]["result"]["details"] == {"success_details": [False, True]}


def test_an_expectation_that_cannot_be_evaluated_stops_the_partition(suite):
    verdict = one(suite(between("id", 1, severity="info")))
    assert not verdict.success
    assert "can't be evaluated" in verdict.table_failures[0].message
    assert "Traceback" not in json.dumps(verdict.results)


def test_several_columns_are_named_together(suite):
    data = table(4, id=["a", "a", "b", "c"], x=pa.array([1.0, 1.0, 1.0, None]))
    verdict = one(suite(expectation("compound_columns_to_be_unique", column_list=["id", "x"])), data)
    assert rows(verdict) == [(0, "id, x", "a, 1"), (1, "id, x", "a, 1")]
    pair = expectation("column_pair_values_a_to_be_greater_than_b", column_A="x", column_B="n")
    assert rows(one(suite(pair), table(3, n=[0, 2, 1]))) == [(0, "x, n", "0, 0"), (1, "x, n", "1, 2")]


def test_values_that_are_not_expected_in_a_whole_column_stop_the_partition(suite):
    in_set = expectation("column_distinct_values_to_be_in_set", column="id", value_set=["a"])
    verdict = one(suite(in_set), table(3, id=["a", "b", "a"]))
    assert (verdict.success, verdict.rejected) == (False, ())
    of_type = expectation("column_values_to_be_of_type", column="x", type_="int64")
    assert not one(suite(of_type)).success


@pytest.mark.parametrize(
    ("kind", "arguments", "broken"),
    [
        ("column_values_to_be_null", {"column": "a"}, [0, 1, 2, 4]),
        ("column_values_to_be_unique", {"column": "a"}, [0, 1, 2, 4]),
        ("column_values_to_not_be_in_set", {"column": "a", "value_set": ["x"]}, [0, 4]),
        ("column_values_to_be_increasing", {"column": "n"}, [4]),
        ("column_value_lengths_to_equal", {"column": "a", "value": 2}, [0, 1, 2, 4]),
        ("column_values_to_not_match_regex_list", {"column": "a", "regex_list": ["x"]}, [0, 4]),
        ("column_values_to_match_json_schema", {"column": "j", "json_schema": {"required": ["a"]}}, [1, 2, 3, 4]),
        ("column_value_z_scores_to_be_less_than", {"column": "n", "threshold": 1, "double_sided": True}, [3]),
        ("select_column_values_to_be_unique_within_record", {"column_list": ["a", "b"]}, [0]),
        ("multicolumn_sum_to_equal", {"column_list": ["n", "m"], "sum_total": 3}, [1, 2, 3, 4]),
        ("column_pair_values_to_be_equal", {"column_A": "n", "column_B": "m"}, [0, 2, 3]),
    ],
)
def test_every_kind_of_row_level_expectation_names_its_rows(suite, kind, arguments, broken):
    data = pa.table(
        {
            "a": ["x", "y", "y", None, "x"],
            "b": ["x", "z", "z", "q", None],
            "n": [1, 2, 3, 50, 1],
            "m": [2, 2, 1, 1, 1],
            "j": ['{"a": 1}', "{}", "{}", "{}", "{}"],
        }
    )
    assert one(suite(expectation(kind, **arguments)), data).rejected_rows == broken


def test_bounds_of_times_are_texts_of_any_precision(suite):
    verdict = one(
        suite(
            between("at", "2013-01-01T01:00", "2013-01-05"),
            between("wall", "2013-01-01", "2013-01-01T12:00:00"),
            between("day", "2013-01-02", "2013-04-09"),
        )
    )
    assert verdict.success
    broken = [(row.row_index, row.column) for row in verdict.rejected]
    assert broken == [(0, "at"), (0, "day"), *((i, "at") for i in range(97, 99)), (99, "at"), (99, "day")]
    assert verdict.rejected[0].value == "2013-01-01 00:00:00.000000Z"


def test_a_condition_on_rows_leaves_their_numbers_right(suite):
    condition = {"type": "comparison", "column": {"name": "x"}, "operator": ">", "parameter": 90}
    verdict = one(suite(between("x", 95, row_condition=condition)))
    assert verdict.rejected_rows == [91, 92, 93, 94]


def test_many_partitions_are_judged_each_by_itself(suite):
    contract = suite(expectation("column_values_to_be_unique", column="id"), between("x", 0, 49))
    verdicts = list(validate([(day, table(40 + 10 * day)) for day in range(4)], contract))
    assert [verdict.key for verdict in verdicts] == [0, 1, 2, 3]
    assert [len(verdict.rejected) for verdict in verdicts] == [0, 0, 10, 20]
    assert [verdict.statistics["rows"] for verdict in verdicts] == [40, 50, 60, 70]


def test_a_partition_without_rows_is_validated(suite):
    contract = suite(between("x", 0), expectation("column_values_to_not_be_null", column="id"))
    verdict = one(contract, table(1).slice(0, 0))
    assert (verdict.success, verdict.rejected, verdict.statistics["rows"]) == (True, (), 0)
    assert not one(suite(expectation("table_row_count_to_be_between", min_value=1)), table(1).slice(0, 0)).success


def test_a_column_without_any_value_is_validated(suite):
    data = table(
        5,
        x=pa.array([None] * 5, pa.float64()),
        n=pa.array([None] * 5, pa.int64()),
        id=pa.array([None] * 5, pa.string()),
    )
    contract = suite(
        between("x", 0), between("n", 0), expectation("column_values_to_match_regex", column="id", regex="^f")
    )
    assert (one(contract, data).success, one(contract, data).rejected) == (True, ())


def test_results_hold_no_list_that_grows_with_the_rows(suite):
    verdict = one(suite(between("x", 90_000)), table(100_000, day=[date(2013, 1, 1)] * 100_000))
    assert len(verdict.rejected) == 90_000
    assert len(json.dumps(verdict.results)) < 20_000


def test_arguments_that_great_expectations_refuses_are_an_error_not_a_hole(suite):
    contract = suite(
        between("x", 0), expectation("column_values_to_be_between", column="x", min_value={"a": 1}, oops=1)
    )
    with pytest.raises(SpecError, match=r"contract\.json: expectation 2 \(expect_column_values_to_be_between\)"):
        one(contract)


def test_whole_numbers_with_gaps_stay_whole_numbers():
    frame = to_pandas(pa.table({"n": pa.array([None, (1 << 53) + 1], pa.int64()), "m": [1, 2]}))
    assert frame["n"].tolist()[1] == (1 << 53) + 1
    assert str(frame["m"].dtype) == "int64"


def test_nothing_but_the_result_is_written_to_stdout(suite, tmp_path):
    suite(between("x", 1))
    code = (
        "import logging, sys; logging.basicConfig(level=logging.INFO, stream=sys.stdout)\n"
        "import pyarrow as pa; from tasks.quality import load_suite, render_docs, validate\n"
        f"suite = load_suite({str(tmp_path / 'contract.json')!r})\n"
        "verdicts = list(validate([(1, pa.table({'x': [0.0, 1.0]}))], suite))\n"
        "print(len(verdicts[0].rejected), len(render_docs(verdicts[0].results, title='t')) > 1000)\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1 True\n"
    assert "Calculating Metrics" not in done.stderr
