"""For any deliveries, a cut shows nothing that was not known, but for what had to be waited for."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.cut import Delivery, Gaps, Visible, driving_keys, visible, visible_sources
from tasks.domain.partition import Partition, overlapping
from tests.support.specs import pipeline, source

SOURCES = {
    "rows": source("rows", available="start-6h", time="seen"),
    "truth": source("truth", available="end+3h", missing=["2013-11-02"]),
    "hours": source("hours", grain="hour", available="end+10m", timezone="Australia/Adelaide"),
    "weeks": source("weeks", grain="week", available="end+1d", timezone="Asia/Kolkata"),
    "ahead": source("ahead", available="start-3d", timezone="UTC"),
}
SPECS = [
    pipeline(SOURCES, lookback="4d"),
    pipeline(SOURCES, grain="hour", as_of="start+30m", deadline="start+1h", lookback="2d6h"),
    pipeline(
        SOURCES | {"rows": source("rows", available="start-8d", time="seen")},
        grain="week",
        as_of="start+4h",
        deadline="end+5h",
        lookback="10d",
    ),
]
NONE = Visible((), (), ())
shifts = st.lists(st.integers(-300, 300), min_size=0, max_size=3)


@given(data=st.data())
def test_a_cut_shows_what_a_plain_reading_of_the_rule_shows(data):
    spec = data.draw(st.sampled_from(SPECS))
    one = data.draw(st.sampled_from(list(SOURCES.values())))
    day = data.draw(st.integers(0, 20))
    partition = Partition.containing(spec.grain, spec.timezone, _instant(spec, day))
    as_of = spec.as_of.at(partition)
    reach = spec.lookback.before(partition.start, spec.timezone)
    around = overlapping(
        one.grain, one.timezone, reach - timedelta(days=12), max(partition.end, as_of) + timedelta(days=8)
    )
    chosen = data.draw(st.lists(st.sampled_from(around), unique=True, max_size=8))
    given_up = data.draw(st.lists(st.sampled_from(chosen), max_size=3)) if chosen else []
    deliveries = {
        each.key: tuple(
            Delivery(number, one.declared(each) + timedelta(hours=shift), number == 1 and each in given_up)
            for number, shift in enumerate(sorted(data.draw(shifts)), start=1)
        )
        for each in chosen
    }
    expected, missing, late, absent = [], [], [], []
    for each in around:
        known = deliveries.get(each.key, ())
        awaited = one.declared(each) <= as_of
        if each.end <= reach or not (each.start < partition.end or awaited):
            continue
        by_then = [delivery.revision for delivery in known if delivery.known_at <= as_of]
        if by_then:
            expected.append((each.key, max(by_then)))
        elif awaited and each.key not in one.missing and known:
            expected.append((each.key, 1))
            if each not in given_up:
                late.append(each.key)
        elif awaited and each.key not in one.missing:
            missing.append(each.key)
        if each in given_up and expected and expected[-1] == (each.key, 1):
            absent.append(each.key)
    shown = visible(spec, one, partition, deliveries)
    assert shown.revisions == tuple(expected)
    assert shown.missing == tuple(missing)
    assert shown.late == tuple(late)
    assert shown.absent == tuple(absent)
    if spec.sources[one.name].source == one:
        gaps = Gaps(spec, {one.name: deliveries}).at(partition).get(one.name, NONE)
        assert (gaps.missing, gaps.late, gaps.absent) == (shown.missing, shown.late, shown.absent)
    moments = {(key, delivery.revision): delivery.known_at for key, known in deliveries.items() for delivery in known}
    for key, revision in shown.revisions:
        assert moments[key, revision] <= as_of or (key in shown.late + shown.absent and revision == 1)


@given(data=st.data())
def test_a_range_of_cuts_lacks_what_each_of_them_lacks(data):
    """Most of what is in reach came in time, over many blocks of a timeline; some came late, twice or never."""
    sources = SOURCES | {"places": source("places", grain="none", available="start")}
    spec = pipeline(sources, grain="hour", as_of="start+30m", deadline="start+1h", lookback="9d")
    first = Partition.containing("hour", spec.timezone, _instant(spec, data.draw(st.integers(0, 20))))
    cuts = overlapping("hour", spec.timezone, first.start, first.start + timedelta(hours=data.draw(st.integers(1, 60))))
    deliveries = {}
    for one in sources.values():
        around = [] if one.grain == "none" else overlapping(
            one.grain, one.timezone, first.start - timedelta(days=20), cuts[-1].end + timedelta(days=8)
        )  # fmt: skip
        known = {each.key: [one.declared(each)] for each in around} or {"all": [first.start]}
        for key in data.draw(st.lists(st.sampled_from(sorted(known)), max_size=6)):
            known[key] = [known[key][0] + timedelta(hours=shift) for shift in sorted(data.draw(shifts))]
            known = {key: moments for key, moments in known.items() if moments}
            if key not in known:
                break
        given_up = data.draw(st.lists(st.sampled_from(sorted(known)), max_size=2)) if one.grain != "none" else []
        deliveries[one.name] = {
            key: tuple(
                Delivery(number, moment, number == 1 and key in given_up)
                for number, moment in enumerate(moments, start=1)
            )
            for key, moments in known.items()
        }
    gaps = Gaps(spec, deliveries)
    for partition in cuts:
        seen = visible_sources(spec, partition, deliveries)
        lacking = {
            name: replace(one, revisions=()) for name, one in seen.items() if one.missing or one.late or one.absent
        }
        assert gaps.at(partition) == lacking


@given(data=st.data())
def test_later_deliveries_change_no_cut_that_had_all_it_awaited(data):
    spec = SPECS[0]
    one = data.draw(st.sampled_from([SOURCES["truth"], SOURCES["hours"], SOURCES["weeks"]]))
    partition = Partition.containing("day", spec.timezone, _instant(spec, data.draw(st.integers(0, 20))))
    as_of = spec.as_of.at(partition)
    around = overlapping(one.grain, one.timezone, partition.start - timedelta(days=20), partition.end)
    deliveries = {each.key: (Delivery(1, one.declared(each)),) for each in around}
    before = visible(spec, one, partition, deliveries)
    assert before.missing == before.late == ()
    restated = {key: (*known, Delivery(2, as_of + timedelta(seconds=1))) for key, known in deliveries.items()}
    assert visible(spec, one, partition, restated) == before


@given(spec=st.sampled_from(SPECS), day=st.integers(0, 20))
def test_the_partitions_that_hold_the_rows_cover_the_pipelines_partition(spec, day):
    partition = Partition.containing(spec.grain, spec.timezone, _instant(spec, day))
    held = [spec.driver.partition(key) for key in driving_keys(spec, partition)]
    assert held[0].start <= partition.start and partition.end <= held[-1].end
    assert all(each.start < partition.end and partition.start < each.end for each in held)


def _instant(spec, day: int):
    """An instant around the day on which clocks go back."""
    return Partition.parse("day", spec.timezone, "2013-10-24").start + timedelta(days=day, hours=day % 24)
