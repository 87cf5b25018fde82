"""Features held against what became of their rows: one that is the label, or tells nearly all of it, was planted."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from tasks.domain import cut, tables
from tasks.domain.leaks import Leak, only_in
from tasks.domain.partition import Partition
from tasks.domain.spec import PipelineSpec
from tasks.lake import Lake
from tasks.lake.deliveries import deliveries

if TYPE_CHECKING:
    import pyarrow as pa

_OUTCOME = "outcome: "
"""Before the names of outcomes' columns beside the features."""


def planted(
    *,
    spec: PipelineSpec,
    features: Mapping[Partition, pa.Table],
    snapshots: Mapping[str, int],
    as_of: datetime,
    lake: Lake,
) -> tuple[int, list[Leak]]:
    """Features that are the label, or a column that only outcomes carry, or reach more than `leaks.alone` alone.

    Args:
        features: by partition.
        snapshots: clean tables' versions.
        as_of: labels that had matured by then are used.

    Returns:
        How many labelled rows there were, and what was found.
    """
    rows = _labelled(spec, features, snapshots, as_of, lake)
    if rows is None or not rows.num_rows:
        return 0, []
    own = {*spec.entity, "partition_key", "label"}
    names = [name for name in rows.column_names if name not in own and not name.startswith(_OUTCOME)]
    return rows.num_rows, _equal(spec, rows, names) + _strong(spec, rows, names)


def _labelled(spec: PipelineSpec, features, snapshots, as_of: datetime, lake: Lake) -> pa.Table | None:
    """The labelled rows in a fixed order, with the columns that only outcomes carry beside them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from tasks.sql.labels import join_labels

    label = spec.sources[spec.label.source].source
    clean = lake.table(tables.clean(label.name))
    version = snapshots[clean.name]
    known = deliveries(lake, label.name, version)
    keys, pairs = {}, set()
    for partition in features:
        seen = cut.visible_labels(spec, partition, partition, as_of, known)
        if seen.revisions and not seen.missing:
            keys[partition.key] = cut.label_keys(spec, partition)
            pairs.update(seen.revisions)
    if not pairs:
        return None
    outcomes = clean.read(version=version, keys=sorted(pairs))
    labelled = join_labels(
        features=pa.concat_tables([rows for one, rows in features.items() if one.key in keys]),
        labels=outcomes,
        keys=keys,
        entity=spec.entity,
        label_sql=spec.label.sql,
        unlabelled=spec.label.unlabelled,
        objective=spec.train.objective,
    ).table
    entity = list(spec.entity)
    only = only_in(label, spec.driver, entity)
    parts = []
    for key, label_keys in keys.items():
        mine = outcomes.filter(pc.is_in(outcomes["partition_key"].cast(pa.string()), pa.array(label_keys)))
        mine = mine.select([*entity, *only]).rename_columns([*entity, *(f"{_OUTCOME}{name}" for name in only)])
        part = labelled.filter(pc.equal(labelled["partition_key"].cast(pa.string()), key))
        parts.append(part.join(mine, entity, join_type="left outer").sort_by([(name, "ascending") for name in entity]))
    return pa.concat_tables(parts).combine_chunks()


def _equal(spec: PipelineSpec, rows: pa.Table, names: list[str]) -> list[Leak]:
    from tasks.compute.alone import LEAST
    from tasks.sql.compared import equal_columns

    told = {name: name.removeprefix(_OUTCOME) for name in rows.column_names if name.startswith(_OUTCOME)}
    # a class's index is Millrace's own: a number that is equal to it is so by chance
    label = {} if spec.train.objective == "multi:softprob" else {"label": ""}
    found = []
    for feature, column, count in equal_columns(rows, names, label | told, LEAST):
        what = f"column {column!r} of {spec.label.source!r}, which only outcomes carry" if column else "the label"
        text = f"feature {feature!r} is {what}, in all {count} rows that have both"
        found.append(_leak(spec, feature, column, text))
    return found


def _strong(spec: PipelineSpec, rows: pa.Table, names: list[str]) -> list[Leak]:
    from tasks.compute.alone import alone

    label, most = rows["label"].to_numpy(), spec.leaks.alone
    found = []
    for feature in names:
        one = alone(rows[feature], label, spec.train.objective)
        if one is not None and one.least > most:
            text = f"feature {feature!r} alone reaches {one.measure} {one.value:.3f} (at least {one.least:.3f}) on {len(label)} labelled rows, more than leaks.alone: {most:g}"
            found.append(_leak(spec, feature, "", text))
    return found


def _leak(spec: PipelineSpec, feature: str, column: str, text: str) -> Leak:
    return Leak("label", "", feature, spec.label.source, column, f"{spec.pipeline}: {text}")
