"""A small pipeline's configuration, and deliveries for it: orders on a day, late or not."""

from __future__ import annotations

import csv
import random
from datetime import date, timedelta
from pathlib import Path

CONTRACT = """{"name": "orders", "expectations": [
  {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "order_id"}},
  {"type": "expect_column_values_to_be_between", "kwargs": {"column": "amount", "min_value": 0, "max_value": 1000}}
]}
"""

ORDERS = """
grain: day
timezone: America/New_York
uri: "{landing}/orders/{partition}.csv"
available: start-6h
start: 2024-01-01
end: 2024-12-31
contract: contract.json
columns: {order_id: string, shop: string, amount: float}
"""

ARRIVALS = """
grain: day
timezone: America/New_York
uri: "{landing}/arrivals/{partition}.csv"
available: end+3h
start: 2024-01-01
end: 2024-12-31
columns: {order_id: string, late: bool}
"""

SHOPS = """
grain: none
uri: "{landing}/shops.csv"
columns: {shop: string, size: int}
"""

PIPELINE = """
pipeline: NAME
grain: day
timezone: America/New_York
start: 2024-01-01
end: 2024-12-31
entity: [order_id]
as_of: start+4h
deadline: start+5h
lookback: 3d
sources: {orders: {drives: true}, arrivals: , shops: }
label: {sql: late, source: arrivals}
train: {every: month, min_window: 5d, holdout: 3d, lead: 1h, objective: binary:logistic, rounds: 5, params: {max_depth: 2}}
gate: {metric: auc}
"""

FEATURES = """
select o.order_id, o.amount, s.size
from entities o left join shops s using (shop)
"""


LOOKING_BACK = """
with sold as (select shop, count(*) as orders from orders group by shop),
     known as (select o.shop, avg(cast(a.late as int)) as late from arrivals a join orders o using (order_id) group by o.shop)
select e.order_id, e.amount, s.orders, k.late
from entities e left join sold s using (shop) left join known k using (shop)
"""
"""Feature SQL that reads three days of both sources."""


def write_config(folder: Path, *names: str, live: bool = False) -> Path:
    """Write three shared sources and a pipeline for each name; returns the folder for MILLRACE_CONFIG.

    Args:
        folder: is made.
        names: of the pipelines; each uses the same sources.
        live: whether the sources are live; otherwise their year is a historical load.
    """
    history = "" if live else "history: 2025-01-01\n"
    for name, text in {"orders": ORDERS, "arrivals": ARRIVALS, "shops": SHOPS}.items():
        part = folder / "sources" / name
        part.mkdir(parents=True, exist_ok=True)
        (part / "source.yaml").write_text(text + (history if name != "shops" else ""))
    (folder / "sources" / "orders" / "contract.json").write_text(CONTRACT)
    for name in names:
        part = folder / "pipelines" / name
        part.mkdir(parents=True, exist_ok=True)
        (part / "pipeline.yaml").write_text(PIPELINE.replace("NAME", name))
        (part / "features.sql").write_text(FEATURES)
    return folder


def write_rollups(folder: Path, **rollups: tuple[str, str]) -> None:
    """Give the pipeline in a folder rollups, each as (source, SQL)."""
    (folder / "rollups").mkdir(exist_ok=True)
    text = ", ".join(f"{name}: {over}" for name, (over, _) in rollups.items())
    with (folder / "pipeline.yaml").open("a") as spec:
        spec.write(f"rollups: {{{text}}}\n")
    for name, (_, sql) in rollups.items():
        (folder / "rollups" / f"{name}.sql").write_text(sql)


def deliver(landing: Path, first: date, last: date, *, orders: int = 40) -> None:
    """Put the deliveries of a range of days into a landing folder, the same each time."""
    landing.mkdir(parents=True, exist_ok=True)
    _write(landing / "shops.csv", ["shop", "size"], [[f"s{i}", i] for i in range(5)])
    day = first
    while day <= last:
        draw = random.Random(day.isoformat())
        ids = [f"{day:%Y%m%d}-{i:03}" for i in range(orders)]
        amounts = [round(draw.uniform(1, 900), 2) for _ in ids]
        rows = [[one, f"s{draw.randrange(5)}", amount] for one, amount in zip(ids, amounts, strict=True)]
        _write(landing / "orders" / f"{day}.csv", ["order_id", "shop", "amount"], rows)
        late = [[one, str(draw.random() < amount / 900).lower()] for one, amount in zip(ids, amounts, strict=True)]
        _write(landing / "arrivals" / f"{day}.csv", ["order_id", "late"], late)
        day += timedelta(days=1)


def _write(file: Path, header: list[str], rows: list[list]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
