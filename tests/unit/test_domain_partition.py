"""Partitions of every grain: keys, bounds, the days on which clocks change, moments relative to them."""

from datetime import UTC, date, datetime, timedelta

import pytest

from tasks.domain.partition import Offset, Partition, Span, instant, iso, overlapping, partitions, zone_of
from tasks.errors import PartitionKeyError

NEW_YORK = "America/New_York"


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


@pytest.mark.parametrize(
    ("grain", "key", "start", "end"),
    [
        ("day", "2013-01-05", utc(2013, 1, 5, 5), utc(2013, 1, 6, 5)),
        ("day", "2013-03-10", utc(2013, 3, 10, 5), utc(2013, 3, 11, 4)),
        ("day", "2013-11-03", utc(2013, 11, 3, 4), utc(2013, 11, 4, 5)),
        ("hour", "2013-11-03T01-0400", utc(2013, 11, 3, 5), utc(2013, 11, 3, 6)),
        ("hour", "2013-11-03T01-0500", utc(2013, 11, 3, 6), utc(2013, 11, 3, 7)),
        ("week", "2013-11-04", utc(2013, 11, 4, 5), utc(2013, 11, 11, 5)),
        ("week", "2013-10-28", utc(2013, 10, 28, 4), utc(2013, 11, 4, 5)),
        ("month", "2013-11", utc(2013, 11, 1, 4), utc(2013, 12, 1, 5)),
        ("none", "all", utc(1900, 1, 1), utc(9999, 1, 1)),
    ],
)
def test_a_key_names_an_interval(grain, key, start, end):
    partition = Partition.parse(grain, NEW_YORK, key)
    assert (partition.start, partition.end, partition.key, str(partition)) == (start, end, key, key)


@pytest.mark.parametrize(
    ("grain", "key"),
    [
        ("day", "2013-1-5"),
        ("day", "20130105"),
        ("day", "2013-02-29"),
        ("day", "2013-01-05 "),
        ("day", ""),
        ("day", "all"),
        ("day", None),
        ("day", 20130105),
        ("day", "2013-W01-1"),
        ("week", "2013-11-05"),
        ("month", "2013-11-01"),
        ("month", "2013-13"),
        ("hour", "2013-03-10T02-0500"),
        ("hour", "2013-03-10T02-0400"),
        ("hour", "2013-01-05T01"),
        ("hour", "2013-01-05T01-0400"),
        ("hour", "2013-01-05T24-0500"),
        ("hour", "2013-01-05T01:30-0500"),
        ("none", "2013-01-05"),
        ("day", "0000-01-01"),
    ],
)
def test_a_text_that_is_no_key_is_refused_with_an_example(grain, key):
    what = "partition of reference data" if grain == "none" else f"{grain} partition in America/New_York"
    with pytest.raises(PartitionKeyError, match=f"is no {what} .a key looks like"):
        Partition.parse(grain, NEW_YORK, key)


def test_keys_at_the_edge_of_the_calendar_are_refused_not_failed_on():
    with pytest.raises(PartitionKeyError):
        Partition.parse("day", "Asia/Tokyo", "0001-01-01")


def test_the_day_on_which_clocks_go_back_has_25_hours_with_25_keys():
    day = Partition.parse("day", NEW_YORK, "2013-11-03")
    hours = overlapping("hour", NEW_YORK, day.start, day.end)
    assert len({hour.key for hour in hours}) == len(hours) == 25
    assert [hour.key[11:13] for hour in hours[:4]] == ["00", "01", "01", "02"]


def test_the_day_on_which_clocks_go_forward_has_23_hours():
    day = Partition.parse("day", NEW_YORK, "2013-03-10")
    assert len(overlapping("hour", NEW_YORK, day.start, day.end)) == 23


def test_a_day_without_a_midnight_begins_at_its_first_instant():
    # in Sao Paulo, 2013-10-20 began at 01:00
    day = Partition.parse("day", "America/Sao_Paulo", "2013-10-20")
    assert day.start == utc(2013, 10, 20, 3)
    assert day.previous().end == day.start and day.next().key == "2013-10-21"


def test_a_day_that_a_country_skipped_is_no_partition():
    # Samoa had no 2011-12-30
    before = Partition.parse("day", "Pacific/Apia", "2011-12-29")
    assert before.next().key == "2011-12-31"
    with pytest.raises(PartitionKeyError):
        Partition.parse("day", "Pacific/Apia", "2011-12-30")


def test_hours_of_a_half_hour_zone_begin_on_its_own_clock():
    hour = Partition.containing("hour", "Asia/Kolkata", utc(2013, 1, 1, 0, 0))
    assert hour.key == "2013-01-01T05+0530"
    assert hour.start == utc(2012, 12, 31, 23, 30)


def test_ranges_include_both_ends():
    first, last = (Partition.parse("day", NEW_YORK, key) for key in ("2013-02-27", "2013-03-02"))
    assert [p.key for p in partitions(first, last)] == ["2013-02-27", "2013-02-28", "2013-03-01", "2013-03-02"]
    assert partitions(last, first) == []
    whole = Partition.parse("none", "UTC", "all")
    assert partitions(whole, whole) == [whole]


def test_overlapping_takes_partitions_that_share_an_instant():
    months = overlapping("month", "UTC", utc(2013, 1, 31, 23), utc(2013, 2, 1))
    assert [month.key for month in months] == ["2013-01"]
    months = overlapping("month", "UTC", utc(2013, 1, 31, 23), utc(2013, 2, 1, 0, 0, 1))
    assert [month.key for month in months] == ["2013-01", "2013-02"]


def test_reference_data_has_one_partition():
    with pytest.raises(PartitionKeyError, match="single partition"):
        Partition.parse("none", "UTC", "all").next()


def test_the_partition_on_a_local_day_is_the_one_that_holds_it():
    assert Partition.on("week", NEW_YORK, date(2013, 11, 10)).key == "2013-11-04"
    assert Partition.on("month", NEW_YORK, date(2013, 11, 10)).key == "2013-11"
    assert Partition.on("hour", NEW_YORK, date(2013, 11, 10)).key == "2013-11-10T00-0500"


def test_days_are_calendar_days_and_hours_are_elapsed_time():
    day = Partition.parse("day", NEW_YORK, "2013-11-03")
    assert Offset.parse("start+1d").at(day) == day.end
    assert Offset.parse("start+24h").at(day) == day.end - timedelta(hours=1)
    assert Offset.parse("start-1d12h").at(day) == utc(2013, 11, 1, 16)
    assert Offset.parse("end").at(day) == day.end
    assert Offset.parse("end + 30m").at(day) == day.end + timedelta(minutes=30)


@pytest.mark.parametrize(
    "text", ["", "start+", "start4h", "begin+4h", "start+4", "start+4x", "+4h", "end--1h", None, 4]
)
def test_a_text_that_is_no_moment_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="is no moment of a partition; expected for instance start"):
        Offset.parse(text)


@pytest.mark.parametrize("text", ["", "28", "d", "28x", "-1d", "1.5h", "1d 2h", None, 28])
def test_a_text_that_is_no_length_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="is no length of time; expected for instance 28d"):
        Span.parse(text)


def test_spans_are_spelled_in_their_largest_units():
    assert [str(Span.parse(text)) for text in ("4w", "90m", "1d12h", "0d", "61s")] == [
        "28d",
        "1h30m",
        "1d12h",
        "0d",
        "1m1s",
    ]


@pytest.mark.parametrize("name", ["", "America/NewYork", "../etc/passwd", "/etc/localtime", "america"])
def test_a_name_that_is_no_zone_is_refused(name):
    with pytest.raises(ValueError, match="is no time zone; expected an IANA name"):
        zone_of(name)


def test_instants_are_written_sortable_and_read_back():
    moment = utc(2013, 1, 5, 9, 0, 0, 1)
    assert iso(moment) == "2013-01-05T09:00:00.000001Z"
    assert instant(iso(moment)) == instant("2013-01-05T04:00:00.000001-05:00") == moment
    with pytest.raises(ValueError, match="no offset"):
        instant("2013-01-05T09:00:00")
