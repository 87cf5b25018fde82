"""Data Docs: a page by Great Expectations' renderer that needs nothing else and runs nothing."""

import json
import re

import pyarrow as pa
import pytest

from tasks.quality import load_suite, render_docs, validate

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    path = tmp_path_factory.mktemp("suite") / "contract.json"
    kinds = [
        {
            "type": "expect_column_values_to_be_in_set",
            "kwargs": {"column": "id", "value_set": ["a"]},
            "notes": "Only **a**.",
        },
        {"type": "expect_column_values_to_match_regex", "kwargs": {"column": "id", "regex": "^a"}},
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "x", "min_value": 1}},
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "id", "min_value": 1}},
        {"type": "expect_column_distinct_values_to_be_in_set", "kwargs": {"column": "id", "value_set": ["a"]}},
        {"type": "expect_column_most_common_value_to_be_in_set", "kwargs": {"column": "id", "value_set": ["a"]}},
        {
            "type": "expect_column_quantile_values_to_be_between",
            "kwargs": {"column": "x", "quantile_ranges": {"quantiles": [0.5], "value_ranges": [[0, 1]]}},
        },
        {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1}},
    ]
    path.write_text(json.dumps({"name": "s", "expectations": kinds}))
    data = pa.table({"id": ["a", EVIL, EVIL], "x": [0.0, 1.0, float("nan")]})
    (verdict,) = validate([("k", data)], load_suite(path))
    return verdict.results


def test_a_page_tells_every_expectation_and_its_outcome(results):
    page = render_docs(results, title="weather 2013-02-12")
    assert "<h1>weather 2013-02-12</h1>" in page
    for words in ("must match this regular expression", "greater than or equal to", "Statistics", "Failed"):
        assert words in page


def test_a_page_asks_no_other_host_and_holds_no_script(results):
    page = render_docs(results, title="t")
    assert re.findall(r"""<[^>]*\b(?:src|href)\s*=\s*["']?(?!["'#])""", page) == []
    assert "http:" not in page
    assert "https:" not in page
    assert "<script" not in page.lower()
    assert "default-src 'none'" in page


def test_values_from_the_data_are_text_in_the_page(results):
    page = render_docs(results, title=f"{EVIL}")
    assert "&lt;script&gt;alert(1)" in page
    assert "<img" not in page
    assert "onerror" not in re.sub(r"&lt;.*?&gt;", "", page)


def test_rendering_leaves_the_results_as_they_are(results):
    before = json.dumps(results)
    render_docs(results, title="t")
    assert json.dumps(results) == before
