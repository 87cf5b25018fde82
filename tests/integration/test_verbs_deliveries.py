"""Deliveries that are more than one plain file: several files, receipts beside them, a mark that is put last."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from tasks.errors import FileError, NotReadyError
from tasks.ingest import waiting
from tasks.lake import open_landing
from tasks.plan import due_ingests
from tasks.settings import load_source
from tests.support.pipelines import write_config
from tests.support.project import Project, make_project

DAY = "2024-01-02"
PARTS = {
    "a.csv": 'order_id,shop,amount\n1,s1,5\n\n"2",s1,6\n',
    "b.csv": "order_id,shop,amount\n",
    "c.csv": "amount,shop,order_id\n7,s2,3\n-1,s2,4\n",
}


def declare(project: Project, *lines: str, uri: str = "") -> Project:
    file = project.settings.config / "sources" / "orders" / "source.yaml"
    text = file.read_text()
    if uri:
        text = text.replace('uri: "{landing}/orders/{partition}.csv"', f'uri: "{uri}"')
    file.write_text(text + "".join(f"{line}\n" for line in lines))
    return project


@pytest.fixture(params=["folder", "s3"])
def several(request: pytest.FixtureRequest, tmp_path) -> Project:
    """Orders that come in several files and a mark."""
    s3 = {}
    if request.param == "s3":
        new_bucket: Callable[[], str] = request.getfixturevalue("new_bucket")
        s3 = {"bucket": new_bucket(), "endpoint": request.getfixturevalue("s3_endpoint")}
    write_config(tmp_path / "config", "late_orders", live=True)
    made = make_project(tmp_path, **s3)
    return declare(made, 'complete: "{landing}/orders/{partition}/_SUCCESS"', uri="{landing}/orders/{partition}/*.csv")


def put(project: Project, *names: str, mark: bool = True, **more: str) -> None:
    for name in names:
        project.write(f"orders/{DAY}/{name}", more.get(name.partition(".")[0], PARTS[name]))
    if mark:
        project.write(f"orders/{DAY}/_SUCCESS", "")
    project.deliver()


def expected(project: Project) -> tuple[list[str], tuple[str, ...]]:
    """(what is due, what is waited for)"""
    source, landing = load_source(project.settings.config, "orders"), open_landing(project.settings)
    where = {"landing": landing, "root": project.settings.landing_uri, "now": datetime(2024, 1, 3, 17, tzinfo=UTC)}
    due = [one.key for one in due_ingests(source=source, lake=project.lake, **where)]
    return due, waiting(source=source, partitions=[source.partition(DAY)], **where)


def test_several_files_are_one_delivery_once_the_mark_is_there(several: Project):
    put(several, *PARTS, mark=False)
    assert expected(several) == ([], (f"orders/{DAY}",))
    with pytest.raises(NotReadyError):
        several.run("ingest", "orders", DAY)
    put(several)
    assert expected(several) == ([DAY], ())
    (landed,) = several.run("ingest", "orders", DAY).partitions
    assert (landed.status, landed.rows, landed.revision) == ("landed", 4, 1)
    rows = several.rows("sources/orders/raw")
    assert sorted((row["order_id"], row["_file"].rpartition("/")[2], row["_line"]) for row in rows) == [
        ("1", "a.csv", 2), ("2", "a.csv", 4), ("3", "c.csv", 6), ("4", "c.csv", 7),
    ]  # fmt: skip
    assert several.run("ingest", "orders", DAY).partitions[0].status == "duplicate"


def test_a_quarantined_row_is_told_with_its_own_file_and_line(several: Project):
    declare(several, "max_reject_rate: 0.5")
    put(several, *PARTS)
    several.load({"orders": DAY})
    told = several.command("quarantine", "orders", DAY)
    assert told.code == 0 and "c.csv" in told.out and "a.csv" not in told.out, told.err
    (row,) = several.command("quarantine", "orders", DAY, "--json").json["rows"]
    assert (row["file"].rpartition("/")[2], row["line"], row["value"]) == ("c.csv", 3, "-1")


def test_another_file_or_other_bytes_of_one_are_a_restatement(several: Project):
    put(several, "a.csv", "c.csv")
    several.run("ingest", "orders", DAY)
    put(several, "b.csv")
    assert expected(several)[0] == [DAY]
    assert several.run("ingest", "orders", DAY).partitions[0].revision == 2
    put(several, "c.csv", c=PARTS["c.csv"].replace("7", "8"))
    assert several.run("ingest", "orders", DAY).partitions[0].revision == 3
    assert several.run("ingest", "orders", DAY).partitions[0].status == "duplicate"


def test_one_bad_file_of_several_stops_the_delivery_and_is_named(several: Project):
    put(several, *PARTS, c="order_id,shop,amount\n3,s2,x\n")
    with pytest.raises(FileError, match=r"c\.csv, line 2, column 'amount': 'x' is not a number"):
        several.run("ingest", "orders", DAY)
    assert several.version("sources/orders/raw") == -1


@pytest.fixture
def receipted(project: Project) -> Project:
    return declare(project, "receipt: .sum")


BYTES = b"order_id,shop,amount\n1,s1,5\n"


@pytest.mark.parametrize(
    "receipt",
    [
        str(len(BYTES)),
        f"{hashlib.sha256(BYTES).hexdigest()}  {DAY}.csv\n",
        hashlib.md5(BYTES, usedforsecurity=False).hexdigest().upper(),
    ],
)
def test_a_file_is_taken_when_its_receipt_says_that_it_is_whole(receipted: Project, receipt: str):
    receipted.write(f"orders/{DAY}.csv", BYTES)
    assert expected(receipted) == ([], (f"orders/{DAY}",))
    receipted.write(f"orders/{DAY}.csv.sum", receipt)
    assert expected(receipted) == ([DAY], ())
    assert receipted.run("ingest", "orders", DAY).partitions[0].rows == 1


@pytest.mark.parametrize(
    ("receipt", "said"),
    [
        (str(len(BYTES) + 5), r"2024-01-02\.csv: cut short: 28 bytes where its receipt says 33"),
        (str(len(BYTES) - 5), r"2024-01-02\.csv: 28 bytes where its receipt says 23"),
        (hashlib.sha256(b"").hexdigest(), r"2024-01-02\.csv: its sha256 is [0-9a-f]{64}, its receipt says e3b0c442"),
        ("all of it", "its receipt says 'all'; expected a number of bytes, a SHA-256 or an MD5"),
        ("", "its receipt says ''; expected"),
    ],
)
def test_a_file_that_is_not_what_its_receipt_says_is_refused_and_nothing_landed(
    receipted: Project, receipt: str, said: str
):
    receipted.write(f"orders/{DAY}.csv", BYTES)
    receipted.write(f"orders/{DAY}.csv.sum", receipt)
    with pytest.raises(FileError, match=said):
        receipted.run("ingest", "orders", DAY)
    assert receipted.version("sources/orders/raw") == -1


def test_columns_that_changed_their_name_are_taken_and_said(project: Project):
    project.write(f"orders/{DAY}.csv", "order_id,shop,total\n1,s1,5\n")
    with pytest.raises(FileError) as refused:
        project.run("ingest", "orders", DAY)
    assert "renamed: {amount: [total]}" in refused.value.hint
    declare(project, "renamed: {amount: [total]}")
    landed = project.run("ingest", "orders", DAY)
    assert landed.notices[0].endswith("took total as amount, as the source's renamed says")
    assert project.rows("sources/orders/raw")[0]["amount"] == 5.0
