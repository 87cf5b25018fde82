"""A point-in-time join two ways: `python -m benchmarks.point_in_time [--events N]`.

For each question (a key, a moment) the newest event of the key at or before it. Keys are skewed, as
carriers and customers are (1,000 of them, Zipf with exponent 1.1). CPU seconds of one DuckDB thread, in turn, five rounds:

- asof: DuckDB's ASOF JOIN, as feature SQL may use it over its cut views;
- equi-join: join on the key, filter by time, keep the newest: the way of Feast's offline stores.

Both must give the same answers, or it ends with an error.
The equi-join grows with the square of a key's rows, so the ratio follows `--events`: 2.5 at 5,000 and 15 at
20,000, seen once on a busy two-core machine.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from time import process_time

import duckdb  # noqa: TID253 - a measurement of DuckDB
import numpy as np
import pyarrow as pa

from benchmarks.measure import Figure, Part, ratios, say

ROUNDS = 5
KEYS = 1_000
ASOF = """
    SELECT q.question, e.value FROM questions q ASOF LEFT JOIN events e ON e.key = q.key AND e.moment <= q.moment
"""
EQUI_JOIN = """
    SELECT q.question, n.value FROM questions q LEFT JOIN (
        SELECT q.question, e.value FROM questions q JOIN events e ON e.key = q.key AND e.moment <= q.moment
        QUALIFY row_number() OVER (PARTITION BY q.question ORDER BY e.moment DESC) = 1
    ) n USING (question)
"""


def measure(folder: Path, *, events: int = 20_000, times: int = ROUNDS) -> Part:
    """Both ways in turn, `times` times; `folder` is not needed."""
    session = filled(events)
    asof, equi = [], []
    for _ in range(times):
        quick, slow = (answered(session, sql) for sql in (ASOF, EQUI_JOIN))
        if quick[1] != slow[1]:
            raise SystemExit("the two joins give different answers")
        asof.append(quick[0])
        equi.append(slow[0])
        say(f"asof {quick[0]:.3f} s, equi-join {slow[0]:.3f} s of CPU")
    figure = Figure(
        f"point-in-time join on skewed keys ({events:,} events and as many questions)",
        "Feast's way (equi-join, filter, drop)",
        "≥ 10 × faster",
        ratios(equi, asof),
        " ×",
        least=10,
    )
    return Part((figure,), {"asof": {"s of CPU": asof}, "equi-join": {"s of CPU": equi}}, (f"{KEYS:,} keys",))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=20_000, help="events, and as many questions")
    from benchmarks.report import show

    show(measure(Path(), events=parser.parse_args().events))


def filled(size: int) -> duckdb.DuckDBPyConnection:
    session = duckdb.connect(config={"threads": 1})
    random = np.random.default_rng(2013)
    weights = 1.0 / np.arange(1, KEYS + 1) ** 1.1
    weights /= weights.sum()
    for name, own in (("events", "value"), ("questions", "question")):
        # even moments of events and odd ones of questions, distinct: one answer only
        moments = random.permutation(size) * 2 + (name == "questions")
        table = {"key": random.choice(KEYS, size, p=weights), "moment": moments, own: np.arange(size)}
        session.register("_rows", pa.table(table))
        session.execute(f"CREATE TABLE {name} AS SELECT * FROM _rows")
        session.unregister("_rows")
    return session


def answered(session: duckdb.DuckDBPyConnection, sql: str) -> tuple[float, pa.Table]:
    begun = process_time()
    found = session.sql(sql).to_arrow_table()
    return process_time() - begun, found.sort_by("question")


if __name__ == "__main__":
    main()
