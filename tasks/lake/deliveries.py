"""A source's deliveries as its clean table's commits tell them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.domain import tables
from tasks.domain.cut import Deliveries, deliveries_of

if TYPE_CHECKING:
    from tasks.lake.lake import Lake


def deliveries(lake: Lake, source: str, version: int) -> Deliveries:
    """The clean revisions of each partition of a source, at a version of its clean table."""
    entries = lake.table(tables.clean(source)).entries(version=version)
    return deliveries_of(
        (key, int(revision), entry.meta["known_at"], entry.meta.get("absent", False))
        for (key, revision), entry in entries.items()
    )
