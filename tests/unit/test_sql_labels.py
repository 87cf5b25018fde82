"""A label follows from one row of its source; a row of the features gets the label of its entity."""

import pyarrow as pa
import pytest

from tasks.errors import SqlError
from tasks.sql.labels import check_label, join_labels

COLUMNS = {"id": "string", "delay": "float", "kind": "string", "grade": "int", "ok": "bool"}
BINARY, REAL, SEVERAL = "binary:logistic", "reg:squarederror", "multi:softprob"


def checked(sql: str, objective: str = BINARY, unlabelled: str | None = None) -> None:
    check_label(sql, unlabelled=unlabelled, columns=COLUMNS, objective=objective, file="pipeline.yaml")


@pytest.mark.parametrize(
    ("sql", "objective"),
    [
        ("delay > 15", BINARY),
        ("ok", BINARY),
        ("CASE WHEN delay > 15 THEN 1 ELSE 0 END", BINARY),
        ("grade -- a comment", BINARY),
        ("delay", REAL),
        ("ln(1 + grade)", REAL),
        ("round(delay, 1)::DECIMAL(10, 1)", "reg:absoluteerror"),
        ("kind", SEVERAL),
        ("grade", SEVERAL),
        ("ok", SEVERAL),
    ],
)
def test_labels_that_fit_the_objective_are_accepted(sql, objective):
    checked(sql, objective, "delay IS NULL")


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("avg(delay) > 1", "avg() reads several"),
        ("row_number() OVER ()", "row_number() reads several"),
        ("unnest([1, 0])", "unnest() reads several"),
        ("(SELECT 1)", "a subquery reads several"),
        ("*", "* reads several"),
        ("EXISTS (FROM labels)", "there is no view 'labels'"),
        ("now() > TIMESTAMP '2013-01-01'", "now() is not allowed"),
        ("delay >", "syntax error"),
        ("delay) FROM labels --", "syntax error"),
        ("grade) AS a, (grade", "expected one expression"),
        ("dealy > 1", '"delay"'),
        ("delay", "expected a condition, or 0 and 1 for binary:logistic, found a value of type DOUBLE"),
        ("kind", "expected a condition"),
        ("NULL", "expected a condition"),
    ],
)
def test_labels_that_do_not_follow_from_one_row_are_refused(sql, words):
    with pytest.raises(SqlError) as caught:
        checked(sql)
    assert str(caught.value).startswith("pipeline.yaml: label.sql:")
    assert words in str(caught.value)


def test_a_label_of_the_wrong_type_for_its_objective_is_refused():
    for sql, objective in (("kind", REAL), ("ok", REAL), ("delay", SEVERAL)):
        with pytest.raises(SqlError, match=f"for {objective}, found a value of type"):
            checked(sql, objective)


def test_unlabelled_is_a_condition():
    with pytest.raises(SqlError, match="label.unlabelled: expected a condition, found a value of type DOUBLE"):
        checked("ok", unlabelled="delay")
    with pytest.raises(SqlError, match=r"label.unlabelled: line 1: random\(\) is not allowed"):
        checked("ok", unlabelled="random() > 0.5")


FEATURES = pa.table(
    {"id": ["a", "c", "b", "a", "d"], "partition_key": ["2", "1", "1", "1", "2"], "f": [1.0, 2.0, 3.0, 4.0, 5.0]}
)
KEYS = {"1": ("k1",), "2": ("k2", "k3")}


def labels(*rows: tuple) -> pa.Table:
    """Label rows of (partition key, id, delay, kind)."""
    key, name, delay, kind = zip(*rows, strict=True)
    return pa.table(
        {
            "partition_key": pa.array(key, pa.string()),
            "id": pa.array(name, pa.string()),
            "delay": pa.array(delay, pa.float64()),
            "kind": pa.array(kind, pa.string()),
        }
    )


TRUTH = labels(
    ("k1", "a", 20.0, "late"),
    ("k1", "b", 10.0, "good"),
    ("k1", "c", None, None),
    ("k2", "a", 30.0, "late"),
    ("k3", "d", 1.0, "early"),
    ("k4", "d", 2.0, "good"),
)


def joined(truth: pa.Table = TRUTH, features: pa.Table = FEATURES, **changes):
    values = {"label_sql": "delay > 15", "unlabelled": None, "objective": BINARY}
    return join_labels(features=features, labels=truth, keys=KEYS, entity=("id",), **{**values, **changes})


def test_each_row_gets_the_label_of_its_entity_in_its_own_partition():
    result = joined()
    assert result.table.to_pylist() == [
        {"id": "a", "partition_key": "1", "f": 4.0, "label": 1.0},
        {"id": "b", "partition_key": "1", "f": 3.0, "label": 0.0},
        {"id": "a", "partition_key": "2", "f": 1.0, "label": 1.0},
        {"id": "d", "partition_key": "2", "f": 5.0, "label": 0.0},
    ]
    assert result.dropped == {"label is null": 1}
    assert result.classes == ()


def test_each_row_without_a_label_is_counted_with_its_reason():
    result = joined(TRUTH.slice(0, 3), unlabelled="delay < 15")
    assert result.table["id"].to_pylist() == ["a"]
    assert result.dropped == {"no label row": 2, "unlabelled": 1, "label is null": 1}


def test_rows_in_equal_rows_out_and_dropped():
    result = joined(TRUTH.slice(1, 4), unlabelled="kind = 'late'")
    assert result.table.num_rows + sum(result.dropped.values()) == FEATURES.num_rows


def test_a_label_of_another_partition_is_never_taken():
    assert joined(labels(("k4", "a", 99.0, "late"))).dropped == {"no label row": 5}


def test_an_entity_with_two_label_rows_is_refused_by_name():
    with pytest.raises(SqlError, match="id 'd' of partition 2 has more than one label row"):
        joined(pa.concat_tables([TRUTH, labels(("k2", "d", 1.0, "good"))]))


def test_two_label_rows_of_a_row_that_is_not_asked_for_do_no_harm():
    truth = pa.concat_tables([TRUTH, labels(("k1", "x", 1.0, "a"), ("k1", "x", 1.0, "a"))])
    assert joined(truth).table.equals(joined().table)


def test_the_order_of_the_inputs_does_not_matter():
    shuffled = pa.array([3, 0, 4, 1, 2])
    assert joined(TRUTH.take(shuffled), FEATURES.take(shuffled)).table.equals(joined().table)


def test_a_regression_label_is_the_number_itself():
    result = joined(label_sql="delay / 2", objective=REAL)
    assert result.table["label"].to_pylist() == [10.0, 5.0, 15.0, 0.5]


def test_nan_is_a_missing_label_and_an_infinite_one_is_refused():
    truth = labels(("k1", "a", float("nan"), "x"), ("k1", "b", 1.0, "x"))
    assert joined(truth, label_sql="delay", objective=REAL).dropped == {"no label row": 3, "label is null": 1}
    with pytest.raises(SqlError, match="expected a finite number for reg:squarederror, found inf"):
        joined(label_sql="exp(1000 * delay)", objective=REAL)


def test_a_binary_label_other_than_0_and_1_is_refused():
    with pytest.raises(SqlError, match="expected true, false, 0 or 1 for binary:logistic, found 30"):
        joined(label_sql="delay::INT")


def test_classes_are_the_labels_in_order():
    result = joined(label_sql="kind", objective=SEVERAL)
    assert result.classes == ("early", "good", "late")
    assert result.table["label"].to_pylist() == [2.0, 1.0, 2.0, 0.0]


def test_classes_that_are_numbers_are_in_the_order_of_numbers():
    result = joined(label_sql="delay::INT", objective=SEVERAL)
    assert result.classes == ("1", "10", "20", "30")
    assert result.table["label"].to_pylist() == [2.0, 1.0, 3.0, 0.0]


def test_rows_of_a_class_that_training_never_saw_are_dropped_with_the_reason():
    result = joined(label_sql="kind", objective=SEVERAL, classes=("good", "late"))
    assert result.classes == ("good", "late")
    assert result.dropped == {"label is null": 1, "unknown class": 1}


def test_no_rows_give_no_labels():
    result = joined(TRUTH.slice(0, 0), FEATURES.slice(0, 0))
    assert result.table.num_rows == 0 and result.dropped == {}
    assert result.table.column_names == [*FEATURES.column_names, "label"]


def test_entities_of_several_columns_are_matched_on_all():
    features = pa.table({"id": ["a", "a"], "n": [1, 2], "partition_key": ["1", "1"]})
    truth = pa.table({"id": ["a", "a"], "n": [2, 3], "partition_key": ["k1", "k1"], "y": [True, False]})
    result = join_labels(
        features=features,
        labels=truth,
        keys=KEYS,
        entity=("id", "n"),
        label_sql="y",
        unlabelled=None,
        objective=BINARY,
    )
    assert result.table.to_pylist() == [{"id": "a", "n": 2, "partition_key": "1", "label": 1.0}]
