"""Metrics, the paired test of two models, and the constant that a first model must beat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from tasks.errors import TrainingError

UNBOUNDED = 1e9
"""Stands for 'no bound' in an interval; finite, because evidence is JSON, which has no infinity."""

_TINY = 1e-7


@dataclass(frozen=True)
class Gain:
    """How much better one model is than another on the same rows.

    Attributes:
        gain: difference of the metric, positive when the challenger is better.
        low, high: its confidence interval.
        confidence: of the interval, two-sided.
        blocks: how many blocks were resampled.
        repeats: how many resamples gave a value.
        error: standard error of the gain, the deviation of the resamples; None where there were less than two.
    """

    gain: float
    low: float
    high: float
    confidence: float
    blocks: int
    repeats: int
    error: float | None = None


@dataclass(frozen=True)
class Value:
    """A metric's value and its confidence interval."""

    value: float
    low: float
    high: float


def higher_is_better(name: str) -> bool:
    """Whether a larger value of the metric is a better one."""
    _known(name)
    return name in ("auc", "accuracy")


def metric(name: str, y: np.ndarray, p: np.ndarray) -> float:
    """The value of a metric.

    Args:
        name: auc, logloss, rmse, mae, mlogloss or accuracy.
        y: labels, shape (n,): 0 and 1, a number, or a class's index.
        p: predictions, shape (n,), or (n, classes) for mlogloss and the accuracy of several classes.

    Returns:
        The value; NaN for the AUC of labels of one class, and for no rows.
    """
    _known(name)
    y, p = _pair(y, p)
    if len(y) == 0:
        return float("nan")
    if name == "auc":
        won, positives, negatives = _pairs_won(y, p, np.zeros(len(y), dtype=np.intp), 1)
        return float(_ratio(won[0, 0], positives[0] * negatives[0]))
    mean = float(_LOSSES[name](y, p).mean())
    return float(np.sqrt(mean)) if name == "rmse" else mean


def paired_block_bootstrap(
    name: str,
    y: np.ndarray,
    p_challenger: np.ndarray,
    p_champion: np.ndarray,
    blocks: np.ndarray,
    *,
    repeats: int = 1000,
    confidence: float = 0.95,
    seed: int,
) -> Gain:
    """The challenger's gain with its confidence interval, whole blocks resampled.

    Rows of one day share weather, holidays and queues: resampling rows would take them for
    independent and find every difference significant. So blocks are drawn with replacement, the
    same ones for both models, and the interval is that of the percentiles (Efron and Tibshirani,
    An Introduction to the Bootstrap, 1993, chapters 8 and 13).

    Args:
        name: the metric.
        y, p_challenger, p_champion: labels and predictions of the same rows, as in `metric`.
        blocks: of each row, shape (n,): what hangs together, see `tasks.domain.blocks`.
        repeats: number of resamples.
        confidence: of the interval, two-sided.
        seed: of the resampling.

    Returns:
        The gain. With fewer than two blocks nothing can be said: the interval is unbounded.

    Raises:
        TrainingError: no rows, or the metric has no value on them (the AUC of one class).
    """
    _known(name)
    y, p_challenger = _pair(y, p_challenger)
    _, p_champion = _pair(y, p_champion)
    sign = 1.0 if higher_is_better(name) else -1.0
    gain = sign * (metric(name, y, p_challenger) - metric(name, y, p_champion))
    if np.isnan(gain):
        raise TrainingError(
            f"{name} has no value on {len(y)} holdout rows: there must be rows, and for auc both classes",
            hint="lengthen train.holdout, or choose another gate.metric",
        )
    names, block = np.unique(np.asarray(blocks), return_inverse=True)
    count = len(names)
    if count < 2:
        return Gain(gain, -UNBOUNDED, UNBOUNDED, confidence, count, 0)
    draws = _draws(count, repeats, seed)
    gains = sign * (_resampled(name, y, p_challenger, block, draws) - _resampled(name, y, p_champion, block, draws))
    # A draw of days without a positive label has no AUC; it says nothing about the gain.
    gains = gains[~np.isnan(gains)]
    if len(gains) == 0:
        return Gain(gain, -UNBOUNDED, UNBOUNDED, confidence, count, 0)
    low, high = np.quantile(gains, [(1 - confidence) / 2, (1 + confidence) / 2])
    error = float(gains.std(ddof=1)) if len(gains) > 1 else None
    return Gain(gain, float(low), float(high), confidence, count, len(gains), error)


def smallest_effect(gain: Gain, *, power: float) -> float | None:
    """The smallest true effect that the comparison would have shown with probability `power`.

    (z((1 + confidence) / 2) + z(power)) * standard error, z the quantiles of the normal law: the true effect
    must lie so far above what is to be exceeded that the interval's lower end does too, in that share
    of holdouts (H. S. Bloom, 'Minimum Detectable Effects', Evaluation Review 19(5), 1995).

    Returns:
        None where the bootstrap gave no standard error.
    """
    if gain.error is None:
        return None
    normal = NormalDist()
    return (normal.inv_cdf((1 + gain.confidence) / 2) + normal.inv_cdf(power)) * gain.error


def block_bootstrap(
    name: str, y: np.ndarray, p: np.ndarray, blocks: np.ndarray, *, repeats: int, confidence: float, seed: int
) -> Value:
    """The metric of one model with its confidence interval, whole blocks resampled as in `paired_block_bootstrap`.

    Returns:
        The value; with fewer than two blocks the interval is unbounded.
    """
    _known(name)
    y, p = _pair(y, p)
    value = metric(name, y, p)
    names, block = np.unique(np.asarray(blocks), return_inverse=True)
    if len(names) < 2:
        return Value(value, -UNBOUNDED, UNBOUNDED)
    found = _resampled(name, y, p, block, _draws(len(names), repeats, seed))
    found = found[~np.isnan(found)]
    if len(found) == 0:
        return Value(value, -UNBOUNDED, UNBOUNDED)
    low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Value(value, float(low), float(high))


def _draws(count: int, repeats: int, seed: int) -> np.ndarray:
    """How often each of `count` blocks is in each resample, shape (repeats, count)."""
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=repeats)
    return draws.astype(np.float64)


def _resampled(name: str, y: np.ndarray, p: np.ndarray, block: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """The metric's value in each draw, shape (draws,); NaN where it has none.

    No draw touches the rows again: sums by block (for auc, sums by pair of blocks) are enough.
    """
    count = draws.shape[1]
    if name == "auc":
        won, positives, negatives = _pairs_won(y, p, block, count)
        return _ratio(((draws @ won) * draws).sum(axis=1), (draws @ positives) * (draws @ negatives))
    losses = np.bincount(block, weights=_LOSSES[name](y, p), minlength=count)
    means = (draws @ losses) / (draws @ np.bincount(block, minlength=count))
    return np.sqrt(means) if name == "rmse" else means


def _pairs_won(y: np.ndarray, p: np.ndarray, block: np.ndarray, count: int):
    """The Mann-Whitney count by pair of blocks.

    Returns:
        won: shape (count, count); [i, j] counts the pairs of a positive in block i and a negative
            in block j that the score orders rightly, a tie as one half.
        positives, negatives: rows of each class by block, shape (count,).
    """
    positive = y > 0.5
    score, home = p[positive], block[positive]
    # Sorted needles walk through the haystack once: searchsorted is then as fast as a merge.
    order = np.argsort(score, kind="stable")
    score, home = score[order], home[order]
    other, other_home = p[~positive], block[~positive]
    order = np.lexsort((other, other_home))
    other, other_home = other[order], other_home[order]
    edges = np.searchsorted(other_home, np.arange(count + 1))
    won = np.empty((count, count))
    for j in range(count):
        rivals = other[edges[j] : edges[j + 1]]
        beaten = np.searchsorted(rivals, score, "left") + np.searchsorted(rivals, score, "right")
        won[:, j] = np.bincount(home, weights=beaten / 2, minlength=count)
    return won, np.bincount(home, minlength=count).astype(float), np.diff(edges).astype(float)


def _ratio(above, below):
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.asarray(below) > 0, np.divide(above, below), np.nan)


def _logloss(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    p = np.clip(p, _TINY, 1 - _TINY)
    return -(y * np.log(p) + (1 - y) * np.log1p(-p))


def _mlogloss(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    return -np.log(np.clip(p[np.arange(len(y)), y.astype(np.intp)], _TINY, 1))


def _right(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    predicted = p.argmax(axis=1) if p.ndim == 2 else (p > 0.5)
    return (predicted == y).astype(np.float64)


_LOSSES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "logloss": _logloss,
    "rmse": lambda y, p: (y - p) ** 2,
    "mae": lambda y, p: np.abs(y - p),
    "mlogloss": _mlogloss,
    "accuracy": _right,
}
"""Each metric but auc is a mean of these over rows (rmse: the root of one)."""


def _known(name: str) -> None:
    if name != "auc" and name not in _LOSSES:
        raise TrainingError(f"no metric {name!r}", hint=f"expected one of auc, {', '.join(_LOSSES)}")


def _pair(y: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    y, p = np.asarray(y, dtype=np.float64), np.asarray(p, dtype=np.float64)
    if len(y) != len(p):
        raise TrainingError(f"{len(y)} labels but {len(p)} predictions: they are not of the same rows")
    return y, p
