"""Whether predictions mean what they say: by deciles of the prediction, what was predicted against what came."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BINS = 10


@dataclass(frozen=True)
class Bin:
    """Rows of about equal predictions.

    Attributes:
        rows: their number.
        low, high: their least and largest prediction.
        predicted: mean prediction.
        observed: share of positives (of right answers, for several classes), or the mean label.
    """

    rows: int
    low: float
    high: float
    predicted: float
    observed: float


@dataclass(frozen=True)
class Calibration:
    """The reliability table and its summary.

    Attributes:
        error: expected calibration error: the mean over rows of |observed - predicted| of a row's bin; a
            probability, for a regression in the label's units.
        bins: from the lowest predictions to the highest; the mean residual is `observed - predicted`.
    """

    error: float
    bins: tuple[Bin, ...]


def calibration(y: np.ndarray, p: np.ndarray, *, bins: int = BINS) -> Calibration:
    """Reliability by quantiles of the prediction, equal predictions in one bin.

    The expected calibration error with bins of equal mass: M. P. Naeini, G. F. Cooper and M.
    Hauskrecht, 'Obtaining Well Calibrated Probabilities Using Bayesian Binning', AAAI 2015. Of
    several classes the most probable one counts: C. Guo et al., 'On Calibration of Modern Neural
    Networks', ICML 2017.

    Limitation: a model of the median (reg:absoluteerror) does not predict means, so that its
    residuals need not be zero even where it is right.

    Args:
        y: labels, shape (n,): 0 and 1, a number, or a class's index.
        p: predictions, shape (n,), or (n, classes).
        bins: as many, fewer where predictions are equal.
    """
    y, p = np.asarray(y, dtype=np.float64), np.asarray(p, dtype=np.float64)
    if p.ndim == 2:
        y, p = (p.argmax(axis=1) == y).astype(np.float64), p.max(axis=1)
    if not len(p):
        return Calibration(float("nan"), ())
    edges = np.quantile(p, np.arange(1, bins) / bins)
    _, home = np.unique(np.searchsorted(edges, p, side="left"), return_inverse=True)
    counts = np.bincount(home)
    predicted = np.bincount(home, weights=p) / counts
    observed = np.bincount(home, weights=y) / counts
    order = np.argsort(home, kind="stable")
    starts = np.cumsum(counts) - counts
    lows, highs = np.minimum.reduceat(p[order], starts), np.maximum.reduceat(p[order], starts)
    error = float((counts * np.abs(observed - predicted)).sum() / counts.sum())
    table = zip(counts, lows, highs, predicted, observed, strict=True)
    return Calibration(error, tuple(Bin(int(row[0]), *map(float, row[1:])) for row in table))
