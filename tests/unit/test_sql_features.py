"""Features are computed from the rows of a cut and from nothing else."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from tasks.errors import SqlError
from tasks.sql.features import Cut, FeatureEngine, SourceRows

COLUMNS = {"id": "string", "carrier": "string", "delay": "float", "seen": "timestamp"}
START = datetime(2013, 1, 5, 5, tzinfo=UTC)


def rows(*values: tuple) -> SourceRows:
    """Rows of (partition key, revision, id, carrier, delay, at)."""
    key, revision, name, carrier, delay, at = zip(*values, strict=True) if values else [()] * 6
    table = pa.table(
        {
            "id": pa.array(name, pa.string()),
            "carrier": pa.array(carrier, pa.string()),
            "delay": pa.array(delay, pa.float64()),
            "seen": pa.array(at, pa.timestamp("us", tz="UTC")),
            "partition_key": pa.array(key, pa.string()),
            "revision": pa.array(revision, pa.int64()),
            "_known_at": pa.array([START] * len(key), pa.timestamp("us", tz="UTC")),
            "_line": pa.array(range(len(key)), pa.int64()),
        }
    )
    return SourceRows(COLUMNS, table)


def cut(driving=(("d5", 1),), **visible) -> Cut:
    return Cut("2013-01-05", START + timedelta(hours=4), START, START + timedelta(days=1), visible, driving)


FLIGHTS = rows(
    ("d5", 1, "b", "AA", 1.0, START),
    ("d5", 1, "a", "UA", 2.0, START + timedelta(hours=23)),
    ("d4", 1, "z", "AA", 10.0, START - timedelta(hours=3)),
    ("d4", 2, "z", "AA", 20.0, START - timedelta(hours=3)),
    ("d6", 1, "y", "AA", 1000.0, START + timedelta(hours=24)),
)
BOTH = (("d4", 2), ("d5", 1))


def engine(sources=None, **changes) -> FeatureEngine:
    values = {"driver": "flights", "time": None, "entity": ("id",)}
    return FeatureEngine(sources or {"flights": FLIGHTS}, **{**values, **changes})


def computed(sql: str, at: Cut | None = None, **changes) -> list[dict]:
    with engine(**changes) as one:
        return one.compute(sql, at or cut(flights=BOTH)).table.to_pylist()


def refusal(sql: str, **changes) -> str:
    with pytest.raises(SqlError) as caught:
        computed(sql, **changes)
    return str(caught.value)


def test_rows_come_out_sorted_by_entity_with_the_entity_first():
    assert computed("SELECT delay AS f, id FROM entities") == [{"id": "a", "f": 2.0}, {"id": "b", "f": 1.0}]


def test_only_the_visible_revisions_can_be_read():
    sql = "SELECT e.id, s.total, s.rows FROM entities AS e, (SELECT sum(delay) AS total, count(*) AS rows FROM flights) AS s"
    assert {row["total"] for row in computed(sql)} == {23.0}
    assert {row["total"] for row in computed(sql, cut(flights=(("d4", 1), ("d5", 1))))} == {13.0}
    assert {row["rows"] for row in computed(sql, cut(flights=()))} == {0}
    assert {row["rows"] for row in computed(sql, cut())} == {0}


def test_rows_outside_of_the_cut_are_in_no_table_of_the_database():
    sql = "SELECT id, delay, (SELECT count(*) FROM flights) AS n FROM entities"
    with engine() as one:
        one.compute(sql, cut(flights=(("d6", 1),)))
        one.compute(sql, cut(flights=BOTH))
        one.compute("SELECT id, delay FROM entities", cut())
        session = one._databases._free.get()
        names = session.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
        tables = session.execute("SELECT count(*) FROM duckdb_tables()").fetchall()
        assert sorted(name for (name,) in names) == ["entities", "flights"]
        assert tables == [(0,)]
        assert session.execute("SELECT max(delay) FROM flights").fetchall() == [(20.0,)]


@pytest.mark.parametrize(
    "statement",
    ["SELECT * FROM secret", "SELECT * FROM 'secret.csv'", "ATTACH 'x.db'", "INSTALL httpfs", "SET threads = 8"],
)
def test_the_database_reaches_no_file_no_variable_and_no_setting(statement):
    import duckdb

    secret = pa.table({"x": [1]})  # noqa: F841 - a variable that DuckDB could take for a table
    with engine() as one, pytest.raises(duckdb.Error):
        one._databases._free.get().execute(statement).fetchall()


def test_the_guard_stands_before_the_engine():
    assert "there is no view 'duckdb_tables'" in refusal("SELECT id, delay FROM entities, duckdb_tables")
    assert "now()" in refusal("SELECT id, now() AS f FROM entities")


def test_views_show_the_partition_and_the_moment_of_each_row():
    sql = "SELECT id, _partition || '/' || epoch(_known_at)::BIGINT AS f FROM entities"
    assert computed(sql)[0]["f"] == f"d5/{int(START.timestamp())}"


def test_the_moments_of_the_partition_are_macros():
    sql = (
        "SELECT id, epoch(as_of())::BIGINT AS a, epoch(partition_start())::BIGINT AS b,"
        " epoch(partition_end())::BIGINT AS c FROM entities"
    )
    seconds = int(START.timestamp())
    assert computed(sql)[0] == {"id": "a", "a": seconds + 14400, "b": seconds, "c": seconds + 86400}


def test_where_grains_differ_the_time_column_assigns_the_rows():
    driving = (("d4", 2), ("d5", 1), ("d6", 1))
    at = Cut("h", START, START, START + timedelta(hours=1), {"flights": driving}, driving)
    assert computed("SELECT id, delay FROM entities", at, time="seen") == [{"id": "b", "delay": 1.0}]
    later = Cut("h", START, START + timedelta(hours=1), START + timedelta(hours=24), {"flights": driving}, driving)
    assert computed("SELECT id, delay FROM entities", later, time="seen") == [{"id": "a", "delay": 2.0}]


def test_the_second_of_two_equal_hours_is_another_partition():
    # 01:30 New York on 2013-11-03 comes twice: at 05:30 and at 06:30 UTC
    first, second = datetime(2013, 11, 3, 5, 30, tzinfo=UTC), datetime(2013, 11, 3, 6, 30, tzinfo=UTC)
    flights = rows(("d", 1, "early", "AA", 1.0, first), ("d", 1, "late", "AA", 2.0, second))
    for begin, name in ((first, "early"), (second, "late")):
        begin = begin.replace(minute=0)
        at = Cut("h", begin, begin, begin + timedelta(hours=1), {"flights": (("d", 1),)}, (("d", 1),))
        found = computed("SELECT id, delay FROM entities", at, sources={"flights": flights}, time="seen")
        assert [row["id"] for row in found] == [name]


def test_filtered_rows_are_counted_by_what_remains():
    with engine() as one:
        result = one.compute("SELECT id, delay FROM entities WHERE delay > 1.5", cut(flights=BOTH))
    assert (result.table.num_rows, result.entities, result.partition_key) == (1, 2, "2013-01-05")


def test_a_partition_without_rows_gives_an_empty_table_of_the_same_columns():
    sql = "SELECT id, delay, count(*) AS n FROM entities GROUP BY ALL"
    with engine() as one:
        empty = one.compute(sql, cut(driving=(), flights=()))
        full = one.compute(sql, cut(flights=BOTH))
    assert empty.table.num_rows == empty.entities == 0
    assert empty.table.schema == full.table.schema


def test_numbers_come_out_as_int64_and_double():
    sql = (
        "SELECT id, 1::UTINYINT AS a, sum(1) OVER () AS b, 1.5 AS c, 'x'::ENUM('x') AS d, delay > 1 AS e FROM entities"
    )
    with engine() as one:
        schema = one.compute(sql, cut(flights=BOTH)).table.schema
    assert [str(kind) for kind in schema.types] == ["string", "int64", "int64", "double", "string", "bool"]


def test_nan_and_division_by_zero_are_missing_values():
    sql = "SELECT id, 'nan'::DOUBLE AS a, delay / 0 AS b, 1 // 0 AS c, 5 % 0 AS d FROM entities"
    assert computed(sql)[0] == {"id": "a", "a": None, "b": None, "c": None, "d": None}


def test_an_infinite_feature_is_refused_with_its_entity():
    assert "'f' is infinite for id 'b'" in refusal("SELECT id, exp(1000 * (2 - delay)) AS f FROM entities")


def test_a_number_beyond_64_bits_is_refused():
    assert "64 bits" in refusal("SELECT id, 170141183460469231731687303715884105727::HUGEINT AS f FROM entities")


def test_an_entity_twice_is_refused_with_an_example():
    text = refusal("SELECT e.id, h.delay FROM entities AS e, flights AS h")
    assert "for partition 2013-01-05: id 'a' comes out more than once" in text


def test_an_entity_of_another_partition_is_refused():
    assert "id 'z' is not among the partition's entities" in refusal("SELECT id, delay FROM flights")


def test_an_entity_without_a_value_is_refused():
    flights = rows(("d5", 1, None, "AA", 1.0, START), ("d5", 1, "a", "AA", 1.0, START))
    assert "1 rows have no id" in refusal("SELECT id, delay FROM entities", sources={"flights": flights})


def test_entities_of_several_columns_are_compared_together():
    sql = "SELECT id, carrier, delay FROM entities"
    assert [row["carrier"] for row in computed(sql, entity=("carrier", "id"))] == ["AA", "UA"]
    crossed = "SELECT a.id, b.carrier, a.delay FROM entities AS a, entities AS b"
    assert "carrier 'AA', id 'a' is not among" in refusal(crossed, entity=("carrier", "id"))


def test_an_error_in_the_data_names_file_and_partition():
    text = refusal("SELECT id, carrier::INT AS f FROM entities")
    assert text.startswith("features.sql for partition 2013-01-05: Conversion Error")
    assert "\n" not in text


def test_rows_keep_the_order_of_their_file_however_the_table_is_stored():
    sql = "SELECT id, (SELECT string_agg(carrier, '') FROM flights) AS f FROM entities"
    table = FLIGHTS.table
    shuffled = SourceRows(COLUMNS, table.take(pa.array([4, 3, 1, 0, 2])))
    assert (
        computed(sql, sources={"flights": shuffled})
        == computed(sql)
        == [
            {"id": "a", "f": "AAAAUA"},
            {"id": "b", "f": "AAAAUA"},
        ]
    )


def test_many_at_a_time_give_the_same_in_the_same_order():
    sql = "SELECT id, (SELECT avg(delay) FROM flights) AS f FROM entities"
    cuts = [cut(flights=BOTH[: n % 3]) for n in range(20)]
    with engine(threads=3) as one:
        together = [result.table for result in one.compute_all(sql, cuts)]
        alone = [one.compute(sql, each).table for each in cuts]
    assert together == alone


def test_a_failing_partition_among_many_ends_the_run():
    sql = "SELECT id, carrier::INT AS f FROM entities"
    with engine(threads=2) as one, pytest.raises(SqlError, match="Conversion"):
        list(one.compute_all(sql, [cut(flights=BOTH)] * 10))
