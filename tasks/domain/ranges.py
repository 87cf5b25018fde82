"""What a range of a pipeline's local days holds, and the chunks in which a backfill works on it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any

from tasks.domain.partition import ALL, Partition, overlapping
from tasks.domain.source import SourceSpec
from tasks.domain.spec import PipelineSpec
from tasks.domain.training import training_window
from tasks.errors import TrainingError

STAGES = ("ingest", "train", "score")
"""Of a backfill, in the order in which they are done."""
CHUNKS = 6
"""Chunks of a long range: as many steps of progress, and what a stopped backfill has to do again is one of them."""
LEAST, MOST = 31, 124
"""Partitions of a chunk: fewer would pay its start too often, more would hold too much."""


@dataclass(frozen=True)
class Chunk:
    """A range that one task of a backfill works on.

    Attributes:
        name: the source or the pipeline.
        partition: a key, or FIRST..LAST.
        partitions: how many of them are to be done.
    """

    name: str
    partition: str
    partitions: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def chunks_of(name: str, keys: Sequence[str]) -> list[Chunk]:
    """Partitions in order, in a few fat chunks; what lies between two of them and isn't named may lie in a chunk."""
    size = max(LEAST, min(MOST, -(-len(keys) // CHUNKS)))
    parts = [keys[start : start + size] for start in range(0, len(keys), size)]
    return [Chunk(name, range_text(part), len(part)) for part in parts]


def pipeline_partitions(spec: PipelineSpec, first: date, last: date) -> list[Partition]:
    """The pipeline's partitions that start on the local days `first` to `last`."""
    begin = Partition.on("day", spec.timezone, max(first, spec.start)).start
    end = Partition.on("day", spec.timezone, min(last, spec.end or last)).end
    found = overlapping(spec.grain, spec.timezone, begin, end) if begin < end else []
    return [p for p in found if p.start >= begin]


def source_keys(spec: PipelineSpec, source: SourceSpec, first: date, last: date) -> list[str]:
    """The source's partitions that lie in the pipeline's local days `first` to `last`."""
    if source.grain == "none":
        return [ALL]
    begin = Partition.on("day", spec.timezone, first).start
    end = Partition.on("day", spec.timezone, last).end
    if source.start is not None:
        begin = max(begin, Partition.on(source.grain, source.timezone, source.start).start)
    if source.end is not None:
        end = min(end, Partition.on("day", source.timezone, source.end).end)
    return [p.key for p in overlapping(source.grain, source.timezone, begin, end)] if begin < end else []


def delivery_chunks(spec: PipelineSpec, first: date, last: date) -> list[Chunk]:
    """The deliveries of every source of a pipeline for local days."""
    keys = {name: source_keys(spec, use.source, first, last) for name, use in spec.sources.items()}
    return [chunk for name, found in keys.items() for chunk in chunks_of(name, found)]


def range_trainings(spec: PipelineSpec, first: date, last: date, now: datetime) -> list[Partition]:
    """The trainings whose intervals begin on the local days `first` to `last`, of which there is data enough by now."""
    begin = Partition.on("day", spec.timezone, first).start
    end = Partition.on("day", spec.timezone, last).end
    found = overlapping(spec.train.every, spec.timezone, begin, end) if begin < end else []
    return [one for one in found if one.start >= begin and _possible(spec, one, now)]


def _possible(spec: PipelineSpec, training: Partition, now: datetime) -> bool:
    try:
        return training_window(spec, training).as_of <= now
    except TrainingError:
        return False


def range_text(keys: Sequence[str]) -> str:
    """A key, or FIRST..LAST, as commands and runs name partitions."""
    return keys[0] if len(keys) == 1 else f"{keys[0]}..{keys[-1]}"
