"""A live pipeline on a clock that is minutes away: daily, in a zone where it is about noon now.

Its moments are counted from midnight. In a fixed zone a test that starts shortly before midnight would
find its moments in the next day, and one shortly after it yesterday's labels not yet known.
"""

from __future__ import annotations

import csv
import io
import random
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

DAYS = 16  # of history

PIPELINE = """
pipeline: clock
grain: day
timezone: {timezone}
start: {start}
entity: [id]
as_of: start+{as_of}s
deadline: start+{deadline}s
lookback: 2d
sources:
  arrivals_today:
    drives: true
    uri: "{{landing}}/arrivals_today/{{partition}}.csv"
    available: start+{available}s
    history: {today}
    columns: {{id: string, kind: string, amount: float}}
  prices_today:
    uri: "{{landing}}/prices_today/{{partition}}.jsonl"
    available: start+{available}s
    ahead: true # the day's price list
    history: {today}
    columns: {{kind: string, price: float}}
  truth:
    uri: "{{landing}}/truth/{{partition}}.csv"
    available: end+1m
    history: {today}
    columns: {{id: string, good: bool}}
label: {{sql: good, source: truth}}
train: {{every: day, min_window: 5d, holdout: 4d, lead: 1m, objective: binary:logistic, rounds: 10, params: {{max_depth: 3}}}}
gate: {{metric: auc}}
"""

FEATURES = """
select e.id, e.amount, e.kind, p.price
from entities e
left join (select kind, arg_max(price, _partition) as price from prices_today group by kind) p using (kind)
"""


@dataclass(frozen=True)
class Clock:
    """Where today's partition stands in time.

    Attributes:
        today: the live partition's local day.
        available: when its files are expected.
        as_of: its knowledge cut, when the score DAG runs.
    """

    today: date
    available: datetime
    as_of: datetime


def write_clock(config: Path, landing: Path, *, seconds: int, now: datetime | None = None) -> Clock:
    """Write the pipeline with as_of in `seconds` from now, and deliver its history but nothing of today.

    Args:
        config, landing: folders to write to.
        seconds: from now to as_of; some hours at most.
        now: another moment than the present one, aware.
    """
    now = (now or datetime.now(UTC)).astimezone(UTC)
    timezone, midnight = noon_zone(now)
    today = midnight.astimezone(ZoneInfo(timezone)).date()
    as_of = int((now - midnight).total_seconds()) + seconds
    folder = config / "pipelines" / "clock"
    folder.mkdir(parents=True)
    (folder / "features.sql").write_text(FEATURES)
    moments = {"as_of": as_of, "available": as_of - 30, "deadline": as_of + 600}
    text = PIPELINE.format(start=today - timedelta(days=DAYS), today=today, timezone=timezone, **moments)
    (folder / "pipeline.yaml").write_text(text)
    for back in range(DAYS, 0, -1):
        day = today - timedelta(days=back)
        deliver_arrivals(landing, day)
        deliver_prices(landing, day)
        _truth(landing, day)
    return Clock(today, midnight + timedelta(seconds=as_of - 30), midnight + timedelta(seconds=as_of))


def noon_zone(now: datetime) -> tuple[str, datetime]:
    """A fixed zone in which it is between noon and one o'clock, and its last midnight in UTC."""
    timezone = f"Etc/GMT{now.astimezone(UTC).hour - 12:+d}"  # Etc/GMT+5 is five hours behind UTC
    there = now.astimezone(ZoneInfo(timezone))
    return timezone, there.replace(hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)


def deliver_arrivals(landing: Path, day: date) -> None:
    _csv(landing / "arrivals_today" / f"{day}.csv", ["id", "kind", "amount"], _rows(day))


def deliver_prices(landing: Path, day: date) -> None:
    """Prices by kind, on the day given."""
    lines = [f'{{"kind": "k{i}", "price": {i + day.day / 100}}}\n' for i in range(4)]
    _whole(landing / "prices_today" / f"{day}.jsonl", "".join(lines))


def _rows(day: date) -> list[list]:
    draw = random.Random(day.isoformat())
    return [[f"{day}-{i:03}", f"k{draw.randrange(4)}", round(draw.uniform(0, 100), 2)] for i in range(60)]


def _truth(landing: Path, day: date) -> None:
    draw = random.Random(f"truth {day}")
    rows = [[name, str(draw.random() < amount / 100).lower()] for name, _, amount in _rows(day)]
    _csv(landing / "truth" / f"{day}.csv", ["id", "good"], rows)


def _csv(file: Path, header: list[str], rows: list[list]) -> None:
    lines = io.StringIO()
    csv.writer(lines).writerows([header, *rows])
    _whole(file, lines.getvalue())


def _whole(file: Path, text: str) -> None:
    """Write a file so that it appears whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    part.write_text(text)
    part.replace(file)
