"""The best constant of a training's labels, from what each part of its rows says of them: what a first model must beat."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.errors import TrainingError

_COUNTED = ("multi:softprob", "reg:absoluteerror")
"""Objectives whose constant follows from each value's rows, not from the sum."""


@dataclass(frozen=True)
class LabelTotals:
    """What the labels of some rows add up to.

    Attributes:
        rows: how many there are.
        total: their sum.
        values, counts: each value and its rows, for the objectives that need them; else empty.
    """

    rows: int
    total: float
    values: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()


def label_totals(objective: str, y: np.ndarray) -> LabelTotals:
    """The totals of labels, shape (n,), under XGBoost's objective."""
    y = np.asarray(y, dtype=np.float64)
    if objective not in _COUNTED:
        return LabelTotals(len(y), float(y.sum()))
    values, counts = np.unique(y, return_counts=True)
    return LabelTotals(len(y), float(y.sum()), tuple(values.tolist()), tuple(counts.tolist()))


def best_constant(objective: str, parts: Sequence[LabelTotals], *, classes: int = 0) -> float | list[float]:
    """The share of positives, the mean, the median (absolute error); or the classes' shares.

    Args:
        parts: of all rows; for several classes their values are the classes' indices.
        classes: at least so many shares.

    Raises:
        TrainingError: no rows.
    """
    rows = sum(part.rows for part in parts)
    if rows == 0:
        raise TrainingError("no labelled rows: there is no constant to compare with")
    if objective not in _COUNTED:
        return math.fsum(part.total for part in parts) / rows
    values = np.concatenate([part.values for part in parts])
    counts = np.concatenate([part.counts for part in parts])
    if objective == "multi:softprob":
        return (np.bincount(values.astype(np.intp), weights=counts, minlength=classes) / rows).tolist()
    order = np.argsort(values, kind="stable")
    until = np.cumsum(counts[order])
    low, high = (values[order][np.searchsorted(until, place, side="right")] for place in ((rows - 1) // 2, rows // 2))
    return float((low + high) / 2)
