"""How a range of partitions is cut into chunks, each the work of one worker at a time."""

from __future__ import annotations

from collections.abc import Sequence

_EACH = 3
"""Chunks for each worker where the range is long enough, so that a slow worker doesn't hold up all."""


def chunk_count(partitions: int, *, workers: int, lookback: float, most: float) -> int:
    """How many chunks a range is cut into.

    Each worker gets a few, unless chunks would be shorter than the lookback, which each reads again; then each
    worker gets one.

    Args:
        partitions: in the range.
        lookback: in partitions.
        most: partitions that a worker's memory holds beside the lookback; at least one partition is a chunk.
    """
    wanted = min(_EACH * workers, int(partitions / max(lookback, 1)))
    needed = -int(-partitions // max(most, 1))
    return max(1, min(partitions, max(wanted, workers, needed)))


def cut_chunks(weights: Sequence[int], count: int) -> list[range]:
    """`count` consecutive chunks of about equal weight, none of them empty.

    Args:
        weights: the work of each partition, in order, above zero.
        count: at most as many as there are weights.

    Returns:
        The places of each chunk's partitions.
    """
    total, done, start = sum(weights), 0, 0
    chunks = []
    for number in range(1, count + 1):
        stop = start + 1
        done += weights[start]
        left = count - number
        # a partition goes to the chunk in whose share its middle lies
        while stop < len(weights) - left and (not left or (done + weights[stop] / 2) * count <= total * number):
            done += weights[stop]
            stop += 1
        chunks.append(range(start, stop))
        start = stop
    return chunks
