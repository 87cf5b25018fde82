"""How well one feature alone tells the label, and how sure that is: a feature that tells nearly all is suspect."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.compute.metrics import metric

LEAST = 10
"""Rows of each class, and twice as many in all, below which nothing can be said."""
_GROUPS = 32
_ERRORS = 3.0
"""Standard errors below the value: among some hundred features hardly one is above its limit by chance."""


@dataclass(frozen=True)
class Strength:
    """What a feature reaches alone: `auc` or `r2`, its value, and the least that it is, with three standard errors."""

    measure: str
    value: float
    least: float


def alone(feature: pa.ChunkedArray, label: np.ndarray, objective: str) -> Strength | None:
    """The strength of one feature; None where there are too few rows to say.

    A number is taken as it is, and, since what it tells may go up and down, in groups of equal size; a
    text by its value. What a group tells comes from the other half of the rows, so that a name for
    every row tells nothing.

    Args:
        feature: texts, numbers or conditions, shape (n,).
        label: 0 and 1, a class's index, or a number, shape (n,).
        objective: XGBoost's. Of several classes, each is told from the others; the mean over rows counts.
    """
    groups, numbers = _grouped(feature)
    if objective.startswith("reg:"):
        return _share(groups, numbers, label)
    found = []
    for one in [1.0] if objective == "binary:logistic" else np.unique(label):
        mine = (label == one).astype(float)
        if min(mine.sum(), len(mine) - mine.sum()) >= LEAST:
            found.append((mine.sum(), *_ranked(groups, numbers, mine)))
    if not found:
        return None
    rows = np.array([item[0] for item in found])
    value, least = (float(rows @ np.array([item[place] for item in found]) / rows.sum()) for place in (1, 2))
    return Strength("auc", value, least)


def _grouped(feature: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray | None]:
    """Each row's group, the missing ones last; and its number, NaN where missing, None for texts."""
    if pa.types.is_string(feature.type):
        codes = pc.fill_null(feature, "\0").dictionary_encode().combine_chunks()
        codes = codes.chunk(0) if isinstance(codes, pa.ChunkedArray) else codes
        return codes.indices.to_numpy(zero_copy_only=False), None
    if pa.types.is_boolean(feature.type):
        feature = feature.cast(pa.int8())
    numbers = feature.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    there = numbers[~np.isnan(numbers)]
    edges = np.unique(np.quantile(there, np.linspace(0, 1, _GROUPS + 1)[1:-1])) if len(there) else np.array([])
    groups = np.searchsorted(edges, numbers, side="right")
    groups[np.isnan(numbers)] = _GROUPS
    return groups, numbers


def _told(groups: np.ndarray, label: np.ndarray) -> np.ndarray:
    """For each row the mean label of its group in the other half of the rows, drawn towards the mean of all."""
    told = np.empty(len(label))
    halves = np.arange(len(label)) % 2
    size = int(groups.max()) + 1
    for half in (0, 1):
        other = halves != half
        count = np.bincount(groups[other], minlength=size)
        total = np.bincount(groups[other], weights=label[other], minlength=size)
        told[~other] = ((total + label.mean()) / (count + 1))[groups[~other]]
    return told


def _ranked(groups: np.ndarray, numbers: np.ndarray | None, label: np.ndarray) -> tuple[float, float]:
    """AUC and the least that it is.

    Source: Hanley and McNeil, The meaning and use of the area under a ROC curve, Radiology 143 (1982).
    """
    found = [_auc(label, _told(groups, label))]
    if numbers is not None:
        there = ~np.isnan(numbers)
        rows = label[there]
        if len(rows) * 2 >= len(label) and min(rows.sum(), len(rows) - rows.sum()) >= LEAST:
            auc, least = _auc(rows, numbers[there])
            found.append((auc, least) if auc >= 0.5 else _auc(rows, -numbers[there]))
    return max(found, key=lambda one: one[1])


def _auc(label: np.ndarray, score: np.ndarray) -> tuple[float, float]:
    auc = metric("auc", label, score)
    ones = label.sum()
    zeros = len(label) - ones
    first, second = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = auc * (1 - auc) + (ones - 1) * (first - auc**2) + (zeros - 1) * (second - auc**2)
    return auc, auc - _ERRORS * float(np.sqrt(max(spread, 0) / (ones * zeros)))


def _share(groups: np.ndarray, numbers: np.ndarray | None, label: np.ndarray) -> Strength | None:
    """The share of the label's variance that the feature tells.

    Source of its standard error: Olkin and Finn, Correlations redux, Psychological Bulletin 118 (1995).
    """
    if len(label) < 2 * LEAST or not label.std():
        return None
    shares = [(1 - float(np.mean((label - _told(groups, label)) ** 2) / label.var()), len(label))]
    if numbers is not None:
        there = ~np.isnan(numbers)
        x, y = numbers[there], label[there]
        if len(x) * 2 >= len(label) and len(x) >= 2 * LEAST and x.std() and y.std():
            shares.append((float(np.corrcoef(x, y)[0, 1] ** 2), len(x)))
    value, rows = max(shares)
    value = max(value, 0.0)
    return Strength("r2", value, value - _ERRORS * float(2 * np.sqrt(value) * (1 - value) / np.sqrt(rows)))
