"""What a bootstrap resamples as one: rows of a day share weather, holidays and queues, whatever the grain."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.domain.partition import Partition
from tasks.domain.spec import PipelineSpec


def block_of(partition: Partition) -> str:
    """The block of a partition's rows: the local day of an hour; a day, a week or a month is its own."""
    return f"{partition.local_start:%Y-%m-%d}" if partition.grain == "hour" else partition.key


def blocks(spec: PipelineSpec, keys: Sequence[str]) -> list[str]:
    """The block of each row, from its partition key."""
    found = {key: block_of(spec.partition(key)) for key in dict.fromkeys(keys)}
    return [found[key] for key in keys]
