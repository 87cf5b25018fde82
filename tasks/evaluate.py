"""Challenger and champion on the same matured holdout -> evidence, stored under its digest, and a decision.

What crosses the task boundary is small; the tables behind it (calibration, slices) lie in the lake,
in `evidence/<digest>.json`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tasks.domain.blocks import blocks as blocks_of_rows
from tasks.domain.evidence import POWER, WORST, Cost, DeLong, Evidence, Guarded, SliceGain, decide
from tasks.domain.partition import partitions
from tasks.domain.results import EvaluateResult, FeaturizeResult, TrainingPin, TrainResult
from tasks.domain.spec import PipelineSpec
from tasks.driving import driving_values
from tasks.errors import TrainingError
from tasks.lake import Lake
from tasks.lake.versions import load_version

if TYPE_CHECKING:
    from tasks.compute.cost import Inference
    from tasks.compute.slices import Slice

REPEATS = 1000
"""Bootstrap repeats: the interval's ends are known to about a hundredth of its width."""
MOST_LEFT_OUT = 100
"""Slices without an interval that are listed by name; of a column with many rare values the others are counted."""
SHORT = 26
"""Characters of a slice's value, as JSON, that cross the task boundary."""


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
    import numpy as np

    from tasks.compute.calibration import calibration
    from tasks.compute.delong import delong
    from tasks.compute.metrics import metric, paired_block_bootstrap, smallest_effect

    challenger = load_version(lake, spec.line, trained.model.version)
    champion = load_version(lake, spec.line, pin.champion.version) if pin.champion else None
    _check_unseen(spec, pin, champion)
    classes = tuple(challenger["classes"])
    mine = holdout(trained.model.view, classes).table
    if not mine.num_rows:
        raise TrainingError(
            f"{spec.pipeline} {pin.training}: the holdout {pin.holdout[0]} to {pin.holdout[1]} has no labelled row"
        )
    y = mine["label"].to_numpy()
    ours, cost = _scores(mine, challenger, lake, threads)
    theirs, champions_cost = _baseline(spec, pin, mine, challenger, champion, holdout, lake, threads)
    keys = mine["partition_key"].to_pylist()
    blocks = np.array(blocks_of_rows(spec, keys), dtype=object)
    name, confidence = spec.gate.metric, spec.gate.confidence
    gain = paired_block_bootstrap(
        name, y, ours, theirs, blocks, repeats=REPEATS, confidence=confidence, seed=spec.train.seed
    )
    rows_alone = delong(y, ours, theirs, confidence=confidence) if name == "auc" else None
    reliable, champions = calibration(y, ours), calibration(y, theirs)
    slices = _slices(spec, pin, trained.model.view, mine, y, ours, theirs, blocks, lake)
    evidence = Evidence(
        metric=name,
        challenger=float(metric(name, y, ours)),
        baseline=float(metric(name, y, theirs)),
        baseline_version=pin.champion.version if pin.champion else None,
        gain=float(gain.gain),
        low=float(gain.low),
        high=float(gain.high),
        confidence=confidence,
        rows=int(mine.num_rows),
        partitions=len(set(keys)),
        holdout=pin.holdout,
        smallest_effect=_rounded(smallest_effect(gain, power=POWER)),
        delong=DeLong(*(_rounded(one) for one in (rows_alone.low, rows_alone.high, rows_alone.p)))
        if rows_alone
        else None,
        calibration=_rounded(reliable.error),
        baseline_calibration=_rounded(champions.error),
        guards=tuple(_guarded(column, found) for column, found in slices.items()),
        cost=_cost(cost),
    )
    stored = {
        "pipeline": spec.pipeline,
        "training": pin.training,
        "challenger": trained.model.version,
        "evidence": evidence.to_dict(),
        "blocks": gain.blocks,
        "policy": spec.gate.model_dump(mode="json"),
        "snapshots": pin.snapshots | features.versions,
        "calibration": {"challenger": asdict(reliable), "baseline": asdict(champions)},
        "cost": {"challenger": asdict(cost), "baseline": asdict(champions_cost) if champions_cost else None},
        "slices": {column: _table(found) for column, found in slices.items()},
    }
    text = json.dumps(stored, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    digest = hashlib.sha256(text).hexdigest()
    lake.objects.put_if_absent(f"evidence/{digest}.json", text)
    return EvaluateResult(spec.pipeline, pin.training, digest, evidence, decide(evidence, spec.gate))


def _check_unseen(spec: PipelineSpec, pin: TrainingPin, champion: dict[str, Any] | None) -> None:
    if champion and spec.partition(champion["train"][1]).start >= spec.partition(pin.holdout[0]).start:
        raise TrainingError(
            f"{spec.pipeline} {pin.training}: champion {champion['version']} was trained up to {champion['train'][1]}, inside the holdout that starts on {pin.holdout[0]}",
            hint="trainings go forward in time: train a later interval",
        )


def _scores(rows, descriptor: dict[str, Any], lake: Lake, threads: int):
    """The predictions of a model, and what they took."""
    from tasks.compute.cost import predict_measured
    from tasks.compute.encoding import Encoding

    encoding = Encoding.from_dict(descriptor["encoding"])
    return predict_measured(lake.get_model(descriptor["digest"]), rows, encoding=encoding, threads=threads)


def _baseline(spec, pin, mine, challenger, champion, holdout, lake, threads):
    """The champion's scores of the very same rows, or the best constant of the training data, which takes nothing."""
    import numpy as np

    if champion is None:
        constant = np.asarray(challenger["constant"], dtype="float64")
        return np.broadcast_to(constant, (mine.num_rows, *constant.shape)).copy(), None
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


def _slices(
    spec: PipelineSpec, pin: TrainingPin, view: str, rows, y, ours, theirs, blocks, lake: Lake
) -> dict[str, list[Slice]]:
    """Each guard's column -> its slices; the columns are read once."""
    guards = spec.gate.guards
    if not guards:
        return {}
    from tasks.compute.slices import slice_gains

    values = driving_values(
        spec=spec,
        view=view,
        partitions=partitions(*(spec.partition(key) for key in pin.holdout)),
        rows=rows,
        columns=[guard.slice for guard in guards],
        snapshots=pin.snapshots,
        lake=lake,
    )
    return {
        guard.slice: slice_gains(
            spec.gate.metric,
            y,
            ours,
            theirs,
            blocks,
            values[guard.slice],
            min_rows=guard.min_rows,
            repeats=REPEATS,
            confidence=spec.gate.confidence,
            seed=spec.train.seed,
        )
        for guard in guards
    }


def _guarded(column: str, slices: list[Slice]) -> Guarded:
    """What crosses the task boundary of a column's slices."""
    judged = sorted((one for one in slices if one.gain), key=lambda one: one.gain.high)
    worst = (
        SliceGain(_short(one.value), one.rows, *(_rounded(n) for n in (one.gain.gain, one.gain.low, one.gain.high)))
        for one in judged[:WORST]
    )
    return Guarded(column, len(judged), len(slices) - len(judged), tuple(worst))


def _table(slices: list[Slice]) -> dict[str, Any]:
    """What the lake keeps of them: every slice that was judged, and the largest of the others."""
    from tasks.compute.metrics import smallest_effect

    judged = [
        {
            "value": one.value,
            "rows": one.rows,
            "challenger": one.challenger,
            "baseline": one.champion,
            **asdict(one.gain),
            "smallest_effect": smallest_effect(one.gain, power=POWER),
        }
        for one in slices
        if one.gain
    ]
    others = [{"value": one.value, "rows": one.rows, "why": one.why} for one in slices if not one.gain]
    rest = others[MOST_LEFT_OUT:]
    return {
        "judged": judged,
        "not_judged": others[:MOST_LEFT_OUT],
        "others": {"slices": len(rest), "rows": sum(one["rows"] for one in rest)},
    }


def _cost(found: Inference) -> Cost:
    memory = None if found.memory_bytes is None else _rounded(found.memory_bytes / 1e6)
    return Cost(_rounded(found.ms_per_1000_rows), found.model_bytes / 1e6, memory)


def _rounded(number: float | None) -> float | None:
    """To six digits behind the point: results between tasks are small."""
    return None if number is None else round(float(number), 6)


def _short(value: str | None) -> str:
    """A value's beginning, as long as its JSON is short; null for none."""
    if value is None:
        return "null"
    if len(json.dumps(value)) <= SHORT:
        return value
    while len(json.dumps(value)) > SHORT - 1:
        value = value[:-1]
    return value + "~"
