"""For any deliveries and any cut, SQL sees what a plain filter of the rows gives."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.sql.features import Cut, FeatureEngine, SourceRows
from tasks.sql.labels import join_labels
from tasks.sql.slices import Slices

COLUMNS = {"id": "string", "x": "int", "seen": "timestamp"}
START = datetime(2013, 11, 3, 4, tzinfo=UTC)
KEYS = [f"2013-11-{day:02d}" for day in range(1, 7)]

row = st.tuples(st.sampled_from(KEYS), st.integers(1, 3), st.integers(0, 400), st.integers(-50, 50))
pairs = st.lists(st.tuples(st.sampled_from(KEYS), st.integers(1, 3)), unique=True, max_size=10)


def table_of(rows: list[tuple[str, int, int, int]], chunks: int = 1) -> pa.Table:
    """Rows of (partition key, revision, line, minutes after START); `x` numbers them."""
    table = pa.table(
        {
            "id": pa.array([f"i{number}" for number in range(len(rows))], pa.string()),
            "x": pa.array(range(len(rows)), pa.int64()),
            "seen": pa.array([START + timedelta(minutes=item[3]) for item in rows], pa.timestamp("us", tz="UTC")),
            "_known_at": pa.array([START] * len(rows), pa.timestamp("us", tz="UTC")),
            "partition_key": pa.array([item[0] for item in rows], pa.string()),
            "revision": pa.array([item[1] for item in rows], pa.int64()),
            "_line": pa.array([item[2] for item in rows], pa.int64()),
        }
    )
    step = max(1, -(-len(rows) // chunks))
    return pa.concat_tables([table.slice(low, step) for low in range(0, max(1, len(rows)), step)])


@given(rows=st.lists(row, max_size=60), visible=pairs, chunks=st.integers(1, 4))
def test_a_view_holds_exactly_the_visible_revisions_in_order(rows, visible, chunks):
    view = Slices(SourceRows(COLUMNS, table_of(rows, chunks))).view(visible)
    naive = [
        f"i{number}"
        for pair in visible
        for number, item in sorted(enumerate(rows), key=lambda entry: entry[1][2])
        if (item[0], item[1]) == pair
    ]
    assert view["id"].to_pylist() == naive
    assert view.column_names == ["id", "x", "seen", "_partition", "_known_at"]


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(row, max_size=40), other=st.lists(row, max_size=40), visible=pairs, shown=pairs)
def test_feature_sql_sees_what_a_plain_filter_gives(rows, other, visible, shown):
    start, end = START, START + timedelta(minutes=30)
    at = Cut("k", START, start, end, {"rows": tuple(visible), "other": tuple(shown)}, tuple(visible))
    sql = """
        SELECT id, (SELECT count(*) FROM rows) AS n, (SELECT sum(x) FROM other) AS s,
               (SELECT count(DISTINCT _partition) FROM other) AS p
        FROM entities
    """
    sources = {"rows": SourceRows(COLUMNS, table_of(rows)), "other": SourceRows(COLUMNS, table_of(other))}
    with FeatureEngine(sources, driver="rows", time="seen", entity=("id",)) as engine:
        found = engine.compute(sql, at).table.to_pylist()
    seen = [number for number, item in enumerate(rows) if (item[0], item[1]) in visible]
    told = [number for number, item in enumerate(other) if (item[0], item[1]) in shown]
    assert {row["id"] for row in found} == {f"i{number}" for number in seen if 0 <= rows[number][3] < 30}
    for one in found:
        assert one["n"] == len(seen)
        assert one["s"] == (sum(told) if told else None)
        assert one["p"] == len({other[number][0] for number in told})


@settings(max_examples=40, deadline=None)
@given(
    wanted=st.lists(st.tuples(st.sampled_from("12"), st.integers(0, 8)), unique=True, max_size=20),
    truth=st.dictionaries(st.tuples(st.sampled_from(["k1", "k2", "k3"]), st.integers(0, 8)), st.none() | st.booleans()),
)
def test_labels_are_those_of_a_plain_lookup(wanted, truth):
    features = pa.table(
        {
            "id": pa.array([item[1] for item in wanted], pa.int64()),
            "partition_key": pa.array([item[0] for item in wanted], pa.string()),
        }
    )
    labels = pa.table(
        {
            "id": pa.array([item[1] for item in truth], pa.int64()),
            "partition_key": pa.array([item[0] for item in truth], pa.string()),
            "y": pa.array(list(truth.values()), pa.bool_()),
        }
    )
    keys = {"1": ("k1",), "2": ("k2",)}
    result = join_labels(
        features=features,
        labels=labels,
        keys=keys,
        entity=("id",),
        label_sql="y",
        unlabelled=None,
        objective="binary:logistic",
    )
    expected = {item: truth.get((keys[item[0]][0], item[1]), "none") for item in wanted}
    found = {(row["partition_key"], row["id"]): row["label"] for row in result.table.to_pylist()}
    assert found == {item: float(value) for item, value in expected.items() if value in (True, False)}
    assert list(found) == sorted(found)
    assert result.dropped.get("no label row", 0) == sum(value == "none" for value in expected.values())
    assert result.dropped.get("label is null", 0) == sum(value is None for value in expected.values())
