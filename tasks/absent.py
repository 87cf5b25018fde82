"""Where a row went that a published partition does not hold: looked up in clean and quarantine as they were then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.domain import cut, tables
from tasks.domain.partition import Partition
from tasks.domain.spec import PipelineSpec
from tasks.errors import UsageError
from tasks.lake import Lake
from tasks.lake.deliveries import deliveries

if TYPE_CHECKING:
    import pyarrow as pa

    from tasks.lake.table import Table


def matching(rows: pa.Table, entity: Mapping[str, str]) -> pa.Table:
    """The rows of an entity, given as text by column.

    Raises:
        UsageError: a text is no value of its column's type.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    for name, text in entity.items():
        kind = rows.schema.field(name).type
        try:
            value = pa.scalar(text).cast(kind)
        except pa.ArrowInvalid as error:
            raise UsageError(f"entity: {text!r} is no {kind} as {name} is") from error
        rows = rows.filter(pc.equal(rows[name], value))
    return rows


def whereabouts(
    *, spec: PipelineSpec, partition: Partition, meta: Mapping[str, Any], entity: Mapping[str, str], lake: Lake
) -> str:
    """What became of a row, in words: filtered, quarantined, of another partition, or never delivered.

    Args:
        spec: with the cut of the view that was scored.
        meta: what the partition's entry says: the versions that it read, and which data.
    """
    driver = spec.driver
    clean = lake.table(tables.clean(driver.name))
    at = meta["inputs"][clean.name]
    known = {driver.name: deliveries(lake, driver.name, at)}
    if meta.get("data") == "corrected":
        known = cut.corrected(spec, known)
    seen = cut.visible(spec, driver, partition, known[driver.name])
    driving = set(cut.driving_keys(spec, partition))
    pairs = [pair for pair in seen.revisions if pair[0] in driving]
    for row in _rows(clean, at, pairs, entity):
        return _not_scored(spec, partition, row, f"{clean.name}@{at}")
    entries = clean.entries(version=at)
    for pair in pairs:
        quarantine = lake.table(tables.quarantine(driver.name))
        meta = entries[pair].meta
        judged = meta["inputs"][quarantine.name]
        for row in _rows(quarantine, judged, [pair], entity):
            return (
                f"it was quarantined: {row['_expectation']} on {row['_column']}, whose value was {row['_value']!r} "
                f"(line {tables.line_of(meta, row['_file'], row['_line'])} of {row['_file']}; {quarantine.name}@{judged}, {pair[0]} revision {pair[1]})"
            )
    looked = ", ".join(f"{key} revision {revision}" for key, revision in pairs) or "none"
    return f"no delivery of {driver.name} that was known at {spec.as_of.at(partition).isoformat()} has it (looked in {looked})"


def _not_scored(spec: PipelineSpec, partition: Partition, row: Mapping[str, Any], where: str) -> str:
    time = spec.driving_time
    if time is not None and row[time] is not None:
        home = Partition.containing(spec.grain, spec.timezone, row[time])
        if home != partition:
            return f"its {time} {row[time].isoformat()} lies in partition {home}"
    return f"it was filtered: it is in {where}, and {spec.features} did not return it"


def _rows(
    table: Table, version: int, pairs: Sequence[tuple[str, int]], entity: Mapping[str, str]
) -> list[dict[str, Any]]:
    if not pairs:
        return []
    return matching(table.read(version=version, keys=pairs), entity).to_pylist()
