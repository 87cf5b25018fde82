"""Pipelines of other shapes than the demo's: YAML, SQL and deliveries; nothing else makes them.

`harvest`: a weekly regression over the change of clocks in spring; semicolons and decimal commas in
gzip, Parquet, and daily JSON lines. `rides`: an hourly pipeline of three classes over the change in
autumn, driven by zipped daily files whose time column assigns rows to hours.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import zipfile
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.domain.partition import Partition, partitions

BERLIN = "Europe/Berlin"
ZONE = ZoneInfo(BERLIN)

HARVEST = """
pipeline: harvest
grain: week
timezone: Europe/Berlin
start: 2024-01-01
end: 2024-06-30
entity: [farm, field]
as_of: start+6h
deadline: start+12h
lookback: 3w
sources:
  plans:
    drives: true
    uri: "{landing}/plans/{partition}.csv.gz"
    available: start-2d
    delimiter: ";"
    decimal: ","
    nulls: ["", "-"]
    history: 2025-01-01
    columns: {farm: string, field: int, hectares: float, crop: string, sown: date}
  yields:
    uri: "{landing}/yields/{partition}.parquet"
    available: end+1h
    history: 2025-01-01
    columns: {farm: string, field: int, tons: float}
  rain:
    grain: day
    uri: "{landing}/rain/{partition}.jsonl"
    available: end+30m
    history: 2025-01-01
    columns: {farm: string, millimetres: float}
label: {sql: tons, source: yields, unlabelled: tons is null}
train: {every: month, min_window: 4w, holdout: 3w, lead: 1h, objective: reg:squarederror, rounds: 20, params: {max_depth: 3, eta: 0.3}}
gate: {metric: rmse, guards: [{slice: crop, max_drop: 9, min_rows: 20}, {slice: sown, max_drop: 9}]}
"""

HARVEST_SQL = """
with wet as (
  select farm, avg(millimetres) as rain from rain group by farm
), before as (
  select farm, field, avg(tons) as tons from yields group by farm, field
)
select e.farm, e.field, e.hectares, e.crop, date_diff('day', e.sown, cast(partition_start() as date)) as days_sown,
       w.rain, b.tons as tons_before
from entities e left join wet w using (farm) left join before b using (farm, field)
where e.crop is not null  -- fallow fields are not scored
"""

RIDES = """
pipeline: rides
grain: hour
timezone: Europe/Berlin
start: 2024-10-24
end: 2024-10-28
entity: [ride]
as_of: start-10m
deadline: start
lookback: 6h
sources:
  bookings:
    drives: true
    grain: day
    uri: "{landing}/bookings/{partition}.zip"
    format: csv
    available: start-1h
    time: at
    history: 2025-01-01
    columns: {ride: string, at: timestamp, zone: string, wall: local_timestamp}
  receipts:
    uri: "{landing}/receipts/{partition}.jsonl.gz"
    available: end+5m
    history: 2025-01-01
    columns: {ride: string, tip: string}
label: {sql: tip, source: receipts}
train: {every: day, min_window: 1d, holdout: 1d, lead: 0d, objective: multi:softprob, rounds: 8, params: {max_depth: 3, eta: 0.5}}
leaks: {alone: 0.95} # the zone tells most of the tip, honestly
gate: {metric: mlogloss, guards: [{slice: zone, max_drop: 9, min_rows: 20}]}
"""

RIDES_SQL = """
select ride, zone, extract(hour from wall) as hour, (select count(*) from receipts) as receipts_known
from entities
"""
TIPS = ("none", "some", "much")


def write_harvest(folder: Path, landing: Path) -> None:
    """The weekly regression: 22 weeks from January 2024; every tenth field lies fallow."""
    _config(folder, "harvest", HARVEST, HARVEST_SQL)
    draw = random.Random(1)
    for week in partitions(
        Partition.on("week", BERLIN, date(2024, 1, 1)), Partition.on("week", BERLIN, date(2024, 5, 27))
    ):
        plans, yields = [], []
        for field in range(40):
            farm, hectares, fallow = f"f{field % 4}", round(draw.uniform(1, 9), 2), field % 10 == 9
            crop = "-" if fallow else draw.choice(["Roggen", "Hafer", "Grünkohl"])
            sown = week.local_start.date() - timedelta(days=draw.randrange(10, 90))
            plans.append(f"{farm};{field};{str(hectares).replace('.', ',')};{crop};{sown}")
            tons = None if fallow else hectares * {"Roggen": 3, "Hafer": 2, "Grünkohl": 8}[crop] + draw.gauss(0, 1)
            yields.append({"farm": farm, "field": field, "tons": tons})
        text = "\n".join(["farm;field;hectares;crop;sown", *plans]) + "\n"
        _put(landing / "plans" / f"{week}.csv.gz", gzip.compress(text.encode(), mtime=0))
        schema = pa.schema([("farm", pa.string()), ("field", pa.int32()), ("tons", pa.float32())])
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(yields, schema), buffer)
        _put(landing / "yields" / f"{week}.parquet", buffer.getvalue())
    for day in partitions(Partition.on("day", BERLIN, date(2024, 1, 1)), Partition.on("day", BERLIN, date(2024, 6, 2))):
        lines = [{"farm": f"f{farm}", "millimetres": round(draw.uniform(0, 20), 1)} for farm in range(4)]
        _put(landing / "rain" / f"{day}.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())


def write_rides(folder: Path, landing: Path) -> None:
    """The hourly classes: four days of October 2024, the last of 25 hours; ten rides an hour."""
    _config(folder, "rides", RIDES, RIDES_SQL)
    draw = random.Random(2)
    days = partitions(Partition.on("day", BERLIN, date(2024, 10, 24)), Partition.on("day", BERLIN, date(2024, 10, 27)))
    for day in days:
        rows = ["ride,at,zone,wall"]
        hour = Partition.containing("hour", BERLIN, day.start)
        while hour.start < day.end:
            receipts = []
            for number in range(10):
                ride, zone = f"{hour.start:%Y%m%d%H}-{number}", draw.choice("ABC")
                at = hour.start + timedelta(minutes=6 * number)
                rows.append(f"{ride},{at:%Y-%m-%dT%H:%M:%SZ},{zone},{_wall(at)}")
                tip = TIPS["ABC".index(zone)] if draw.random() < 0.8 else draw.choice(TIPS)
                receipts.append({"ride": ride, "tip": tip})
            text = "".join(json.dumps(line) + "\n" for line in receipts)
            _put(landing / "receipts" / f"{hour}.jsonl.gz", gzip.compress(text.encode(), mtime=0))
            hour = hour.next()
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(zipfile.ZipInfo("bookings.csv"), "\n".join(rows) + "\n")
        _put(landing / "bookings" / f"{day}.zip", buffer.getvalue())


def _wall(at: datetime) -> str:
    return at.astimezone(ZONE).strftime("%Y-%m-%dT%H:%M:%S")


def _config(folder: Path, name: str, yaml: str, sql: str) -> None:
    part = folder / "pipelines" / name
    part.mkdir(parents=True)
    (part / "pipeline.yaml").write_text(yaml)
    (part / "features.sql").write_text(sql)


def _put(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
