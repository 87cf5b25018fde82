"""What a lake would hold at a knowledge cut, and what was found where features know more: pure.

`remaining` says it a second time, and plainly: it shares no line with `tasks.domain.cut`, which it judges.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Literal

from tasks.domain.partition import Partition
from tasks.domain.results import Result
from tasks.domain.source import TEMPORAL_TYPES, SourceSpec
from tasks.domain.spec import PipelineSpec

Pair = tuple[str, int]
"""Partition key and revision."""
BATCH = 3
"""So many times as many partitions are compared with their labels as are computed twice: that costs little."""


@dataclass(frozen=True)
class Leak(Result):
    """One leak.

    Attributes:
        kind: `cut`, the cut shows what was not known; `time`, a source tells of later than it is said to be
            known; `label`, the label is among the features.
        partition: key of the pipeline's partition; empty where it was seen over several.
        feature, source, column: what leaks, and from where (sources, with commas); empty where unknown.
        text: all of it in a sentence.
    """

    kind: Literal["cut", "time", "label"]
    partition: str
    feature: str
    source: str
    column: str
    text: str


@dataclass(frozen=True)
class LeaksResult(Result):
    """`leaks`: what was looked at, and what was found.

    Attributes:
        view: id of the feature view.
        partitions: those computed twice.
        labelled: rows of features that were compared with their labels.
        leaks: empty where all is well.
        problem: why nothing could be looked at; empty where something was.
    """

    pipeline: str
    view: str
    partitions: tuple[str, ...]
    labelled: int
    leaks: tuple[Leak, ...] = ()
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Whether it was looked for leaks, and there is none."""
        return not self.leaks and not self.problem


def remaining(
    spec: PipelineSpec, source: SourceSpec, partition: Partition, deliveries: Iterable[tuple[str, int, datetime]]
) -> set[Pair]:
    """The revisions of a source that a lake of the cut's moment holds, no further back than the lookback.

    Args:
        deliveries: partition key, revision and known_at of all that was ever delivered.
    """
    as_of, reach = spec.as_of.at(partition), spec.lookback.before(partition.start, spec.timezone)
    by_then: dict[str, set[int]] = {}
    since: dict[str, set[int]] = {}
    for key, revision, known_at in deliveries:
        if source.grain == "none" or bounds(source, key)[1] > reach:
            (by_then if known_at <= as_of else since).setdefault(key, set()).add(revision)
    found = {(key, revision) for key, revisions in by_then.items() for revision in revisions}
    for key in since.keys() - by_then.keys() - set(source.missing):
        if source.declared(source.partition(key)) <= as_of:  # the cut waited for it: decision 3
            found.add((key, min(since[key])))
    return found


def telling_times(source: SourceSpec) -> dict[str, str]:
    """The columns, with their types, whose times no row may have before they have come."""
    exempt = source.ahead if isinstance(source.ahead, tuple) else ()
    return {name: kind for name, kind in source.columns.items() if kind in TEMPORAL_TYPES and name not in exempt}


def only_in(label: SourceSpec, driver: SourceSpec, entity: Sequence[str]) -> list[str]:
    """The columns that only outcomes carry."""
    return [name for name in label.columns if name not in driver.columns and name not in entity]


def drawn(partitions: Sequence[Partition], seed: object) -> list[Partition]:
    """The partitions in an order of chance that is the same for the same seed."""
    return random.Random(str(seed)).sample(list(partitions), len(partitions))


def extents(before: Mapping[str, dict], after: Mapping[str, dict]) -> list[tuple[str, str]]:
    """The sources of which two computations read different partitions, each with what they read in words."""
    return [
        (name, f"{name} {_extent(before[name])}, not {_extent(after.get(name, {'partitions': 0}))}")
        for name in before
        if before[name] != after.get(name)
    ]


@lru_cache(maxsize=200_000)
def _bounds(grain: str, timezone: str, key: str) -> tuple[datetime, datetime]:
    partition = Partition.parse(grain, timezone, key)  # type: ignore[arg-type]
    return partition.start, partition.end


def bounds(source: SourceSpec, key: str) -> tuple[datetime, datetime]:
    """The first instant of a source's partition, and the first one after it."""
    return _bounds(source.grain, source.timezone, key)


def _extent(read: dict) -> str:
    if not read["partitions"]:
        return "nothing"
    again = f", restated {', '.join(f'{key} as revision {number}' for key, number in read['restated'][:3])}"
    return f"{read['first']} to {read['last']}{again if read.get('restated') else ''}"
