"""Feature SQL is one deterministic SELECT over the cut views; what it gives is known before it runs."""

import duckdb
import pytest

from tasks.errors import SqlError
from tasks.sql import functions
from tasks.sql.guard import check_text, describe
from tasks.sql.session import MOMENTS, open_session

SOURCES = {
    "flights": {"id": "string", "carrier": "string", "delay": "float", "seen": "timestamp", "local": "local_timestamp"},
    "weather": {"origin": "string", "wind": "int", "day": "date"},
}


def told(sql: str) -> dict[str, str]:
    return describe(sql, sources=SOURCES, driver="flights", entity=("id",), file="features.sql")


def refusal(sql: str) -> str:
    with pytest.raises(SqlError) as caught:
        told(sql)
    text = str(caught.value)
    assert text.startswith("features.sql"), text
    assert "\n" not in text
    return text


NOT_DETERMINISTIC = [
    "now()",
    "current_timestamp",
    "current_date",
    "current_time",
    "localtimestamp",
    "current_localtimestamp()",
    "current_localtime()",
    "localtime",
    "get_current_timestamp()",
    "transaction_timestamp()",
    "today()",
    "ago(INTERVAL 1 DAY)",
    "age(seen)",
    "random()",
    "uuid()",
    "gen_random_uuid()",
    "setseed(0.5)",
    "nextval('s')",
    "getvariable('x')",
    "current_setting('threads')",
    "current_user",
    "current_user()",
    "session_user",
    "user",
    "current_schema()",
    "txid_current()",
    "version()",
    "reservoir_quantile(delay, 0.5) OVER ()",
    "list_aggregate([delay], 'reservoir_quantile', 0.5)",
    "list_transform([1], lambda q: q + random())[1]",
    "sum(random()) OVER ()",
    "count(*) FILTER (WHERE random() > 0.5) OVER ()",
    "row_number() OVER (ORDER BY random())",
    "system.main.random()",
    "delay.random()",
    "(SELECT max(random()) FROM weather)",
    "pg_sleep(1)",
    "pg_conf_load_time()",
    "timezone('America/New_York', seen::TIMETZ)",
    "sleep_ms(1)",
    "error('x')",
]


@pytest.mark.parametrize("expression", NOT_DETERMINISTIC)
def test_what_does_not_follow_from_the_rows_is_refused(expression):
    text = refusal(f"SELECT id, {expression} AS f FROM entities")
    assert any(
        words in text
        for words in ("is not allowed: its value", "asks the clock", "deterministic aggregate", "that of today")
    )


NOT_VIEWS = [
    "SELECT id, delay FROM 'flights.csv'",
    "SELECT id, delay FROM read_csv('x.csv'), entities",
    "SELECT id, delay FROM read_parquet('x'), entities",
    "SELECT id, delay FROM read_text('/etc/passwd'), entities",
    "SELECT id, delay FROM glob('*'), entities",
    "SELECT id, delay FROM query('SELECT 1'), entities",
    "SELECT id, delay FROM query_table('flights')",
    "SELECT id, delay FROM entities, duckdb_tables",
    "SELECT id, delay FROM entities, duckdb_tables()",
    "SELECT id, delay FROM entities, duckdb_settings()",
    "SELECT id, delay FROM entities, information_schema.tables",
    "SELECT id, delay FROM entities, pg_catalog.pg_class",
    "SELECT id, delay FROM entities, sqlite_master",
    "SELECT id, delay FROM main.flights",
    "SELECT id, delay FROM temp.main.flights",
    "SELECT id, delay FROM flights AT (VERSION => 1)",
    "SELECT id, (SELECT count(*) FROM duckdb_tables) AS n FROM entities",
    "SELECT id, delay FROM entities WHERE EXISTS (SELECT 1 FROM duckdb_views)",
    "WITH duckdb_tables AS (SELECT * FROM duckdb_tables) SELECT id, delay FROM entities, duckdb_tables",
    "WITH a AS (SELECT * FROM b), b AS (SELECT 1) SELECT id, delay FROM entities, a",
    "SELECT id, delay FROM (WITH inner_only AS (SELECT 1) SELECT * FROM entities, inner_only), inner_only",
    "SELECT id, delay FROM nosuch",
]


@pytest.mark.parametrize("sql", NOT_VIEWS)
def test_nothing_but_the_views_can_be_read(sql):
    assert "there is no view" in refusal(sql) or "table function" in refusal(sql)


NOT_ONE_SELECT = [
    "",
    "-- nothing",
    "SELECT 1; SELECT 2",
    "COPY flights TO 'x'",
    "ATTACH 'x'",
    "PRAGMA version",
    "SET threads = 4",
    "INSTALL httpfs",
    "LOAD json",
    "CREATE TABLE x AS SELECT 1",
    "INSERT INTO flights VALUES (1)",
    "CALL pragma_version()",
    "EXPLAIN SELECT 1",
    "DESCRIBE flights",
    "SHOW TABLES",
    "SUMMARIZE flights",
    "PIVOT flights ON carrier USING sum(delay)",
    "SELECT id, delay FROM (DESCRIBE flights)",
    "SELECT * FROM flights PIVOT (sum(delay) FOR carrier IN ('AA'))",
    "WITH x AS (INSERT INTO weather VALUES ('a', 1, NULL) RETURNING *) SELECT id, delay FROM entities, x",
    "SELECT id, $1 AS f FROM entities",
    "SELECT id, ? AS f FROM entities",
    "SELECT id delay FROM FROM",
    "SELECT id, " + "(" * 3000 + "1" + ")" * 3000 + " AS f FROM entities",
]


@pytest.mark.parametrize("sql", NOT_ONE_SELECT, ids=lambda sql: sql[:40])
def test_anything_but_one_select_is_refused(sql):
    refusal(sql)


@pytest.mark.parametrize(
    "clause", ["FROM entities USING SAMPLE 10", "FROM entities TABLESAMPLE 10%", "FROM entities TABLESAMPLE 5 ROWS"]
)
def test_sampling_is_refused(clause):
    assert "sampling" in refusal(f"SELECT id, delay {clause}")


def test_a_refusal_names_the_line_and_a_way_out():
    text = refusal("SELECT id,\n  -- the moment, in a comment with an é\n  epoch(now()) AS f\nFROM entities")
    assert "features.sql: line 3: now() is not allowed" in text
    assert "as_of()" in text


def test_a_syntax_error_names_its_line():
    assert "line 2: syntax error" in refusal("SELECT id, delay\nFROM FROM entities")


def test_a_misspelt_view_or_function_gets_the_nearest_name():
    assert "did you mean 'weather'?" in refusal("SELECT id, delay FROM entities, wether")
    assert "did you mean median()?" in refusal("SELECT id, medain(delay) AS f FROM entities GROUP BY id")


def test_an_unknown_column_is_told_with_candidates():
    text = refusal("SELECT id, dealy AS f FROM entities")
    assert '"dealy"' in text and '"delay"' in text


GOOD = [
    "date_diff('minute', partition_start(), seen) + date_diff('day', as_of(), partition_end())",
    "hour(seen AT TIME ZONE 'America/New_York')",
    "epoch(age(as_of(), seen))",
    "coalesce(delay, ifnull(delay, 0)) / 0",
    "delay BETWEEN 1 AND 2 OR carrier IN ('AA', 'UA') OR carrier LIKE 'A%'",
    "CASE carrier WHEN 'AA' THEN 1 ELSE 2 END",
    "median(delay) OVER (PARTITION BY carrier ORDER BY seen RANGE BETWEEN INTERVAL 3 DAY PRECEDING AND CURRENT ROW)",
    "carrier.lower().length()",
    "[n + 1 for n in [1, 2]][1]",
    "list_aggregate([delay], 'sum')",
    "try(delay::INT) + try_cast(carrier AS INT)",
    "(SELECT quantile_cont(wind, 0.9) FROM weather)",
    "strptime('2013-01-01', '%Y-%m-%d') < local",
    "extract(dow FROM seen) % 7",
    "time_bucket(INTERVAL 1 HOUR, seen) = seen",
    "hash(carrier) % 100",
]


@pytest.mark.parametrize("expression", GOOD)
def test_what_follows_from_the_rows_is_accepted(expression):
    assert list(told(f"SELECT id, {expression} AS f FROM entities")) == ["id", "f"]


def test_the_usual_shapes_of_feature_sql_are_accepted():
    assert told(
        """
        -- carriers, by their history
        WITH RECURSIVE steps(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM steps WHERE n < 5),
        entities AS (SELECT * FROM entities WHERE delay IS NOT NULL), -- shadows the view, reads the view
        history AS (SELECT carrier, avg(delay) AS mean, count(*) AS flights FROM flights GROUP BY carrier)
        SELECT e.id, h.mean, h.flights, w.wind, w.wind > 30 AS windy, e.carrier, s.n AS step
        FROM entities AS e
        LEFT JOIN history AS h USING (carrier)
        ASOF LEFT JOIN weather AS w ON w.origin = e.carrier AND w._known_at <= e.seen,
        (SELECT max(n) AS n FROM steps, range(3), unnest([1, 2])) AS s,
        (VALUES (1), (2)) AS v(one)
        QUALIFY row_number() OVER (PARTITION BY e.id ORDER BY one) = 1;
        """
    ) == {
        "id": "string",
        "mean": "float",
        "flights": "int",
        "wind": "int",
        "windy": "bool",
        "carrier": "string",
        "step": "int",
    }


def test_numbers_of_all_widths_become_int_and_float():
    sql = "SELECT 1::UTINYINT AS a, sum(1) OVER () AS b, 1.5 AS c, 1::FLOAT AS d, 'x'::ENUM('x') AS e, id FROM entities"
    assert told(sql) == {"id": "string", "a": "int", "b": "int", "c": "float", "d": "float", "e": "string"}


@pytest.mark.parametrize(
    ("expression", "hint"),
    [
        ("seen", "date_diff"),
        ("local", "date_diff"),
        ("seen::DATE", "date_diff"),
        ("seen - seen", "epoch"),
        ("NULL", "CAST"),
        ("[delay]", "a feature is"),
        ("{'a': 1}", "a feature is"),
    ],
)
def test_a_type_that_is_no_feature_is_refused_with_a_hint(expression, hint):
    text = refusal(f"SELECT id, {expression} AS f FROM entities")
    assert "'f' is of type" in text and hint in text


def test_the_entity_comes_out_as_it_went_in():
    assert "entity column 'id' is not among the output columns" in refusal("SELECT delay FROM entities")
    assert "comes out as INTEGER" in refusal("SELECT id::INT AS id, delay FROM entities")
    assert "no feature" in refusal("SELECT id FROM entities")


def test_output_names_are_distinct_and_not_our_own():
    assert "comes out twice" in refusal("SELECT id, delay AS f, delay AS F FROM entities")
    for name in ("label", "score", "partition_key", "_partition"):
        assert "Millrace's own" in refusal(f"SELECT id, delay AS {name} FROM entities")


def test_a_source_called_entities_is_refused():
    with pytest.raises(SqlError, match="can't be called 'entities'"):
        describe("SELECT 1", sources={"entities": {"id": "string"}}, driver="entities", entity=("id",), file="f.sql")


def test_views_are_those_that_are_given():
    check_text("SELECT * FROM a, b", file="f.sql", views=["a", "B"])
    with pytest.raises(SqlError, match="there is no view 'b'"):
        check_text("SELECT * FROM a, b", file="f.sql", views=["a"])


def test_functions_that_stand_alone_give_the_same_at_another_moment():
    session = open_session()
    names = {name for (name,) in session.execute("SELECT DISTINCT function_name FROM duckdb_functions()").fetchall()}
    calls = [f"SELECT ({name}())::VARCHAR" for name in sorted(names & functions.deterministic() - set(MOMENTS))]

    def answers() -> list[str]:
        found = []
        for call in calls:
            try:
                found.append(session.execute(call).fetchall())
            except duckdb.Error:
                found.append([])
        return found

    first = answers()
    assert first == answers()
    assert sum(map(bool, first)) > 5
    session.close()


def test_the_usual_functions_are_known_as_deterministic():
    names = functions.deterministic()
    assert {"as_of", "sum", "row_number", "date_diff", "list_transform", "regexp_extract", "ifnull", "stddev"} <= names
    assert not {"now", "current_date", "current_localtimestamp", "random", "user", "pg_conf_load_time"} & names
