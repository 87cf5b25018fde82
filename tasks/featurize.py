"""Clean rows known at as_of -> a feature partition, through the feature view that a model names.

A view is versioned by the digest of its SQL and inputs and lies in the lake, so that an older model
is scored with the SQL it was trained with. A partition whose visible inputs have not changed since
it was computed is not computed again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

from tasks.domain import cut, tables
from tasks.domain.partition import Offset, Partition, Span, iso
from tasks.domain.results import Featurized, FeaturizeResult
from tasks.domain.run import RunRef
from tasks.domain.spec import PipelineSpec
from tasks.errors import NotReadyError, SpecError, SupersededError
from tasks.lake import Entry, Lake
from tasks.lake.deliveries import deliveries
from tasks.lake.views import load_view, view_key

ROUNDS = 5
"""How often a view's table is looked at again because somebody else computed one of the partitions meanwhile."""


def publish_view(*, spec: PipelineSpec, sql: str, file: str, lake: Lake) -> str:
    """Check the pipeline's present feature SQL, put its view into the lake, return the view's id.

    Raises:
        SqlError: the SQL is not deterministic, reaches outside its views or lacks the entity.
    """
    from tasks.sql.guard import describe
    from tasks.sql.views import view_id

    view = view_of(spec, sql)
    output = describe(sql, sources=view["sources"], driver=view["driver"], entity=spec.entity, file=file)
    name = view_id(sql, spec)
    # not sorted: SELECT * follows the order of the columns
    text = json.dumps({**view, "id": name, "output": output}, separators=(",", ":"))
    lake.objects.put_if_absent(view_key(spec.pipeline, name), text.encode())
    return name


def view_of(spec: PipelineSpec, sql: str) -> dict[str, Any]:
    """All that a feature view depends on, as JSON values."""
    return {
        "sql": sql,
        "entity": list(spec.entity),
        "as_of": str(spec.as_of),
        "lookback": str(spec.lookback),
        "driver": spec.driver.name,
        "time": spec.driving_time,
        "sources": {name: dict(use.source.columns) for name, use in spec.sources.items()},
    }


def featurize(
    *,
    spec: PipelineSpec,
    partitions: Sequence[Partition],
    views: dict[str, Sequence[str]],
    snapshots: dict[str, int],
    lake: Lake,
    run: RunRef,
    threads: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> FeaturizeResult:
    """Compute the features of `partitions` for each of `views`.

    Args:
        partitions: in order.
        views: view id -> keys of the partitions that need it.
        snapshots: clean tables' versions, from the pin.
    """
    by_key = {partition.key: partition for partition in partitions}
    versions, outcomes, computed = {}, {}, 0
    for view, keys in views.items():
        wanted = [by_key[key] for key in keys]
        version, found, fresh = _one_view(spec, wanted, view, snapshots, lake, run, threads, progress)
        versions[tables.features(spec.pipeline, view)] = version
        outcomes |= found
        computed += fresh
    ordered = tuple(outcomes[partition.key] for partition in partitions if partition.key in outcomes)
    return FeaturizeResult(spec.pipeline, versions, ordered, computed)


def _one_view(spec, partitions, view, snapshots, lake, run, threads, progress):
    values = load_view(lake, spec.pipeline, view)
    spec = _as_viewed(spec, values)
    table = lake.table(tables.features(spec.pipeline, view))
    delivered = {name: deliveries(lake, name, snapshots[tables.clean(name)]) for name in spec.sources}
    seen = {one.key: cut.visible_sources(spec, one, delivered) for one in partitions}
    _check_complete(view, spec, seen)
    for number in range(1, ROUNDS + 1):
        pinned = table.version()
        entries = table.entries(version=pinned)
        outcomes, todo = {}, []
        for partition in partitions:
            digest = _digest(seen[partition.key])
            entry = entries.get((partition.key,))
            if entry is not None and entry.meta["visible"] == digest:
                outcomes[partition.key] = Featurized(partition.key, entry.meta["entities"], entry.rows)
            else:
                todo.append((partition, seen[partition.key], digest))
        if not todo:
            return pinned, outcomes, 0
        try:
            found, version = _compute(spec, todo, values, snapshots, table, pinned, lake, run, threads, progress)
            return version, outcomes | found, len(todo)
        except SupersededError:
            # Features follow from what is visible, so whoever computed them, they are the same: look again.
            if number == ROUNDS:
                raise


def _check_complete(view: str, spec: PipelineSpec, seen) -> None:
    """An older view may reach further back than the spec that the pin went by: thin history is never used silently."""
    for key, sources in seen.items():
        missing = tuple(f"{name}/{one}" for name, found in sources.items() for one in found.missing)
        if missing:
            raise NotReadyError(
                f"{spec.pipeline} {key}: view {view} waits for {', '.join(missing[:3])}",
                missing=missing,
                hint="ingest what is named, or declare it under `missing` of its source",
            )


def _compute(spec, todo, view, snapshots, table, pinned, lake, run, threads, progress):
    import pyarrow as pa

    from tasks.lake.schema import arrow_schema
    from tasks.sql.features import FeatureEngine

    rows = _source_rows(view, todo, snapshots, lake)
    parts, entries, outcomes = [], [], {}
    with FeatureEngine(
        rows, driver=view["driver"], time=view["time"], entity=tuple(view["entity"]), threads=threads
    ) as engine:
        cuts = [_cut(spec, partition, seen) for partition, seen, _ in todo]
        for done, result in enumerate(engine.compute_all(view["sql"], cuts)):
            partition, seen, digest = todo[done]
            part = result.table
            parts.append(part.append_column("partition_key", pa.array([partition.key] * part.num_rows, pa.string())))
            meta = {
                "visible": digest,
                "entities": result.entities,
                "as_of": iso(spec.as_of.at(partition)),
                "late": [f"{name}/{key}" for name, one in seen.items() for key in one.late],
                "thin": cut.thin(spec, partition),
                "inputs": {tables.clean(name): snapshots[tables.clean(name)] for name in spec.sources},
                "reads": {name: _extent(one.revisions) for name, one in seen.items()},
            }
            entries.append(Entry((partition.key,), part.num_rows, meta))
            outcomes[partition.key] = Featurized(partition.key, result.entities, part.num_rows)
            progress(done + 1, len(todo))
    columns = {**view["output"], "partition_key": "string"}
    data = pa.concat_tables([part.select(list(columns)) for part in parts])
    version = table.replace(
        pinned=pinned,
        columns=arrow_schema(columns),
        partition_by=tables.PIPELINE_KEY,
        data=data,
        entries=entries,
        run=run,
    )
    return outcomes, version


def _cut(spec: PipelineSpec, partition: Partition, seen):
    from tasks.sql.features import Cut

    driving = set(cut.driving_keys(spec, partition))
    return Cut(
        partition_key=partition.key,
        as_of=spec.as_of.at(partition),
        start=partition.start,
        end=partition.end,
        visible={name: one.revisions for name, one in seen.items()},
        driving=tuple(pair for pair in seen[spec.driver.name].revisions if pair[0] in driving),
    )


def _source_rows(view: dict[str, Any], todo, snapshots, lake):
    from tasks.lake.schema import arrow_schema
    from tasks.sql.features import SourceRows

    rows = {}
    for name, declared in view["sources"].items():
        needed = sorted({pair for _, seen, _ in todo for pair in seen[name].revisions})
        clean = lake.table(tables.clean(name))
        # with _line, the rows' order does not depend on how the table's files lie
        columns = [*declared, "_known_at", "_line", "partition_key", "revision"]
        version = snapshots[clean.name]
        if needed:
            table = clean.read(version=version, keys=needed, columns=columns)
        else:  # nothing of it is visible, the table may not even exist
            table = arrow_schema(tables.clean_columns(declared)).empty_table().select(columns)
        rows[name] = SourceRows(dict(declared), table)
    return rows


def _as_viewed(spec: PipelineSpec, view: dict[str, Any]) -> PipelineSpec:
    """The spec with the cut that the view was made for, and its sources alone."""
    lacking = sorted(set(view["sources"]) - set(spec.sources))
    if lacking or view["driver"] != spec.driver.name:
        raise SpecError(
            f"{spec.pipeline}: view {view['id']} reads {', '.join(lacking) or 'another driving source'}, which the spec no longer has",
            hint="put the source back until the models that use the view are retired",
        )
    update = {
        "as_of": Offset.parse(view["as_of"]),
        "lookback": Span.parse(view["lookback"]),
        "sources": {name: spec.sources[name] for name in view["sources"]},
    }
    return spec.model_copy(update=update)


def _digest(seen) -> str:
    return hashlib.sha256(_json({name: one.revisions for name, one in sorted(seen.items())})).hexdigest()


def _extent(revisions: tuple[tuple[str, int], ...]) -> dict[str, Any]:
    """The first and last partition read, their number, and those read at a later revision than the first."""
    if not revisions:
        return {"partitions": 0}
    restated = [list(pair) for pair in revisions if pair[1] > 1]
    return {"first": revisions[0][0], "last": revisions[-1][0], "partitions": len(revisions), "restated": restated}


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
