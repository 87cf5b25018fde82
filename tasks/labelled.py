"""A training's rows: the features of its window joined to their labels, as they were known at its cut."""

from __future__ import annotations

import hashlib
import json

from tasks.domain import cut, tables
from tasks.domain.partition import instant, partitions
from tasks.domain.results import FeaturizeResult, TrainingPin
from tasks.domain.spec import PipelineSpec
from tasks.lake import Lake
from tasks.lake.deliveries import deliveries


def labelled_rows(
    spec: PipelineSpec,
    pin: TrainingPin,
    features: FeaturizeResult,
    view: str,
    span: tuple[str, str],
    lake: Lake,
    classes: tuple[str, ...] | None = None,
    memory_limit: str | None = None,
):
    """Feature rows of the partitions `span` joined to their labels as known at the training's cut.

    Args:
        classes: what the class indices mean, where that is fixed.
        memory_limit: for the join, in DuckDB's spelling.

    Returns:
        `tasks.sql.Labelled`: entity, partition_key, features and `label`, in a fixed order.
    """
    from tasks.sql.labels import join_labels

    first, last = (spec.partition(key) for key in span)
    every = partitions(first, last)
    name = tables.features(spec.pipeline, view)
    rows = lake.table(name).read(version=features.versions[name], keys=[(one.key,) for one in every])
    label = spec.label
    clean = tables.clean(label.source)
    known = deliveries(lake, label.source, pin.snapshots[clean])
    seen = cut.visible_labels(spec, first, last, instant(pin.as_of), known)
    labels = lake.table(clean).read(version=pin.snapshots[clean], keys=list(seen.revisions))
    return join_labels(
        features=rows,
        labels=labels,
        keys={one.key: cut.label_keys(spec, one) for one in every},
        entity=spec.entity,
        label_sql=label.sql,
        unlabelled=label.unlabelled,
        objective=spec.train.objective,
        classes=classes,
        memory_limit=memory_limit,
    )


def training_key(spec: PipelineSpec, pin: TrainingPin, features: FeaturizeResult, lake: Lake) -> str:
    """Digest of all that goes into a training: the same inputs give the same key, whatever the versions."""
    name = tables.features(spec.pipeline, pin.view)
    entries = lake.table(name).entries(version=features.versions[name])
    first, last = (spec.partition(key) for key in pin.train)
    window = [(one.key, entries[(one.key,)].meta["visible"]) for one in partitions(first, last)]
    known = deliveries(lake, spec.label.source, pin.snapshots[tables.clean(spec.label.source)])
    labels = cut.visible_labels(spec, first, last, instant(pin.as_of), known)
    parts = {
        "pipeline": spec.pipeline,
        "training": pin.training,
        "view": pin.view,
        "window": window,
        "labels": labels.revisions,
        "recipe": spec.recipe,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str).encode()).hexdigest()
