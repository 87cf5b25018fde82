"""DeLong's test of two AUCs on the same rows: evidence beside the block bootstrap, which decides."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np


@dataclass(frozen=True)
class Difference:
    """The challenger's AUC less the champion's, with DeLong's interval.

    Attributes:
        gain: the difference.
        low, high: its interval.
        p: two-sided, of no difference.
    """

    gain: float
    low: float
    high: float
    p: float


def delong(
    y: np.ndarray, p_challenger: np.ndarray, p_champion: np.ndarray, *, confidence: float = 0.95
) -> Difference | None:
    """The difference of two correlated AUCs with the interval of its asymptotic normal law.

    E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson, 'Comparing the Areas under Two or More
    Correlated Receiver Operating Characteristic Curves', Biometrics 44 (1988), in the O(n log n)
    form by midranks of X. Sun and W. Xu, 'Fast Implementation of DeLong's Algorithm for Comparing
    the Areas Under Correlated Receiver Operating Characteristic Curves', IEEE Signal Processing
    Letters 21(11), 2014, equations 4 to 10.

    Limitation: rows count as independent. Rows of a day hang together, so the interval is too
    narrow for a gate; it says how much of the uncertainty is that of the rows alone.

    Args:
        y: labels 0 and 1, shape (n,).
        p_challenger, p_champion: their scores, shape (n,).
        confidence: of the interval, two-sided.

    Returns:
        None where a class has fewer than two rows: there is no variance then.
    """
    positive = np.asarray(y) > 0.5
    m, n = int(positive.sum()), int((~positive).sum())
    if m < 2 or n < 2:
        return None
    aucs, by_positive, by_negative = [], [], []
    for scores in (np.asarray(p_challenger, dtype=np.float64), np.asarray(p_champion, dtype=np.float64)):
        x, other = scores[positive], scores[~positive]
        ranks = midranks(np.concatenate([x, other]))
        aucs.append((ranks[:m].sum() / m - (m + 1) / 2) / n)
        by_positive.append((ranks[:m] - midranks(x)) / n)
        by_negative.append(1 - (ranks[m:] - midranks(other)) / m)
    gain = float(aucs[0] - aucs[1])
    variance = float(
        (by_positive[0] - by_positive[1]).var(ddof=1) / m + (by_negative[0] - by_negative[1]).var(ddof=1) / n
    )
    error, normal = variance**0.5, NormalDist()
    reach = normal.inv_cdf((1 + confidence) / 2) * error
    p = 2 * normal.cdf(-abs(gain) / error) if error > 0 else float(gain == 0)
    return Difference(gain, gain - reach, gain + reach, p)


def midranks(values: np.ndarray) -> np.ndarray:
    """1-based ranks, equal values sharing the mean of theirs; shape as given."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[places]
