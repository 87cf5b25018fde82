"""What the evidence is made of: DeLong, calibration, slices, the smallest effect, the cost of scoring."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from tasks.compute.calibration import calibration
from tasks.compute.cost import predict_measured
from tasks.compute.delong import delong, midranks
from tasks.compute.encoding import encode, fit_encoding
from tasks.compute.metrics import Gain, metric, paired_block_bootstrap, smallest_effect
from tasks.compute.predict import predict
from tasks.compute.slices import MOST, slice_gains


def two_models(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels and two related scores with ties."""
    random = np.random.default_rng(seed)
    y = (random.random(rows) < 0.3).astype(float)
    shared = random.normal(y, 1.5)
    return y, *(np.round(shared + random.normal(0, 1, rows), 1) for _ in "ab")


def by_definition(y: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """DeLong's difference and its standard error from all pairs, as the paper of 1988 defines them."""
    fields = []
    for score in (a, b):
        high, low = score[y > 0][:, None], score[y == 0][None, :]
        fields.append((high > low) + (high == low) / 2)
    by_positive = np.cov([field.mean(axis=1) for field in fields])
    by_negative = np.cov([field.mean(axis=0) for field in fields])
    covariance = by_positive / (y > 0).sum() + by_negative / (y == 0).sum()
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    return fields[0].mean() - fields[1].mean(), variance**0.5


@pytest.mark.parametrize("seed", range(5))
def test_the_fast_delong_is_the_one_of_the_definition(seed):
    y, a, b = two_models(300, seed)
    gain, error = by_definition(y, a, b)
    found = delong(y, a, b, confidence=0.9)
    assert found.gain == pytest.approx(gain) == pytest.approx(metric("auc", y, a) - metric("auc", y, b))
    reach = NormalDist().inv_cdf(0.95) * error
    assert (found.low, found.high) == pytest.approx((gain - reach, gain + reach))
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(gain) / error))


def test_midranks_are_scipys():
    values = np.random.default_rng(1).integers(0, 9, 50)
    np.testing.assert_array_equal(midranks(values), stats.rankdata(values))


def test_delong_of_equal_models_finds_no_difference_and_of_one_positive_says_nothing():
    y, a, _ = two_models(60, 1)
    assert (delong(y, a, a).gain, delong(y, a, a).p) == (0, 1)
    assert delong(np.array([1.0, 0, 0, 0]), np.arange(4.0), np.arange(4.0)) is None


def test_rows_that_hang_together_make_the_block_bootstraps_interval_wider_than_delongs():
    """Each day has one truth and one error of the challenger: 4,000 rows are 20 observations."""
    random = np.random.default_rng(3)
    blocks = np.repeat(np.arange(20), 200)
    y = (random.random(4000) < np.repeat(random.uniform(0.1, 0.5, 20), 200)).astype(float)
    champion = y + random.normal(0, 2, 4000)
    challenger = champion + np.repeat(random.normal(0, 1, 20), 200)
    blocked = paired_block_bootstrap("auc", y, challenger, champion, blocks, seed=1)
    alone = delong(y, challenger, champion)
    assert blocked.gain == pytest.approx(alone.gain)
    assert blocked.high - blocked.low > 1.5 * (alone.high - alone.low)


def test_a_calibrated_model_has_a_small_error_and_a_boastful_one_the_error_of_its_boast():
    random = np.random.default_rng(5)
    p = random.uniform(0.1, 0.6, 20_000)
    y = (random.random(20_000) < p).astype(float)
    honest, boastful = calibration(y, p), calibration(y, p + 0.3)
    assert honest.error < 0.02 and boastful.error == pytest.approx(0.3, abs=0.02)
    assert [one.rows for one in honest.bins] == [2000] * 10
    for one in boastful.bins:
        assert one.predicted - one.observed == pytest.approx(0.3, abs=0.05) and one.low <= one.predicted <= one.high


def test_equal_predictions_share_a_bin():
    (one,) = calibration(np.array([1.0, 0, 0, 0]), np.full(4, 0.25)).bins
    assert (one.rows, one.predicted, one.observed) == (4, 0.25, 0.25)
    halves = calibration(np.r_[np.zeros(50), np.ones(50)], np.r_[np.full(50, 0.2), np.full(50, 0.7)])
    assert [(one.rows, one.observed) for one in halves.bins] == [(50, 0), (50, 1)]
    assert halves.error == pytest.approx((0.2 + 0.3) / 2)


def test_a_regressions_table_tells_mean_residuals_and_several_classes_how_often_the_likeliest_was_right():
    p = np.arange(100.0)
    table = calibration(p + 2, p)
    assert [one.observed - one.predicted for one in table.bins] == pytest.approx([2] * 10)
    shares = np.array([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7], [0.2, 0.7, 0.1], [0.7, 0.3, 0.0]])
    (one,) = calibration(np.array([0, 2, 1, 1]), shares).bins
    assert (one.rows, one.observed, one.predicted) == (4, 0.75, pytest.approx(0.7))


def slices(values, **changes):
    y, a, b = two_models(len(values), 2)
    blocks = np.arange(len(values)) % 7
    options = {"min_rows": 100, "repeats": 200, "confidence": 0.95, "seed": 1, **changes}
    return (y, a, b, blocks), slice_gains("auc", y, a, b, blocks, pa.array(values), **options)


def test_a_slice_has_the_gain_of_its_rows_alone():
    values = np.random.default_rng(4).choice(["EWR", "JFK"], 800, p=[0.7, 0.3])
    (y, a, b, blocks), found = slices(values)
    assert [one.value for one in found] == ["EWR", "JFK"]  # the larger one first
    for one in found:
        rows = values == one.value
        again = paired_block_bootstrap("auc", y[rows], a[rows], b[rows], blocks[rows], repeats=200, seed=1)
        assert (one.rows, one.gain) == (rows.sum(), again)
        assert one.challenger - one.champion == pytest.approx(again.gain)


def test_what_cannot_be_judged_is_listed_with_the_reason():
    values = ["rare"] * 99 + [None] * 101 + [True] * 0 + ["much"] * 400
    _, found = slices(values)
    assert [(one.value, one.rows, one.why) for one in found if one.gain is None] == [
        ("rare", 99, "fewer than 100 rows")
    ]
    assert [one.value for one in found if one.gain] == ["much", None]
    y, a, b = two_models(300, 1)
    blocks = np.arange(300) % 5
    options = {"min_rows": 1, "repeats": 50, "confidence": 0.9, "seed": 1}
    (one,) = slice_gains("auc", np.zeros(300), a, b, blocks, pa.array(["x"] * 300), **options)
    assert one.gain is None and one.why == "auc has no value on it: its labels are of one class"
    (one,) = slice_gains("auc", y, a, b, np.zeros(300), pa.array(["x"] * 300), **options)
    assert one.gain is None and one.why.startswith("it lies in one day or partition")


def test_of_very_many_slices_the_largest_are_judged():
    values = np.repeat(np.arange(MOST + 5), 5)[: 5 * (MOST + 5) - 1]  # the last value has one row less
    _, found = slices(values, min_rows=1, repeats=2)
    left = [one.value for one in found if one.why == f"not among the {MOST} largest"]
    assert len(found) == MOST + 5 and len(left) == 5 and str(MOST + 4) in left


def test_an_effect_of_the_smallest_size_is_shown_in_four_of_five_holdouts():
    """The formula against what it promises: many holdouts whose true gain is the smallest effect of the first."""
    random = np.random.default_rng(8)
    blocks, y = np.repeat(np.arange(40), 5), np.zeros(200)

    def judged(effect: float) -> Gain:
        theirs = 5 + np.repeat(random.normal(0, 1, 40), 5)
        ours = theirs - effect - np.repeat(random.normal(0, 1, 40), 5)
        return paired_block_bootstrap("mae", y, ours, theirs, blocks, repeats=200, seed=1)

    effect = np.mean([smallest_effect(judged(0), power=0.8) for _ in range(50)])
    shown = np.mean([judged(effect).low > 0 for _ in range(400)])
    assert 0.74 < shown < 0.88  # 0.80, give or take the bootstrap's lean intervals and four standard errors


def test_one_block_has_no_smallest_effect():
    gain = paired_block_bootstrap("mae", np.zeros(5), np.zeros(5), np.ones(5), np.array(["a"] * 5), seed=1)
    assert gain.error is None and smallest_effect(gain, power=0.8) is None


def test_measured_predictions_are_the_predictions_and_a_larger_model_costs_more():
    import xgboost

    random = np.random.default_rng(6)
    table = pa.table({"x": random.random(3000), "z": random.random(3000)})
    encoding = fit_encoding(table, ["x", "z"])
    matrix = xgboost.DMatrix(
        encode(table, encoding),
        label=(table["x"].to_numpy() > table["z"].to_numpy()).astype(float),
        feature_names=list(encoding.columns),
        feature_types=list(encoding.kinds),
    )
    costs = []
    for rounds, depth in ((2, 2), (300, 8)):
        params = {"objective": "binary:logistic", "max_depth": depth, "nthread": 1}
        model = bytes(xgboost.train(params, matrix, num_boost_round=rounds).save_raw("ubj"))
        scores, cost = predict_measured(model, table, encoding=encoding, threads=1)
        np.testing.assert_array_equal(scores, predict(model, encode(table, encoding), encoding=encoding, threads=1))
        assert cost.model_bytes == len(model) and cost.memory_bytes >= 0
        costs.append(cost)
    assert costs[1].ms_per_1000_rows > 2 * costs[0].ms_per_1000_rows > 0
    assert costs[1].model_bytes > 10 * costs[0].model_bytes
