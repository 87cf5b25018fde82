"""Batches in, predictions out: the same whatever the batches, one ahead and no more; and their reasons."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import xgboost

from tasks.compute.ahead import ahead
from tasks.compute.encoding import Encoding, encode
from tasks.compute.predict import Predictor
from tasks.compute.reasons import top_reasons
from tasks.compute.scoring import score_batches

ENCODING = Encoding(("x", "c"), ("q", "c"), {"c": ("a", "b")})
LABELS = ("low", "middle", "high")


@pytest.fixture
def rows() -> pa.RecordBatch:
    x = [None if row % 9 == 0 else row / 10 for row in range(300)]
    ids = [f"id-{row:03}" for row in range(300)]
    return pa.record_batch({"x": pa.array(x), "c": ["ab?"[row % 3] for row in range(300)], "id": ids})


@pytest.fixture
def predictor(rows: pa.RecordBatch) -> Predictor:
    matrix, label = encode(rows, ENCODING), np.arange(300) // 100
    data = xgboost.QuantileDMatrix(
        matrix, label, feature_names=["x", "c"], feature_types=["q", "c"], enable_categorical=True
    )
    params = {"objective": "multi:softprob", "num_class": 3, "max_depth": 3, "nthread": 1}
    model = bytes(xgboost.train(params, data, 4).save_raw("ubj"))
    return Predictor(model, encoding=ENCODING, threads=1)


def scored(rows: pa.RecordBatch, predictor: Predictor, size: int, reasons: int = 0) -> pa.Table:
    parts = ((place, rows.slice(place, size)) for place in range(0, rows.num_rows, size))
    found = list(score_batches(parts, predictor, entity=["id"], classes=LABELS, model_version=7, reasons=reasons))
    assert [place for place, _ in found] == list(range(0, rows.num_rows, size))
    return pa.Table.from_batches([batch for _, batch in found]).combine_chunks()


def test_predictions_do_not_depend_on_the_batches(rows, predictor):
    whole = scored(rows, predictor, 300, reasons=2)
    assert scored(rows, predictor, 7, reasons=2).equals(whole)
    assert whole["id"].to_pylist() == rows["id"].to_pylist()
    assert scored(rows, predictor, 300).equals(whole.drop_columns("reasons"))
    assert whole.column_names == ["id", "score", "predicted", "scores", "reasons", "model_version"]
    for row in whole.to_pylist():
        assert row["predicted"] == LABELS[int(np.argmax(row["scores"]))] and row["score"] == max(row["scores"])


def test_all_reasons_are_the_contributions_of_the_predicted_class(rows, predictor):
    matrix = encode(rows, ENCODING)
    contributions = predictor.contributions(matrix, chosen=predictor.predict(matrix).argmax(axis=1))
    for row, expected, values in zip(
        scored(rows, predictor, 64, reasons=10)["reasons"].to_pylist(), contributions, rows.to_pylist(), strict=True
    ):
        assert {one["feature"]: one["contribution"] for one in row} == {"x": expected[0], "c": expected[1]}
        assert abs(row[0]["contribution"]) >= abs(row[1]["contribution"])
        for one in row:
            value = values[one["feature"]]
            assert one["value"] == (
                value if value is None or isinstance(value, str) else pa.scalar(value).cast("string").as_py()
            )


def test_the_largest_come_first_and_of_equal_ones_the_models_earlier():
    encoding = Encoding(("a", "b", "c"), ("q", "q", "q"), {})
    batch = pa.record_batch({"a": [1, 2], "b": [True, None], "c": pa.array([0.5, 1e20]).dictionary_encode()})
    contributions = np.array([[0.1, -0.9, 0.5, 3], [0.2, 0.2, -0.2, 3]], dtype=np.float32)
    found = top_reasons(contributions, batch, encoding, count=2).to_pylist()
    assert [[(one["feature"], one["value"]) for one in row] for row in found] == [
        [("b", "true"), ("c", "0.5")],
        [("a", "2"), ("b", None)],
    ]
    assert [one["contribution"] for one in found[0]] == pytest.approx([-0.9, 0.5])
    assert top_reasons(contributions[:0], batch.slice(0, 0), encoding, count=2).to_pylist() == []


def test_one_item_is_made_ahead_and_no_more():
    made = []

    def items():
        try:
            for number in range(10):
                made.append(number)
                yield number
        finally:
            made.append("closed")

    coming = ahead(items(), name="test")
    assert [next(coming), next(coming)] == [0, 1]
    coming.close()
    assert made == [0, 1, 2, "closed"]


def test_few_batches_are_in_memory_at_a_time(rows, predictor):
    read = []

    def batches():
        for place in range(30):
            read.append(place)
            yield place, rows.slice(place * 10, 10)

    for used, _ in score_batches(batches(), predictor, entity=["id"], classes=LABELS, model_version=7):
        assert len(read) <= used + 5
    assert len(read) == 30


def test_an_error_comes_out_behind_the_items_before_it():
    def items():
        yield 1
        raise ValueError("broken")

    coming = ahead(items(), name="test")
    assert next(coming) == 1
    with pytest.raises(ValueError, match="broken"):
        next(coming)
