"""The best constant, from what parts of the labels add up to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.compute.constant import best_constant, label_totals
from tasks.errors import TrainingError


def _constant(objective: str, *parts: list[float], classes: int = 0):
    return best_constant(objective, [label_totals(objective, np.array(part)) for part in parts], classes=classes)


@pytest.mark.parametrize(
    ("objective", "expected"), [("binary:logistic", 2.5), ("reg:squarederror", 2.5), ("reg:absoluteerror", 1.0)]
)
def test_the_constant_is_the_best_one_for_the_objective(objective, expected):
    assert _constant(objective, [0, 1, 1, 8.0]) == expected


def test_the_constant_of_several_classes_is_their_shares():
    assert _constant("multi:softprob", [0, 2], [2, 0], classes=4) == [0.5, 0, 0.5, 0]


def test_no_labels_have_no_constant():
    with pytest.raises(TrainingError, match="no labelled rows"):
        _constant("reg:squarederror", [])


@given(st.lists(st.lists(st.integers(-40, 40).map(lambda n: n / 4), max_size=9), min_size=1).filter(any))
def test_however_the_labels_are_divided_the_constant_is_that_of_all(parts):
    labels = np.concatenate([np.array(part) for part in parts])
    assert _constant("reg:absoluteerror", *parts) == np.median(labels)
    assert _constant("reg:squarederror", *parts) == labels.mean()
