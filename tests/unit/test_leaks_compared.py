"""What the leak check compares: two computations, times that had not come, and one feature with the label."""

from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pytest

from tasks.compute.alone import alone
from tasks.sql.compared import differences, equal_columns, not_come

AS_OF = datetime(2024, 1, 5, 9, tzinfo=UTC)
INSTANT = pa.timestamp("us", tz="UTC")


def table(**columns) -> pa.Table:
    return pa.table({name: pa.array(values) for name, values in columns.items()})


def test_a_difference_names_the_column_the_rows_and_the_first_entity_with_both_values():
    one = table(id=["a", "b", "c"], x=[1.0, None, 3.0], y=[1, 2, 3])
    other = table(id=["c", "b", "a"], x=[3.0, 2.0, 1.0], y=[3, 2, 1])
    (found,) = differences(one, other, ["id"])
    assert (found.column, found.rows, found.entity, found.first, found.second) == ("x", 1, "id 'b'", None, 2.0)


def test_equal_tables_do_not_differ_whatever_their_order_and_last_digit():
    one = table(id=["a", "b"], x=[0.1 + 0.2, None], word=["u", None], flag=[True, None])
    other = table(id=["b", "a"], x=[None, 0.3], word=[None, "u"], flag=[None, True])
    assert differences(one, other, ["id"]) == []
    assert [one.column for one in differences(one, other.set_column(2, "word", [["v", "u"]]), ["id"])] == ["word"]


def test_a_lacking_row_is_a_difference_of_the_entity():
    (found,) = differences(table(id=["a", "b"]), table(id=["a"]), ["id"])
    assert (found.column, found.first, found.second) == ("id", "2 rows", "1 rows")


def test_a_time_after_its_row_was_known_or_after_the_cut_has_not_come():
    known = [datetime(2024, 1, 4, tzinfo=UTC), datetime(2024, 1, 4, tzinfo=UTC), datetime(2024, 1, 6, tzinfo=UTC)]
    times = [datetime(2024, 1, 3, tzinfo=UTC), datetime(2024, 1, 5, tzinfo=UTC), datetime(2024, 1, 5, 10, tzinfo=UTC)]
    rows = pa.table({"_known_at": pa.array(known, INSTANT), "at": pa.array(times, INSTANT)})
    assert not_come(rows, {"at": "timestamp"}, AS_OF, reference=False)["at"].tolist() == [False, True, True]
    assert not_come(rows, {"at": "timestamp"}, AS_OF, reference=True)["at"].tolist() == [False, False, True]


def test_a_wall_clock_has_not_come_only_where_it_has_on_no_clock_of_the_earth():
    walls = [datetime(2024, 1, 5, 23), datetime(2024, 1, 5, 23, 1), None]
    days = [date(2024, 1, 5), date(2024, 1, 6), date(2024, 1, 7)]
    rows = pa.table({"_known_at": pa.array([AS_OF] * 3, INSTANT), "wall": pa.array(walls, pa.timestamp("us"))})
    rows = rows.append_column("day", pa.array(days, pa.date32()))
    found = not_come(rows, {"wall": "local_timestamp", "day": "date"}, AS_OF, reference=False)
    assert found["wall"].tolist() == [False, True, False]
    assert found["day"].tolist() == [False, True, True]


def test_a_feature_equal_to_a_column_is_named_unless_it_is_constant_or_seldom_there():
    rows = table(
        f=[1, 0, 1, None], g=[1, 1, 1, 1], h=["x", "y", "x", "y"], label=[1.0, 0.0, 1.0, 0.0], word=["x", "y", "x", "y"]
    )
    told = {"label": "", "word": "word"}
    assert equal_columns(rows, ["f", "g", "h"], told, 3) == [("f", "", 3), ("h", "word", 4)]
    assert equal_columns(rows, ["f", "h"], told, 5) == []


def make(rows: int = 400):
    draw = np.random.default_rng(1)
    label = (draw.random(rows) < 0.3).astype(float)
    return draw, label


@pytest.mark.parametrize("kind", ["number", "falling", "hill", "missing", "word", "truth"])
def test_a_feature_that_tells_the_label_is_strong_alone(kind: str):
    draw, label = make()
    noise = draw.normal(size=len(label)) * 0.1
    feature = {
        "number": label + noise,
        "falling": -label + noise,
        "hill": np.where(label == 1, 0, draw.choice([-1, 1], len(label))) + noise,
        "missing": np.where(label == 1, np.nan, 5.0),
        "word": np.where(label == 1, "late", "on time"),
        "truth": label == 1,
    }[kind]
    column = pa.chunked_array([pa.array(feature, from_pandas=kind == "missing")])
    assert alone(column, label, "binary:logistic").least > 0.95


def test_a_name_for_every_row_and_noise_tell_nothing():
    draw, label = make()
    names = pa.chunked_array([pa.array([f"n{number}" for number in range(len(label))])])
    noise = pa.chunked_array([pa.array(draw.normal(size=len(label)))])
    for feature in (names, noise):
        found = alone(feature, label, "binary:logistic")
        assert found.value < 0.65 and found.least < 0.55


def test_few_rows_of_a_class_say_nothing():
    label = np.array([1.0] * 9 + [0.0] * 300)
    assert alone(pa.chunked_array([pa.array(label)]), label, "binary:logistic") is None


def test_of_a_number_the_share_of_its_variance_counts():
    draw, _ = make()
    label = draw.normal(size=400)
    close = alone(pa.chunked_array([pa.array(label + 0.1 * draw.normal(size=400))]), label, "reg:squarederror")
    assert close.measure == "r2" and close.least > 0.95
    far = alone(pa.chunked_array([pa.array(label + draw.normal(size=400))]), label, "reg:squarederror")
    assert 0.4 < far.value < 0.6


def test_of_several_classes_each_is_told_from_the_others():
    draw, _ = make()
    label = draw.integers(0, 3, 400).astype(float)
    words = pa.chunked_array([pa.array(np.array(["a", "b", "c"])[label.astype(int)])])
    assert alone(words, label, "multi:softprob").least > 0.95
    assert alone(pa.chunked_array([pa.array(draw.normal(size=400))]), label, "multi:softprob").least < 0.6
