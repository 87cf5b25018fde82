"""`millrace quarantine`: what contracts have set aside, and why."""

from __future__ import annotations

from tasks.command import output
from tasks.command.sources import in_source, sources_of
from tasks.domain.partition import span
from tasks.domain.replayed import QuarantineResult
from tasks.lake import open_lake
from tasks.settings import Settings

SHOWN = 20
"""Quarantined rows that are shown of each source where nobody says how many."""


def quarantine(settings: Settings, name: str, partition: str | None, *, rows: int = SHOWN) -> QuarantineResult:
    """What is set aside of a source, or of all sources of a pipeline.

    Args:
        partition: a partition or a range, whose rows are shown too; None: all partitions, without rows.
        rows: to show of each source.
    """
    from tasks.quarantine import bad_rows, set_aside

    lake, found, shown = open_lake(settings), [], []
    for source in sources_of(settings, name):
        keys = None
        if partition is not None:
            wanted = span(source.grain, source.timezone, in_source(settings, name, source, partition))
            keys = {one.key for one in wanted}
        mine = set_aside(source.name, lake, keys)
        found += mine
        if partition is not None:
            shown += bad_rows(source.name, lake, mine, rows)
    return QuarantineResult(name, tuple(found), tuple(shown))


def text(result: QuarantineResult) -> str:
    """What is set aside, the rows where they were asked for, and the commands that go on from here."""
    if not result.set_aside:
        return f"{result.name}: nothing is set aside"
    lines = []
    for one in result.set_aside:
        failing = "; ".join(f"{each.rows} {each.expectation} on {each.column}" for each in one.failing)
        state = f"blocked: {one.reason}" if one.blocked else failing
        lines.append((one.source, one.key, one.revision, f"{one.quarantined} of {one.rows}", state))
    told = [output.table(("source", "partition", "revision", "set aside", "why"), lines)]
    if result.rows:
        rows = [
            (one.file.rpartition("/")[2], one.line, one.expectation, one.column, "" if one.value is None else one.value)
            for one in result.rows
        ]
        told.append(output.table(("file", "line", "expectation", "column", "value"), rows))
    first = result.set_aside[0]
    told.append(
        f"after mending the file or the suite: `millrace replay {result.name} PARTITION`"
        if result.rows
        else f"rows: `millrace quarantine {first.source} {first.key}`"
    )
    return "\n\n".join(told)
