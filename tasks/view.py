"""A feature view: its SQL, its rollups and what they read, checked and put into the lake under the digest of all that."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from tasks.domain.partition import Offset, Span
from tasks.domain.spec import PipelineSpec
from tasks.errors import SpecError
from tasks.lake import Lake
from tasks.lake.views import view_key


def publish_view(*, spec: PipelineSpec, sql: str, rollups: Mapping[str, str], file: str, lake: Lake) -> str:
    """Check the pipeline's present feature SQL, put its view into the lake, return the view's id.

    Args:
        rollups: rollup SQL by name.
        file: of the feature SQL, which ends as the spec names it; the rollups lie in `rollups/` beside the spec.

    Raises:
        SqlError: the SQL is not deterministic, reaches outside its views or lacks the entity.
    """
    values = describe_view(spec, sql, rollups, file)
    # not sorted: SELECT * follows the order of the columns
    text = json.dumps(values, separators=(",", ":"))
    lake.objects.put_if_absent(view_key(spec.pipeline, values["id"]), text.encode())
    return values["id"]


def describe_view(spec: PipelineSpec, sql: str, rollups: Mapping[str, str], file: str) -> dict[str, Any]:
    """All that a feature view depends on and what it gives, as JSON values; errors as in `publish_view`."""
    from tasks.sql.guard import describe
    from tasks.sql.rollups import describe_rollup
    from tasks.sql.views import view_id

    folder = file.removesuffix(spec.features)
    found = {
        name: describe_rollup(name, text, spec=spec, file=f"{folder}rollups/{name}.sql")
        for name, text in rollups.items()
    }
    sources = {name: dict(use.source.columns) for name, use in spec.sources.items()}
    values = {
        "sql": sql,
        "entity": list(spec.entity),
        "as_of": str(spec.as_of),
        "lookback": str(spec.lookback),
        "driver": spec.driver.name,
        "time": spec.driving_time,
        "sources": sources,
    }
    if found:
        values["rollups"] = {name: asdict(one) for name, one in found.items()}
    views = sources | {name: one.columns for name, one in found.items()}
    output = describe(sql, sources=views, driver=spec.driver.name, entity=spec.entity, file=file)
    return {**values, "id": view_id(sql, spec, {name: one.id for name, one in found.items()}), "output": output}


def as_viewed(spec: PipelineSpec, view: dict[str, Any]) -> PipelineSpec:
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


def sources_read(view: dict[str, Any]) -> frozenset[str]:
    """The sources that a view's SQL looks back on, itself or through a rollup.

    The driving source is among them only where the SQL names it: `entities` holds a partition's own rows alone.
    """
    from tasks.sql.syntax import tables_in

    rollups = view.get("rollups", {})
    named = tables_in(view["sql"], among=[*view["sources"], *rollups])
    behind = {source for name in named if name in rollups for source in rollups[name]["reads"]}
    return frozenset({name for name in named if name not in rollups} | behind)
