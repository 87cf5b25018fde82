"""Pinned snapshots -> a registered challenger.

The same inputs are trained once: a training is named by the digest of everything that goes into it,
and a second run finds the version that the first one registered.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.domain import cut, tables
from tasks.domain.partition import Partition, instant, partitions
from tasks.domain.promotion import ModelRef
from tasks.domain.results import FeaturizeResult, TrainingPin, TrainResult
from tasks.domain.run import RunRef
from tasks.domain.spec import PipelineSpec
from tasks.errors import TrainingError
from tasks.lake import Lake
from tasks.lake.deliveries import deliveries
from tasks.lake.views import load_view
from tasks.search import described, find_params, trial_records, validation, without_histories

if TYPE_CHECKING:
    import numpy as np

    from tasks.registry import Registry
    from tasks.settings import Settings

ROW_GROUP = 131_072
"""The most rows of a row group, which one worker reads as a whole."""
ROW_GROUPS, LEAST_ROW_GROUP = 8, 128
"""Into how many row groups fewer rows are divided, so that several workers have a share, and of how many at least."""
SPAN_ROWS = 1_000_000


def train(
    *,
    spec: PipelineSpec,
    pin: TrainingPin,
    features: FeaturizeResult,
    lake: Lake,
    registry: Registry,
    settings: Settings,
    run: RunRef,
    say: Callable[[str], None] = lambda text: None,
) -> TrainResult:
    """Train a challenger on the pinned training window and register it.

    Raises:
        TrainingError: no rows, a single class, or data that XGBoost can't take.
        ClusterError, RegistryError: Dask or MLflow was not there; a retry may help.
    """
    key = _training_key(spec, pin, features, lake)
    known = _registered(lake, spec.line, key)
    if known is not None:
        say(f"version {known['version']} was trained from these very inputs")
        return _result(spec, pin, known, reused=True)
    registry.ping()
    note = _noted(lake, spec.line, key)
    if note is None:
        note = _train(spec, pin, features, lake, settings, say, key)
    else:
        say("these very inputs were trained by an attempt that ended early: its model is registered")
    registered = registry.record_training(_record(spec, pin, note, lake, run))
    version = {"version": registered.version, "run": registered.run_id}
    descriptor = {name: value for name, value in note.items() if name != "history"} | version
    if "search" in note:
        descriptor["search"] = without_histories(note["search"])
    _keep_descriptor(spec, descriptor, lake)
    # checkpoints, trials of a search, and rows for workers elsewhere
    for info in lake.objects.list(f"{spec.line}/trainings/{key}/"):
        lake.objects.delete(info.key)
    say(f"version {registered.version}: {note['rounds']} rounds on {note['device']} in {note['seconds']:.1f} s")
    return _result(spec, pin, descriptor, reused=False)


def _train(spec: PipelineSpec, pin: TrainingPin, features: FeaturizeResult, lake: Lake, settings, say, key: str):
    """Train, and note in the lake what came out: an attempt after this one need not train again.

    Of two that train the same inputs at the same time, both go on with the note that was first.
    """
    from tasks.compute.scratch import scratch

    started = time.monotonic()
    with scratch(settings.home / "cache" / "train") as folder:
        rows = _write_rows(spec, pin, features, lake, folder)
        say(f"{rows.count} labelled rows of {pin.train[0]} to {pin.train[1]}; left out: {rows.dropped or 'none'}")
        trained, encoding, found = _boost(spec, rows, folder, settings, lake, key, say)
    seconds = round(time.monotonic() - started, 3)
    note = {
        "pipeline": spec.pipeline,
        "training": pin.training,
        "key": key,
        "digest": lake.put_model(trained.model),
        "view": pin.view,
        "as_of": pin.as_of,
        "train": list(pin.train),
        "holdout": list(pin.holdout),
        "objective": spec.train.objective,
        "classes": list(rows.classes),
        "constant": rows.constant,
        "encoding": encoding.to_dict(),
        "rows": rows.count,
        "dropped": rows.dropped,
        "rounds": trained.rounds,
        "seconds": seconds,
        "way": trained.way,
        "reason": trained.reason,
        "resumed_from": trained.resumed_from,
        "device": trained.device,
        **_cost(settings, *(part for part in (found, trained) if part is not None)),
        "inputs": _inputs(spec, pin, features),
        "history": {"train": trained.history},
    }
    if found is not None:
        note["search"] = described(spec, pin, found)
    lake.objects.put_if_absent(_note_key(spec.line, key), _json(note))
    return _noted(lake, spec.line, key)


def _note_key(line: str, key: str) -> str:
    return f"{line}/trainings/{key}.json"


def _noted(lake: Lake, line: str, key: str) -> dict[str, Any] | None:
    try:
        return json.loads(lake.objects.get(_note_key(line, key)))
    except FileNotFoundError:
        return None


def _keep_descriptor(spec: PipelineSpec, descriptor: dict[str, Any], lake: Lake) -> None:
    """Put the version's descriptor; a number that the lake has for another training is refused."""
    name = f"{spec.line}/versions/{descriptor['version']}.json"
    if lake.objects.put_if_absent(name, _json(descriptor)):
        return
    if json.loads(lake.objects.get(name))["key"] != descriptor["key"]:
        raise TrainingError(
            f"{spec.pipeline} {descriptor['training']}: MLflow gave version {descriptor['version']}, which the lake has for another training",
            hint="MLflow's database was reset, or serves another lake: restore it, or begin with both empty",
        )


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
class _Rows:
    """Labelled rows in scratch files, and what was seen of them while they were written."""

    files: tuple[str, ...]
    features: tuple[str, ...]
    count: int
    dropped: dict[str, int]
    classes: tuple[str, ...]
    constant: list[float]
    judging: tuple[str, ...]
    """The last files, whose rows judge the trials of a search; none without one."""


def _write_rows(spec: PipelineSpec, pin: TrainingPin, features: FeaturizeResult, lake: Lake, folder: Path) -> _Rows:
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
    return _Rows(tuple(files), names, len(every), dropped, classes or (), constant, tuple(late))


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


def _boost(spec: PipelineSpec, rows: _Rows, folder: Path, settings: Settings, lake: Lake, key: str, say):
    from tasks.compute.params import check_params
    from tasks.compute.places import Means, open_place
    from tasks.compute.rows import TrainingData, fit_encoding_files, survey
    from tasks.compute.sizing import Shape
    from tasks.compute.train import Recipe, classes_of
    from tasks.compute.train import train as boost

    local = TrainingData(files=rows.files)
    encoding, seen = fit_encoding_files(local, rows.features), survey(local, rows.features)
    recipe = Recipe(spec.train.objective, dict(spec.train.params), spec.train.rounds, spec.train.seed)
    bins = check_params(recipe.objective, recipe.params)["max_bin"]
    means = Means(
        folder=folder,
        threads=settings.threads,
        scheduler=settings.dask_scheduler,
        tls=_tls(settings),
        workers=settings.workers,
        memory_limit=settings.memory_limit,
        stall=settings.train_stall,
        patience=settings.gpu_patience,
    )
    shape = Shape(seen.rows, len(rows.features), bins, classes_of(recipe.objective, seen))
    wish, gpus = spec.train.way, spec.train.gpus
    if seen.empty:
        say(f"features without any value: {', '.join(seen.empty)}")
    found = None
    if spec.train.search is not None:
        found = find_params(
            spec=spec,
            data=local,
            judging=rows.judging,
            seen=seen,
            encoding=encoding,
            recipe=recipe,
            shape=shape,
            means=means,
            attempts=settings.train_attempts,
            lake=lake,
            key=key,
            say=say,
        )
        recipe = replace(recipe, params=found.params)
    data = local
    if settings.dask_scheduler and wish in ("auto", "cluster"):
        data, seen = _delivered(spec, local, seen, lake, key)
    trained = boost(
        lambda: open_place(shape, means, wish=wish, gpus=gpus, say=say),
        data,
        seen=seen,
        encoding=encoding,
        recipe=recipe,
        checkpoints=_checkpoints(spec, lake, key),
        attempts=settings.train_attempts,
        say=say,
    )
    return trained, encoding, found


def _tls(settings: Settings):
    from tasks.compute.cluster import Tls

    files = (settings.dask_tls_ca, settings.dask_tls_cert, settings.dask_tls_key)
    return Tls(*files) if all(files) else None


def _delivered(spec: PipelineSpec, local, seen, lake: Lake, key: str):
    """The rows where workers on other hosts reach them: in the lake, until the version is registered."""
    from tasks.compute.rows import TrainingData

    folder = f"{spec.line}/trainings/{key}/rows"  # the same inputs give the same files, whoever puts them
    names = {file: f"{folder}/{Path(file).name}" for file in local.files}
    for file, name in names.items():
        lake.objects.put_file(name, Path(file))
    groups = tuple(replace(group, path=names[group.path]) for group in seen.groups)
    return TrainingData(tuple(names.values()), store=lake.objects), replace(seen, groups=groups)


def _checkpoints(spec: PipelineSpec, lake: Lake, key: str):
    from tasks.compute.checkpoints import Checkpoints

    return Checkpoints(lake.objects, f"{spec.line}/trainings/{key}/checkpoints", spec.train.checkpoint)


def _cost(settings: Settings, *parts) -> dict[str, float]:
    """Seconds of GPUs and of threads of search and training, and what they cost where the settings say a price."""
    used = {name: round(sum(getattr(part, name) for part in parts), 3) for name in ("gpu_seconds", "cpu_seconds")}
    prices = (settings.gpu_hour_price, settings.cpu_hour_price)
    if None in prices:
        return used
    return used | {"cost": round((used["gpu_seconds"] * prices[0] + used["cpu_seconds"] * prices[1]) / 3600, 6)}


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


def _training_key(spec: PipelineSpec, pin: TrainingPin, features: FeaturizeResult, lake: Lake) -> str:
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
    return hashlib.sha256(_json(parts)).hexdigest()


def _registered(lake: Lake, line: str, key: str) -> dict[str, Any] | None:
    for info in lake.objects.list(f"{line}/versions/"):
        descriptor = json.loads(lake.objects.get(info.key))
        if descriptor["key"] == key:
            return descriptor
    return None


def _inputs(spec: PipelineSpec, pin: TrainingPin, features: FeaturizeResult) -> dict[str, int]:
    return {tables.clean(name): pin.snapshots[tables.clean(name)] for name in spec.sources} | features.versions


def _record(spec: PipelineSpec, pin: TrainingPin, note: dict[str, Any], lake: Lake, run: RunRef):
    from tasks.registry import TrainingRecord

    view = load_view(lake, spec.pipeline, pin.view)
    encoding, search = note["encoding"], note.get("search")
    params = {
        "training": pin.training,
        "as_of": pin.as_of,
        "train": " to ".join(pin.train),
        "holdout": " to ".join(pin.holdout),
        "view": pin.view,
        "objective": spec.train.objective,
        "rounds": note["rounds"],
        "seed": spec.train.seed,
        "device": note["device"],
        "way": note["way"],
        "resumed_from": note["resumed_from"],
        "rows": note["rows"],
        **(search["params"] if search else spec.train.params),
    }
    metrics = {name: note[name] for name in ("seconds", "gpu_seconds", "cpu_seconds", "cost") if name in note}
    tags = {"run_id": run.run_id, "actor": run.actor, "digest": note["digest"]}
    if search:
        metrics[f"search-{search['metric']}"] = search["value"]
        tags["search"] = search["chosen"]
    return TrainingRecord(
        pipeline=spec.model,
        training_key=note["key"],
        run_name=f"{spec.pipeline} {pin.training}",
        params=params,
        metrics=metrics,
        history=note["history"],
        inputs=note["inputs"],
        tags=tags,
        features=tuple(zip(encoding["columns"], encoding["kinds"], strict=True)),
        classes=len(note["classes"]) or None,
        model=lake.get_model(note["digest"]),
        digest=note["digest"],
        suite_results=_suites(spec, pin, lake),
        artifacts={"features.sql": view["sql"].encode(), "encoding.json": _json(encoding)},
        trials=trial_records(f"{spec.pipeline} {pin.training}", search) if search else (),
    )


def _suites(spec: PipelineSpec, pin: TrainingPin, lake: Lake) -> dict[str, Any]:
    """What the contracts said of the training window: per source, partitions, rows in and rows quarantined."""
    first, last = (spec.partition(key) for key in (pin.train[0], pin.holdout[1]))
    found = {}
    for name, use in spec.sources.items():
        source = use.source
        entries = lake.table(tables.clean(name)).entries(version=pin.snapshots[tables.clean(name)])
        mine = [
            entry
            for (key, _), entry in entries.items()
            if source.grain == "none" or _overlaps(source.partition(key), first, last)
        ]
        found[name] = {
            "suites": sorted({entry.meta["suite"] for entry in mine}),
            "partitions": len(mine),
            "rows_in": sum(entry.meta["rows_in"] for entry in mine),
            "quarantined": sum(entry.meta["quarantined"] for entry in mine),
        }
    return found


def _overlaps(partition: Partition, first: Partition, last: Partition) -> bool:
    return partition.start < last.end and partition.end > first.start


def _result(spec: PipelineSpec, pin: TrainingPin, descriptor: dict[str, Any], *, reused: bool) -> TrainResult:
    return TrainResult(
        pipeline=spec.pipeline,
        training=pin.training,
        model=ModelRef(descriptor["version"], descriptor["digest"], descriptor["view"]),
        run=descriptor["run"],
        rows=descriptor["rows"],
        rounds=descriptor["rounds"],
        seconds=descriptor["seconds"],
        device=descriptor["device"],
        reused=reused,
    )


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode()
