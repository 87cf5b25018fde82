"""A training's rows: the features of its window joined to their labels, as they were known at its cut."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.domain import cut, tables
from tasks.domain.partition import Partition, instant, partitions
from tasks.domain.results import FeaturizeResult, TrainingPin
from tasks.domain.spec import PipelineSpec
from tasks.errors import TrainingError
from tasks.lake import Lake
from tasks.lake.deliveries import deliveries
from tasks.search import validation

if TYPE_CHECKING:
    import numpy as np

ROW_GROUP = 131_072
"""The most rows of a row group, which one worker reads as a whole."""
ROW_GROUPS, LEAST_ROW_GROUP = 8, 128
"""Into how many row groups fewer rows are divided, so that several workers have a share, and of how many at least."""
SPAN_ROWS = 1_000_000


def labelled_rows(
    spec: PipelineSpec,
    pin: TrainingPin,
    features: FeaturizeResult,
    view: str,
    span: tuple[str, str],
    lake: Lake,
    classes: tuple[str, ...] | None = None,
):
    """Feature rows of the partitions `span` joined to their labels as known at the training's cut.

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
    )


@dataclass(frozen=True)
class Rows:
    """Labelled rows in scratch files, and what was seen of them while they were written."""

    files: tuple[str, ...]
    features: tuple[str, ...]
    count: int
    dropped: dict[str, int]
    classes: tuple[str, ...]
    constant: list[float]
    judging: tuple[str, ...]
    """The last files, whose rows judge the trials of a search; none without one."""


def write_rows(spec: PipelineSpec, pin: TrainingPin, features: FeaturizeResult, lake: Lake, folder: Path) -> Rows:
    """Join the window to its labels and write it to files, some partitions at a time: it is never whole in memory."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tasks.compute.metrics import constant_prediction

    judging = validation(spec, pin)
    spans = _spans(spec, pin, features, lake, judging)
    classes = _classes(spec, pin, features, lake, spans)
    files, late, labels, names = [], [], [], ()
    dropped: dict[str, int] = {}
    for number, span in enumerate(spans):
        labelled = labelled_rows(spec, pin, features, pin.view, span, lake, classes)
        table = labelled.table
        names = tuple(name for name in table.column_names if name not in (*spec.entity, "partition_key", "label"))
        for reason, count in labelled.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
        label = table["label"].cast(pa.float32())
        labels.append(label.to_numpy())
        if table.num_rows:
            files.append(str(folder / f"{number:05d}.parquet"))
            data = table.select(names).append_column("label", label)
            pq.write_table(data, files[-1], row_group_size=_group_of(data.num_rows), compression="zstd")
            if judging and spec.partition(span[0]) >= judging[0]:
                late.append(files[-1])
    every = np.concatenate(labels)
    _check_label(spec, pin, every, dropped)
    constant = constant_prediction(spec.train.objective, every.astype(float), rows=1)[0].tolist()
    return Rows(tuple(files), names, len(every), dropped, classes or (), constant, tuple(late))


def _group_of(rows: int) -> int:
    return min(ROW_GROUP, max(LEAST_ROW_GROUP, -(-rows // ROW_GROUPS)))


def _spans(
    spec: PipelineSpec,
    pin: TrainingPin,
    features: FeaturizeResult,
    lake: Lake,
    judging: tuple[Partition, Partition] | None,
) -> list[tuple[str, str]]:
    """The training window cut into spans of partitions of at most about SPAN_ROWS rows together.

    A search's validation partitions begin a span: no file holds rows of both parts.
    """
    name = tables.features(spec.pipeline, pin.view)
    entries = lake.table(name).entries(version=features.versions[name])
    spans: list[list[str]] = []
    held = 0
    for one in partitions(*(spec.partition(key) for key in pin.train)):
        rows = entries[(one.key,)].rows
        if not spans or held + rows > SPAN_ROWS or (judging and one == judging[0]):
            spans.append([])
            held = 0
        spans[-1].append(one.key)
        held += rows
    return [(keys[0], keys[-1]) for keys in spans]


def _classes(spec, pin, features, lake, spans) -> tuple[str, ...] | None:
    """The classes of all spans in their order, for several classes; None for other objectives."""
    if spec.train.objective != "multi:softprob":
        return None
    found: set[str] = set()
    for span in spans:
        found |= set(labelled_rows(spec, pin, features, pin.view, span, lake).classes)
    numbers = all(text.lstrip("-").isdigit() for text in found)
    return tuple(sorted(found, key=int) if numbers else sorted(found))


def _check_label(spec: PipelineSpec, pin: TrainingPin, labels: np.ndarray, dropped: dict[str, int]) -> None:
    if not len(labels):
        raise TrainingError(
            f"{spec.pipeline} {pin.training}: no labelled row from {pin.train[0]} to {pin.train[1]}: {dropped}",
            hint="look at label.sql, label.unlabelled and the entity of the label source",
        )
    if spec.train.objective.startswith(("binary", "multi")) and labels.min() == labels.max():
        raise TrainingError(
            f"{spec.pipeline} {pin.training}: all {len(labels)} labels are the same",
            hint="look at label.sql, or train a longer window",
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
