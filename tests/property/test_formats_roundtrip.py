"""Whatever a table holds, its file in any format reads back as the same table, and two readers agree."""

import csv
import gzip
import io
import json
from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.domain.source import SourceSpec
from tasks.errors import FileError
from tasks.formats import arrow_schema, jsonlines, read_file
from tasks.formats.layout import layout_of

COLUMNS = {
    "s": "string",
    "i": "int",
    "f": "float",
    "b": "bool",
    "d": "date",
    "t": "timestamp",
    "w": "local_timestamp",
}
NULLS = ("", "NA")
# A CSV can't tell a null from an empty text, nor hold a carriage return that some tools would take for a line's end.
TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r\x00"), min_size=1, max_size=12).filter(
    lambda text: text not in NULLS
)
MOMENT = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1))
ROW = st.fixed_dictionaries(
    {
        "s": st.none() | TEXT,
        "i": st.none() | st.integers(-(1 << 63), (1 << 63) - 1),
        "f": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "b": st.none() | st.booleans(),
        "d": st.none() | st.dates(date(1900, 1, 1), date(2100, 1, 1)),
        "t": st.none() | MOMENT.map(lambda moment: moment.replace(tzinfo=UTC)),
        "w": st.none() | MOMENT,
    }
)
ROWS = st.lists(ROW, max_size=8)
SOURCE = SourceSpec(name="s", uri="{landing}/{partition}.csv", columns=COLUMNS, nulls=NULLS)
PACE = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def text(value):
    if value is None:
        return ""
    return value.isoformat() if isinstance(value, date) else str(value)


def same(data, uri, rows):
    table = read_file(data, uri=uri, source=SOURCE).table
    assert table.drop_columns(["_line"]).to_pylist() == rows
    assert table.schema.remove(len(COLUMNS)) == arrow_schema(COLUMNS)
    return table.column("_line").to_pylist()


@PACE
@given(ROWS, st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_csv_reads_back_and_its_lines_are_those_of_the_file(rows, quoting, end, ended):
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, quoting=quoting, lineterminator=end)
    writer.writerow(COLUMNS)
    starts = []
    for row in rows:
        starts.append(stream.getvalue().count("\n") + 1)
        writer.writerow([text(row[name]) for name in COLUMNS])
    data = stream.getvalue() if ended else stream.getvalue().removesuffix(end)
    assert same(data.encode(), "x.csv", rows) == starts
    assert same(gzip.compress(data.encode()), "x.csv.gz", rows) == starts


@PACE
@given(ROWS, st.booleans(), st.booleans())
def test_json_lines_read_back(rows, ascii_only, sparse):
    def plain(row):
        values = {name: value.isoformat() if isinstance(value, date) else value for name, value in row.items()}
        return {name: value for name, value in values.items() if value is not None or not sparse}

    first = [json.dumps(dict.fromkeys(COLUMNS))]  # every key is there at least once
    lines = first + [json.dumps(plain(row), ensure_ascii=ascii_only) for row in rows]
    numbers = same("\n".join(lines).encode(), "x.jsonl", [dict.fromkeys(COLUMNS), *rows])
    assert numbers == list(range(1, len(rows) + 2))


@PACE
@given(ROWS)
def test_parquet_reads_back(rows):
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, arrow_schema(COLUMNS)), stream)
    assert same(stream.getvalue(), "x.parquet", rows) == list(range(1, len(rows) + 1))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["s", "i", "f", "z"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@PACE
@given(
    st.lists(JSON | st.sampled_from(["{", "", "null null", '{"i": 1} {"i": 2}', '{"i": 1.0}']), min_size=1, max_size=5)
)
def test_the_fast_and_the_exact_reader_of_json_lines_never_disagree(values):
    source = SourceSpec(
        name="s", uri="{landing}/{partition}.jsonl", columns={"s": "string", "i": "int", "f": "float", "b": "bool"}
    )
    lines = [value if isinstance(value, str) else json.dumps(value) for value in values]
    data = "\n".join(['{"s": "", "i": 0, "f": 0, "b": true}', *lines]).encode()
    layout = layout_of("x.jsonl", source)
    fast = jsonlines._fast(data, {"s", "i", "f", "b"}, layout)
    try:
        table, numbers, _ = jsonlines._exact(data, layout, {})
    except FileError:
        assert fast is None
        return
    if fast is not None:
        assert repr(fast[0].to_pylist()) == repr(table.to_pylist())
        assert fast[1].equals(numbers)


@PACE
@given(st.binary(max_size=60), st.sampled_from(["x.csv", "x.jsonl", "x.parquet", "x.csv.gz", "x.jsonl.zst", "x.zip"]))
def test_any_bytes_are_read_or_refused_as_a_file_error(data, uri):
    try:
        read_file(data, uri=uri, source=SOURCE)
    except FileError as error:
        assert uri in str(error)


@PACE
@given(st.text(st.sampled_from('ab1,"\n\r; '), max_size=30))
def test_any_text_is_read_as_csv_with_a_line_for_each_row_or_refused(body):
    source = SourceSpec(name="s", uri="{landing}/{partition}.csv", columns={"a": "string", "b": "string"})
    try:
        parsed = read_file(f"a,b\n{body}".encode(), uri="x.csv", source=source)
    except FileError:
        return
    lines = parsed.table.column("_line").to_pylist()
    assert lines == sorted(set(lines))
    assert all(2 <= line <= body.count("\n") + body.count("\r") + 2 for line in lines)
