"""A version trained again from what it pinned, and compared. Nothing is registered, nothing is written to the lake."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from tasks.domain import tables
from tasks.domain.reproduction import Comparison, Difference, ReproductionVerdict, differences, verdict
from tasks.domain.results import FeaturizeResult, Result, TrainingPin
from tasks.domain.spec import PipelineSpec
from tasks.errors import ReproductionError, VacuumedError
from tasks.fit import Fitted, fit
from tasks.labelled import labelled_rows, training_key
from tasks.lake import Lake
from tasks.lake.versions import load_version
from tasks.spans import join_here, window_of

if TYPE_CHECKING:
    from tasks.settings import Settings

TOLERANCE = 1e-3
"""How far two predictions of one row may lie apart, where the bytes can't be the same: of probabilities as they are,
of other values times the standard deviation of the holdout's labels."""


@dataclass(frozen=True)
class ReproduceResult(Result):
    """`reproduce`: a version, and the same training done again.

    Attributes:
        verdict, reason: see `tasks.domain.reproduction.verdict`.
        recorded, digest: SHA-256 of the version's bytes, and of those that came out now.
        commits: checked out then and now; None where that is not known.
        differences: of the environments.
        metric: the gate's, on the holdout, of the recorded model and of the one that came out now.
    """

    pipeline: str
    version: int
    training: str
    verdict: ReproductionVerdict
    reason: str
    recorded: str
    digest: str
    commits: tuple[str | None, str | None]
    differences: tuple[Difference, ...]
    comparison: Comparison
    metric: str
    values: tuple[float, float]
    rows: int
    seconds: float


def reproduce(
    *,
    spec: PipelineSpec,
    version: int,
    lake: Lake,
    settings: Settings,
    tolerance: float = TOLERANCE,
    say: Callable[[str], None] = lambda text: None,
) -> ReproduceResult:
    """Train a version again, by the spec, windows and snapshots of its descriptor, in one process.

    Args:
        spec: the pipeline as it is today: says where the version lies, and stands in for the spec of a version that
            was trained before specs were recorded, if it gives the same training.
        settings: of this machine; a version of one worker is trained with as many threads as it was.

    Raises:
        NotFoundError: there is no such version.
        ReproductionError: data of a pinned snapshot is no longer kept, or what it was trained by is not known.
    """
    from tasks.compute.machine import free_memory
    from tasks.compute.scratch import scratch

    descriptor = load_version(lake, spec.line, version)
    then = _environment(descriptor)
    recorded, pin, features = _recorded_spec(spec, descriptor), recorded_pin(descriptor), _features(descriptor)
    started = time.monotonic()
    try:
        _check_inputs(recorded, pin, features, descriptor, lake)
        with scratch(settings.home / "cache" / "train") as folder:
            window = window_of(recorded, pin, features, lake)
            rows = join_here(window, lake, folder, threads=settings.threads, memory=free_memory() // 2)
            say(f"{rows.seen.rows} labelled rows of {pin.train[0]} to {pin.train[1]}")
            fitted = fit(
                spec=_as_trained(recorded, descriptor, then),
                rows=rows,
                folder=folder,
                settings=_as_set(settings, then),
                say=say,
                keep=None,
            )
        seconds = round(time.monotonic() - started, 3)
        holdout = labelled_rows(
            recorded, pin, features, pin.view, pin.holdout, lake, tuple(descriptor["classes"])
        ).table
    except VacuumedError as error:
        raise ReproductionError(
            f"{spec.pipeline} {version} can't be trained again: {error.table}@{error.version} was in part replaced on {error.replaced or 'an unknown day'} and vacuumed since (the table's last mark is of {error.vacuumed})",
            hint="the training data of the latest champions only is kept longer than history_days; its predictions and provenance stand",
        ) from error
    now = _environment_now(fitted)
    digest = hashlib.sha256(fitted.trained.model).hexdigest()
    comparison, values = _compare(recorded, descriptor, fitted, holdout, lake, settings.threads, tolerance, digest)
    found = differences(then, now)
    said, reason = verdict(found, int(then.get("workers") or 1), comparison)
    return ReproduceResult(
        pipeline=spec.pipeline,
        version=version,
        training=pin.training,
        verdict=said,
        reason=reason,
        recorded=descriptor["digest"],
        digest=digest,
        commits=(then.get("commit"), now["commit"]),
        differences=found,
        comparison=comparison,
        metric=recorded.gate.metric,
        values=values,
        rows=rows.seen.rows,
        seconds=seconds,
    )


def _recorded_spec(spec: PipelineSpec, descriptor: Mapping[str, Any]) -> PipelineSpec:
    values = descriptor.get("spec")
    if values is None:
        return spec
    try:
        return PipelineSpec.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise ReproductionError(
            f"the spec that {spec.pipeline} {descriptor['version']} was trained by is none of this release: {'.'.join(map(str, first['loc']))}: {first['msg']}",
            hint=f"use the release that trained it: commit {_environment(descriptor).get('commit') or 'unknown'}",
        ) from error


def _environment(descriptor: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of the environment that trained a version; a descriptor of an older release knows little."""
    known = {name: descriptor[name] for name in ("device", "way") if name in descriptor}
    return {**descriptor.get("environment", {}), **known}


def _environment_now(fitted: Fitted) -> dict[str, Any]:
    from tasks.compute.same import environment

    trained = fitted.trained
    mine = {"device": trained.device, "way": trained.way, "threads": trained.threads, "workers": trained.workers}
    return environment() | mine


def recorded_pin(descriptor: Mapping[str, Any]) -> TrainingPin:
    """Windows and snapshots that a version was trained from, by its descriptor."""
    return TrainingPin(
        pipeline=descriptor["pipeline"],
        training=descriptor["training"],
        as_of=descriptor["as_of"],
        train=tuple(descriptor["train"]),
        holdout=tuple(descriptor["holdout"]),
        view=descriptor["view"],
        champion=None,
        events=0,
        snapshots=dict(descriptor["inputs"]),
    )


def _features(descriptor: Mapping[str, Any]) -> FeaturizeResult:
    prefix = tables.features(descriptor["pipeline"], "")
    versions = {name: at for name, at in descriptor["inputs"].items() if name.startswith(prefix)}
    return FeaturizeResult(descriptor["pipeline"], versions, (), 0)


def _check_inputs(spec: PipelineSpec, pin: TrainingPin, features: FeaturizeResult, descriptor, lake: Lake) -> None:
    """The training that the spec and the snapshots give is the recorded one, by the digest of all its inputs."""
    if training_key(spec, pin, features, lake) == descriptor["key"]:
        return
    if "spec" in descriptor:
        raise ReproductionError(
            f"{pin.pipeline} {descriptor['version']}: its spec and snapshots no longer give the training {descriptor['key'][:12]}",
            hint="a table's log was changed, or the rules of what is visible: use the release that trained it",
        )
    raise ReproductionError(
        f"{pin.pipeline} {descriptor['version']} was trained before specs were recorded, and today's gives another training",
        hint="put label, parameters and sources of the pipeline's file back to what they were then, and run it again",
    )


def _as_trained(spec: PipelineSpec, descriptor: Mapping[str, Any], then: Mapping[str, Any]) -> PipelineSpec:
    """The spec with the parameters that a search found, the way that was taken, and no GPU where none was used."""
    found = descriptor.get("search", {}).get("params", spec.train.params)
    way = then.get("way")
    changes = {
        "search": None,
        "params": dict(descriptor.get("params", found)),
        "way": way if way in ("single", "external") else "auto",
        "gpus": 0 if then.get("device") == "cpu" else "auto",
    }
    return spec.model_copy(update={"train": spec.train.model_copy(update=changes)})


def _as_set(settings: Settings, then: Mapping[str, Any]) -> Settings:
    """The settings for one process, with the threads of then: how they share the sums is in the bytes."""
    changes: dict[str, Any] = {"dask_scheduler": None, "workers": 1}
    if then.get("threads") and then.get("workers") == 1:
        changes["threads"] = then["threads"]
    return settings.model_copy(update=changes)


def _compare(spec, descriptor, fitted: Fitted, holdout, lake: Lake, threads: int, tolerance: float, digest: str):
    """Both models on the holdout: how far they lie apart, and the gate's metric of each."""
    import numpy as np

    from tasks.compute.encoding import Encoding, encode
    from tasks.compute.metrics import metric
    from tasks.compute.predict import predict

    if not holdout.num_rows:
        raise ReproductionError(
            f"{spec.pipeline} {descriptor['version']}: its holdout {descriptor['holdout']} has no row to compare"
        )
    encoding = Encoding.from_dict(descriptor["encoding"])
    old = predict(lake.get_model(descriptor["digest"]), encode(holdout, encoding), encoding=encoding, threads=threads)
    matrix = encode(holdout, fitted.encoding)
    new = predict(fitted.trained.model, matrix, encoding=fitted.encoding, threads=threads)
    y = holdout["label"].to_numpy()
    if spec.train.objective.startswith("reg:"):
        tolerance *= float(np.std(y))
    largest = float(np.abs(old.astype("float64") - new).max())
    values = tuple(float(metric(spec.gate.metric, y, one)) for one in (old, new))
    return Comparison(digest == descriptor["digest"], largest, tolerance, int(holdout.num_rows)), values
