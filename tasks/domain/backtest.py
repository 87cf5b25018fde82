"""The walk-forward: in which order of data time a past range is trained and scored. Pure.

A training's model may score from the training's as_of plus `train.lead` on. Each partition is scored when all
trainings whose model may score it have been judged, and before any later one is: so each training, and each
promotion, sees only what had happened by then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tasks.domain.partition import Partition
from tasks.domain.spec import PipelineSpec


@dataclass(frozen=True)
class Train:
    """Train and judge a challenger for one interval."""

    training: Partition


@dataclass(frozen=True)
class Score:
    """Score consecutive partitions, all by the champion of one moment."""

    partitions: tuple[Partition, ...]


def trainings(spec: PipelineSpec, wanted: Sequence[Partition]) -> list[Partition]:
    """The trainings whose model may score one of the partitions, in order.

    The first is the one that was effective already when the range begins, where the pipeline had begun by then.
    """
    begin, end = spec.as_of.at(wanted[0]), spec.as_of.at(wanted[-1])
    one = Partition.containing(spec.train.every, spec.timezone, begin)
    while spec.effective_from(one) > begin and one.start > spec.first.start:
        one = one.previous()
    found = []
    while spec.effective_from(one) <= end:
        found.append(one)
        one = one.next()
    return found


def walk(spec: PipelineSpec, wanted: Sequence[Partition]) -> Iterator[Train | Score]:
    """The steps of a walk-forward over partitions, which are in order."""
    left = list(wanted)
    for training in trainings(spec, wanted):
        moment = spec.effective_from(training)
        before = [one for one in left if spec.as_of.at(one) < moment]
        if before:
            yield Score(tuple(before))
            left = left[len(before) :]
        yield Train(training)
    if left:
        yield Score(tuple(left))
