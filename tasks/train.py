"""Pinned snapshots -> a registered challenger.

The same inputs are trained once: a training is named by the digest of everything that goes into it,
and a second run finds the version that the first one registered.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tasks.domain import tables
from tasks.domain.partition import Partition
from tasks.domain.promotion import ModelRef
from tasks.domain.results import FeaturizeResult, TrainingPin, TrainResult
from tasks.domain.run import RunRef
from tasks.domain.spec import PipelineSpec
from tasks.errors import ClusterError, TrainingError
from tasks.fit import Keep, fit
from tasks.labelled import training_key
from tasks.lake import Lake
from tasks.lake.versions import version_key
from tasks.lake.views import load_view
from tasks.search import described, trial_records, without_histories
from tasks.spans import Join, join_here, window_of

if TYPE_CHECKING:
    from tasks.registry import Registry
    from tasks.settings import Settings


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
    join: Join | None = None,
) -> TrainResult:
    """Train a challenger on the pinned training window and register it.

    Args:
        join: joins the window to its labels where it is trained, and leaves the rows in the lake; None: in this process.

    Raises:
        TrainingError: no rows, a single class, or data that XGBoost can't take.
        ClusterError, RegistryError: Dask or MLflow was not there; a retry may help.
    """
    key = training_key(spec, pin, features, lake)
    known = _registered(lake, spec.line, key)
    if known is not None:
        say(f"version {known['version']} was trained from these very inputs")
        _clear(lake, spec.line, key)  # an attempt before this one may have been killed before it did
        return _result(spec, pin, known, reused=True)
    registry.ping()
    note = _noted(lake, spec.line, key)
    if note is None:
        note = _train(spec, pin, features, lake, settings, say, key, join)
    else:
        say("these very inputs were trained by an attempt that ended early: its model is registered")
    registered = registry.record_training(_record(spec, pin, note, lake, run))
    version = {"version": registered.version, "run": registered.run_id}
    descriptor = {name: value for name, value in note.items() if name != "history"} | version
    if "search" in note:
        descriptor["search"] = without_histories(note["search"])
    _keep_descriptor(spec, descriptor, lake)
    _clear(lake, spec.line, key)
    say(f"version {registered.version}: {note['rounds']} rounds on {note['device']} in {note['seconds']:.1f} s")
    return _result(spec, pin, descriptor, reused=False)


def _train(
    spec: PipelineSpec,
    pin: TrainingPin,
    features: FeaturizeResult,
    lake: Lake,
    settings,
    say,
    key: str,
    join: Join | None,
) -> dict[str, Any]:
    """Train, and note in the lake what came out: an attempt after this one need not train again.

    Of two that train the same inputs at the same time, both go on with the note that was first.
    """
    from tasks.compute.machine import free_memory
    from tasks.compute.same import environment
    from tasks.compute.scratch import scratch

    started = time.monotonic()
    with scratch(settings.home / "cache" / "train") as folder:
        window = window_of(spec, pin, features, lake)
        if join is not None:
            rows = join(window, f"{spec.line}/trainings/{key}/rows")
        else:
            rows = join_here(window, lake, folder, threads=settings.threads, memory=free_memory() // 2)
        say(f"{rows.seen.rows} labelled rows of {pin.train[0]} to {pin.train[1]}; left out: {rows.dropped or 'none'}")
        keep = Keep(lake, spec.line, key)
        try:
            fitted = fit(spec=spec, rows=rows, folder=folder, settings=settings, say=say, keep=keep)
        except ClusterError:
            twin = _noted(lake, spec.line, key)  # it cleared the rows that this one was reading
            if twin is None:
                raise
            say("another run trained these very inputs meanwhile: its model is taken")
            return twin
    trained, found = fitted.trained, fitted.found
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
        "encoding": fitted.encoding.to_dict(),
        "rows": rows.seen.rows,
        "dropped": dict(rows.dropped),
        "rounds": trained.rounds,
        "seconds": seconds,
        "way": trained.way,
        "reason": trained.reason,
        "resumed_from": trained.resumed_from,
        "device": trained.device,
        **cost(settings, *(part for part in (found, trained) if part is not None)),
        "params": dict(fitted.recipe.params),
        "spec": spec.spelled(),
        "environment": environment() | {"threads": trained.threads, "workers": trained.workers},
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
    name = version_key(spec.line, descriptor["version"])
    if lake.objects.put_if_absent(name, _json(descriptor)):
        return
    if json.loads(lake.objects.get(name))["key"] != descriptor["key"]:
        raise TrainingError(
            f"{spec.pipeline} {descriptor['training']}: MLflow gave version {descriptor['version']}, which the lake has for another training",
            hint="MLflow's database was reset, or serves another lake: restore it, or begin with both empty",
        )


def cost(settings: Settings, *parts) -> dict[str, float]:
    """Seconds of GPUs and of threads of search and training; and what they cost, where all that was used has a price."""
    used = {name: round(sum(getattr(part, name) for part in parts), 3) for name in ("gpu_seconds", "cpu_seconds")}
    prices = {"gpu_seconds": settings.gpu_hour_price, "cpu_seconds": settings.cpu_hour_price}
    if all(price is None for price in prices.values()) or any(used[name] and prices[name] is None for name in used):
        return used
    return used | {"cost": round(sum(used[name] * (prices[name] or 0.0) for name in used) / 3600, 6)}


def _clear(lake: Lake, line: str, key: str) -> None:
    """Delete checkpoints, trials of a search, and rows for workers elsewhere."""
    for info in lake.objects.list(f"{line}/trainings/{key}/"):
        lake.objects.delete(info.key)


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
    tags["way_reason"] = note["reason"]
    tags |= {name: str(value) for name, value in note.get("environment", {}).items() if value is not None}
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
