"""Which partitions a training may use: pure, from declared times alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tasks.domain.cut import matured
from tasks.domain.partition import Partition, Span, partitions
from tasks.domain.spec import PipelineSpec
from tasks.errors import TrainingError


@dataclass(frozen=True)
class TrainingWindow:
    """The partitions of one training.

    Attributes:
        as_of: the knowledge cut of the training, aware UTC.
        train: (first, last) partition of the training data, both included.
        holdout: (first, last) partition kept for the gate, later than all of `train`.
    """

    as_of: datetime
    train: tuple[Partition, Partition]
    holdout: tuple[Partition, Partition]

    @property
    def train_partitions(self) -> list[Partition]:
        return partitions(*self.train)

    @property
    def holdout_partitions(self) -> list[Partition]:
        return partitions(*self.holdout)


def training_window(spec: PipelineSpec, training: Partition) -> TrainingWindow:
    """The window of the training of one interval: matured labels only, the latest held out.

    Raises:
        TrainingError: fewer days than `train.min_window` before the holdout.
    """
    as_of = spec.training_as_of(training)
    latest = _latest_matured(spec, as_of)
    if latest is None:
        raise TrainingError(
            f"{spec.pipeline}: no label has matured at {as_of:%Y-%m-%d %H:%M} UTC, the knowledge cut of training {training}",
            hint=f"train a later {spec.train.every}",
        )
    # at least one whole partition, also where the holdout is shorter than the grain
    holdout_first = min(latest, _first_after(spec, spec.train.holdout.before(latest.end, spec.timezone)))
    last = holdout_first.previous()
    first = spec.first
    if spec.train.window is not None:
        first = max(first, _first_after(spec, spec.train.window.before(last.end, spec.timezone)))
    if last.start < first.start or spec.train.min_window.after(first.start, spec.timezone) > last.end:
        raise TrainingError(
            f"{spec.pipeline}: training {training} has data from {first} to {last}, less than min_window {spec.train.min_window}, before its holdout of {spec.train.holdout}",
            hint=f"train a later {spec.train.every}, or lower train.min_window or train.holdout",
        )
    return TrainingWindow(as_of, (first, last), (holdout_first, latest))


def validation_window(
    spec: PipelineSpec, train: tuple[Partition, Partition], length: Span | None
) -> tuple[Partition, Partition]:
    """The last partitions of a training window, which judge the trials of a search; the gate's holdout stays unseen.

    Args:
        train: (first, last) partition of the training data.
        length: how much of it; None for as much as `train.holdout`, a quarter of the window at most.

    Raises:
        TrainingError: nothing would be left to train the trials on.
    """
    every = partitions(*train)
    judging = [p for p in every if p.start >= (length or spec.train.holdout).before(train[1].end, spec.timezone)]
    count = max(1, len(judging) if length else min(len(judging), len(every) // 4))
    if count >= len(every):
        raise TrainingError(
            f"{spec.pipeline}: a search would judge its trials on all {len(every)} partitions from {train[0]} to {train[1]} and train them on none",
            hint="lengthen train.min_window, or shorten train.search.validation",
        )
    return every[-count], train[1]


def _latest_matured(spec: PipelineSpec, as_of: datetime) -> Partition | None:
    partition = Partition.containing(spec.grain, spec.timezone, as_of)
    last = spec.last
    if last is not None and last.start < partition.start:
        partition = last
    while partition.start >= spec.first.start:
        if matured(spec, partition, as_of):
            return partition
        partition = partition.previous()
    return None


def _first_after(spec: PipelineSpec, moment: datetime) -> Partition:
    partition = Partition.containing(spec.grain, spec.timezone, moment)
    return partition if partition.start >= moment else partition.next()
