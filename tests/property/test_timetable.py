"""The partitioned timetable: keys, moments, bounds, for each hour of a year in three zones."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from airflow._shared.timezones.timezone import coerce_datetime
from airflow.exceptions import InvalidPartitionKeyError
from airflow.timetables.base import DagRunInfo, TimeRestriction
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace_airflow import timetable as timetable_module
from millrace_airflow import wake as wake_module
from millrace_airflow.timetable import PartitionTimetable
from millrace_airflow.wake import ARRIVAL, CLOCK, WakeTimetable, clean_asset

from tasks.domain.partition import Offset, Partition

ZONES = ("America/New_York", "Asia/Kolkata", "Australia/Sydney")
OFFSETS = ("start", "start-6h", "start+4h", "end", "end+3h", "end+2d", "start-40d", "end+35d12h")
NO_LIMIT = TimeRestriction(earliest=None, latest=None, catchup=False)
CATCHUP = TimeRestriction(earliest=None, latest=None, catchup=True)

timetables = st.builds(
    PartitionTimetable,
    grain=st.sampled_from(("hour", "day", "week", "month")),
    timezone=st.sampled_from(ZONES),
    offset=st.sampled_from(OFFSETS),
    start=st.just(date(2013, 1, 1)),
    end=st.none() | st.just(date(2013, 12, 31)),
)
instants = st.datetimes(datetime(2012, 6, 1), datetime(2014, 6, 1), timezones=st.just(UTC))


@pytest.fixture
def at(monkeypatch):
    """Sets the timetables' clock, to pendulum's kind of moment as Airflow gives it."""

    def set_clock(instant: datetime) -> None:
        for module in (timetable_module, wake_module):
            monkeypatch.setattr(module, "utcnow", lambda: coerce_datetime(instant))

    return set_clock


@pytest.mark.parametrize("zone", ZONES)
def test_each_hour_of_a_year_has_its_own_key_and_comes_back_from_it(zone):
    hourly = PartitionTimetable(grain="hour", timezone=zone, offset="start")
    first, last = datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 12, 31, 23, tzinfo=UTC)
    infos = list(hourly.iter_partition_dagrun_infos(earliest=first, latest=last))
    assert len(infos) == 365 * 24
    assert len({info.partition_key for info in infos}) == len(infos)
    for before, info in zip(infos, infos[1:], strict=False):
        assert info.partition_date - before.partition_date == timedelta(hours=1)
    for info in infos:
        assert hourly.resolve_partition_date(info.partition_key) == info.partition_date
        local = info.partition_date.astimezone(ZoneInfo(zone))
        assert info.partition_key == local.strftime("%Y-%m-%dT%H%z")


@settings(max_examples=150, deadline=None)
@given(timetables, instants)
def test_without_catch_up_the_next_run_is_the_latest_that_is_due_or_the_first(timetable, now):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timetable_module, "utcnow", lambda: coerce_datetime(now))
        info = timetable.next_dagrun_info_v2(last_dagrun_info=None, restriction=NO_LIMIT)
    if info is None:
        assert timetable.end is not None
        assert timetable.moment(timetable.last.next()) <= now
        return
    partition = Partition.parse(timetable.grain, timetable.timezone, info.partition_key)
    assert info.partition_date == partition.start
    assert info.run_after == Offset.parse(str(timetable.offset)).at(partition)
    assert partition >= timetable.first
    assert timetable.last is None or partition <= timetable.last
    if info.run_after > now:
        assert partition == timetable.first
    else:
        assert timetable.moment(partition.next()) > now


@settings(max_examples=60, deadline=None)
@given(timetables, instants, st.integers(1, 5))
def test_runs_follow_each_other_without_gap_or_repeat(timetable, now, count):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timetable_module, "utcnow", lambda: coerce_datetime(now))
        last = timetable.next_dagrun_info_v2(last_dagrun_info=None, restriction=NO_LIMIT)
        for _ in range(count):
            if last is None:
                return
            info = timetable.next_dagrun_info_v2(last_dagrun_info=last, restriction=NO_LIMIT)
            this = Partition.parse(timetable.grain, timetable.timezone, last.partition_key)
            if info is not None:
                assert info.partition_key == this.next().key
            else:
                assert this == timetable.last
            last = info


@settings(max_examples=60, deadline=None)
@given(timetables)
def test_a_timetable_survives_serialisation(timetable):
    again = PartitionTimetable.deserialize(timetable.serialize())
    assert again == timetable
    assert again.summary == timetable.summary
    assert again.description == timetable.description


def test_catch_up_begins_at_the_first_partition(at):
    at(datetime(2013, 3, 1, 12, tzinfo=UTC))
    daily = PartitionTimetable(
        grain="day", timezone="America/New_York", offset="start+4h", start=date(2013, 1, 1), end=date(2013, 12, 31)
    )
    info = daily.next_dagrun_info_v2(last_dagrun_info=None, restriction=CATCHUP)
    assert info.partition_key == "2013-01-01"
    assert daily.next_dagrun_info_v2(last_dagrun_info=info, restriction=CATCHUP).partition_key == "2013-01-02"


def test_history_does_not_run_by_itself(at):
    at(datetime(2026, 11, 23, tzinfo=UTC))
    daily = PartitionTimetable(
        grain="day", timezone="America/New_York", offset="start+4h", start=date(2013, 1, 1), end=date(2013, 12, 31)
    )
    assert daily.next_dagrun_info_v2(last_dagrun_info=None, restriction=NO_LIMIT) is None


def test_after_days_of_standstill_only_the_latest_partition_runs(at):
    daily = PartitionTimetable(grain="day", timezone="America/New_York", offset="start+4h", start=date(2013, 1, 1))
    at(datetime(2013, 5, 1, 9, tzinfo=UTC))
    before = daily.next_dagrun_info_v2(last_dagrun_info=None, restriction=NO_LIMIT)
    at(datetime(2013, 5, 7, 9, tzinfo=UTC))
    assert before.partition_key == "2013-05-01"
    assert daily.next_dagrun_info_v2(last_dagrun_info=before, restriction=NO_LIMIT).partition_key == "2013-05-07"


def test_a_spec_whose_grain_changed_starts_anew(at):
    at(datetime(2013, 5, 1, 9, tzinfo=UTC))
    daily = PartitionTimetable(grain="day", timezone="America/New_York", offset="start+4h")
    hour = DagRunInfo(run_after=None, data_interval=None, partition_key="2013-04-30T05-0400")
    assert daily.next_dagrun_info_v2(last_dagrun_info=hour, restriction=NO_LIMIT).partition_key == "2013-05-01"


def test_a_backfill_takes_both_of_the_doubled_hours():
    hourly = PartitionTimetable(grain="hour", timezone="America/New_York", offset="start-2h")
    window = {"earliest": datetime(2013, 11, 3, 0, tzinfo=UTC), "latest": datetime(2013, 11, 3, 2, tzinfo=UTC)}
    keys = [info.partition_key for info in hourly.iter_partition_dagrun_infos(**window)]
    assert keys == ["2013-11-03T00-0400", "2013-11-03T01-0400", "2013-11-03T01-0500", "2013-11-03T02-0500"]
    doubled = {"earliest": datetime(2013, 11, 3, 1, tzinfo=UTC), "latest": datetime(2013, 11, 3, 1, tzinfo=UTC)}
    assert len(list(hourly.iter_partition_dagrun_infos(**doubled))) == 2


def test_a_backfill_stays_between_start_and_end_and_keeps_each_moment():
    daily = PartitionTimetable(
        grain="day", timezone="America/New_York", offset="start-6h", start=date(2013, 11, 2), end=date(2013, 11, 4)
    )
    infos = list(
        daily.iter_partition_dagrun_infos(
            earliest=datetime(2013, 10, 1, tzinfo=UTC), latest=datetime(2013, 12, 1, tzinfo=UTC)
        )
    )
    assert [info.partition_key for info in infos] == ["2013-11-02", "2013-11-03", "2013-11-04"]
    assert infos[0].run_after == datetime(2013, 11, 1, 22, tzinfo=UTC)
    assert infos[0].partition_date == datetime(2013, 11, 2, 4, tzinfo=UTC)


def test_a_monthly_training_runs_at_as_of_of_its_first_day_or_hour(at):
    at(datetime(2013, 11, 5, tzinfo=UTC))
    monthly = {"grain": "month", "timezone": "America/New_York"}
    daily = PartitionTimetable(**monthly, offset="end+2h", anchor="day")
    hourly = PartitionTimetable(**monthly, offset="end+2h", anchor="hour")
    of_day = daily.next_dagrun_info_v2(last_dagrun_info=None, restriction=NO_LIMIT)
    of_hour = hourly.next_dagrun_info_v2(last_dagrun_info=None, restriction=NO_LIMIT)
    assert (of_day.partition_key, of_day.run_after) == ("2013-11", datetime(2013, 11, 2, 6, tzinfo=UTC))
    assert (of_hour.partition_key, of_hour.run_after) == ("2013-11", datetime(2013, 11, 1, 7, tzinfo=UTC))


def test_a_key_of_another_grain_is_refused():
    daily = PartitionTimetable(grain="day", timezone="UTC", offset="start")
    for key in ("2013-11", "2013-11-31", "yesterday", "2013-11-03T01-0400"):
        with pytest.raises(InvalidPartitionKeyError, match="no day partition"):
            daily.resolve_partition_date(key)
    assert daily.resolve_partition_date(None) is None


def test_airflows_restrictions_hold_too(at):
    at(datetime(2013, 5, 1, 12, tzinfo=UTC))
    daily = PartitionTimetable(grain="day", timezone="America/New_York", offset="start+4h")
    later = TimeRestriction(earliest=coerce_datetime(datetime(2013, 6, 1, tzinfo=UTC)), latest=None, catchup=False)
    past = TimeRestriction(earliest=None, latest=coerce_datetime(datetime(2013, 4, 1, tzinfo=UTC)), catchup=False)
    assert daily.next_dagrun_info_v2(last_dagrun_info=None, restriction=later).partition_key == "2013-06-01"
    assert daily.next_dagrun_info_v2(last_dagrun_info=None, restriction=past) is None


@pytest.fixture
def wake() -> WakeTimetable:
    return WakeTimetable(assets=[clean_asset("orders"), clean_asset("arrivals")], minutes=5)


def test_the_clock_wakes_once_in_each_slot(at, wake):
    at(datetime(2026, 11, 23, 6, 37, 12, tzinfo=UTC))
    first = wake.next_dagrun_info_v2(last_dagrun_info=None, restriction=NO_LIMIT)
    assert (first.partition_key, first.run_after) == (CLOCK, datetime(2026, 11, 23, 6, 35, tzinfo=UTC))
    second = wake.next_dagrun_info_v2(last_dagrun_info=first, restriction=NO_LIMIT)
    assert second.run_after == second.partition_date == datetime(2026, 11, 23, 6, 40, tzinfo=UTC)
    at(datetime(2026, 11, 23, 9, 1, tzinfo=UTC))
    third = wake.next_dagrun_info_v2(last_dagrun_info=second, restriction=NO_LIMIT)
    assert third.run_after == datetime(2026, 11, 23, 9, 0, tzinfo=UTC)


def test_all_arrivals_wake_under_one_key(wake):
    again = WakeTimetable.deserialize(wake.serialize())
    assert again.serialize() == wake.serialize()
    for key in ("2013-11-05", "2013-11-03T01-0500", "all"):
        assert again.get_partition_mapper(name="orders/clean").to_downstream(key) == ARRIVAL
    assert sorted(key.name for key, _ in again.asset_condition.iter_assets()) == ["arrivals/clean", "orders/clean"]
