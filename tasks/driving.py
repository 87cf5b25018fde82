"""Values of the driving source for rows of features, as each partition's cut saw them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tasks.domain import cut, tables
from tasks.domain.partition import Partition
from tasks.domain.spec import PipelineSpec
from tasks.lake import Lake
from tasks.lake.deliveries import deliveries
from tasks.lake.views import load_view
from tasks.view import as_viewed

if TYPE_CHECKING:
    import pyarrow as pa


def driving_values(
    *,
    spec: PipelineSpec,
    view: str,
    partitions: Sequence[Partition],
    rows: pa.Table,
    columns: Sequence[str],
    snapshots: Mapping[str, int],
    lake: Lake,
) -> dict[str, pa.ChunkedArray]:
    """Columns of the driving source, one value for each row, in the rows' order.

    Args:
        view: id of the feature view that the rows came from: its cut says which revisions are seen.
        partitions: those of the rows.
        rows: with the entity's columns and `partition_key`.
        columns: of the driving source.
        snapshots: clean tables' versions, from the pin.
    """
    import numpy as np
    import pyarrow as pa

    from tasks.sql.slices import Slices, SourceRows

    spec = as_viewed(spec, load_view(lake, spec.pipeline, view))
    driver, time = spec.driver, spec.driving_time
    clean = lake.table(tables.clean(driver.name))
    known = deliveries(lake, driver.name, snapshots[clean.name])
    seen = {one.key: _driving(spec, one, known) for one in partitions}
    wanted = dict.fromkeys([*spec.entity, *columns, *([time] if time else [])])
    found = clean.read(
        version=snapshots[clean.name],
        keys=sorted({pair for pairs in seen.values() for pair in pairs}),
        columns=[*wanted, "_known_at", "_line", "partition_key", "revision"],
    )
    slices = Slices(SourceRows({name: driver.columns[name] for name in wanted}, found))
    keyed = ["_partition", *(f"_key{number}" for number in range(len(spec.entity)))]
    values = [f"_value{number}" for number in range(len(columns))]
    asked = rows.select(["partition_key", *spec.entity]).rename_columns(keyed)
    asked = asked.set_column(0, "_partition", asked["_partition"].cast(pa.string()))
    parts = []
    for one in partitions:
        part = slices.view(seen[one.key])
        if time:
            part = _within(part, time, one)
        told = [pa.array([one.key] * part.num_rows, pa.string()), *(part[name] for name in [*spec.entity, *columns])]
        parts.append(pa.table(told, names=[*keyed, *values]))
    given = pa.concat_tables(parts)
    given = given.cast(pa.schema([asked.schema.field(name) for name in keyed] + [given.field(name) for name in values]))
    # the feature SQL may have chosen one of several rows of an entity: the first that was delivered stands for it
    given = given.group_by(keyed, use_threads=False).aggregate([(name, "first") for name in values])
    asked = asked.append_column("_row", pa.array(np.arange(asked.num_rows)))
    joined = asked.join(given, keyed, join_type="left outer").sort_by("_row")
    return {column: joined[f"{name}_first"] for column, name in zip(columns, values, strict=True)}


def _driving(spec: PipelineSpec, partition: Partition, known: cut.Deliveries) -> tuple[tuple[str, int], ...]:
    """The revisions of the driving source that hold the partition's rows."""
    keys = set(cut.driving_keys(spec, partition))
    revisions = cut.visible(spec, spec.driver, partition, known).revisions
    return tuple(pair for pair in revisions if pair[0] in keys)


def _within(rows: pa.Table, time: str, partition: Partition) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    start, end = (pa.scalar(bound, pa.timestamp("us", tz="UTC")) for bound in (partition.start, partition.end))
    return rows.filter(pc.and_(pc.greater_equal(rows[time], start), pc.less(rows[time], end)))
