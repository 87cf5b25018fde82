"""Keys and bounds hold for every hour of a year and for any instant, zone and grain."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.partition import GRAINS, Offset, Partition, Span, overlapping, partitions

ZONES = [
    "UTC",
    "America/New_York",
    "Europe/London",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Australia/Adelaide",
    "America/Sao_Paulo",
    "Pacific/Apia",
    "America/Havana",
]
zones = st.sampled_from(ZONES)
instants = st.datetimes(datetime(1990, 1, 1), datetime(2037, 12, 31)).map(lambda moment: moment.replace(tzinfo=UTC))
spans = st.builds(Span, st.integers(0, 800), st.integers(0, 10**6))


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata", "Australia/Adelaide"])
def test_every_hour_of_a_year_has_a_key_of_its_own_that_reads_back(zone):
    first = Partition.parse("day", zone, "2013-01-01")
    last = Partition.parse("day", zone, "2013-12-31")
    hours = overlapping("hour", zone, first.start, last.end)
    assert len({hour.key for hour in hours}) == len(hours) == 8760
    assert all(
        before.start + timedelta(hours=1) == after.start for before, after in zip(hours, hours[1:], strict=False)
    )
    assert (hours[0].start, hours[-1].end) == (first.start, last.end)
    for hour in hours:
        assert Partition.parse("hour", zone, hour.key) == hour


@pytest.mark.parametrize("grain", ["day", "week", "month"])
@pytest.mark.parametrize("zone", ZONES)
def test_partitions_of_years_follow_each_other_without_gap_or_overlap(grain, zone):
    first = Partition.containing(grain, zone, datetime(2010, 6, 1, tzinfo=UTC))
    last = Partition.containing(grain, zone, datetime(2014, 6, 1, tzinfo=UTC))
    found = partitions(first, last)
    assert all(before.end == after.start for before, after in zip(found, found[1:], strict=False))
    assert len({partition.key for partition in found}) == len(found)


@given(instant=instants, zone=zones, grain=st.sampled_from(GRAINS))
def test_an_instant_lies_in_the_partition_that_contains_it(instant, zone, grain):
    partition = Partition.containing(grain, zone, instant)
    assert partition.start <= instant < partition.end
    assert Partition.parse(grain, zone, partition.key) == partition


@given(instant=instants, zone=zones, grain=st.sampled_from(GRAINS[:-1]))
def test_the_next_of_the_previous_is_the_partition_itself(instant, zone, grain):
    partition = Partition.containing(grain, zone, instant)
    assert partition.next().previous() == partition == partition.previous().next()
    assert partition.previous().end == partition.start


@given(start=instants, length=st.integers(1, 10**6), zone=zones, grain=st.sampled_from(["day", "week", "month"]))
def test_the_overlapping_partitions_cover_an_interval_and_no_more(start, length, zone, grain):
    end = start + timedelta(seconds=length)
    found = overlapping(grain, zone, start, end)
    assert found[0].start <= start < found[0].end
    assert found[-1].start < end <= found[-1].end


@given(span=spans)
def test_a_span_reads_back_from_its_text(span):
    again = Span.parse(str(span))
    assert again == span


@given(anchor=st.sampled_from(["start", "end"]), sign=st.sampled_from([1, -1]), span=spans)
def test_an_offset_reads_back_from_its_text(anchor, sign, span):
    again = Offset.parse(str(Offset(anchor, sign, span)))
    assert (again.anchor, again.span) == (anchor, span)
    assert span == Span() or again.sign == sign


@given(instant=instants, span=spans, zone=zones)
def test_time_runs_forward_after_and_backward_before(instant, span, zone):
    assert span.after(instant, zone) >= instant >= span.before(instant, zone)


@given(instant=instants, zone=zones, sign=st.sampled_from([1, -1]), span=spans)
def test_later_partitions_have_later_moments(instant, zone, sign, span):
    offset = Offset("start", sign, span)
    day = Partition.containing("day", zone, instant)
    assert offset.at(day) < offset.at(day.next())
