"""Commits as JSON, the index over many of them, and what importing the lake costs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.domain.run import RunRef
from tasks.errors import PopulationError, StorageError, SupersededError
from tasks.lake import Entry, open_lake
from tasks.lake.log import parse_commit, spell
from tasks.settings import REPOSITORY, Settings
from tests.support.rows import COLUMNS, PARTITION_BY, put, rows, values_of

DAYS = [f"2013-{month:02d}-{day:02d}" for month in range(1, 7) for day in range(1, 23)][:130]


def test_looking_at_state_imports_no_heavy_library(tmp_path: Path) -> None:
    put(open_lake(Settings(home=tmp_path)).table("t"), ("a", 1), [1])
    program = (
        "import sys; from pathlib import Path; from tasks.settings import Settings; from tasks.lake import open_lake\n"
        f"lake = open_lake(Settings(home=Path({str(tmp_path)!r})))\n"
        "assert len(lake.table('t').entries()) == 1 and lake.ledger('p').events() == []\n"
        "print([name for name in ('deltalake', 'pyarrow', 'boto3', 'numpy', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_listing_a_tables_files_imports_no_pandas(tmp_path: Path) -> None:
    """pyarrow imports it wherever it is there to be asked whether something is a frame."""
    put(open_lake(Settings(home=tmp_path)).table("t"), ("a", 1), [1])
    program = (
        "import sys; from pathlib import Path; from tasks.settings import Settings; from tasks.lake import open_lake\n"
        f"table = open_lake(Settings(home=Path({str(tmp_path)!r}))).table('t')\n"
        "print([file.rows for file in table.files(version=table.version())], 'pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[1] False"


def test_no_commit_is_ever_cleaned_away(tmp_path: Path) -> None:
    table = open_lake(Settings(home=tmp_path)).table("sources/weather/clean")
    for number, day in enumerate(DAYS):
        put(table, (day, 1), [number], run=f"run-{day}")
    log = tmp_path / "lake" / table.name / "_delta_log"
    assert any(log.glob("*.checkpoint.parquet")), "the history is meant to cross a checkpoint"
    assert [commit.version for commit in table.commits()] == list(range(131))
    assert [entry.run_id for entry in table.entries().values()] == [f"run-{day}" for day in DAYS]
    assert values_of(table) == {(day, 1): [number] for number, day in enumerate(DAYS)}
    assert [file.rows for file in table.files(version=130, keys=[(DAYS[3], 1)])] == [1]
    assert table.entries(50).keys() == {(day, 1) for day in DAYS[:50]}
    with pytest.raises(SupersededError):
        put(table, (DAYS[99], 1), [0], pinned=20)
    assert put(table, (DAYS[10], 1), [0], pinned=20) == 131


def test_a_hole_in_the_log_is_an_error_not_a_guess(tmp_path: Path) -> None:
    table = open_lake(Settings(home=tmp_path)).table("t")
    for number in range(3):
        put(table, ("a", 1), [number])
    (tmp_path / "lake" / table.log.key(2)).unlink()
    with pytest.raises(StorageError, match="lacks a commit"):
        table.entries()


def test_a_commit_of_another_tool_touches_what_it_changed() -> None:
    lines = [
        {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}},
        {"commitInfo": {"operation": "DELETE", "millrace": "no mapping"}},
        {"remove": {"path": "x", "dataChange": True, "partitionValues": {"revision": "1", "partition_key": "a"}}},
        {"add": {"path": "y", "dataChange": False, "partitionValues": {"revision": "2", "partition_key": "a"}}},
    ]
    commit = parse_commit(7, "\n".join(json.dumps(line) for line in lines).encode())
    assert commit.touched == {spell(PARTITION_BY, ("a", 1))}
    assert (commit.version, commit.operation, commit.run_id, commit.entries) == (7, "DELETE", "", ())


def test_statistics_of_columns_never_reach_the_log(tmp_path: Path) -> None:
    table = open_lake(Settings(home=tmp_path)).table("t")
    put(table, ("a", 1), [123456789])
    assert b"123456789" not in (tmp_path / "lake" / table.log.key(1)).read_bytes()


@pytest.mark.parametrize("key", [("2013/01", 1), ("", 1), ("a b", 1), ("a", True), ("a", "1"), ("a",)])
def test_a_key_that_would_not_round_trip_is_refused(tmp_path: Path, key: tuple) -> None:
    table = open_lake(Settings(home=tmp_path)).table("t")
    with pytest.raises(ValueError):
        replace(table, rows(("a", 1)), Entry(key, 0))
    assert table.version() == -1


@pytest.mark.parametrize("meta", [{"auc": float("nan")}, {"when": object()}])
def test_meta_that_json_cannot_hold_is_refused_before_any_work(tmp_path: Path, meta: dict) -> None:
    table = open_lake(Settings(home=tmp_path)).table("t")
    with pytest.raises((ValueError, TypeError)):
        replace(table, rows(("a", 1)), Entry(("a", 1), 0, meta))
    assert table.version() == -1


def test_two_entries_for_one_partition_are_refused(tmp_path: Path) -> None:
    table = open_lake(Settings(home=tmp_path)).table("t")
    with pytest.raises(ValueError, match="two entries"):
        replace(table, rows(("a", 1), 1), Entry(("a", 1), 1), Entry(("a", 1), 1))


def test_rows_without_a_key_are_refused(tmp_path: Path) -> None:
    table = open_lake(Settings(home=tmp_path)).table("t")
    data = rows(("a", 1), 1).set_column(1, "partition_key", [[None]]).cast(COLUMNS)
    with pytest.raises(PopulationError):
        replace(table, data, Entry(("a", 1), 1))
    assert values_of(table) == {}


def replace(table, data, *entries: Entry) -> int:
    return table.replace(
        pinned=table.version(),
        columns=COLUMNS,
        partition_by=PARTITION_BY,
        data=data,
        entries=entries,
        run=RunRef("run"),
    )
