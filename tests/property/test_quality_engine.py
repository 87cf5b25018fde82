"""What validation says, with its own engine over Arrow, is what Great Expectations says on pandas."""

import json
import math
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st

from tasks.quality import frames, load_suite, validate
from tasks.quality.suite import expectation_types
from tests.support.gx_on_pandas import GxOnPandas, said
from tests.support.kills import commit

EPOCH = datetime(2013, 3, 10, 5, tzinfo=UTC)
TEXTS = ("a", "b", "ab", "Ünï", "日本", "", " ", "2013-03-10", "nope", '{"a": 1}', "1", "z" * 40)
NAN = math.nan
INTEGERS = st.sampled_from([0, 1, 2, 3, -1, 7, (1 << 53) + 1, -(1 << 62)])
KINDS = {
    "n": (pa.int64(), INTEGERS),
    "m": (pa.int64(), INTEGERS),
    "i": (pa.int32(), st.integers(-3, 3)),
    "x": (pa.float64(), st.sampled_from([0.0, -0.0, 1.0, 2.5, -3.0, 1e300, math.inf, NAN])),
    "y": (pa.float64(), st.sampled_from([0.0, 1.0, 2.5, 3.5, NAN])),
    "s": (pa.string(), st.sampled_from(TEXTS)),
    "t": (pa.string(), st.sampled_from(TEXTS)),
    "b": (pa.bool_(), st.booleans()),
    "day": (pa.date32(), st.integers(-2, 2).map(lambda n: date(2013, 3, 10) + timedelta(n))),
    "at": (pa.timestamp("us", "UTC"), st.integers(-2, 2).map(lambda n: EPOCH + timedelta(hours=n))),
    "wall": (pa.timestamp("us"), st.integers(-2, 2).map(lambda n: datetime(2013, 3, 10) + timedelta(hours=n))),
}
WHEN = {"type": "comparison", "column": {"name": "i"}, "operator": ">", "parameter": 0}
TEXT_WHEN = {"row_condition": "i > i.mean()", "condition_parser": "pandas"}
BOUNDS = {"n": (0, 3), "i": (-1, 1.5), "x": (0, 2.5), "day": ("2013-03-09", "2013-03-10"), "b": (0, 1)}
BOUNDS |= {"at": ("2013-03-10T04:00Z", "2013-03-10T05:00Z"), "wall": ("2013-03-09T23:00", "2013-03-10T01:00")}
SETS = {"n": [0, (1 << 53) + 1], "x": [0, 2.5], "s": ["a", "日本"], "b": [True], "day": ["2013-03-10"], "i": [1, "a"]}
COLUMN = list(KINDS)


def _all():
    """Arguments for every expectation that a suite may hold; several for those with kernels of our own."""
    for column in COLUMN:
        for kind in ("not_be_null", "be_null", "be_unique", "be_increasing", "be_decreasing"):
            yield f"column_values_to_{kind}", {"column": column}
        yield "column_values_to_be_of_type", {"column": column, "type_": "str"}
        yield "column_values_to_be_in_type_list", {"column": column, "type_list": ["int64", "str", "date"]}
        yield "column_values_to_match_regex", {"column": column, "regex": "^[a-z1]+$"}
        yield "column_to_exist", {"column": column}
        yield "column_type_to_be", {"column": column, "type_": "int64"}
        for part in ("non_null", "unique"):
            name = f"column_proportion_of_{part}_values_to_be_between"
            yield name, {"column": column, "min_value": 0.5, "max_value": 0.9}
        yield "column_unique_value_count_to_be_between", {"column": column, "min_value": 1, "max_value": 3}
    for column, (low, high) in BOUNDS.items():
        between = {"column": column, "min_value": low, "max_value": high}
        yield "column_values_to_be_between", between
        yield "column_values_to_be_between", {**between, "strict_min": True, "strict_max": True, "mostly": 0.5}
        yield "column_values_to_be_between", {"column": column, "min_value": low}
        yield "column_values_to_be_between", {"column": column, "max_value": high, "strict_max": True}
        yield "column_values_to_be_between", {"column": column, "min_value": high, "max_value": low}
        yield "column_values_to_be_between", {**between, "row_condition": WHEN}
        yield "column_values_to_be_between", {**between, **TEXT_WHEN}
        yield "column_min_to_be_between", between
        yield "column_max_to_be_between", between
    yield "column_values_to_be_between", {"column": "s", "min_value": 1}
    yield "column_values_to_be_between", {"column": "x", "min_value": (1 << 53) + 1, "max_value": 1e301}
    yield "column_values_to_be_between", {"column": "n", "min_value": float(1 << 53), "max_value": 1e19}
    yield "column_values_to_be_unique", {"column": "s", "row_condition": WHEN}
    for column, values in SETS.items():
        for kind in ("values_to_be", "values_to_not_be", "distinct_values_to_be", "most_common_value_to_be"):
            yield f"column_{kind}_in_set", {"column": column, "value_set": values}
        yield "column_distinct_values_to_contain_set", {"column": column, "value_set": values}
        yield "column_distinct_values_to_equal_set", {"column": column, "value_set": values}
    for column in ("n", "x", "i", "y"):
        limits = {"column": column, "min_value": 0, "max_value": 2}
        for kind in ("mean", "median", "stdev", "sum"):
            yield f"column_{kind}_to_be_between", limits
        yield "column_value_z_scores_to_be_less_than", {"column": column, "threshold": 1, "double_sided": True}
        yield "column_values_to_not_be_outliers", {"column": column, "method": "iqr", "multiplier": 1.5}
        yield "column_values_to_not_be_outliers", {"column": column, "method": "std", "multiplier": 1.0}
        ranges = {"quantiles": [0.25, 0.5], "value_ranges": [[0, 1], [0, 2]]}
        yield "column_quantile_values_to_be_between", {"column": column, "quantile_ranges": ranges}
    for column in ("s", "t", "n"):
        yield "column_value_lengths_to_be_between", {"column": column, "min_value": 1, "max_value": 2}
        yield "column_value_lengths_to_equal", {"column": column, "value": 1}
        yield "column_values_to_not_match_regex", {"column": column, "regex": "a|(?=b)"}
        yield "column_values_to_match_regex_list", {"column": column, "regex_list": ["a", "^1"], "match_on": "any"}
        yield "column_values_to_not_match_regex_list", {"column": column, "regex_list": ["a", "^1"]}
        yield "column_values_to_match_strftime_format", {"column": column, "strftime_format": "%Y-%m-%d"}
        yield "column_values_to_be_dateutil_parseable", {"column": column}
        yield "column_values_to_be_json_parseable", {"column": column}
        yield "column_values_to_match_json_schema", {"column": column, "json_schema": {"required": ["a"]}}
        weights = {"values": ["a", "b"], "weights": [0.5, 0.5]}
        yield "column_kl_divergence_to_be_less_than", {"column": column, "partition_object": weights, "threshold": 0.1}
    for ignored in ("both_values_are_missing", "either_value_is_missing", "neither"):
        for pair in (("n", "m"), ("x", "y"), ("s", "t"), ("at", "at")):
            columns = {"column_A": pair[0], "column_B": pair[1], "ignore_row_if": ignored}
            yield "column_pair_values_a_to_be_greater_than_b", columns
            yield "column_pair_values_to_be_equal", columns
            yield "column_pair_values_to_be_in_set", {**columns, "value_pairs_set": [["a", "b"], [0, 1]]}
    for ignored in ("all_values_are_missing", "any_value_is_missing", "never"):
        for columns in (["n", "m"], ["x", "y"], ["s", "day", "b"], ["at", "wall", "x"]):
            several = {"column_list": columns, "ignore_row_if": ignored}
            yield "compound_columns_to_be_unique", several
            yield "select_column_values_to_be_unique_within_record", several
            yield "multicolumn_values_to_be_equal", several
        yield "multicolumn_sum_to_equal", {"column_list": ["x", "y"], "sum_total": 1, "ignore_row_if": ignored}
    yield "table_row_count_to_be_between", {"min_value": 1, "max_value": 5}
    yield "table_row_count_to_equal", {"value": 4}
    yield "table_column_count_to_be_between", {"min_value": 1}
    yield "table_column_count_to_equal", {"value": 3}
    yield "table_columns_to_match_set", {"column_set": COLUMN}
    yield "table_columns_to_match_ordered_list", {"column_list": COLUMN[::-1]}


EXPECTATIONS = [{"type": f"expect_{kind}", "kwargs": arguments} for kind, arguments in _all()]


@st.composite
def tables(draw):
    rows = draw(st.integers(0, 9))
    columns = {}
    for name, (kind, values) in KINDS.items():
        gaps = draw(st.sampled_from(["none", "some", "all"]))
        one = {"none": values, "some": st.none() | values, "all": st.none()}[gaps]
        columns[name] = pa.array(draw(st.lists(one, min_size=rows, max_size=rows)), kind)
    return pa.table(columns)


@pytest.fixture(scope="module")
def reference():
    return GxOnPandas()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("suites")

    def suite(expectations):
        path = folder / "contract.json"
        path.write_text(json.dumps({"name": "s", "expectations": expectations}))
        return load_suite(path)

    return suite


def same(table, suite, reference):
    ours = next(validate([("k", table)], suite))
    theirs = reference.results(table, suite)
    complete = reference.results(table, suite, "COMPLETE")
    summary = reference.results(table, suite, "SUMMARY")
    rows = {}
    for i, (expectation, result) in enumerate(zip(suite.expectations, ours.outcome.results, strict=True)):
        listed = (complete[i][2] or {}).get("unexpected_index_list")
        broken = bool(listed) and complete[i][1] is None
        # what has broken rows is told with examples and their counts
        expected = summary[i] if broken else theirs[i]
        assert repr(said(result)) == repr(expected), (expectation, table.to_pydict())
        for row in listed or () if broken else ():
            rows.setdefault(row, []).append(expectation.type)
    told = {}
    for row in ours.rejected:
        told.setdefault(row.row_index, []).append(row.expectation)
    assert told == rows


def test_what_is_drawn_from_is_every_expectation_that_a_suite_may_hold():
    assert {one["type"] for one in EXPECTATIONS} == expectation_types()


@pytest.mark.timeout(60)
def test_a_function_of_each_rows_values_that_fails_is_told_and_not_asked_for_ever(reference, made):
    table = pa.table({"i": pa.nulls(4, pa.int32()), "y": [0.0, None, 2.5, 2.5]})
    scores = {"type": "expect_column_value_z_scores_to_be_less_than", "kwargs": {"threshold": 1, "double_sided": True}}
    some = [{**scores, "kwargs": {**scores["kwargs"], "column": column}} for column in ("i", "y")]
    compare(table, some, reference, made)


SUITES = st.lists(st.sampled_from(EXPECTATIONS), min_size=8, max_size=8, unique_by=json.dumps)
# of a condition as text Great Expectations warns those who write suites
TOLD = pytest.mark.filterwarnings("ignore:.*is deprecated as of GX Core 1.9.0:DeprecationWarning")
DRAWN = {"deadline": None, "phases": [Phase.generate]}  # shrinking would take minutes


@TOLD
@seed(commit())
@settings(max_examples=12, **DRAWN)
@given(table=tables(), some=SUITES)
def test_results_and_rows_are_those_of_great_expectations_on_pandas(table, some, reference, made):
    compare(table, some, reference, made)


@TOLD
@pytest.mark.proof
@pytest.mark.timeout(3600)
@seed(commit())
@settings(max_examples=100, **DRAWN)
@given(table=tables(), some=SUITES)
def test_eight_hundred_results_are_those_of_great_expectations_on_pandas(table, some, reference, made):
    compare(table, some, reference, made)


def compare(table, some, reference, made):
    before, frames.SLICE = frames.SLICE, 3  # several slices, from few rows
    try:
        same(table, made(some), reference)
    finally:
        frames.SLICE = before
