"""CSV files: what is read, and what each kind of bad file is told."""

import gzip
from datetime import UTC, date, datetime

import pyarrow as pa
import pytest

from tasks.domain.source import SourceSpec
from tasks.errors import FileError
from tasks.formats import read_file

COLUMNS = {
    "name": "string",
    "count": "int",
    "share": "float",
    "open": "bool",
    "day": "date",
    "at": "timestamp",
    "wall": "local_timestamp",
}
HEADER = "name,count,share,open,day,at,wall\n"
ROW = "a,1,0.5,true,2013-01-05,2013-01-05T09:00:00Z,2013-01-05T04:00:00\n"


def source(columns=None, **options):
    return SourceSpec(name="s", uri="{landing}/s/{partition}.csv", columns=columns or COLUMNS, **options)


def read(text, columns=None, uri="landing/s/2013-01-05.csv", **options):
    data = text.encode() if isinstance(text, str) else text
    return read_file(data, uri=uri, source=source(columns, **options))


def failure(text, columns=None, **options):
    with pytest.raises(FileError) as caught:
        read(text, columns, **options)
    return caught.value


def values(text, kind, **options):
    delimiter = options.pop("delimiter", ";")
    body = "x;n\n" + "".join(f"{line};1\n" for line in text)
    return read(body, {"x": kind}, delimiter=delimiter, **options).table.column("x").to_pylist()


def test_declared_columns_come_in_declared_order_and_type():
    parsed = read("extra," + HEADER + "z," + ROW)
    assert parsed.table.schema.names == [*COLUMNS, "_line"]
    assert parsed.table.schema.field("at").type == pa.timestamp("us", "UTC")
    assert parsed.table.schema.field("wall").type == pa.timestamp("us")
    assert parsed.rows == 1
    assert parsed.table.to_pylist() == [
        {
            "name": "a",
            "count": 1,
            "share": 0.5,
            "open": True,
            "day": date(2013, 1, 5),
            "at": datetime(2013, 1, 5, 9, tzinfo=UTC),
            "wall": datetime(2013, 1, 5, 4),
            "_line": 2,
        }
    ]


def test_undeclared_columns_are_ignored_with_a_notice():
    (notice,) = read("extra," + HEADER + "z," + ROW).notices
    assert "extra" in notice
    assert read(HEADER + ROW).notices == ()


def test_a_header_alone_is_a_file_without_rows():
    for text in (HEADER, HEADER.rstrip()):
        parsed = read(text)
        assert parsed.rows == 0
        assert parsed.table.schema.field("count").type == pa.int64()


def test_whole_numbers_may_be_written_as_floats():
    assert values(["3.0", "3", "+4", " 5 ", "1e5", "-7.", "9007199254740993", ""], "int") == [
        *[3, 3, 4, 5, 100_000, -7, 9007199254740993],
        None,
    ]


@pytest.mark.parametrize("bad", ["3.5", "0x1F", "abc", "9223372036854775808", "1e300", "inf", "nan", "1 2", "1,0"])
def test_what_is_no_whole_number_is_refused(bad):
    with pytest.raises(FileError, match="whole number"):
        values(["1", "2.0", bad], "int")


def test_nan_is_a_missing_float():
    assert values(["1.5", "NaN", "nan", "NA", "NULL", " 2 "], "float") == [1.5, None, None, None, None, 2.0]


def test_a_decimal_comma_is_read_and_a_point_beside_it_refused():
    assert values(["1,5", "2", "-0,25"], "float", decimal=",") == [1.5, 2.0, -0.25]
    assert values(["3,0", "4"], "int", decimal=",") == [3, 4]
    with pytest.raises(FileError, match=r"'1\.234'"):
        values(["1,5", "1.234"], "float", decimal=",")


def test_truth_values_have_five_spellings():
    words = ["true", "F", "Yes", "n", "1", "0", " TRUE "]
    assert values(words, "bool") == [True, False, True, False, True, False, True]
    with pytest.raises(FileError, match="'2' is not true or false"):
        values(["1", "2"], "bool")


def test_instants_without_an_offset_are_utc():
    noon = datetime(2013, 11, 3, 12, tzinfo=UTC)
    texts = ["2013-11-03T12:00:00Z", "2013-11-03 07:00:00-05:00", "2013-11-03T12:00:00", "2013-11-03 12:00"]
    assert values(texts, "timestamp") == [noon] * 4
    assert values(["2013-11-03T12:00:00.123456789Z"], "timestamp") == [noon.replace(microsecond=123456)]


def test_a_wall_clock_time_with_an_offset_is_refused():
    assert values(["2013-11-03 01:30"], "local_timestamp") == [datetime(2013, 11, 3, 1, 30)]
    for text in ("2013-11-03T01:30:00-04:00", "2013-11-03T01:30:00Z"):
        with pytest.raises(FileError, match="without offset"):
            values([text], "local_timestamp")


@pytest.mark.parametrize("bad", ["2013-02-30", "2013-1-5", "05/01/2013", "2013-01-05T00:00:00"])
def test_what_is_no_date_is_refused(bad):
    with pytest.raises(FileError, match="is not a date"):
        values([bad], "date")


def test_nulls_are_those_declared():
    assert values(["-", "NA", ""], "string", nulls=("-",)) == [None, "NA", ""]


def test_a_wrong_value_is_named_with_file_line_and_column():
    error = failure(HEADER + ROW + ROW.replace("0.5", "half") + ROW)
    assert (error.uri, error.line, error.column) == ("landing/s/2013-01-05.csv", 3, "share")
    assert "landing/s/2013-01-05.csv, line 3, column 'share': 'half' is not a number" in str(error)


def test_a_long_offending_value_is_shortened():
    assert len(str(failure(HEADER + ROW.replace("0.5", "x" * 5000)))) < 300


def test_lines_count_line_breaks_in_quotes_and_blank_lines():
    text = 'n,t\n1,"a\nb"\n\n2,c\r\n3,"d""\r\ne"\n4,f\n'
    parsed = read(text, {"n": "int", "t": "string"})
    assert parsed.table.column("_line").to_pylist() == [2, 5, 6, 8]
    assert parsed.table.column("t").to_pylist() == ["a\nb", "c", 'd"\r\ne', "f"]
    error = failure(text.replace("3,", "x,"), {"n": "int", "t": "string"})
    assert error.line == 6


def test_a_missing_column_is_named_with_its_likely_successor():
    error = failure(HEADER.replace("share", "shares") + ROW)
    assert (error.line, error.column) == (1, "share")
    assert "'shares'" in error.hint


def test_a_column_that_comes_twice_is_refused():
    error = failure("a,b,a\n1,2,3\n", {"a": "int"})
    assert "comes 2 times" in str(error)
    assert read("a,b,b\n1,2,3\n", {"a": "int"}).rows == 1


def test_a_row_with_too_many_or_too_few_fields_is_named():
    error = failure("a,b\n1,2\n1,2,3\n", {"a": "int"})
    assert error.line == 3
    assert "3 fields where the header has 2" in str(error)
    error = failure("a,b,c\n1,2,3\n\n4\n", {"a": "int"})
    assert (error.line, error.column) == (4, "b")


def test_a_quote_that_never_closes_is_refused():
    for text in ('a,b\n1,"x"\n2,"y\n3,z\n', 'a,b\n1,2\n2,"y', 'a,b\n1,2\n2,"\n'):
        error = failure(text, {"a": "int", "b": "string"})
        assert "never closes" in str(error)
    assert failure('a,b\n1,"x"\n2,"y\n3,z\n', {"a": "int"}).line == 3
    assert read('a,b\n1,x"\n2,"y\n"\n', {"a": "int", "b": "string"}).rows == 2


def test_a_byte_order_mark_is_no_part_of_the_header():
    assert read(b"\xef\xbb\xbfa,b\n1,2\n", {"a": "int"}).rows == 1
    assert read("a,b\n1,\xe9\n".encode("utf-16"), {"a": "int", "b": "string"}, encoding="utf-16").rows == 1


def test_a_wrong_encoding_is_named_with_line_and_column():
    text = "id,town\n1,Zurich\n2,Z\xfcrich\n".encode("latin-1")
    columns = {"id": "int", "town": "string"}
    error = failure(text, columns)
    assert (error.line, error.column) == (3, "town")
    assert "0xfc" in str(error)
    assert "latin-1" in error.hint
    assert read(text, columns, encoding="latin-1").table.column("town").to_pylist() == ["Zurich", "Z\xfcrich"]
    assert "utf-16" in failure("a\n1\n".encode("utf-16"), columns).hint


def test_an_empty_file_is_refused():
    for text in ("", "\n\n"):
        assert "is empty" in str(failure(text))


def test_the_delimiter_is_the_declared_one_and_a_tab_in_tsv():
    assert read("a;b\n1;2\n", {"b": "int"}, delimiter=";").rows == 1
    assert read("a\tb\n1\t2\n", {"b": "int"}, uri="x.tsv.GZ", compression="none").rows == 1


def test_compressed_files_are_read_and_lines_stay_right():
    error = failure(gzip.compress(f"{HEADER}{ROW}{ROW}nonsense\n".encode()), uri="x.csv.gz")
    assert (error.uri, error.line) == ("x.csv.gz", 4)


RENAMED = {"renamed": {"count": ["number", "n"]}}


def test_a_column_under_another_name_is_taken_and_said():
    parsed = read(HEADER.replace("count", "n") + ROW, **RENAMED)
    assert parsed.table.column_names == [*COLUMNS, "_line"] and parsed.table.column("count").to_pylist() == [1]
    assert parsed.notices == ("landing/s/2013-01-05.csv: took n as count, as the source's renamed says",)
    assert read(HEADER + ROW, **RENAMED).notices == ()
    error = failure(HEADER.replace("count", "n") + ROW.replace(",1,", ",x,"), **RENAMED)
    assert (error.line, error.column) == (2, "n")


def test_a_column_under_two_of_its_names_is_refused():
    error = failure("a,b,n\n1,2,3\n", {"a": "int"}, renamed={"a": ["n"]})
    assert "column 'a' comes 2 times, as 'a' and 'n'" in str(error)


def test_a_change_of_columns_is_shown_beside_what_was_declared_with_the_line_that_takes_it():
    error = failure("a,total\n1,2\n", {"a": "int", "amount": "float"})
    assert "declared and not there: amount | there and not declared: total" in str(error)
    assert "renamed: {amount: [total]}" in error.hint
    assert read("a,total\n1,2\n", {"a": "int", "amount": "float"}, renamed={"amount": ["total"]}).rows == 1


def test_undeclared_columns_are_refused_where_the_source_says_so():
    error = failure("a,b\n1,2\n", {"a": "int"}, undeclared="refuse")
    assert "columns that the source does not declare: b" in str(error) and "`b: string` under columns" in error.hint


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252", "cp1251", "shift_jis"])
def test_an_encoding_is_told_from_the_bytes_and_said(encoding: str):
    text = {
        "cp1251": "name,n\nСегодня самолёт из Москвы опоздал на два часа,1\n",
        "shift_jis": "name,n\n東京発の便は悪天候のため二時間遅れています,1\n",
    }.get(encoding, "name,n\nLe vol de Zürich à Genève était en retard à cause de la météo,1\n")
    parsed = read(text.encode(encoding), {"name": "string"}, encoding="auto")
    assert parsed.table.column("name").to_pylist() == [text.splitlines()[1].split(",")[0]]
    assert any(": read as " in one for one in parsed.notices) == (encoding not in ("utf-8", "utf-8-sig"))
    assert failure(b"name\n\xff\xfe\x00\n\x81", {"name": "string"}).hint.startswith("declare the source's encoding")
