"""A lake that holds only what was known at a cut shows that cut exactly what the whole lake shows it."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.cut import Delivery, visible
from tasks.domain.leaks import remaining
from tasks.domain.partition import Partition, overlapping
from tests.support.specs import pipeline, source

SOURCES = {
    "rows": source("rows", available="start-6h", time="seen"),
    "truth": source("truth", available="end+3h", missing=["2013-11-02"]),
    "hours": source("hours", grain="hour", available="end+10m", timezone="Australia/Adelaide"),
    "weeks": source("weeks", grain="week", available="end+1d", timezone="Asia/Kolkata"),
    "places": source("places", grain="none"),
}
SPECS = [
    pipeline(SOURCES, lookback="4d"),
    pipeline(SOURCES, grain="hour", as_of="start+30m", deadline="start+1h", lookback="2d6h"),
]


@given(data=st.data())
def test_a_cut_of_what_remains_is_the_cut_of_all(data):
    spec = data.draw(st.sampled_from(SPECS))
    one = data.draw(st.sampled_from(list(SOURCES.values())))
    moment = datetime(2013, 11, 1, tzinfo=UTC) + timedelta(hours=data.draw(st.integers(0, 100)))
    partition = Partition.containing(spec.grain, spec.timezone, moment)
    as_of = spec.as_of.at(partition)
    if one.grain == "none":
        around = [one.partition("all")]
    else:
        around = overlapping(one.grain, one.timezone, partition.start - timedelta(days=9), as_of + timedelta(days=8))
    deliveries = {}
    for each in data.draw(st.lists(st.sampled_from(around), unique=True, max_size=8)):
        near = as_of if one.grain == "none" else one.declared(each)
        shifts = sorted(data.draw(st.lists(st.integers(-300, 300), max_size=3, unique=True)))
        deliveries[each.key] = tuple(
            Delivery(number, near + timedelta(hours=shift)) for number, shift in enumerate(shifts, start=1)
        )
    every = [(key, each.revision, each.known_at) for key, known in deliveries.items() for each in known]
    left = remaining(spec, one, partition, every)
    kept = {
        key: tuple(each for each in known if (key, each.revision) in left)
        for key, known in deliveries.items()
        if any((key, each.revision) in left for each in known)
    }
    assert visible(spec, one, partition, kept) == visible(spec, one, partition, deliveries)
    late = set(visible(spec, one, partition, deliveries).late)
    for key, revision, known_at in every:
        if (key, revision) in left:
            assert known_at <= as_of or (key in late and revision == 1)
