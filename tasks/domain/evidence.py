"""What a gate saw of challenger and champion, and what the policy makes of it: pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tasks.domain.gate import GateSpec, GuardSpec
from tasks.domain.rebuilt import rebuilt

Verdict = Literal["promote", "keep", "inconclusive"]

WORST = 3
"""Slices that a guard hands over: evidence crosses a task boundary, the whole table lies in the lake."""
POWER = 0.8
"""With this probability a holdout shows an effect of the size that is called the smallest."""


@dataclass(frozen=True)
class DeLong:
    """The interval of the gain in AUC by DeLong's variance, which takes rows for independent, and the p-value."""

    low: float
    high: float
    p: float


@dataclass(frozen=True)
class SliceGain:
    """One slice: a value of the guard's column, and the challenger's gain on its rows with its interval."""

    value: str
    rows: int
    gain: float
    low: float
    high: float


@dataclass(frozen=True)
class Guarded:
    """What one guard saw.

    Attributes:
        slice: the guard's column.
        judged: slices with an interval.
        left_out: slices without one: too few rows, one class, or one day or partition.
        worst: of those that were judged the WORST whose intervals end lowest, the lowest first.
    """

    slice: str
    judged: int
    left_out: int
    worst: tuple[SliceGain, ...]


@dataclass(frozen=True)
class Cost:
    """What scoring with a model takes.

    Attributes:
        ms_per_1000_rows: milliseconds of encoding and predicting.
        model_mb: size of the model, 1,000,000 bytes.
        memory_mb: by how much the process grew while it loaded the model and predicted, 1,000,000 bytes; None
            where the system doesn't tell.
    """

    ms_per_1000_rows: float
    model_mb: float
    memory_mb: float | None


@dataclass(frozen=True)
class Evidence:
    """What a gate saw: challenger and baseline on the same matured holdout.

    Attributes:
        metric: name of the metric compared.
        challenger: its value for the challenger.
        baseline: its value for the champion, or for the best constant when there is none.
        baseline_version: the champion's version, or None for the constant.
        gain: how much better the challenger is (positive is better, whatever the metric's direction).
        low, high: confidence interval of the gain, by a paired bootstrap over whole days, or partitions
            where those are longer (`tasks.domain.blocks`).
        confidence: of that interval, two-sided.
        rows, partitions: size of the holdout.
        holdout: first and last partition key.
        smallest_effect: the smallest true gain above `min_gain` whose interval would have lain above it with
            probability POWER; None where the bootstrap says nothing.
        delong: beside the bootstrap, for auc; None for other metrics.
        calibration, baseline_calibration: expected calibration error; see `tasks.compute.calibration`.
        guards: one for each of the policy's.
        cost: of scoring with the challenger.
    """

    metric: str
    challenger: float
    baseline: float
    baseline_version: int | None
    gain: float
    low: float
    high: float
    confidence: float
    rows: int
    partitions: int
    holdout: tuple[str, str]
    smallest_effect: float | None = None
    delong: DeLong | None = None
    calibration: float | None = None
    baseline_calibration: float | None = None
    guards: tuple[Guarded, ...] = ()
    cost: Cost | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Evidence:
        return rebuilt(cls, values)


@dataclass(frozen=True)
class Decision:
    """What the policy makes of the evidence.

    Attributes:
        verdict: what the evidence says.
        promoted: whether the challenger becomes champion; with manual approval, whether a person is asked.
        reason: in one sentence.
    """

    verdict: Verdict
    promoted: bool
    reason: str


def decide(evidence: Evidence, policy: GateSpec) -> Decision:
    """The verdict on a challenger.

    `promote` when the whole interval of the gain lies above `min_gain`, `keep` when the whole
    interval lies at or below it or a guard or a limit is broken, `inconclusive` otherwise; what an
    undecided comparison does is the policy's choice. A comparison, a guard or a limit without a
    number never promotes.
    """
    against = f"champion {evidence.baseline_version}" if evidence.baseline_version is not None else "the best constant"
    seen = _seen(evidence, policy, against)
    if not _finite(evidence.challenger, evidence.baseline, evidence.gain, evidence.low, evidence.high):
        return Decision("inconclusive", False, f"the comparison gave no number: {seen}")
    better, worse = evidence.low > policy.min_gain, evidence.high <= policy.min_gain
    says = f"better than {against}" if better else f"no better than {against}" if worse else "undecided"
    broken = [*_failed_guards(evidence, policy), *_broken_limits(evidence, policy)]
    if broken:
        return Decision("keep", False, f"{says}, and kept out since {'; '.join(broken)}: {seen}")
    if worse:
        return Decision("keep", False, f"{says}: {seen}")
    if unknown := [*_unknown(evidence, policy)]:
        return Decision("inconclusive", False, f"{says}, but without a number for {', '.join(unknown)}: {seen}")
    if better:
        return Decision("promote", True, f"{says}: {seen}")
    promoted = policy.inconclusive == "promote"
    told = (
        f"undecided, so {'promoted' if promoted else 'kept'} by policy: {seen}; {_could_have_shown(evidence, policy)}"
    )
    return Decision("inconclusive", promoted, told)


def _seen(evidence: Evidence, policy: GateSpec, against: str) -> str:
    seen = (
        f"{evidence.metric} {evidence.challenger:.4f} against {evidence.baseline:.4f} of {against}, "
        f"gain {evidence.gain:+.4f} ({evidence.low:+.4f} to {evidence.high:+.4f} at {evidence.confidence:.0%}) "
        f"on {evidence.rows} rows of {evidence.partitions} partitions"
    )
    idle = [one.slice for one in evidence.guards if not one.judged]
    return seen + (f"; no slice by {' or '.join(idle)} was large enough to judge" if idle else "")


def _could_have_shown(evidence: Evidence, policy: GateSpec) -> str:
    if evidence.smallest_effect is None or not math.isfinite(evidence.smallest_effect):
        return "the holdout is too small to say what it could have shown"
    least = policy.min_gain + evidence.smallest_effect
    return f"a gain of {least:.4f} is the smallest that this holdout would have shown with {POWER:.0%} power"


def _guards(evidence: Evidence, policy: GateSpec) -> Iterator[tuple[GuardSpec, Guarded | None]]:
    found = {one.slice: one for one in evidence.guards}
    for guard in policy.guards:
        yield guard, found.get(guard.slice)


def _failed_guards(evidence: Evidence, policy: GateSpec) -> Iterator[str]:
    for guard, found in _guards(evidence, policy):
        failed = [one for one in (found.worst if found else ()) if one.high < -guard.max_drop]
        if failed:
            named = " and ".join(
                f"{one.value} ({one.gain:+.4f}, {one.low:+.4f} to {one.high:+.4f})" for one in failed[: WORST - 1]
            )
            others = " and others" if len(failed) == WORST else ""
            yield f"guard {guard.slice} failed, worse by more than {guard.max_drop:g} on {named}{others}"


def _broken_limits(evidence: Evidence, policy: GateSpec) -> Iterator[str]:
    for name, limit, found in _limits(evidence, policy):
        if found is not None and found > limit:
            yield f"{name} is {found:.4g}, its limit {limit:g}"


def _unknown(evidence: Evidence, policy: GateSpec) -> Iterator[str]:
    """What the policy asks for and the evidence has no number for."""
    for guard, found in _guards(evidence, policy):
        if found is None or not all(_finite(one.gain, one.low, one.high) for one in found.worst):
            yield f"guard {guard.slice}"
    for name, _, found in _limits(evidence, policy):
        if found is None or not math.isfinite(found):
            yield name


def _limits(evidence: Evidence, policy: GateSpec) -> Iterator[tuple[str, float, float | None]]:
    """(name, limit, what was measured) of each limit that is set."""
    for name, limit in policy.limits.model_dump().items():
        if limit is not None:
            yield name, limit, getattr(evidence.cost, name, None)


def _finite(*numbers: float) -> bool:
    return all(map(math.isfinite, numbers))
