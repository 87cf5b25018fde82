"""Feature SQL takes no more memory than it may."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from tasks.errors import SqlError
from tasks.sql.features import Cut, FeatureEngine, SourceRows

KEY = "2024-01-01"
PAIRS = "select id, (select count(distinct a.id * 2000 + b.id) from orders a, orders b) as pairs from entities"
MOMENT = datetime(2024, 1, 1, tzinfo=UTC)


def pairs(memory_limit: str | None) -> int:
    """SQL that holds a million numbers at once, some 20 MB."""
    own = {"partition_key": [KEY], "revision": [1], "_known_at": [MOMENT], "_line": [0]}
    rows = pa.table({"id": range(1000)} | {name: value * 1000 for name, value in own.items()})
    sources = {"orders": SourceRows({"id": "int"}, rows)}
    with FeatureEngine(sources, driver="orders", time=None, entity=("id",), memory_limit=memory_limit) as engine:
        cut = Cut(KEY, MOMENT, MOMENT, MOMENT, {"orders": ((KEY, 1),)}, ((KEY, 1),))
        return engine.compute(PAIRS, cut).table["pairs"][0].as_py()


def test_sql_within_its_memory_is_computed():
    assert pairs("1GiB") == pairs(None) == 1_000_000


def test_sql_beyond_its_memory_fails_and_says_so():
    with pytest.raises(SqlError, match="fewer threads"):
        pairs("8MiB")
