"""The walk-forward's order: nothing is scored before, or trained after, its moment of data time."""

from __future__ import annotations

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.backtest import Score, Train, walk
from tasks.domain.partition import Partition, partitions
from tests.support.specs import pipeline

EVERY = st.sampled_from(["day", "week", "month"])
LEAD = st.sampled_from(["0h", "6h", "1d", "10d"])


@given(st.integers(0, 120), st.integers(1, 100), EVERY, LEAD)
def test_each_partition_is_scored_once_between_the_trainings_that_it_may_know_and_those_that_it_may_not(
    skip: int, length: int, every: str, lead: str
):
    spec = pipeline(train={"every": every, "lead": lead})
    first = Partition.on("day", spec.timezone, date(2013, 1, 1) + timedelta(days=skip))
    wanted = partitions(
        first, Partition.on("day", spec.timezone, first.local_start.date() + timedelta(days=length - 1))
    )
    scored, trained = [], []
    for step in walk(spec, wanted):
        if isinstance(step, Train):
            assert not trained or trained[-1].next() == step.training
            trained.append(step.training)
            assert all(spec.as_of.at(one) < spec.effective_from(step.training) for one in scored)
        else:
            assert isinstance(step, Score) and step.partitions
            scored += step.partitions
            assert all(spec.effective_from(one) <= spec.as_of.at(step.partitions[0]) for one in trained)
    assert scored == wanted
    assert all(spec.effective_from(one) <= spec.as_of.at(wanted[-1]) for one in trained)
    begin = spec.as_of.at(wanted[0])
    before = [one for one in trained if spec.effective_from(one) <= begin]
    # the one that was effective when the range begins, where the pipeline was old enough to have one
    assert (
        len(before) == 1
        or trained[:1]
        and trained[0].start <= spec.first.start
        or spec.effective_from(Partition.containing(every, spec.timezone, spec.first.start)) > begin
    )
