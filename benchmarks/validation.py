"""A contract over one large partition: `python -m benchmarks.validation [--rows N]`.

The same fourteen expectations on the same rows, which each side, a process of its own, has in memory before
its clock starts, with its library imported; every thousandth row breaks one of them:

- ours: `tasks.quality.validate` on an Arrow table, as the verb calls it: Great Expectations' results, and the
  rows to set aside with their values;
- pandas: Great Expectations' own engine on a pandas frame, made before the clock starts; it counts the broken
  rows and gives examples, its default, and lists none of them;
- sql: one hand-written DuckDB statement over the Arrow table that counts the rows which break each check.

All three must find the same number of broken rows. Memory is the whole process's from there on,
with its imports and rows.

A fourth side is the step: `millrace run validate` of one partition of these rows, from the raw table to committed
tables, clean and quarantined; its memory is the process's at most.
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.flights import FILE_ROWS, flights
from benchmarks.measure import Figure, Part, answer, cores, memory, of, ratios, rounds, run

SIDES = ("ours", "pandas", "sql", "step")
_KINDS = {
    "string": "string",
    "int64": "int",
    "int32": "int",
    "int8": "int",
    "float": "float",
    "double": "float",
    "bool": "bool",
}
COLUMNS = ("flight_id", "carrier", "origin", "dest", "departure_minute", "arrival_minute", "distance", "temp",
           "wind_speed", "visib", "label")  # fmt: skip
_BROKEN = 1_000


def _between(column: str, low: float, high: float) -> tuple[str, dict, str]:
    arguments = {"column": column, "min_value": low, "max_value": high}
    return "expect_column_values_to_be_between", arguments, f"count(*) filter ({column} not between {low} and {high})"


def _regex(column: str, regex: str) -> tuple[str, dict, str]:
    sql = f"count(*) filter (not regexp_matches({column}, '{regex}'))"
    return "expect_column_values_to_match_regex", {"column": column, "regex": regex}, sql


def _filled(column: str) -> tuple[str, dict, str]:
    return "expect_column_values_to_not_be_null", {"column": column}, f"count(*) filter ({column} is null)"


CHECKS = (
    ("expect_table_row_count_to_be_between", {"min_value": 1}, "(count(*) < 1)::int"),
    _filled("flight_id"),
    ("expect_column_values_to_be_unique", {"column": "flight_id"}, "count(flight_id) - count(distinct flight_id)"),
    _filled("departure_minute"),
    _regex("carrier", "^[A-Z0-9]{2}$"),
    (
        "expect_column_values_to_be_in_set",
        {"column": "origin", "value_set": ["EWR", "JFK", "LGA"]},
        "count(*) filter (origin not in ('EWR', 'JFK', 'LGA'))",
    ),
    _regex("dest", "^[A-Z]{3}$"),
    _between("departure_minute", 0, 1439),
    _between("arrival_minute", 0, 1439),
    _between("distance", 1, 6000),
    _between("temp", -40, 130),
    _between("wind_speed", -1, 2000),
    _between("visib", -1, 100),
    (
        "expect_column_mean_to_be_between",
        {"column": "label", "min_value": 0.05, "max_value": 0.95},
        "(avg(label) not between 0.05 and 0.95)::int",
    ),
)


def measure(folder: Path, *, rows: int = 5_000_000, times: int = 5) -> Part:
    """Run the sides in turn and compare."""
    table(folder, rows)
    words = ("--folder", folder, "--rows", rows)
    found = rounds(times, SIDES, lambda side: run("benchmarks.validation", "--side", side, *words))
    ours, pandas, sql = (of(found[side], "seconds") for side in SIDES[:3])
    figures = (
        Figure(f"validation, {len(CHECKS)} expectations ({rows:,} rows)", "Great Expectations on pandas", "≥ 5 × faster",
               ratios(pandas, ours), " ×", least=5),
        Figure("the same", "raw DuckDB SQL of the same checks", "≤ 3 × its time", ratios(ours, sql), " ×", most=3),
        Figure("memory of its process", "", "≤ 2 GB", of(found["ours"], "gigabytes"), " GB", most=2),
        Figure("memory of the step `validate`, from raw to clean", "", "≤ 2 GB", of(found["step"], "gigabytes"), " GB", most=2),
    )  # fmt: skip
    sides = {
        side: {
            "s": of(runs, "seconds"),
            "s of CPU": of(runs, "cpu"),
            "GB at most": of(runs, "gigabytes"),
            "share of others": [one.others for one in runs],
        }
        for side, runs in found.items()
    }
    broken = {count for runs in found.values() for count in of(runs, "broken")}
    if len(broken) != 1:
        raise SystemExit(f"the sides found {sorted(broken)} broken rows")
    said = (f"{len(COLUMNS)} columns, {broken.pop():,} broken rows found by each; {cores()} processors",)
    return Part(figures, sides, said)


def table(folder: Path, rows: int) -> pa.Table:
    """The rows, every thousandth with an impossible distance, mapped from a file: reading leaves nothing behind."""
    file = folder / f"validation-{rows}.arrow"
    if not file.exists():
        files = flights(folder, rows, size=min(rows, FILE_ROWS))
        found = pa.concat_tables([pq.read_table(one, columns=list(COLUMNS)) for one in files])
        distance = found["distance"].to_numpy().copy()
        distance[::_BROKEN] = -1
        found = found.set_column(COLUMNS.index("distance"), "distance", pa.array(distance))
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, found.schema) as writer:
            writer.write_table(found, max_chunksize=131_072)
    held = pa.ipc.open_file(pa.memory_map(str(file))).read_all()
    for column in held.columns:  # touched, so that no clock waits for the disk
        for chunk in column.chunks:
            sum(int(np.frombuffer(buffer, np.uint8)[::4096].sum()) for buffer in chunk.buffers() if buffer)
    return held


def ours(rows: pa.Table, suite) -> int:
    from tasks.quality import validate

    (verdict,) = validate([("all", rows)], suite)
    assert verdict.success, verdict.table_failures
    return len(verdict.rejected)


def pandas(frame, suite) -> int:
    import great_expectations as gx

    from tasks.quality.great import new_context, quietly

    source = new_context().data_sources.add_pandas("flights")
    batches = source.add_dataframe_asset("flights").add_batch_definition_whole_dataframe("all")
    kinds = [getattr(gx.expectations, "".join(map(str.title, kind.split("_")))) for kind, _, _ in CHECKS]
    expectations = [kind(**arguments) for kind, (_, arguments, _) in zip(kinds, CHECKS, strict=True)]
    with quietly():
        batch = batches.get_batch(batch_parameters={"dataframe": frame})
        outcome = batch.validate(gx.ExpectationSuite("flights", expectations))
    return sum(result.result.get("unexpected_count", 0) for result in outcome.results)


def sql(rows: pa.Table) -> int:
    import duckdb  # noqa: TID253 - a measurement of DuckDB

    with duckdb.connect() as session:
        session.register("flights", rows)
        (found,) = session.sql(f"select {', '.join(check for _, _, check in CHECKS)} from flights").fetchall()
    return sum(found)


def step(held: pa.Table, folder: Path) -> int:
    """`run ingest` in a process of its own and `run validate` in this one, in a home that is gone afterwards."""
    from tasks.__main__ import main

    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        home, source = Path(scratch) / "home", Path(scratch) / "config" / "sources" / "flights"
        source.mkdir(parents=True)
        columns = ", ".join(f"{field.name}: {_KINDS[str(field.type)]}" for field in held.schema)
        uri = "{landing}/flights/{partition}.parquet"
        times = "grain: day\ntimezone: UTC\navailable: end\nstart: 2013-01-01\nend: 2013-12-31\n"
        (source / "source.yaml").write_text(
            f'{times}uri: "{uri}"\ncontract: contract.json\nmax_reject_rate: 0.1\ncolumns: {{{columns}}}\n'
        )
        _write_contract(source / "contract.json")
        delivery = home / "landing" / "flights" / "2013-01-01.parquet"
        delivery.parent.mkdir(parents=True)
        pq.write_table(held, delivery)
        os.environ |= {"MILLRACE_HOME": str(home), "MILLRACE_CONFIG": str(source.parents[1])}
        words = ["flights", "2013-01-01", "--json"]
        command = [sys.executable, "-P", "-m", "tasks", "run", "ingest", *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        del held
        _from_here_on()
        with redirect_stdout(io.StringIO()) as said:
            assert main(["run", "validate", *words]) == 0
        (outcome,) = json.loads(said.getvalue().splitlines()[-1])["partitions"]
        return outcome["quarantined"]


def _write_contract(file: Path) -> None:
    expectations = [{"type": kind, "kwargs": arguments} for kind, arguments, _ in CHECKS]
    file.write_text(json.dumps({"name": "flights", "expectations": expectations}))


def _from_here_on() -> None:
    """Memory counts from now on (VmHWM)."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    Path("/proc/self/clear_refs").write_text("5")


def _side(side: str, folder: Path, rows: int) -> None:
    from tasks.quality import load_suite
    from tasks.quality.great import great_expectations

    if side == "step":
        cpu, began = os.times(), time.monotonic()
        broken = step(table(folder, rows), folder)
        used = float(np.subtract(os.times()[:4], cpu[:4]).sum())
        answer(seconds=time.monotonic() - began, cpu=used, broken=broken, gigabytes=memory()["VmHWM"] / 1e9)
        return
    held = table(folder, rows)
    if side == "sql":
        import duckdb  # noqa: F401, TID253
    else:
        great_expectations()
        from tasks.quality import engine, validation  # noqa: F401
    with tempfile.TemporaryDirectory() as scratch:
        contract = Path(scratch) / "contract.json"
        _write_contract(contract)
        suite = load_suite(contract)
    if side == "pandas":
        held = held.to_pandas()
    _from_here_on()  # reading the files is not meant
    cpu, began = os.times(), time.monotonic()
    broken = sql(held) if side == "sql" else (ours if side == "ours" else pandas)(held, suite)
    seconds = time.monotonic() - began
    used = float(np.subtract(os.times()[:4], cpu[:4]).sum())
    answer(seconds=seconds, cpu=used, broken=int(broken), gigabytes=memory()["VmHWM"] / 1e9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--folder", type=Path, help="where the flights are kept")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.side is None:
        from benchmarks.report import show

        show(measure(words.folder, rows=words.rows))
    else:
        _side(words.side, words.folder, words.rows)


if __name__ == "__main__":
    main()
