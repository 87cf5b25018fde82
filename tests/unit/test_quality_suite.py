"""Suites: what is read without Great Expectations, and what each mistake in one is told."""

import json
import subprocess
import sys

import pytest

from tasks.errors import SpecError
from tasks.quality import check_suite, load_suite
from tasks.quality.great import great_expectations
from tasks.quality.suite import expectation_types

COLUMNS = {"id": "string", "speed": "float", "at": "timestamp"}
NOT_NULL = {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "id"}}


@pytest.fixture
def write(tmp_path):
    def written(*expectations, **more):
        path = tmp_path / "contract.json"
        path.write_text(json.dumps({"name": "s", "expectations": expectations, **more}))
        return path

    return written


def refusal(path):
    with pytest.raises(SpecError) as caught:
        check_suite(path, COLUMNS)
    assert str(path) in str(caught.value)
    return caught.value


def test_a_suite_is_read_in_its_order(write):
    suite = load_suite(write(NOT_NULL, {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1}}))
    assert [one.type for one in suite.expectations] == [NOT_NULL["type"], "expect_table_row_count_to_be_between"]
    assert [one.columns for one in suite.expectations] == [("id",), ()]
    assert suite.name == "s"


def test_the_digest_is_that_of_the_content_not_of_its_spacing(write, tmp_path):
    path = write(NOT_NULL)
    digest = load_suite(path).digest
    path.write_text(json.dumps(json.loads(path.read_text()), indent=4))
    assert load_suite(path).digest == digest
    assert load_suite(write({**NOT_NULL, "meta": {"keep": True}})).digest != digest


def test_reading_and_checking_a_suite_does_not_import_great_expectations(write):
    path = write(NOT_NULL)
    code = (
        "import sys; from tasks.quality import check_suite; "
        f"check_suite({str(path)!r}, {{'id': 'string'}}); "
        "print([name for name in ('great_expectations', 'pandas', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_expectation_types_are_those_that_great_expectations_registers_for_data_frames():
    great_expectations()
    from great_expectations.expectations import registry

    registered = set(registry.list_registered_expectation_implementations())
    assert expectation_types() <= registered
    only_sql = registered - expectation_types()
    assert all("like_pattern" in name or "query" in name or "table" in name or "rows" in name for name in only_sql)


def test_an_unknown_expectation_is_refused_with_the_nearest_name(write):
    error = refusal(write(NOT_NULL, {"type": "expect_column_values_to_be_betwen", "kwargs": {"column": "speed"}}))
    assert "expectation 2 (expect_column_values_to_be_betwen)" in str(error)
    assert error.hint == "did you mean expect_column_values_to_be_between?"


def test_a_column_that_the_source_lacks_is_refused_with_the_nearest_name(write):
    error = refusal(write({"type": NOT_NULL["type"], "kwargs": {"column": "sped"}}))
    assert error.hint == "did you mean speed?"
    pair = {"type": "expect_compound_columns_to_be_unique", "kwargs": {"column_list": ["id", "a"]}}
    assert "'a'" in str(refusal(write(pair)))


def test_a_key_with_a_slip_is_refused_with_the_nearest_key(write):
    assert refusal(write({**NOT_NULL, "kwarg": {}})).hint == "did you mean kwargs?"
    assert refusal(write(NOT_NULL, expectation=[])).hint == "did you mean expectations?"


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("x", "expected an object"),
        ({"kwargs": {}}, "type: expected"),
        ({**NOT_NULL, "kwargs": []}, "expected objects"),
        ({**NOT_NULL, "severity": "fatal"}, "severity: expected one of critical"),
        ({**NOT_NULL, "meta": {"keep": "yes"}}, "meta.keep"),
        ({**NOT_NULL, "kwargs": {"column": ["id"]}}, "kwargs.column: expected a column's name"),
        ({**NOT_NULL, "kwargs": {"column": "id", "mostly": 95}}, "mostly: expected a share"),
        ({"type": "unexpected_rows_expectation", "kwargs": {}}, "works on SQL sources only"),
        (
            {"type": "expect_column_values_to_be_between", "kwargs": {"column": "at", "min_value": "soon"}},
            "min_value: expected an ISO date",
        ),
    ],
)
def test_a_wrong_entry_is_refused(write, entry, words):
    assert words in str(refusal(write(entry)))


def test_a_file_that_is_no_suite_is_refused(tmp_path, write):
    assert "can't be read" in str(refusal(tmp_path / "absent.json"))
    path = tmp_path / "contract.json"
    path.write_text('{"name": "s",\n "expectations": [}')
    assert "line 2: not JSON" in str(refusal(path))
    path.write_text("[]")
    assert "expected a JSON object" in str(refusal(path))
    assert "at least one" in str(refusal(write()))
    assert "name: expected a text" in str(refusal(write(NOT_NULL, name="")))
    assert "suite_parameters" in str(refusal(write(NOT_NULL, suite_parameters={"a": 1})))


def test_wrong_arguments_are_found_by_the_deep_check(write):
    path = write({"type": "expect_column_values_to_be_between", "kwargs": {"column": "speed", "min_valu": 1}})
    check_suite(path, COLUMNS)
    with pytest.raises(SpecError, match=r"expectation 1 \(expect_column_values_to_be_between\)"):
        check_suite(path, COLUMNS, deep=True)
    check_suite(write(NOT_NULL), COLUMNS, deep=True)
