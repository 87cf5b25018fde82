"""Metrics, the paired block bootstrap and the constant baseline, against scikit-learn and the definition."""

from __future__ import annotations

import time

import numpy as np
import pytest
from sklearn import metrics as reference

from tasks.compute.metrics import (
    UNBOUNDED,
    higher_is_better,
    metric,
    paired_block_bootstrap,
)
from tasks.errors import TrainingError


@pytest.fixture
def binary() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(7)
    y = (random.random(2000) < 0.3).astype(float)
    return y, np.round(random.random(2000) * 0.7 + y * 0.3, 2)


def test_auc_with_ties_equals_scikit_learns(binary):
    assert metric("auc", *binary) == pytest.approx(reference.roc_auc_score(*binary), abs=1e-12)


def test_logloss_and_accuracy_equal_scikit_learns(binary):
    y, p = binary
    p = np.clip(p, 0.01, 0.99)
    assert metric("logloss", y, p) == pytest.approx(reference.log_loss(y, p))
    assert metric("accuracy", y, p) == reference.accuracy_score(y, p > 0.5)


def test_regression_metrics_equal_scikit_learns(binary):
    y, p = binary
    assert metric("rmse", y, p) == pytest.approx(reference.root_mean_squared_error(y, p))
    assert metric("mae", y, p) == pytest.approx(reference.mean_absolute_error(y, p))


def test_metrics_of_several_classes_equal_scikit_learns():
    random = np.random.default_rng(3)
    y, p = random.integers(0, 4, 500), random.dirichlet(np.ones(4), 500)
    assert metric("mlogloss", y, p) == pytest.approx(reference.log_loss(y, p, labels=range(4)))
    assert metric("accuracy", y, p) == reference.accuracy_score(y, p.argmax(axis=1))


def test_certainty_in_the_wrong_class_costs_much_but_not_without_end():
    assert np.isfinite(metric("logloss", np.array([1.0]), np.array([0.0])))
    assert np.isfinite(metric("mlogloss", np.array([1]), np.array([[1.0, 0.0]])))


def test_auc_of_one_class_has_no_value():
    assert np.isnan(metric("auc", np.ones(3), np.arange(3.0)))


def test_an_unknown_metric_and_unequal_lengths_are_refused():
    with pytest.raises(TrainingError, match="no metric 'f1'"):
        higher_is_better("f1")
    with pytest.raises(TrainingError, match="3 labels but 2 predictions"):
        metric("auc", np.ones(3), np.ones(2))


def _naive(name, y, a, b, blocks, repeats, seed):
    """The bootstrap by its definition: rows gathered for each draw."""
    names = np.unique(blocks)
    count = len(names)
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=repeats)
    sign = 1 if higher_is_better(name) else -1
    gains = []
    for draw in draws:
        rows = np.concatenate(
            [np.flatnonzero(blocks == key) for key, n in zip(names, draw, strict=True) for _ in range(n)]
        )
        gains.append(sign * (metric(name, y[rows], a[rows]) - metric(name, y[rows], b[rows])))
    return np.quantile(gains, [0.025, 0.975])


@pytest.mark.parametrize("name", ["auc", "logloss", "rmse", "mae", "accuracy"])
def test_the_interval_is_the_one_of_the_definition(name, binary):
    y, p = binary
    other = np.clip(p + np.random.default_rng(1).normal(0, 0.2, len(p)), 0, 1)
    blocks = np.array([f"2013-11-{day:02d}" for day in np.random.default_rng(2).integers(1, 15, len(y))])
    gain = paired_block_bootstrap(name, y, p, other, blocks, repeats=40, seed=5)
    np.testing.assert_allclose([gain.low, gain.high], _naive(name, y, p, other, blocks, 40, 5), atol=1e-12)
    assert gain.low <= gain.high and gain.blocks == 14 and gain.repeats == 40


def test_a_better_challenger_has_a_positive_gain_whatever_the_direction(binary):
    y, _ = binary
    blocks = np.arange(len(y)) % 10
    good, bad = np.where(y > 0, 0.8, 0.2), np.full(len(y), 0.3)
    for name in ("auc", "logloss", "rmse", "mae", "accuracy"):
        gain = paired_block_bootstrap(name, y, good, bad, blocks, seed=1)
        assert gain.low > 0, name
        assert paired_block_bootstrap(name, y, bad, good, blocks, seed=1).high < 0, name


def test_equal_models_have_no_gain_at_all(binary):
    y, p = binary
    gain = paired_block_bootstrap("auc", y, p, p, np.arange(len(y)) % 9, seed=1)
    assert (gain.gain, gain.low, gain.high) == (0, 0, 0)


def test_the_same_seed_gives_the_same_interval(binary):
    y, p = binary
    args = ("logloss", y, np.clip(p, 0.1, 0.9), np.full(len(y), 0.3), np.arange(len(y)) % 9)
    assert paired_block_bootstrap(*args, seed=4) == paired_block_bootstrap(*args, seed=4)
    assert paired_block_bootstrap(*args, seed=4) != paired_block_bootstrap(*args, seed=5)


def test_one_block_says_nothing():
    gain = paired_block_bootstrap("mae", np.zeros(5), np.zeros(5), np.ones(5), np.array(["a"] * 5), seed=1)
    assert (gain.gain, gain.low, gain.high) == (1, -UNBOUNDED, UNBOUNDED)


def test_draws_without_a_positive_label_are_left_out():
    y = np.array([1.0, 0, 0, 0, 0, 0])
    p = np.array([0.9, 0.1, 0.2, 0.3, 0.4, 0.5])
    gain = paired_block_bootstrap("auc", y, p, 1 - p, np.array([0, 0, 1, 1, 2, 2]), seed=1)
    assert 0 < gain.repeats < 1000 and gain.low > 0


def test_a_holdout_of_one_class_or_without_rows_is_refused():
    with pytest.raises(TrainingError, match="auc has no value on 4 holdout rows"):
        paired_block_bootstrap("auc", np.zeros(4), np.arange(4.0), np.arange(4.0), np.arange(4), seed=1)
    with pytest.raises(TrainingError, match="no value on 0 holdout rows"):
        paired_block_bootstrap("mae", np.array([]), np.array([]), np.array([]), np.array([]), seed=1)


def test_a_thousand_repeats_over_a_months_flights_take_seconds_at_most():
    random = np.random.default_rng(0)
    y = (random.random(27_000) < 0.2).astype(float)
    blocks = np.array([f"2013-11-{day:02d}" for day in random.integers(1, 29, len(y))])
    started = time.monotonic()
    paired_block_bootstrap("auc", y, random.random(len(y)), random.random(len(y)), blocks, seed=1)
    assert time.monotonic() - started < 5
