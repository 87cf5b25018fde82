"""Published deliveries whose set-aside rows the contract of today would take: landed again, as a revision of their own.

A clean revision is final (docs/decisions/0009-clean-revisions-are-final.md), so rows that come back are the next one:
the same rows of the same file, known from now on. What was blocked needs no replay: `tasks.validate` judges it anew
when the contract has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.contract import Checked, Key, check, raw_rows, rules_of, suite_of
from tasks.domain import tables
from tasks.domain.partition import Partition, instant, iso
from tasks.domain.replayed import Replayed, ReplayResult
from tasks.domain.run import RunRef
from tasks.domain.source import SourceSpec
from tasks.errors import SupersededError
from tasks.lake import Entry, Lake

if TYPE_CHECKING:
    from tasks.lake.table import Table

ROUNDS = 5
"""How often the tables are looked at again because somebody else landed one of the partitions meanwhile."""


def replay(
    *,
    source: SourceSpec,
    partitions: Sequence[Partition],
    contract: Path | None,
    lake: Lake,
    run: RunRef,
    clock: Callable[[], datetime],
) -> ReplayResult:
    """Land again, in one commit, what would gain rows under the contract of today; a second call does nothing.

    Args:
        contract: the suite's file.
        clock: the present moment, from which what comes back is known.

    Raises:
        SupersededError: others keep landing the same partitions.
    """
    suite = suite_of(contract)
    rules = rules_of(source, suite)
    raw = lake.table(tables.raw(source.name))
    for number in range(1, ROUNDS + 1):
        version = raw.version()
        entries = raw.entries(version=version)
        newest = {key: revision for key, revision in sorted(entries)}
        wanted = [(one.key, newest[one.key]) for one in partitions if one.key in newest]
        judged, asked = _judged_otherwise(lake, source.name, wanted, rules)
        checked = check(source, asked, raw=raw, version=version, entries=entries, suite=suite)
        before = _lines(lake.table(tables.quarantine(source.name)), judged, asked)
        found = {one.key: _outcome(one, before[one.key]) for one in checked}
        again = [key for key in asked if found[key].status == "replayed"]
        try:
            version = _land(source, raw, version, entries, again, run, clock) if again else version
        except SupersededError:
            if number == ROUNDS:
                raise
        else:
            outcomes = [found.get(key) or Replayed(key[0], "unchanged", key[1]) for key in wanted]
            return ReplayResult(source.name, version, tuple(outcomes))
    raise AssertionError("unreachable")


def _judged_otherwise(
    lake: Lake, source: str, wanted: Sequence[Key], rules: Mapping[str, object]
) -> tuple[int, list[Key]]:
    """The quarantine's version, and those revisions that are published without some rows, by other rules than these."""
    clean, quarantine = lake.table(tables.clean(source)), lake.table(tables.quarantine(source))
    published, version = clean.entries(), quarantine.version()
    entries = quarantine.entries(version=version)
    return version, [
        key
        for key in wanted
        if key in published and key in entries and entries[key].rows and not rules.items() <= entries[key].meta.items()
    ]


def _lines(quarantine: Table, version: int, keys: Sequence[Key]) -> dict[Key, frozenset[int]]:
    """Revision -> the lines of its quarantined rows."""
    lines: dict[Key, set[int]] = {key: set() for key in keys}
    if keys:
        rows = quarantine.read(version=version, keys=keys, columns=["_line", *tables.SOURCE_KEY])
        for row in rows.to_pylist():
            lines[row["partition_key"], row["revision"]].add(row["_line"])
    return {key: frozenset(mine) for key, mine in lines.items()}


def _outcome(checked: Checked, before: frozenset[int]) -> Replayed:
    key, revision = checked.key
    if checked.outcome.status == "blocked":
        return Replayed(key, "blocked", revision, reason=checked.outcome.reason)
    now = frozenset(checked.rejected["_line"].to_pylist())
    back, gone = len(before - now), len(now - before)
    return Replayed(key, "replayed", revision + 1, back, gone) if back else Replayed(key, "same", revision)


def _land(
    source: SourceSpec,
    raw: Table,
    version: int,
    entries: Mapping[Key, Entry],
    keys: Sequence[Key],
    run: RunRef,
    clock: Callable[[], datetime],
) -> int:
    import pyarrow as pa
    import pyarrow.compute as pc

    from tasks.lake.schema import arrow_schema

    columns = tables.raw_columns(source.columns)
    rows = raw_rows(source, raw, version, keys, list(columns))
    place = rows.schema.get_field_index("revision")
    numbers = pc.add(rows["revision"], pa.scalar(1, pa.int64()))
    landed = []
    for key, revision in keys:
        old = entries[key, revision]
        known = max(clock(), instant(old.meta["known_at"]) + timedelta(microseconds=1))
        meta = {**old.meta, "known_at": iso(known), "replays": revision}
        landed.append(Entry((key, revision + 1), old.rows, meta))
    return raw.replace(
        pinned=version,
        columns=arrow_schema(columns),
        partition_by=tables.SOURCE_KEY,
        data=rows.set_column(place, "revision", numbers),
        entries=landed,
        run=run,
    )
