"""Scoring a partition end to end: `python -m benchmarks.scoring [--rows N] [--large N]`.

A lake holds one partition's features; what scores it runs in a process of its own whose imports are
done before its clock starts, and loads the model within it:

- ours: `tasks.score.score`, from the features table's files to the committed predictions: the champion looked
  up, the population checked, rows read, encoded, predicted and written, files and commit flushed to the disk;
- bare: a loop over pyarrow's batches of the same file and size: encoded (by the project's own `encode`: a slower
  one would flatter us), `inplace_predict`, written with pyarrow; nothing is flushed, checked or committed;
- pyfunc: the same loop with MLflow's `pyfunc` of the registered model, on pandas frames.

Memory is that of ours at `--large` rows against ours at the rows that the others score.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.flights import FEATURES, FILE_ROWS, flights
from benchmarks.measure import Figure, Part, Ran, answer, cores, of, ratios, rounds, run

DAY, VIEW = "2014-01-01", "bench"
SIDES = ("ours", "bare", "pyfunc")
FEW, MANY = 20, 200
PIPELINE = """
pipeline: flights
grain: day
timezone: UTC
start: 2014-01-01
entity: [flight_id]
as_of: start+4h
deadline: start+5h
lookback: 1d
sources:
  schedule: {drives: true, uri: "{landing}/schedule/{partition}.parquet", available: start-6h, columns: {flight_id: string}}
  outcomes: {uri: "{landing}/outcomes/{partition}.parquet", available: end+3h, columns: {flight_id: string, late: bool}}
label: {sql: late, source: outcomes}
train: {every: month, min_window: 5d, holdout: 3d, lead: 1h, objective: binary:logistic}
gate: {metric: auc}
"""


def measure(
    folder: Path, *, rows: int = 1_000_000, small: int = 1_000_000, large: int = 20_000_000, times: int = 5
) -> Part:
    """Run the sides in turn and compare."""
    figures, sides, said = [], {}, []
    for trees in (FEW, MANY):
        project = _prepared(folder, rows, trees)
        found = rounds(times, SIDES, lambda side, project=project: _take(side, project))
        ours, bare, pyfunc = (found[side] for side in SIDES)
        what = f"scoring a partition end to end, rows per second ({rows:,} rows, {trees} trees)"
        loop, seconds = "a bare loop: pyarrow read, `inplace_predict`, write", of(ours, "seconds")
        figures += [
            Figure(what, loop, "≥ 0.95 ×", ratios(of(bare, "seconds"), seconds), " ×", least=0.95),
            Figure("the same", "MLflow's pyfunc", "ahead", ratios(of(pyfunc, "seconds"), seconds), " ×", least=1.0),
        ]
        for side, runs in found.items():
            sides[f"{side}, {trees} trees"] = {
                "s": of(runs, "seconds"),
                "s of CPU": of(runs, "cpu"),
                "rows a second": [rows / one for one in of(runs, "seconds")],
                "GB at most": [one.peak / 1e9 for one in runs],
                "share of others": [one.others for one in runs],
            }
    projects = {count: _prepared(folder, count, FEW) for count in (large, small)}
    found = rounds(times, [*map(str, projects)], lambda count: _take("ours", projects[int(count)], again=0))
    peaks = {count: [one.peak for one in found[str(count)]] for count in projects}
    figures.append(
        Figure(
            f"scoring memory at {large:,} rows ({FEW} trees)",
            f"at {small:,} rows",
            "flat within 20 %",
            ratios(peaks[large], peaks[small]),
            " ×",
            most=1.2,
        )
    )
    for count in projects:
        runs = found[str(count)]
        sides[f"ours, {count:,} rows, {FEW} trees"] = {
            "s": of(runs, "seconds"),
            "s of CPU": of(runs, "cpu"),
            "rows a second": [count / one for one in of(runs, "seconds")],
            "GB at most": [one / 1e9 for one in peaks[count]],
            "share of others": [one.others for one in runs],
        }
        shutil.rmtree(projects[count], ignore_errors=True)
    said.append(f"{len(FEATURES)} features, {cores()} threads; memory is the whole process's, with its imports")
    return Part(tuple(figures), sides, tuple(said))


def _take(side: str, project: Path, *, again: int = 1) -> Ran:
    return run("benchmarks.scoring", "--side", side, "--project", project, again=again)


def _prepared(folder: Path, rows: int, trees: int) -> Path:
    project = folder / f"scoring-{rows}-{trees}"
    if not (project / "ready").exists():
        shutil.rmtree(project, ignore_errors=True)
        size = min(rows, FILE_ROWS)
        run("benchmarks.scoring", "--side", "prepare", "--project", project, "--rows", rows, "--trees", trees,
            "--files", folder, "--size", size, again=0)  # fmt: skip
    return project


def prepare(project: Path, files: list[Path], trees: int) -> None:
    """A lake as the steps before a score leave it: one partition ingested, validated, featurized; a champion."""
    from tasks.domain import tables
    from tasks.domain.promotion import LedgerEvent, ModelRef
    from tasks.domain.run import RunRef
    from tasks.lake import Entry
    from tasks.lake.racing import replace_untouched
    from tasks.lake.schema import arrow_schema
    from tasks.lake.versions import version_key

    part = project / "config" / "pipelines" / "flights"
    part.mkdir(parents=True)
    (part / "pipeline.yaml").write_text(PIPELINE)
    (part / "features.sql").write_text("select flight_id from entities\n")
    spec, lake, _ = opened(project)
    count = sum(pq.read_metadata(file).num_rows for file in files)
    moment = spec.driver.declared(spec.driver.partition(DAY)).isoformat()
    columns = spec.driver.columns
    versions: dict[str, int] = {}
    for name, wanted, more, kept in (
        (tables.raw("schedule"), tables.raw_columns(columns), {"_file": "day.parquet"}, count),
        (tables.quarantine("schedule"), tables.quarantine_columns(columns), {}, 0),
        (tables.clean("schedule"), tables.clean_columns(columns), {"_known_at": datetime.fromisoformat(moment)}, count),
    ):
        meta = {"known_at": moment, "digest": "0", "inputs": dict(versions)}
        versions[name], _ = replace_untouched(
            lake.table(name),
            pinned=-1,
            columns=arrow_schema(wanted),
            partition_by=tables.SOURCE_KEY,
            stream=lambda keys, more=more, kept=kept: _delivered(keys[0], files if kept else [], more),
            entries={(DAY, 1): Entry((DAY, 1), kept, meta)},
            run=RunRef("prepare"),
        )
    schema = pq.read_schema(files[0]).remove_metadata()
    schema = schema.remove(schema.get_field_index("label")).append(pa.field("partition_key", pa.string()))
    replace_untouched(
        lake.table(tables.features("flights", VIEW)),
        pinned=-1,
        columns=schema,
        partition_by=tables.PIPELINE_KEY,
        stream=lambda keys: ((keys[0], batch) for batch in _batches(files, schema.names[:-1])),
        entries={(DAY,): Entry((DAY,), count, {})},
        run=RunRef("prepare"),
    )
    model, encoding = _model(files[0], trees)
    ref = ModelRef(1, lake.put_model(model), VIEW)
    descriptor = {"digest": ref.digest, "encoding": encoding.to_dict(), "classes": []}
    lake.objects.put(version_key("flights", 1), json.dumps(descriptor).encode())
    began = datetime(2013, 1, 1, tzinfo=UTC)
    event = LedgerEvent("promote", None, ref, ref, "2013-12", "", began, began, "benchmark", "the only one", "prepare")
    lake.ledger("flights").append(event.to_dict(), expected=0)
    _write_pyfunc(project / "pyfunc", model, encoding, ref.digest)
    (project / "ready").write_text("")


def opened(project: Path):
    """(spec, lake, settings) of a project."""
    from tasks.lake import open_lake
    from tasks.settings import load_pipeline, load_settings

    settings = load_settings({"MILLRACE_HOME": str(project), "MILLRACE_CONFIG": str(project / "config")})
    return load_pipeline(settings.config, "flights"), open_lake(settings), settings


def ours(project: Path) -> int:
    """Publish the partition anew; its rows."""
    from tasks.domain import tables
    from tasks.domain.promotion import LedgerEvent
    from tasks.domain.results import Featurized, FeaturizeResult, PinnedPartition, PinResult
    from tasks.domain.run import RunRef
    from tasks.score import score
    from tasks.settings import Settings

    spec, lake, _ = opened(project)
    model = LedgerEvent.from_dict(lake.ledger("flights").events()[-1]).to_model
    features = tables.features("flights", VIEW)
    rows = lake.table(features).entries()[DAY,].rows
    as_of = spec.as_of.at(spec.partition(DAY)).isoformat()
    names = (tables.predictions("flights"), tables.clean("schedule"), tables.clean("outcomes"))
    pin = PinResult(
        "flights", (PinnedPartition(DAY, as_of, model),), (), {name: lake.table(name).version() for name in names}
    )
    done = score(
        spec=spec,
        pin=pin,
        features=FeaturizeResult(
            "flights", {features: lake.table(features).version()}, (Featurized(DAY, rows, rows),), 1
        ),
        lake=lake,
        run=RunRef(uuid.uuid4().hex),
        threads=cores(),
        batch_rows=Settings.model_fields["score_batch_rows"].default,
    )
    assert done.partitions[0].status == "published", done
    return done.partitions[0].rows


def bare(project: Path, *, pyfunc: bool = False) -> int:
    """The loop that one would write by hand; its rows."""
    from tasks.compute.encoding import Encoding, encode
    from tasks.settings import Settings

    (file,) = (project / "lake" / "flights" / "features" / VIEW).glob("partition_key=*/*.parquet")
    encoding = Encoding.from_dict(json.loads((project / "lake" / "flights" / "versions" / "1.json").read_text())["encoding"])  # fmt: skip
    predict = _pyfunc(project, encoding) if pyfunc else _booster(project)
    done, writer = 0, None
    for batch in pq.ParquetFile(file).iter_batches(Settings.model_fields["score_batch_rows"].default):
        scores = predict(encode(batch, encoding))
        found = pa.table(
            {
                "flight_id": batch.column("flight_id"),
                "score": scores.astype("float64"),
                "model_version": np.full(len(batch), 1),
            }
        )
        writer = writer or pq.ParquetWriter(project / "by-hand.parquet", found.schema, compression="zstd")
        writer.write_table(found)
        done += len(batch)
    assert writer is not None
    writer.close()
    return done


def _booster(project: Path):
    import xgboost

    (file,) = (project / "lake" / "models").glob("*.ubj")
    booster = xgboost.Booster({"nthread": cores()}, model_file=str(file))
    return lambda matrix: booster.inplace_predict(matrix, validate_features=False)


def _pyfunc(project: Path, encoding):
    import mlflow.pyfunc
    import pandas as pd

    model = mlflow.pyfunc.load_model(str(project / "pyfunc"))
    # the registered model's signature: the encoded matrix, as doubles
    return lambda matrix: model.predict(pd.DataFrame(matrix.astype("float64"), columns=list(encoding.columns)))


def _delivered(key, files: list[Path], more: dict) -> Iterator[tuple]:
    line = 0
    for batch in _batches(files, ["flight_id"]):
        rows = {"flight_id": batch.column(0), "_line": pa.array(np.arange(line, line + len(batch)))}
        line += len(batch)
        yield (
            key,
            pa.RecordBatch.from_pydict(
                rows | {name: pa.repeat(pa.scalar(value), len(batch)) for name, value in more.items()}
            ),
        )


def _batches(files: list[Path], columns: list[str]) -> Iterator[pa.RecordBatch]:
    for file in files:
        yield from pq.ParquetFile(file).iter_batches(131_072, columns=columns)


def _model(file: Path, trees: int):
    import xgboost

    from tasks.compute.encoding import encode, fit_encoding

    table = pq.read_table(file).slice(0, 200_000)
    encoding = fit_encoding(table, FEATURES)
    matrix = xgboost.QuantileDMatrix(
        encode(table, encoding),
        table["label"].to_numpy(),
        feature_names=list(encoding.columns),
        feature_types=list(encoding.kinds),
        enable_categorical=True,
    )
    params = {"objective": "binary:logistic", "max_depth": 6, "eta": 0.1, "nthread": cores()}
    return bytes(xgboost.train(params, matrix, trees).save_raw("ubj")), encoding


def _write_pyfunc(folder: Path, model: bytes, encoding, digest: str) -> None:
    """The model as MLflow has it, written by the code that registers versions."""
    from tasks.registry.model_files import write_model
    from tasks.registry.records import TrainingRecord

    folder.mkdir()
    features = tuple(zip(encoding.columns, encoding.kinds, strict=True))
    record = TrainingRecord("flights", "k", "k", {}, {}, {}, {}, features, model, digest)
    write_model(folder, record, run_id="0" * 32, model_id="m-" + "0" * 32, location=str(folder))


def _side(side: str, project: Path) -> None:
    import xgboost  # noqa: F401  before the clock

    from tasks.compute import scoring  # noqa: F401
    from tasks.lake import delta, racing, schema  # noqa: F401

    if side == "ours":
        import deltalake  # noqa: F401, TID253
    if side == "pyfunc":
        import mlflow.pyfunc
        import mlflow.xgboost  # noqa: F401
    cpu, began = os.times(), time.monotonic()
    count = ours(project) if side == "ours" else bare(project, pyfunc=side == "pyfunc")
    answer(seconds=time.monotonic() - began, cpu=sum(os.times()[:4]) - sum(cpu[:4]), rows=count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--large", type=int, default=20_000_000)
    parser.add_argument("--folder", type=Path, help="where the flights and the lakes are kept")
    parser.add_argument("--side", choices=(*SIDES, "prepare"), help=argparse.SUPPRESS)
    for name in ("--project", "--files"):
        parser.add_argument(name, type=Path, help=argparse.SUPPRESS)
    for name in ("--trees", "--size"):
        parser.add_argument(name, type=int, help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.side is None:
        from benchmarks.report import show

        show(measure(words.folder, rows=words.rows, small=words.rows, large=words.large))
    elif words.side == "prepare":
        prepare(words.project, flights(words.files, words.rows, size=words.size), words.trees)
        answer(rows=words.rows)
    else:
        _side(words.side, words.project)


if __name__ == "__main__":
    main()
