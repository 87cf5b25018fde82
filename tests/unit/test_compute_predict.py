"""Predictions from a model's bytes."""

from __future__ import annotations

import numpy as np
import pytest
import xgboost

from tasks.compute.encoding import Encoding
from tasks.compute.predict import Predictor, predict
from tasks.errors import DigestError

ENCODING = Encoding(("x", "c"), ("q", "c"), {"c": ("a", "b", "c")})


def _matrix(rows: int = 400) -> np.ndarray:
    random = np.random.default_rng(0)
    matrix = np.column_stack([random.normal(size=rows), random.integers(0, 3, rows)]).astype(np.float32)
    matrix[::7, 0] = np.nan
    matrix[::11, 1] = np.nan
    return matrix


def _model(objective: str, label: np.ndarray, **params) -> tuple[bytes, xgboost.Booster]:
    data = xgboost.QuantileDMatrix(
        _matrix(len(label)),
        label,
        feature_names=list(ENCODING.columns),
        feature_types=list(ENCODING.kinds),
        enable_categorical=True,
    )
    booster = xgboost.train({"objective": objective, "max_depth": 3, "nthread": 1, **params}, data, 5)
    return bytes(booster.save_raw("ubj")), booster


def test_bytes_predict_what_the_booster_predicts():
    matrix = _matrix()
    model, booster = _model("binary:logistic", (np.nan_to_num(matrix[:, 1]) > 1).astype(float))
    expected = booster.predict(
        xgboost.DMatrix(matrix, feature_names=["x", "c"], feature_types=["q", "c"], enable_categorical=True)
    )
    np.testing.assert_allclose(predict(model, matrix, encoding=ENCODING, threads=1), expected, rtol=1e-6)


def test_several_classes_give_a_row_of_probabilities_each():
    model, _ = _model("multi:softprob", np.arange(400) % 4, num_class=4)
    scores = predict(model, _matrix(), encoding=ENCODING, threads=1)
    assert scores.shape == (400, 4)
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)
    assert predict(model, _matrix()[:0], encoding=ENCODING, threads=1).shape == (0, 4)


def test_no_rows_give_no_predictions():
    model, _ = _model("reg:squarederror", np.arange(400.0))
    assert predict(model, np.empty((0, 2), np.float32), encoding=ENCODING, threads=1).shape == (0,)


def test_another_versions_encoding_is_refused():
    model, _ = _model("reg:squarederror", np.arange(400.0))
    for other in (Encoding(("c", "x"), ("c", "q"), {"c": ("a",)}), Encoding(("x", "c"), ("q", "q"), {})):
        with pytest.raises(DigestError, match="not trained with this encoding"):
            predict(model, _matrix(), encoding=other, threads=1)


def test_bytes_that_are_no_model_are_refused():
    with pytest.raises(DigestError, match="9 bytes are no XGBoost model"):
        predict(b"not a one", _matrix(), encoding=ENCODING, threads=1)


def test_contributions_and_bias_sum_to_the_margin(monkeypatch):
    monkeypatch.setattr("tasks.compute.predict._CELLS", 100)  # in many parts
    matrix = _matrix()
    model, booster = _model("binary:logistic", (np.nan_to_num(matrix[:, 1]) > 1).astype(float))
    margin = booster.inplace_predict(matrix, predict_type="margin", validate_features=False)
    found = Predictor(model, encoding=ENCODING, threads=1).contributions(matrix)
    assert found.shape == (400, 3)
    np.testing.assert_allclose(found.sum(axis=1), margin, atol=1e-5)


def test_of_several_classes_the_chosen_ones_margin_is_explained():
    matrix, rows = _matrix(), np.arange(400)
    model, booster = _model("multi:softprob", rows % 4, num_class=4)
    margin = booster.inplace_predict(matrix, predict_type="margin", validate_features=False)
    predictor = Predictor(model, encoding=ENCODING, threads=1)
    chosen = predictor.predict(matrix).argmax(axis=1)
    np.testing.assert_allclose(
        predictor.contributions(matrix, chosen=chosen).sum(axis=1), margin[rows, chosen], atol=1e-5
    )
