"""Training data never touches the holdout, and neither touches what was not known."""

from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.cut import matured
from tasks.domain.partition import Span
from tasks.domain.spec import LabelSpec
from tasks.domain.training import training_window
from tasks.errors import TrainingError
from tests.support.specs import pipeline, source

DAILY = pipeline()
HOURLY = pipeline(
    {
        "rows": source("rows", grain="hour", available="start-6h"),
        "truth": source("truth", available="end+3h"),
    },
    grain="hour",
    as_of="start-2h",
    deadline="start",
)
WEEKLY = pipeline(
    {"rows": source("rows", grain="week", available="start"), "truth": source("truth", grain="week")}, grain="week"
)

spans = st.builds(Span, st.integers(0, 40), st.integers(0, 23).map(lambda hours: hours * 3600))


@given(
    spec=st.sampled_from([DAILY, HOURLY, WEEKLY]),
    every=st.sampled_from(["day", "week", "month"]),
    day=st.integers(0, 150),
    holdout=spans,
    window=st.none() | spans,
    matures=spans,
)
def test_training_and_holdout_are_apart_matured_and_long_enough(spec, every, day, holdout, window, matures):
    train = spec.train.model_copy(update={"every": every, "holdout": holdout, "window": window})
    label = LabelSpec(sql="x > 1", source="truth", matures=matures)
    spec = spec.model_copy(update={"train": train, "label": label})
    moment = Span(day).after(spec.first.start, spec.timezone)
    training = _training(spec, moment)
    try:
        found = training_window(spec, training)
    except TrainingError:
        return
    assert spec.first.start <= found.train[0].start <= found.train[1].start
    assert found.train[1].end == found.holdout[0].start
    assert found.holdout[0].start <= found.holdout[1].start < found.as_of
    assert {p.key for p in found.train_partitions}.isdisjoint(p.key for p in found.holdout_partitions)
    assert all(matured(spec, p, found.as_of) for p in (*found.train, *found.holdout))
    assert not matured(spec, found.holdout[1].next(), found.as_of)
    assert spec.train.min_window.after(found.train[0].start, spec.timezone) <= found.train[1].end
    if window is not None:
        assert window.before(found.train[1].end, spec.timezone) <= found.train[0].start


def _training(spec, moment):
    from tasks.domain.partition import Partition

    return Partition.containing(spec.train.every, spec.timezone, moment)
