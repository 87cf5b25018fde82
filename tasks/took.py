"""How long the runs took that published predictions, from the table's commits: the lake's own state alone."""

from __future__ import annotations

from tasks.domain.estimate import Took
from tasks.lake.log import Commit
from tasks.lake.table import Table


def took_of(predictions: Table, version: int) -> dict[int, Took]:
    """What was measured of each commit up to a version that tells it, by the version that it made."""
    return {one.version: _took(one) for one in predictions.commits(version=version) if one.took}


def _took(commit: Commit) -> Took:
    return Took(
        partitions=len(commit.entries),
        rows=sum(entry.meta["driving"] - entry.meta["quarantined"] for entry in commit.entries),
        **commit.took,
    )
