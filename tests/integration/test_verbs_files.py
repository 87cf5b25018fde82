"""Deliveries that can't be read: an error that names file, line and column, and nothing lost or published."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.errors import FileError, NotReadyError
from tests.support.pipelines import deliver
from tests.support.project import Project, with_settings

GOOD = "order_id,shop,amount\na-1,s1,10.5\na-2,s2,20\n"
RANGE = "2024-01-01..2024-01-03"


def written(ending: str, text: str) -> bytes:
    """Orders in the format of a file name's ending; the text is CSV."""
    if ending == "csv":
        return text.encode()
    rows = [row | {"amount": float(row["amount"])} for row in csv.DictReader(io.StringIO(text))]
    return _jsonl(*rows) if ending == "jsonl" else _parquet(rows)


def _jsonl(*rows: dict[str, Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), stream)
    return stream.getvalue()


FIRST = {"order_id": "a-1", "shop": "s1", "amount": 10.5}
BAD: dict[str, tuple[str, bytes, int | None, str | None]] = {
    "a row with too many fields": ("csv", b"order_id,shop,amount\na-1,s1,10.5\na-2,s2,20,surplus\n", 3, None),
    "a column is lacking": ("csv", b"order_id,shop,price\na-1,s1,10.5\n", 1, "amount"),
    "a value of a wrong type": ("csv", b"order_id,shop,amount\na-1,s1,10.5\na-2,s2,twenty\n", 3, "amount"),
    "another encoding": ("csv", "order_id,shop,amount\na-1,s1,10.5\na-2,Café,20\n".encode("latin-1"), 3, "shop"),
    "nothing in it": ("csv", b"", 1, None),
    "a quote that never closes": ("csv", b'order_id,shop,amount\na-1,s1,10.5\na-2,"s2,20\n', 3, "amount"),
    "JSON lines: a line breaks off": ("jsonl", _jsonl(FIRST) + b'{"order_id": "a-2", "sho', 2, None),
    "JSON lines: no row has a column": ("jsonl", _jsonl({"order_id": "a-1", "shop": "s1"}), None, "amount"),
    "JSON lines: a value of a wrong type": ("jsonl", _jsonl(FIRST, FIRST | {"amount": "20"}), 2, "amount"),
    "JSON lines: another encoding": ("jsonl", _jsonl(FIRST) + b'{"order_id": "a-2", "shop": "Caf\xe9"}\n', 2, None),
    "Parquet: a column is lacking": ("parquet", _parquet([{"order_id": "a-1", "shop": "s1"}]), None, "amount"),
    "Parquet: a column of another type": ("parquet", _parquet([FIRST | {"amount": "10.5"}]), None, "amount"),
    "Parquet: it ends too early": ("parquet", _parquet([FIRST] * 100)[:-20], None, None),
}


@pytest.fixture
def orders(project: Project) -> Project:
    """A project with three days of orders delivered."""
    deliver(project.incoming, date(2024, 1, 1), date(2024, 1, 3), orders=5)
    return project


def deliver_as(project: Project, ending: str) -> None:
    """Deliver the orders in another format."""
    source = project.settings.config / "sources" / "orders" / "source.yaml"
    source.write_text(source.read_text().replace("{partition}.csv", f"{{partition}}.{ending}"))
    for file in sorted((project.incoming / "orders").glob("*.csv")):
        text = file.read_text()
        file.unlink()
        file.with_suffix(f".{ending}").write_bytes(written(ending, text))


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_named_with_line_and_column_and_stops_its_own_partition_only(orders: Project, kind: str):
    ending, content, line, column = BAD[kind]
    deliver_as(orders, ending)
    file = orders.write(f"orders/2024-01-02.{ending}", content)
    with pytest.raises(FileError) as caught:
        orders.run("ingest", "orders", RANGE)
    assert (caught.value.uri, caught.value.line, caught.value.column) == (str(file), line, column)
    assert str(file) in str(caught.value)
    assert {key for key, _ in orders.table("sources/orders/raw").entries()} == {"2024-01-01", "2024-01-03"}
    assert file.read_bytes() == content

    # Mended, the same command goes on, and what had landed is left alone.
    orders.write(f"orders/2024-01-02.{ending}", written(ending, GOOD))
    result = orders.run("ingest", "orders", RANGE)
    assert [one.status for one in result.partitions] == ["duplicate", "landed", "duplicate"]
    assert orders.run("validate", "orders", RANGE).partitions[1].clean == 2


def test_a_truncated_gzip_file_is_refused(orders: Project):
    source = orders.settings.config / "sources" / "orders" / "source.yaml"
    source.write_text(source.read_text().replace("{partition}.csv", "{partition}.csv.gz"))
    whole = gzip.compress(GOOD.encode() * 1000, mtime=0)
    file = orders.write("orders/2024-01-02.csv.gz", whole[:-20])
    with pytest.raises(FileError) as caught:
        orders.run("ingest", "orders", "2024-01-02")
    assert caught.value.uri == str(file)
    assert orders.version("sources/orders/raw") == -1


def test_several_bad_files_are_counted_and_the_first_is_named(orders: Project):
    for day in ("2024-01-01", "2024-01-03"):
        orders.write(f"orders/{day}.csv", "order_id,shop\n")
    with pytest.raises(FileError) as caught:
        orders.run("ingest", "orders", RANGE)
    assert caught.value.uri.endswith("2024-01-01.csv") and "1 more" in caught.value.hint


def test_a_header_alone_is_a_delivery_without_rows(orders: Project):
    orders.write("orders/2024-01-02.csv", "order_id,shop,amount\n")
    landed = orders.run("ingest", "orders", "2024-01-02").partitions[0]
    validated = orders.run("validate", "orders", "2024-01-02").partitions[0]
    assert (landed.status, landed.rows) == ("landed", 0)
    assert (validated.status, validated.clean) == ("published", 0)
    assert orders.entry("sources/orders/clean", "2024-01-02", 1).rows == 0


def test_columns_that_nobody_declared_are_said_and_ignored(orders: Project):
    orders.write("orders/2024-01-02.csv", "order_id,shop,amount,colour\na-1,s1,10,red\n")
    result = orders.run("ingest", "orders", "2024-01-02")
    assert result.partitions[0].rows == 1 and "colour" in result.notices[0]


def test_a_file_that_has_not_come_is_waited_for_and_the_others_land(orders: Project):
    (orders.incoming / "orders" / "2024-01-02.csv").unlink()
    with pytest.raises(NotReadyError) as caught:
        orders.run("ingest", "orders", RANGE)
    assert caught.value.missing == ("orders/2024-01-02",)
    assert str(orders.incoming / "orders" / "2024-01-02.csv") in str(caught.value)
    assert {key for key, _ in orders.table("sources/orders/raw").entries()} == {"2024-01-01", "2024-01-03"}


def test_a_partition_that_was_declared_missing_is_not_waited_for(orders: Project):
    (orders.incoming / "orders" / "2024-01-02.csv").unlink()
    source = orders.settings.config / "sources" / "orders" / "source.yaml"
    source.write_text(source.read_text() + "missing: [2024-01-02]\n")
    result = orders.run("ingest", "orders", RANGE)
    assert [one.status for one in result.partitions] == ["landed", "missing", "landed"]
    assert len(orders.run("validate", "orders", RANGE).partitions) == 2


def test_the_same_bytes_again_change_nothing(orders: Project):
    first = orders.run("ingest", "orders", RANGE)
    before = orders.objects()
    orders.write("orders/2024-01-02.csv", (orders.incoming / "orders" / "2024-01-02.csv").read_bytes())
    again = orders.run("ingest", "orders", RANGE)
    assert {one.status for one in again.partitions} == {"duplicate"}
    assert again.version == first.version and orders.objects() == before


def test_landing_and_lake_on_s3_report_a_bad_file_by_its_s3_address(
    orders: Project, new_bucket: Callable[[], str], s3_endpoint: str
):
    bucket = new_bucket()
    project = with_settings(
        orders, lake=f"s3://{bucket}/lake", landing=f"s3://{bucket}/landing", s3_endpoint=s3_endpoint
    )
    project.write("orders/2024-01-02.csv", BAD["a value of a wrong type"][1])
    project.deliver()
    with pytest.raises(FileError) as caught:
        project.run("ingest", "orders", RANGE)
    assert (caught.value.uri, caught.value.line) == (f"s3://{bucket}/landing/orders/2024-01-02.csv", 3)
    assert len(project.rows("sources/orders/raw")) == 10
    assert not (project.settings.home / "lake").exists()


@pytest.mark.parametrize("storage", ["folder", "s3"])
def test_hours_of_utc_land_under_keys_with_a_plus(project: Project, storage: str, request: pytest.FixtureRequest):
    if storage == "s3":
        bucket, endpoint = request.getfixturevalue("new_bucket")(), request.getfixturevalue("s3_endpoint")
        project = with_settings(
            project, lake=f"s3://{bucket}/lake", landing=f"s3://{bucket}/landing", s3_endpoint=endpoint
        )
    source = project.settings.config / "sources" / "ticks" / "source.yaml"
    source.parent.mkdir()
    source.write_text('grain: hour\nuri: "{landing}/ticks/{partition}.csv"\ncolumns: {x: int}\n')
    keys = [f"2024-03-31T{hour:02}+0000" for hour in range(3)]
    for number, key in enumerate(keys):
        project.write(f"ticks/{key}.csv", f"x\n{number}\n")
    project.load({"ticks": f"{keys[0]}..{keys[-1]}"})
    rows = project.rows("sources/ticks/clean", (keys[1], 1))
    assert [(row["x"], row["partition_key"]) for row in rows] == [(1, keys[1])]
    assert {one.status for one in project.run("ingest", "ticks", f"{keys[0]}..{keys[-1]}").partitions} == {"duplicate"}
