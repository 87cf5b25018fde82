"""Challenger and champion on the same matured holdout -> evidence, stored under its digest, and a decision."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from tasks.domain.promotion import Evidence, ModelRef, decide
from tasks.domain.results import EvaluateResult, FeaturizeResult, TrainingPin, TrainResult
from tasks.domain.spec import PipelineSpec
from tasks.errors import TrainingError
from tasks.lake import Lake

REPEATS = 1000
"""Bootstrap repeats: the interval's ends are known to about a hundredth of its width."""


def evaluate(
    *,
    spec: PipelineSpec,
    pin: TrainingPin,
    features: FeaturizeResult,
    trained: TrainResult,
    holdout,
    lake: Lake,
    threads: int,
) -> EvaluateResult:
    """Judge the challenger on the holdout that neither model was trained on.

    Args:
        holdout: view id, classes -> `tasks.sql.Labelled` rows of the pinned holdout.

    Raises:
        TrainingError: the holdout has no labelled row, or the champion was trained on part of it.
    """
    from tasks.compute.metrics import metric, paired_block_bootstrap

    challenger = _descriptor(spec, trained.model, lake)
    champion = _descriptor(spec, pin.champion, lake) if pin.champion else None
    _check_unseen(spec, pin, champion)
    classes = tuple(challenger["classes"])
    mine = holdout(trained.model.view, classes).table
    if not mine.num_rows:
        raise TrainingError(
            f"{spec.pipeline} {pin.training}: the holdout {pin.holdout[0]} to {pin.holdout[1]} has no labelled row"
        )
    y = mine["label"].to_numpy()
    ours = _scores(mine, challenger, lake, threads)
    theirs = _baseline(spec, pin, mine, challenger, champion, holdout, lake, threads)
    blocks = mine["partition_key"].to_numpy(zero_copy_only=False)
    name = spec.gate.metric
    gain = paired_block_bootstrap(
        name, y, ours, theirs, blocks, repeats=REPEATS, confidence=spec.gate.confidence, seed=spec.train.seed
    )
    evidence = Evidence(
        metric=name,
        challenger=float(metric(name, y, ours)),
        baseline=float(metric(name, y, theirs)),
        baseline_version=pin.champion.version if pin.champion else None,
        gain=float(gain.gain),
        low=float(gain.low),
        high=float(gain.high),
        confidence=spec.gate.confidence,
        rows=int(mine.num_rows),
        partitions=len(set(blocks)),
        holdout=pin.holdout,
    )
    stored = {
        "pipeline": spec.pipeline,
        "training": pin.training,
        "challenger": trained.model.version,
        "evidence": evidence.to_dict(),
        "policy": spec.gate.model_dump(mode="json"),
        "snapshots": pin.snapshots | features.versions,
    }
    text = json.dumps(stored, sort_keys=True, separators=(",", ":")).encode()
    digest = hashlib.sha256(text).hexdigest()
    lake.objects.put_if_absent(f"evidence/{digest}.json", text)
    return EvaluateResult(spec.pipeline, pin.training, digest, evidence, decide(evidence, spec.gate))


def _descriptor(spec: PipelineSpec, model: ModelRef, lake: Lake) -> dict[str, Any]:
    return json.loads(lake.objects.get(f"{spec.line}/versions/{model.version}.json"))


def _check_unseen(spec: PipelineSpec, pin: TrainingPin, champion: dict[str, Any] | None) -> None:
    if champion and spec.partition(champion["train"][1]).start >= spec.partition(pin.holdout[0]).start:
        raise TrainingError(
            f"{spec.pipeline} {pin.training}: champion {champion['version']} was trained up to {champion['train'][1]}, inside the holdout that starts on {pin.holdout[0]}",
            hint="trainings go forward in time: train a later interval",
        )


def _scores(rows, descriptor: dict[str, Any], lake: Lake, threads: int):
    from tasks.compute.encoding import Encoding, encode
    from tasks.compute.predict import predict

    encoding = Encoding.from_dict(descriptor["encoding"])
    return predict(lake.get_model(descriptor["digest"]), encode(rows, encoding), encoding=encoding, threads=threads)


def _baseline(spec, pin, mine, challenger, champion, holdout, lake, threads):
    """The champion's scores of the very same rows, or the best constant of the training data."""
    import numpy as np

    if champion is None:
        constant = np.asarray(challenger["constant"], dtype="float64")
        return np.broadcast_to(constant, (mine.num_rows, *constant.shape)).copy()
    if champion["classes"] != challenger["classes"]:
        raise TrainingError(
            f"{spec.pipeline} {pin.training}: champion {champion['version']} knows other classes than the challenger",
            hint="roll the label back, or start a new pipeline for new classes",
        )
    if champion["view"] == challenger["view"]:
        return _scores(mine, champion, lake, threads)
    rows = holdout(champion["view"], tuple(champion["classes"])).table
    entity = [*spec.entity, "partition_key"]
    if not rows.select(entity).equals(mine.select(entity)):
        raise TrainingError(
            f"{spec.pipeline} {pin.training}: the views of champion and challenger return different rows of the holdout",
            hint="let both feature SQLs keep the same entities",
        )
    return _scores(rows, champion, lake, threads)
