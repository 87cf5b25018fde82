"""JSON lines: what is read, and what each kind of bad line is told."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from tasks.domain.source import SourceSpec
from tasks.errors import FileError
from tasks.formats import read_file

COLUMNS = {"s": "string", "i": "int", "f": "float", "b": "bool", "t": "timestamp"}
ROW = '{"s": "x", "i": 3, "f": 1.5, "b": true, "t": "2013-01-05T09:00:00Z"}\n'


def read(text, columns=None, **options):
    source = SourceSpec(name="s", uri="{landing}/{partition}.jsonl", columns=columns or COLUMNS, **options)
    data = text.encode() if isinstance(text, str) else text
    return read_file(data, uri="x.jsonl", source=source)


def failure(text, columns=None, **options):
    with pytest.raises(FileError) as caught:
        read(text, columns, **options)
    return caught.value


def test_declared_keys_become_typed_columns():
    parsed = read(ROW * 2)
    assert parsed.table.schema.names == [*COLUMNS, "_line"]
    assert parsed.table.schema.field("t").type == pa.timestamp("us", "UTC")
    at = datetime(2013, 1, 5, 9, tzinfo=UTC)
    assert parsed.table.to_pylist()[1] == {"s": "x", "i": 3, "f": 1.5, "b": True, "t": at, "_line": 2}


def test_a_key_that_some_rows_lack_is_null_there():
    parsed = read(ROW + '{"s": null}\n')
    assert parsed.table.to_pylist()[1] == {"s": None, "i": None, "f": None, "b": None, "t": None, "_line": 2}


def test_a_column_that_all_rows_lack_is_missing():
    error = failure('{"s": "f"}\n{"s": "b"}\n', {"s": "string", "f": "float"})
    assert error.column == "f"
    assert read('{"s": "f", "f": null}\n', {"s": "string", "f": "float"}).rows == 1


def test_whole_floats_fit_an_int_and_nan_is_a_missing_float():
    parsed = read('{"i": 3.0, "f": NaN}\n{"i": 1e2, "f": 2}\n', {"i": "int", "f": "float"})
    assert parsed.table.column("i").to_pylist() == [3, 100]
    assert parsed.table.column("f").to_pylist() == [None, 2.0]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("i", "3.5"),
        ("i", '"3"'),
        ("i", "true"),
        ("i", "1" + "0" * 400),
        ("i", "NaN"),
        ("f", '"1.5"'),
        ("f", "[1]"),
        ("f", "1" + "0" * 400),
        ("b", "1"),
        ("b", '"true"'),
        ("s", "3"),
        ("s", '{"a": 1}'),
        ("s", '"\\ud800"'),
        ("t", "1357376400"),
        ("t", '"yesterday"'),
    ],
)
def test_a_value_of_another_type_is_named_with_line_and_column(column, value):
    error = failure(ROW + ROW + "\n" + f'{{"{column}": {value}}}\n' + ROW)
    assert (error.uri, error.line, error.column) == ("x.jsonl", 4, column)


def test_undeclared_keys_are_ignored_with_a_notice():
    (notice,) = read('{"s": "x", "more": [1, {"s": "y"}]}\n', {"s": "string"}).notices
    assert "more" in notice


@pytest.mark.parametrize(
    "line",
    [
        "null",
        "[1]",
        '"x"',
        "{",
        '{"s": "x"} null',
        '{"s": "x"}{"s": "y"}',
        "{'s': 1}",
        '{"s": "x",}',
        '{"s": "a\nb"}',
    ],
)
def test_a_line_that_is_no_object_is_named(line):
    error = failure('{"s": "x"}\n' + line + "\n" + '{"s": "x"}\n', {"s": "string"})
    assert error.line == 2


def test_an_object_over_several_lines_is_refused():
    assert failure('{\n  "s": "x"\n}\n', {"s": "string"}).line == 1


def test_a_file_cut_in_its_last_line_is_recognised():
    error = failure(ROW + ROW[:20])
    assert error.line == 2
    assert "ends here" in error.hint


def test_deep_nesting_is_refused():
    assert failure('{"s": ' + "[" * 200_000 + "]" * 200_000 + "}\n", {"s": "string"}).line == 1


def test_blank_lines_count():
    assert read("\n" + ROW + "\r\n\n" + ROW).table.column("_line").to_pylist() == [2, 5]


def test_a_file_without_rows_is_read_with_a_notice():
    for text in ("", "\n\n"):
        parsed = read(text)
        assert (parsed.rows, len(parsed.notices)) == (0, 1)
        assert parsed.table.schema.field("t").type == pa.timestamp("us", "UTC")


def test_other_encodings_and_a_byte_order_mark_are_read():
    assert read(b"\xef\xbb\xbf" + ROW.encode()).rows == 1
    data = '{"s": "Z\xfcrich"}\n'.encode("latin-1")
    assert read(data, {"s": "string"}, encoding="latin-1").table.column("s").to_pylist() == ["Z\xfcrich"]
    error = failure(ROW.encode() + data, {"s": "string"})
    assert (error.line, error.column) == (2, None)


def test_keys_under_other_names_are_taken_row_by_row():
    options = {"renamed": {"n": ["number", "näme"]}}
    parsed = read('{"n": 1}\n{"number": 2}\n{"n\\u00e4me": 3}\n{}\n', {"n": "int"}, **options)
    assert parsed.table.column("n").to_pylist() == [1, 2, 3, None]
    assert parsed.notices[0].endswith("took number as n, näme as n, as the source's renamed says")
    with pytest.raises(FileError, match="line 2: column 'n' comes 2 times, as 'n' and 'number'"):
        read('{"n": 1}\n{"n": 1, "number": 2}\n', {"n": "int"}, **options)
