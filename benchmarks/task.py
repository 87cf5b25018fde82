"""A training task whole, from tables to a model: `python -m benchmarks.task [--rows N] [--rounds N] [--pairs N]`.

A lake holds the features and the labels of DAYS days; each side runs in a process of its own whose imports are done
before its clock starts:

- ours: `tasks.train.train`: the window joined to the labels as known at the cut, span by span, then searched for its
  encoding, sized, trained with checkpoints, its descriptor written. The registry is none: MLflow's part (about a
  second, whatever the rows) is outside of the clock;
- script: what one would write by hand: both tables' files read with pyarrow, merged with pandas, texts as pandas'
  categories, `xgboost.QuantileDMatrix`, `xgboost.train`. It takes the labels as they are, with no cut.

Memory is the largest of the side's processes together, with its imports.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.flights import FEATURES, FILE_ROWS, TEXTS, flights
from benchmarks.measure import Figure, Part, answer, cores, of, ratios, rounds, run
from benchmarks.scoring import PIPELINE, opened
from benchmarks.training import PARAMS

SIDES = ("ours", "script")
DAYS, VIEW = 50, "bench"
FIRST, TRAINING = date(2014, 1, 1), "2014-03"


def measure(folder: Path, *, rows: int = 10_000_000, boosts: int = 20, pairs: int = 3) -> Part:
    """Run the pairs and compare."""
    project, words = _prepared(folder, rows, boosts), ("--rounds", boosts)
    found = rounds(pairs, SIDES, lambda side: run("benchmarks.task", "--side", side, "--project", project, *words))
    ours, script = (found[side] for side in SIDES)
    size = f"{rows:,} rows x {boosts} rounds, {len(FEATURES)} features"
    by_hand = "a script: pyarrow, pandas' merge, `xgb.train`"
    figures = (
        Figure(
            f"training task from tables to a model, wall clock ({size})",
            by_hand,
            "",
            ratios(of(ours, "seconds"), of(script, "seconds")),
            " ×",
        ),
        Figure(
            "its memory at most", by_hand, "", ratios([one.peak for one in ours], [one.peak for one in script]), " ×"
        ),
    )
    sides = {
        side: {
            "s": of(runs, "seconds"),
            "s of CPU": of(runs, "cpu"),
            "GB at most": [one.peak / 1e9 for one in runs],
            "share of others": [one.others for one in runs],
        }
        for side, runs in found.items()
    }
    sides["ours"]["s for the join"] = of(ours, "joined")
    return Part(figures, sides, (f"{size}, {DAYS} days; {cores()} threads",))


def ours(project: Path, boosts: int) -> float:
    """Train as the step does; the seconds until the window was joined."""
    from tasks.domain.results import FeaturizeResult
    from tasks.domain.run import RunRef
    from tasks.train import train

    spec, lake, settings = opened(project)
    # each run trains anew, as if it were the first
    for info in [*lake.objects.list("flights/trainings/"), *lake.objects.list("flights/versions/")]:
        lake.objects.delete(info.key)
    pin = _pin(lake)
    began, joined = time.monotonic(), []

    def say(text: str) -> None:
        if "labelled rows of" in text:
            joined.append(time.monotonic() - began)

    registry = SimpleNamespace(
        ping=lambda: None, record_training=lambda record: SimpleNamespace(version=1, run_id="benchmark")
    )
    trained = train(
        spec=spec,
        pin=pin,
        features=FeaturizeResult("flights", pin.snapshots, (), 0),
        lake=lake,
        registry=registry,
        settings=settings,
        run=RunRef("benchmark"),
        say=say,
    )
    assert (trained.rounds, trained.reused) == (boosts, False), trained
    return joined[0]


def script(project: Path, boosts: int) -> None:
    """The same model by hand."""
    import pyarrow.dataset as pads
    import xgboost

    lake = project / "lake"
    features = pads.dataset(
        sorted((lake / "flights" / "features" / VIEW).glob("partition_key=*/*.parquet")), format="parquet"
    )
    labels = pads.dataset(
        sorted((lake / "sources" / "outcomes" / "clean").glob("partition_key=*/*/*.parquet")), format="parquet"
    )
    left = features.to_table(columns=["flight_id", *FEATURES]).to_pandas()
    right = labels.to_table(columns=["flight_id", "late"]).to_pandas()
    frame = left.merge(right, on="flight_id")
    del left, right
    label = frame["late"].astype("float32")
    frame = frame[list(FEATURES)]
    for name in TEXTS:
        frame[name] = frame[name].astype("category")
    matrix = xgboost.QuantileDMatrix(frame, label, enable_categorical=True, max_bin=PARAMS["max_bin"])
    params = {"objective": "binary:logistic", "tree_method": "hist", "nthread": cores(), **PARAMS}
    assert xgboost.train(params, matrix, boosts).num_boosted_rounds() == boosts


def _pin(lake):
    from tasks.domain import tables
    from tasks.domain.results import TrainingPin

    names = (tables.clean("schedule"), tables.clean("outcomes"), tables.features("flights", VIEW))
    last = FIRST + timedelta(days=DAYS - 1)
    holdout = last + timedelta(days=1), last + timedelta(days=3)
    return TrainingPin(
        pipeline="flights",
        training=TRAINING,
        as_of="2014-03-01T04:00:00Z",
        train=(FIRST.isoformat(), last.isoformat()),
        holdout=(holdout[0].isoformat(), holdout[1].isoformat()),
        view=VIEW,
        champion=None,
        events=0,
        snapshots={name: lake.table(name).version() for name in names},
    )


def prepare(project: Path, files: list[Path], boosts: int) -> None:
    """A lake as the steps before a training leave it: features and labels of every day."""
    from tasks.domain import tables
    from tasks.domain.run import RunRef
    from tasks.lake import Entry
    from tasks.lake.racing import replace_untouched
    from tasks.lake.schema import arrow_schema
    from tasks.lake.views import view_key

    part = project / "config" / "pipelines" / "flights"
    part.mkdir(parents=True)
    objective, params = "objective: binary:logistic", ", ".join(f"{name}: {value}" for name, value in PARAMS.items())
    recipe = f"{objective}, rounds: {boosts}, params: {{{params}}}"
    (part / "pipeline.yaml").write_text(PIPELINE.replace(objective, recipe))
    (part / "features.sql").write_text("select flight_id from entities\n")
    spec, lake, _ = opened(project)
    whole = pa.concat_tables(pq.read_table(file) for file in files)
    size = -(-len(whole) // DAYS)
    days = {FIRST + timedelta(days=n): whole.slice(n * size, size) for n in range(DAYS)}
    schema = whole.schema.remove_metadata()
    schema = schema.remove(schema.get_field_index("label")).append(pa.field("partition_key", pa.string()))
    replace_untouched(
        lake.table(tables.features("flights", VIEW)),
        pinned=-1,
        columns=schema,
        partition_by=tables.PIPELINE_KEY,
        stream=lambda keys: (
            (key, batch)
            for key in keys
            for batch in days[date.fromisoformat(key[0])].select(schema.names[:-1]).to_batches(131_072)
        ),
        entries={(str(day),): Entry((str(day),), len(rows), {"visible": "0"}) for day, rows in days.items()},
        run=RunRef("prepare"),
    )
    source = spec.sources["outcomes"].source

    def delivered(keys) -> Iterator[tuple]:
        for key in keys:
            line = 0
            moment = source.declared(source.partition(key[0]))
            for batch in days[date.fromisoformat(key[0])].select(["flight_id", "label"]).to_batches(131_072):
                rows = {
                    "flight_id": batch.column(0),
                    "late": batch.column(1).cast(pa.bool_()),
                    "_line": pa.array(range(line, line + len(batch))),
                    "_known_at": pa.array([moment] * len(batch)),
                }
                line += len(batch)
                yield key, pa.RecordBatch.from_pydict(rows)

    for name, filled in (("outcomes", True), ("schedule", False)):
        use = spec.sources[name].source
        replace_untouched(
            lake.table(tables.clean(name)),
            pinned=-1,
            columns=arrow_schema(tables.clean_columns(use.columns)),
            partition_by=tables.SOURCE_KEY,
            stream=delivered if filled else lambda keys: iter(()),
            entries={
                (str(day), 1): Entry(
                    (str(day), 1),
                    len(rows) if filled else 0,
                    {"known_at": use.declared(use.partition(str(day))).isoformat(), "digest": "0", "suite": "none",
                     "rows_in": len(rows), "quarantined": 0},
                )
                for day, rows in days.items()
            },
            run=RunRef("prepare"),
        )  # fmt: skip
    view = {"id": VIEW, "sql": "select flight_id from entities"}
    lake.objects.put(view_key("flights", VIEW), json.dumps(view).encode())
    (project / "ready").write_text("")


def _prepared(folder: Path, rows: int, boosts: int) -> Path:
    project = folder / f"task-{rows}-{boosts}"
    if not (project / "ready").exists():
        shutil.rmtree(project, ignore_errors=True)
        words = ("--folder", folder, "--rows", rows, "--rounds", boosts)
        run("benchmarks.task", "--side", "prepare", "--project", project, *words, again=0)
    return project


def _side(side: str, project: Path, folder: Path | None, rows: int, boosts: int) -> None:
    if side == "prepare":
        prepare(project, flights(folder, rows, size=min(rows, FILE_ROWS)), boosts)
        answer(rows=rows)
        return
    import deltalake  # noqa: F401, TID253
    import duckdb  # noqa: F401, TID253
    import pandas  # noqa: F401
    import xgboost  # noqa: F401

    from tasks.compute import boosting, places  # noqa: F401

    cpu, began = os.times(), time.monotonic()
    joined = ours(project, boosts) if side == "ours" else script(project, boosts)
    used = sum(os.times()[:4]) - sum(cpu[:4])
    answer(seconds=time.monotonic() - began, cpu=used, joined=joined or 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the flights and the lake are kept")
    parser.add_argument("--side", choices=(*SIDES, "prepare"), help=argparse.SUPPRESS)
    parser.add_argument("--project", type=Path, help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.side is None:
        from benchmarks.report import show

        show(measure(words.folder, rows=words.rows, boosts=words.rounds, pairs=words.pairs))
        return
    _side(words.side, words.project, words.folder, words.rows, words.rounds)


if __name__ == "__main__":
    main()
