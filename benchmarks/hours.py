"""A lake as a year of an hourly pipeline leaves it, for `benchmarks.hourly`; the same for the same size.

All commits are made by the real `Table.replace`, with entries as the verbs write them. Two hourly sources and the
predictions: seven eighths came as history, 248 partitions a commit, the rest one by one, as live runs make them.
Each twentieth delivery was restated. Twelve champions of two views. A month of predictions was published again, as a
repair does it, and a month lies in four small files each; and there is what killed runs left behind. All of it is
older than the retention.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import pyarrow as pa

from tasks.domain import tables
from tasks.domain.partition import Partition, iso, partitions
from tasks.domain.promotion import LedgerEvent, ModelRef, champion_at
from tasks.domain.run import RunRef
from tasks.domain.spec import PipelineSpec
from tasks.lake import Entry, Lake, open_lake
from tasks.lake.racing import replace_untouched
from tasks.lake.schema import arrow_schema
from tasks.lake.versions import version_key
from tasks.settings import load_pipeline, load_settings

NAME, SOURCES, VIEWS = "hours", ("readings", "outcomes"), ("view-1", "view-2")
PREDICTIONS = tables.predictions(NAME)
CHAMPIONS, CHUNK, ROWS, AGE = 12, 248, 20, timedelta(days=60)
PIPELINE = """
pipeline: hours
grain: hour
timezone: America/New_York
start: 2013-01-01
end: 2013-12-31
entity: [meter]
as_of: end+30m
deadline: end+1h
lookback: 7d
sources:
  readings: {drives: true, uri: "{landing}/readings/{partition}.csv", available: end+10m, columns: {meter: string, value: float}}
  outcomes: {uri: "{landing}/outcomes/{partition}.csv", available: end+2h, columns: {meter: string, high: bool}}
label: {sql: high, source: outcomes}
train: {every: month, min_window: 30d, holdout: 7d, lead: 6h, objective: binary:logistic}
gate: {metric: auc}
"""


def environment(home: Path) -> dict[str, str]:
    """What leads the command to the project in a folder."""
    return {"MILLRACE_HOME": str(home), "MILLRACE_CONFIG": str(home / "config")}


def opened(home: Path, hours: int) -> tuple[PipelineSpec, Lake, list[Partition]]:
    """The pipeline, its lake, and the first hours of its year."""
    settings = load_settings(environment(home))
    spec = load_pipeline(settings.config, NAME)
    assert spec.last is not None
    return spec, open_lake(settings), partitions(spec.first, spec.last)[:hours]


def make(home: Path, hours: int) -> None:
    """Write configuration and lake into an empty folder."""
    folder = home / "config" / "pipelines" / NAME
    folder.mkdir(parents=True)
    (folder / "pipeline.yaml").write_text(PIPELINE)
    (folder / "features.sql").write_text("select meter from entities\n")
    spec, lake, every = opened(home, hours)
    for view in VIEWS:
        lake.objects.put(f"{NAME}/views/{view}.json", json.dumps({"id": view, "as_of": str(spec.as_of)}).encode())
    _champions(spec, lake, every)
    for name in SOURCES:
        _deliveries(spec, lake, name, every)
    _predictions(spec, lake, every)
    for one in every[::40]:
        lake.objects.put(f"{PREDICTIONS}/partition_key={one.key}/part-0-killed.parquet", b"half a file")
    age(home)


def age(home: Path) -> None:
    """Make all that lies in the lake older than the retention."""
    old = time.time() - AGE.total_seconds()
    for file in (home / "lake").rglob("*"):
        if file.is_file():
            os.utime(file, (old, old))


def write_log(lake: Lake, every: Sequence[Partition], folder: Path) -> int:
    """A log as hour by hour leaves it, without data files and checkpoints: the last live commit under each hour's name.

    Returns:
        Its newest version.
    """
    table = lake.table(PREDICTIONS)
    last = table.entries()[every[-1].key,]
    texts = [lake.objects.get(table.log.key(version)).decode() for version in (0, last.version)]
    (file,) = [one for one in table.files(version=last.version, keys=[last.key])]
    folder.mkdir(parents=True)
    (folder / f"{0:020d}.json").write_text(texts[0])
    for number, one in enumerate(every, start=1):
        name = file.path.rpartition("/")[2]
        text = texts[1].replace(every[-1].key, one.key).replace(name, f"part-0-{digest(number)[:32]}.parquet")
        (folder / f"{number:020d}.json").write_text(text)
    return len(every)


def digest(*facts: object) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _champions(spec: PipelineSpec, lake: Lake, every: Sequence[Partition]) -> None:
    before = None
    for number in range(CHAMPIONS):
        moment = spec.as_of.at(every[len(every) * number // CHAMPIONS])
        model = ModelRef(number + 1, digest(number), VIEWS[number * len(VIEWS) // CHAMPIONS])
        facts = (digest("evidence", number), moment, moment, "benchmark", "better", f"hours__train/{number}")
        event = LedgerEvent("promote", before, model, model, moment.strftime("%Y-%m"), *facts)
        lake.ledger(NAME).append(event.to_dict(), expected=number)
        described = asdict(model) | {"inputs": {}}  # as much as `maintain` reads of it
        lake.objects.put(version_key(NAME, model.version), json.dumps(described).encode())
        before = model


def _deliveries(spec: PipelineSpec, lake: Lake, name: str, every: Sequence[Partition]) -> None:
    """A clean table, and then some hours restated three days later."""
    source = spec.sources[name].source
    columns = arrow_schema(tables.clean_columns(source.columns))
    inputs = {tables.raw(name): 40, tables.quarantine(name): 40}

    def write(some: Sequence[Partition], revision: int, after: timedelta) -> None:
        entries, parts = {}, {}
        for one in some:
            key, moment = (one.key, revision), source.declared(one) + after
            facts = {"digest": digest(name, key), "known_at": iso(moment), "modified": iso(moment), "size": 900}
            facts |= {"file": f"{one.key}.csv", "rows_in": ROWS, "quarantined": 0, "docs": "", "inputs": inputs}
            entries[key] = Entry(key, ROWS, facts)
            values = {"value": [1.5] * ROWS, "high": [True] * ROWS, "_known_at": [moment] * ROWS, "_line": range(ROWS)}
            parts[key] = _rows(columns, {**values, "partition_key": [one.key] * ROWS, "revision": [revision] * ROWS})
        _replace(lake, tables.clean(name), tables.SOURCE_KEY, entries, parts, f"{name}__ingest/{some[0]}/{revision}")

    for some in _commits(every):
        write(some, 1, timedelta())
    for start in range(0, len(every), CHUNK):
        write(every[start : start + CHUNK : 20], 2, timedelta(days=3))


def _predictions(spec: PipelineSpec, lake: Lake, every: Sequence[Partition]) -> None:
    """All hours; then one month again, and another in four files each."""
    columns = arrow_schema(tables.predictions_columns({"meter": "string"}, classes=False))
    events = [LedgerEvent.from_dict(event) for event in lake.ledger(NAME).events()]
    read = {tables.clean(name): lake.table(tables.clean(name)).version() for name in SOURCES}

    def write(some: Sequence[Partition], run_id: str, pieces: int = 1) -> None:
        entries, parts = {}, {}
        for one in some:
            as_of = iso(spec.as_of.at(one))
            model = champion_at(events, spec.as_of.at(one))
            assert model is not None
            facts = {"as_of": as_of, "cut": as_of, "model_version": model.version, "model_digest": model.digest}
            facts |= {"view": model.view, "inputs": {**read, tables.features(NAME, model.view): 40}, "late": []}
            facts |= {"thin": False, "driving": ROWS, "quarantined": 0, "filtered": {}}
            entries[one.key,] = Entry((one.key,), ROWS, facts)
            values = {"partition_key": [one.key] * ROWS, "score": [0.5] * ROWS, "model_version": [model.version] * ROWS}
            parts[one.key,] = _rows(columns, values)
        _replace(lake, PREDICTIONS, tables.PIPELINE_KEY, entries, parts, run_id, pieces)

    for some in _commits(every):
        write(some, f"hours__score/{some[0]}/score")
    month = len(every) // 12
    for start in range(0, month, CHUNK):
        end = min(start + CHUNK, month)
        write(every[start:end], f"hours__score/repair-{start}/score")
        write(every[month + start : month + end], f"hours__score/pieces-{start}/score", 4)


def _commits(every: Sequence[Partition]) -> list[Sequence[Partition]]:
    """History in chunks, and live partitions one by one."""
    live = len(every) * 7 // 8
    chunks = [every[start : min(start + CHUNK, live)] for start in range(0, live, CHUNK)]
    return [*chunks, *([one] for one in every[live:])]


def _rows(columns: pa.Schema, values: Mapping[str, object]) -> pa.Table:
    values = {"meter": [f"meter-{number:03d}" for number in range(ROWS)], **values}
    return pa.table([pa.array(values[field.name], field.type) for field in columns], columns)


def _replace(
    lake: Lake,
    name: str,
    by: tuple[str, ...],
    entries: Mapping[tuple, Entry],
    parts: Mapping[tuple, pa.Table],
    run_id: str,
    pieces: int = 1,
) -> None:
    def stream(keys: Sequence[tuple]) -> Iterator[tuple[tuple, pa.RecordBatch]]:
        size = ROWS // pieces
        for piece in range(pieces):  # a partition that comes in pieces, between others, lies in as many files
            for key in keys:
                for batch in parts[key].slice(piece * size, size).to_batches():
                    yield key, batch

    table = lake.table(name)
    columns = next(iter(parts.values())).schema
    request = {"pinned": table.version(), "columns": columns, "partition_by": by, "run": RunRef(run_id)}
    replace_untouched(table, stream=stream, entries=entries, **request)
