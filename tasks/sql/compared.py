"""Two computations of the same features compared, and rows that tell of a time that had not come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

TOLERANCE = 1e-9
"""Relative: sums of floats over the same rows may round in another order."""
_FIRST_ZONE = timedelta(hours=14)
"""No clock on earth is further before UTC: a wall-clock time beyond it has come nowhere."""


@dataclass(frozen=True)
class Difference:
    """A column that differs: in how many rows, the entity of the first of them, and its two values."""

    column: str
    rows: int
    entity: str
    first: Any
    second: Any


def differences(first: pa.Table, second: pa.Table, entity: Sequence[str]) -> list[Difference]:
    """The columns in which two feature tables of one partition differ; a lacking row is a difference in the entity."""
    order = [(name, "ascending") for name in entity]
    one, other = (table.take(pc.sort_indices(table, order)).combine_chunks() for table in (first, second))
    if not one.select(entity).equals(other.select(entity)):
        column = ", ".join(entity)
        return [Difference(column, abs(len(one) - len(other)), "", f"{len(one)} rows", f"{len(other)} rows")]
    found = []
    for name in one.column_names:
        apart = np.flatnonzero(_apart(one[name], other[name]))
        if len(apart):
            row = int(apart[0])
            at = ", ".join(f"{column} {one[column][row].as_py()!r}" for column in entity)
            found.append(Difference(name, len(apart), at, one[name][row].as_py(), other[name][row].as_py()))
    return found


def _apart(one: pa.ChunkedArray, other: pa.ChunkedArray) -> np.ndarray:
    if pa.types.is_floating(one.type):
        a, b = (column.to_numpy(zero_copy_only=False) for column in (one, other))
        return ~np.isclose(a, b, rtol=TOLERANCE, atol=0, equal_nan=True)
    equal = pc.fill_null(pc.equal(one, other), False)
    both = pc.and_(pc.is_null(one), pc.is_null(other))
    return ~pc.or_(equal, both).to_numpy(zero_copy_only=False)


def not_come(rows: pa.Table, columns: Mapping[str, str], as_of: datetime, *, reference: bool) -> dict[str, np.ndarray]:
    """Column -> which rows tell a time that had not come when they are said to be known; columns without any left out.

    Args:
        rows: of a clean table, with `_known_at`.
        columns: those to look at, with their types.
        as_of: the knowledge cut.
        reference: whether the rows are reference data, which counts as known from the beginning of time.
    """
    limit = np.full(len(rows), np.datetime64(as_of.astimezone(UTC).replace(tzinfo=None), "us"))
    if not reference:
        limit = np.minimum(_moments(rows["_known_at"]), limit)
    found = {}
    for name, kind in columns.items():
        # any other type is a wall clock's somewhere
        until = limit if kind == "timestamp" else limit + np.timedelta64(_FIRST_ZONE)
        later = _moments(rows[name]) > until  # a missing time is no later one
        if later.any():
            found[name] = later
    return found


def _moments(column: pa.ChunkedArray) -> np.ndarray:
    """Times as numpy's microseconds, NaT where missing; of an instant in UTC."""
    return column.cast(pa.timestamp("us")).to_numpy()


def equal_columns(rows: pa.Table, features: Sequence[str], columns: Mapping[str, str], least: int) -> list[tuple]:
    """(feature, column, rows) where a feature is the same as another column in every row that has both.

    Args:
        columns: name in `rows` -> name to tell.
        least: rows that must have both; fewer may be alike by chance.
    """
    found = []
    for feature in features:
        for name, told in columns.items():
            pair = [_plain(rows[one]) for one in (feature, name)]
            if pair[0] is None or pair[1] is None or pair[0].type != pair[1].type:
                continue
            both = pc.and_(pc.is_valid(pair[0]), pc.is_valid(pair[1]))
            one, other = (column.filter(both) for column in pair)
            if len(one) >= least and pc.count_distinct(one).as_py() > 1 and pc.all(pc.equal(one, other)).as_py():
                found.append((feature, told, len(one)))
    return found


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Numbers and conditions as doubles, texts as they are; anything else is no feature."""
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return column.cast(pa.float64(), safe=False)
    return column.cast(pa.string()) if pa.types.is_string(column.type) else None
