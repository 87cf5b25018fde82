"""What contracts have set aside: deliveries with quarantined rows or blocked ones, why, and the rows themselves."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from tasks.domain import tables
from tasks.domain.replayed import BadRow, Failing, SetAside
from tasks.domain.results import Validated
from tasks.lake import Lake

if TYPE_CHECKING:
    import pyarrow as pa

TOLD = ("_expectation", "_column")


def set_aside(source: str, lake: Lake, keys: Collection[str] | None = None) -> list[SetAside]:
    """The newest judged delivery of each partition of a source, where it is blocked or lacks rows; by key.

    Args:
        keys: of the partitions to look at; None for all.
    """
    table = lake.table(tables.quarantine(source))
    version = table.version()
    newest: dict[str, Validated] = {}
    for (key, _), entry in table.entries(version=version).items():
        outcome = Validated.from_dict(entry.meta["outcome"])
        if (keys is None or key in keys) and (key not in newest or outcome.revision > newest[key].revision):
            newest[key] = outcome
    found = [one for _, one in sorted(newest.items()) if one.quarantined or one.status == "blocked"]
    bad = [(one.key, one.revision) for one in found if one.quarantined]
    failing = _failing(table.read(version=version, keys=bad, columns=[*TOLD, *tables.SOURCE_KEY])) if bad else {}
    return [
        SetAside(
            source=source,
            key=one.key,
            revision=one.revision,
            rows=one.rows_in,
            quarantined=one.quarantined,
            blocked=one.status == "blocked",
            reason=one.reason,
            failing=failing.get((one.key, one.revision), ()),
            docs=one.docs,
        )
        for one in found
    ]


def bad_rows(source: str, lake: Lake, found: Sequence[SetAside], limit: int) -> Iterator[BadRow]:
    """At most `limit` quarantined rows of deliveries, in the order of their files."""
    keys = [(one.key, one.revision) for one in found if one.quarantined]
    if not keys:
        return
    table = lake.table(tables.quarantine(source))
    columns = [*TOLD, "_value", "_file", "_line", *tables.SOURCE_KEY]
    version = table.version()
    rows, entries = table.read(version=version, keys=keys, columns=columns), table.entries(version=version)
    order = [(name, "ascending") for name in (*tables.SOURCE_KEY, "_line")]
    for row in rows.sort_by(order).slice(0, limit).to_pylist():
        yield BadRow(
            source=source,
            key=row["partition_key"],
            revision=row["revision"],
            file=row["_file"],
            line=tables.line_of(entries[row["partition_key"], row["revision"]].meta, row["_file"], row["_line"]),
            expectation=row["_expectation"],
            column=row["_column"],
            value=row["_value"],
        )


def _failing(rows: pa.Table) -> dict[tuple[str, int], tuple[Failing, ...]]:
    """Revision -> its rows by what they failed, most first."""
    counted = rows.group_by([*tables.SOURCE_KEY, *TOLD]).aggregate([([], "count_all")])
    found: dict[tuple[str, int], list[Failing]] = {}
    for row in counted.to_pylist():
        one = Failing(row["_expectation"], row["_column"], row["count_all"])
        found.setdefault((row["partition_key"], row["revision"]), []).append(one)
    return {
        key: tuple(sorted(mine, key=lambda one: (-one.rows, one.expectation, one.column)))
        for key, mine in found.items()
    }
