"""The demo's own contracts on the demo's real data: the real dirt is set aside, nothing else."""

from datetime import date
from pathlib import Path

import pytest

from tasks.feed import feed
from tasks.formats import read_file
from tasks.quality import check_suite, load_suite, validate
from tasks.settings import load_source

CONFIG = Path(__file__).parents[2] / "config"
# a quiet day, that of the impossible wind, both changes of the clocks, the year's fewest flights
DAYS = [(1, 5), (2, 12), (3, 10), (11, 3), (11, 28)]


# The feed's frames reach Parquet through a part of pandas that pyarrow still uses and pandas deprecates.
@pytest.mark.filterwarnings("ignore:Series.values returning:DeprecationWarning")
@pytest.mark.parametrize("name", ["schedule", "weather", "outcomes"])
def test_real_days_pass_but_for_the_impossible_wind(name):
    source = load_source(CONFIG, name)
    contract = CONFIG / "sources" / name / source.contract
    check_suite(contract, source.columns)
    files = {}
    for month, day in DAYS:
        moment = date(2013, month, day)
        feed(put=files.__setitem__, sources=(name,), first=moment, last=moment)
    tables = [(key, read_file(data, uri=key, source=source).table) for key, data in files.items()]
    verdicts = list(validate(tables, load_suite(contract)))
    assert [str(failure) for verdict in verdicts for failure in verdict.table_failures] == []
    rejected = [(verdict.key, row.column, row.value) for verdict in verdicts for row in verdict.rejected]
    wind = [("weather/2013-02-12.jsonl", "wind_speed", "1048.36058")]
    assert rejected == (wind if name == "weather" else [])


def test_a_file_that_was_cut_short_is_stopped():
    source = load_source(CONFIG, "schedule")
    files = {}
    feed(put=files.__setitem__, sources=("schedule",), first=date(2013, 1, 5), last=date(2013, 1, 5))
    ((key, data),) = files.items()
    table = read_file(data, uri=key, source=source).table.slice(0, 40)
    (verdict,) = validate([(key, table)], load_suite(CONFIG / "sources" / "schedule" / "contract.json"))
    assert not verdict.success
    assert verdict.table_failures[0].expectation == "expect_table_row_count_to_be_between"
