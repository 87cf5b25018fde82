"""The demo's feed: the same bytes each time, nothing known too early, right on the days when clocks change."""

from __future__ import annotations

import io
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from tasks.domain.partition import Partition
from tasks.errors import UsageError
from tasks.feed import SOURCES, ZONE, _data_folder, _flights, feed, into_folder
from tasks.formats import read_file
from tasks.settings import REPOSITORY, load_source

SPRING, AUTUMN = date(2013, 3, 10), date(2013, 11, 3)
PERISHABLE = {"dep_delay", "arr_delay", "dep_time", "arr_time", "air_time", "departed_at", "arrived_at", "cancelled"}


def dealt(*sources: str, first: date, last: date | None = None) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    result = feed(put=files.__setitem__, sources=sources or None, first=first, last=last or first)
    assert result.files == len(files)
    assert result.bytes == sum(map(len, files.values()))
    return files


def read(files: dict[str, bytes], name: str) -> pd.DataFrame:
    """All files of a source, read as its spec declares them, with the key of each row's file."""
    source = load_source(REPOSITORY / "config", name)
    tables = []
    for key, content in files.items():
        partition = key.rpartition("/")[2].partition(".")[0]
        if key.startswith(name):
            tables.append(read_file(content, uri=key, source=source).table.to_pandas().assign(_partition=partition))
    return pd.concat([table for table in tables if len(table)], ignore_index=True)


@lru_cache
def _package() -> pd.DataFrame:
    return pd.read_csv(_data_folder() / "flights.csv.zip")


def recorded(day: date) -> pd.DataFrame:
    """The package's own rows of a day, indexed by the identity that the feed gives them."""
    flights = _package()
    flights = flights[(flights.month == day.month) & (flights.day == day.day)]
    hour = flights.time_hour.str.replace("-", "").str[:11]
    return flights.set_index(flights.carrier + flights.flight.astype(str) + "-" + hour + "Z")


@pytest.fixture(scope="module")
def flights_of_change() -> dict[date, tuple[pd.DataFrame, pd.DataFrame]]:
    """Outcomes as dealt, and the package's own rows, for the days when clocks change and the evenings before."""
    days = [SPRING - timedelta(days=1), SPRING, AUTUMN - timedelta(days=1), AUTUMN]
    return {day: (read(dealt("outcomes", first=day), "outcomes").set_index("flight_id"), recorded(day)) for day in days}


def test_feeding_twice_gives_the_same_bytes():
    once = dealt(first=SPRING)
    _flights.cache_clear()
    assert dealt(first=SPRING) == once


def test_a_file_is_the_same_whatever_range_it_is_dealt_with():
    alone = dealt(first=AUTUMN)
    together = dealt(first=AUTUMN - timedelta(days=1), last=AUTUMN + timedelta(days=1))
    assert alone.items() <= together.items()


@pytest.mark.parametrize("name", SOURCES)
def test_every_file_reads_as_its_source_declares_it_and_has_no_other_column(name):
    source = load_source(REPOSITORY / "config", name)
    files = dealt(name, first=AUTUMN, last=AUTUMN + timedelta(days=1))
    for key, content in files.items():
        parsed = read_file(content, uri=key, source=source)
        assert not parsed.rows or parsed.notices == ()
    columns = read(files, name).columns.drop(["_line", "_partition"])
    assert list(columns) == list(source.columns)


@pytest.mark.parametrize("name", SOURCES)
def test_the_keys_are_those_of_the_sources_uri(name):
    source = load_source(REPOSITORY / "config", name)
    for key in dealt(name, first=AUTUMN):
        partition = "all" if source.grain == "none" else key.rpartition("/")[2].partition(".")[0]
        assert source.uri.format(landing="", partition=source.partition(partition).key) == f"/{key}"


def test_the_schedule_tells_nothing_that_is_known_only_later():
    schedule = read(dealt("schedule", first=SPRING), "schedule")
    assert not PERISHABLE & set(schedule.columns)
    assert not any("delay" in column or "actual" in column for column in schedule.columns)


def test_schedule_and_outcomes_hold_each_flight_of_the_day_once():
    for day in (SPRING, AUTUMN):
        files = dealt("schedule", "outcomes", first=day)
        schedule, outcomes = read(files, "schedule"), read(files, "outcomes")
        assert sorted(schedule.flight_id) == sorted(outcomes.flight_id) == sorted(recorded(day).index)
        assert schedule.flight_id.is_unique
        assert set(schedule.scheduled_departure.dt.tz_convert(ZONE).dt.date) == {day}


def test_scheduled_departures_show_their_time_on_the_clocks_of_new_york():
    for day in (SPRING, AUTUMN):
        schedule = read(dealt("schedule", first=day), "schedule")
        local = schedule.scheduled_departure.dt.tz_convert(ZONE)
        assert (local.dt.hour * 100 + local.dt.minute == schedule.sched_dep_time).all()


def test_departures_and_arrivals_show_the_recorded_times_on_the_clocks_where_they_happen(flights_of_change):
    zones = pd.read_csv(_data_folder() / "airports.csv", index_col="faa").tzone
    for outcomes, truth in flights_of_change.values():
        truth = truth.loc[outcomes.index]
        for instants, clock, where in (
            (outcomes.departed_at, truth.dep_time, pd.Series(ZONE, truth.index)),
            (outcomes.arrived_at, truth.arr_time, truth.dest.map(zones).fillna("America/Puerto_Rico")),
        ):
            assert (instants.isna() == clock.isna()).all()
            for zone, group in instants.dropna().groupby(where):
                local = group.dt.tz_convert(zone)
                other = local.dt.hour * 100 + local.dt.minute != clock[group.index] % 2400
                # one arrival is recorded at 2:03 in the hour that was skipped
                assert set(other[other].index) <= {"B635-20130310T02Z"}


def test_a_flight_lasts_its_time_in_the_air_and_a_while_on_the_ground(flights_of_change):
    for outcomes, _ in flights_of_change.values():
        landed = outcomes[outcomes.air_time.notna()]
        ground = (landed.arrived_at - landed.departed_at).dt.total_seconds() / 60 - landed.air_time
        assert ground.between(5, 240).all()


def test_a_flight_over_midnight_arrives_on_the_next_day(flights_of_change):
    outcomes, _ = flights_of_change[SPRING - timedelta(days=1)]
    arrived = outcomes.arrived_at.dropna().dt.tz_convert(ZONE).dt.date
    assert (arrived == SPRING).sum() > 10


def test_a_flight_without_arrival_delay_is_cancelled_or_diverted():
    outcomes = read(dealt("outcomes", first=date(2013, 2, 8)), "outcomes")  # a blizzard
    assert outcomes.cancelled.sum() > 400
    assert (outcomes.arr_delay.isna() == (outcomes.cancelled | outcomes.diverted)).all()
    assert outcomes[outcomes.cancelled].departed_at.isna().all()
    assert not (outcomes.cancelled & outcomes.diverted).any()


@pytest.mark.parametrize(("day", "hours"), [(SPRING, 23), (AUTUMN, 25), (date(2013, 7, 1), 24)])
def test_a_day_has_as_many_hourly_files_as_hours(day, hours):
    files = dealt("movements", "observations", first=day)
    for name in ("movements", "observations"):
        keys = [key.rpartition("/")[2].partition(".")[0] for key in files if key.startswith(name)]
        assert len(keys) == hours
        assert all(Partition.parse("hour", ZONE, key).local_start.date() == day for key in keys)
    unobserved = 1 if day == AUTUMN else 0  # the data lacks its first hour
    assert len(read(files, "observations")) == 3 * (hours - unobserved)


def test_hourly_rows_lie_in_the_hour_of_their_file_also_when_it_comes_twice():
    files = dealt("movements", "observations", first=AUTUMN - timedelta(days=1), last=AUTUMN)
    for name, time in (("movements", "departed_at"), ("observations", "time_hour")):
        rows = read(files, name)
        own = [Partition.containing("hour", ZONE, moment.to_pydatetime()).key for moment in rows[time]]
        assert own == list(rows._partition)
    assert {"2013-11-03T01-0400", "2013-11-03T01-0500"} <= set(rows._partition)


def test_movements_are_the_flights_that_left():
    day = date(2013, 6, 5)
    files = dealt("movements", "outcomes", first=day - timedelta(days=1), last=day + timedelta(days=1))
    movements, outcomes = read(files, "movements"), read(files, "outcomes").set_index("flight_id")
    left = outcomes.departed_at[outcomes.departed_at.dt.tz_convert(ZONE).dt.date == day]
    moved = movements[movements._partition.str.startswith(str(day))].set_index("flight_id")
    assert left.sort_index().equals(moved.departed_at.rename("departed_at").sort_index())


def test_an_hour_without_rows_comes_as_a_file_without_rows():
    files = dealt("observations", "movements", first=date(2013, 12, 31))
    assert len(files) == 48
    empty = files["observations/2013-12-31T12-0500.csv"]
    assert empty.startswith(b"origin,time_hour,") and empty.count(b"\n") == 1
    source = load_source(REPOSITORY / "config", "movements")
    quiet = "movements/2013-12-31T03-0500.jsonl.gz"
    assert read_file(files[quiet], uri=quiet, source=source).rows == 0


def test_a_day_without_weather_has_no_file_and_is_declared_missing():
    assert dealt("weather", first=date(2013, 12, 31)) == {}
    assert load_source(REPOSITORY / "config", "weather").missing == ("2013-12-31",)


def test_the_dirt_is_left_in():
    weather = read(dealt("weather", first=date(2013, 2, 12)), "weather")
    assert weather.wind_speed.max() > 1000
    assert weather.wind_gust.isna().any()
    schedule = read(dealt("schedule", first=SPRING), "schedule")
    planes = read(dealt("planes", first=SPRING), "planes")
    assert 0.05 < (~schedule.tailnum.isin(planes.tailnum)).mean() < 0.3


def test_weather_numbers_are_passed_on_to_the_last_digit():
    weather = read(dealt("weather", first=date(2013, 1, 1)), "weather")
    assert 10.357019999999999 in set(weather.wind_speed)


def test_a_parquet_file_names_no_writer_of_frames():
    (content,) = dealt("outcomes", first=SPRING).values()
    assert pq.read_schema(io.BytesIO(content)).metadata is None


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (date(2012, 12, 31), date(2013, 1, 1)),
        (date(2013, 12, 31), date(2014, 1, 1)),
        (date(2013, 2, 2), date(2013, 2, 1)),
    ],
)
def test_days_outside_the_data_are_refused(first, last):
    with pytest.raises(UsageError, match="no data from"):
        dealt(first=first, last=last)


def test_an_unknown_source_is_refused_before_anything_is_dealt():
    files: dict[str, bytes] = {}
    with pytest.raises(UsageError, match="one of schedule, weather"):
        feed(put=files.__setitem__, sources=("planes", "wether"), first=SPRING, last=SPRING)
    assert files == {}


def test_feeding_a_folder_again_leaves_equal_files_alone_and_mends_others(tmp_path: Path):
    days = {"first": SPRING, "last": SPRING + timedelta(days=1)}
    feed(put=into_folder(tmp_path), sources=("weather", "planes"), **days)
    whole = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert sorted(path.name for path in whole) == ["2013-03-10.jsonl", "2013-03-11.jsonl", "planes.csv"]
    inodes = {path: path.stat().st_ino for path in whole}
    broken = tmp_path / "weather" / "2013-03-10.jsonl"
    broken.write_bytes(b"half a line")
    feed(put=into_folder(tmp_path), sources=("weather", "planes"), **days)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == whole
    assert {path for path in whole if path.stat().st_ino != inodes[path]} <= {broken}
