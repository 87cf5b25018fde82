"""One quarter of the demo's real flights, a tenth of them, walked forward: two trainings, a score run for each day."""

from __future__ import annotations

import gzip
import io
import re
import shutil
import zlib
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.command.backtest import backtest
from tasks.command.report import report
from tasks.command.steps import Steps
from tasks.domain.ranges import source_keys
from tasks.domain.results import BacktestResult
from tasks.domain.run import RunRef
from tasks.feed import feed
from tasks.settings import REPOSITORY, Settings, load_pipeline
from tests.support.project import Project

NAME = "flight_delays"
FIRST, LAST = date(2013, 2, 1), date(2013, 4, 30)
SOURCES = ("schedule", "weather", "outcomes", "planes")


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory, mlflow_uri: str) -> Project:
    """January to April, clean."""
    folder = tmp_path_factory.mktemp("flights")
    shutil.copytree(REPOSITORY / "config", folder / "config")
    for contract in (folder / "config/sources").glob("*/contract.json"):
        # a tenth of the rows of a day
        contract.write_text(re.sub(r'(row_count_to_be_between.*?"min_value": \d+)0\b', r"\1", contract.read_text()))
    settings = Settings(home=folder / "home", config=folder / "config", mlflow=mlflow_uri)
    project = Project(folder, settings)

    def put(key: str, content: bytes) -> None:
        file = Path(settings.landing_uri) / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(a_tenth(key, content))

    feed(put=put, sources=SOURCES, first=date(2013, 1, 1), last=LAST)
    spec = load_pipeline(settings.config, NAME)
    for name in SOURCES:
        keys = source_keys(spec, spec.sources[name].source, date(2013, 1, 1), LAST)
        for verb in ("ingest", "validate"):
            project.run(verb, name, keys[0] if len(keys) == 1 else f"{keys[0]}..{keys[-1]}")
    return project


@pytest.fixture(scope="module")
def walked(flights: Project) -> BacktestResult:
    return backtest(_steps(flights), NAME, FIRST, LAST, name="quarter")


def a_tenth(key: str, content: bytes) -> bytes:
    """A delivery with one flight of ten, the same ones of the schedule and of the outcomes."""
    if key.startswith("schedule/"):
        header, *lines = gzip.decompress(content).decode().splitlines(keepends=True)
        place = header.strip().split(",").index("flight_id")
        kept = [line for line in lines if _taken(line.split(",")[place])]
        return gzip.compress("".join([header, *kept]).encode())
    if key.startswith("outcomes/"):
        table = pq.read_table(io.BytesIO(content))
        written = io.BytesIO()
        pq.write_table(table.filter(pa.array([_taken(one) for one in table["flight_id"].to_pylist()])), written)
        return written.getvalue()
    return content


def _taken(flight: str) -> bool:
    return zlib.crc32(flight.encode()) % 10 == 0


def _steps(project: Project, **changes) -> Steps:
    return Steps(project.settings, RunRef("walk", 1, "tester"), lambda text: None, lambda done, total: None, **changes)


def test_two_trainings_of_a_quarter_and_each_day_scored_once_there_is_a_champion(walked: BacktestResult):
    told = {one.training: (one.verdict or "not trained", one.promoted) for one in walked.trainings}
    assert told["2013-02"] == ("not trained", False)  # a month is less than min_window and holdout
    assert told["2013-03"] == ("promote", True) and told["2013-04"][0] in ("promote", "keep")
    days = (LAST - date(2013, 3, 1)).days  # March's model may score from the morning after
    assert (walked.partitions, walked.published) == (89, days)
    assert {(one.key <= "2013-03-01", one.reason) for one in walked.skipped} == {(True, "no champion")}


def test_it_tells_flights_that_will_be_late_from_those_that_will_not(walked: BacktestResult, flights: Project):
    found = report(_steps(flights, backtest="quarter"), NAME, FIRST, LAST)
    assert found.published == walked.published
    (gated,) = (one for one in found.total.policies if one.policy == "gated")
    assert 0.5 < gated.low < gated.value < gated.high < 0.75


def test_the_main_line_knows_nothing_of_it(walked: BacktestResult, flights: Project):
    assert flights.lake.ledger(NAME).events() == []
    assert not [one.key for one in flights.lake.objects.list(f"{NAME}/predictions")]
