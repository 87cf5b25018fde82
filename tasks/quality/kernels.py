"""Rows that break an expectation, found in Arrow columns without going through pandas.

Each answers as Great Expectations does on pandas, or None where it doesn't know: then that is asked itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

_EXACT = 1 << 52
"""Below, a whole number and a float are compared alike exactly and as floats."""
_LONGEST = 64
"""Bytes of the longest text whose distinctness is told by hashes."""
_KEPT = np.array(
    [(1 << 8 * count) - 1 for count in range(9)], np.uint64
)  # of a word's bytes, in a machine's usual order
_ODD, _HALF = np.uint64(0x9E3779B97F4A7C15), np.uint64(32)


def broken(metric: str, column: pa.ChunkedArray, arguments: Mapping[str, Any]) -> np.ndarray | None:
    """Returns the rows of one column, ascending, that break a condition; None where it isn't known here.

    Args:
        metric: Great Expectations' name for the condition, such as `column_values.between`.
        column: missing values break only `column_values.nonnull`.
        arguments: the condition's own, as Great Expectations has them.
    """
    if metric == "column_values.nonnull":
        return _rows(missing(column))
    if metric == "column_values.null":
        return _rows(pc.invert(missing(column)))
    if metric == "column_values.between":
        return _not_between(column, arguments)
    if metric in ("column_values.in_set", "column_values.not_in_set"):
        values = arguments.get("value_set")
        if not (_is_text(column.type) and isinstance(values, list) and all(isinstance(one, str) for one in values)):
            return None
        within = pc.is_in(column, pa.array(values, column.type))
        return _rows(within if metric == "column_values.not_in_set" else pc.and_not(column.is_valid(), within))
    return None


def repeated(columns: list[pa.ChunkedArray]) -> np.ndarray | None:
    """Returns which rows hold a combination of values that another row holds too, missing ones being alike.

    Returns:
        Truth values by row; None where two values that pandas takes for equal look different here.
    """
    if len(columns) == 1 and _surely_distinct(columns[0]):
        return np.zeros(len(columns[0]), bool)
    codes: np.ndarray | None = None
    for column in columns:
        if pt.is_nested(column.type) or pt.is_float16(column.type):
            return None
        if pt.is_floating(column.type):
            column = pc.add(column, pa.scalar(0.0, column.type))  # -0.0 becomes 0.0
            column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
        encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
        if isinstance(encoded, pa.ChunkedArray):
            encoded = encoded.unify_dictionaries().combine_chunks()
        if len(encoded.dictionary) == len(encoded):
            return np.zeros(len(encoded), bool)  # no two rows are alike, whatever else they hold
        fresh = encoded.indices.to_numpy(zero_copy_only=False)
        if codes is None:
            codes = fresh
            continue
        # pairs of codes, made dense again so that any number of columns fits into 64 bits
        pairs = codes.astype(np.int64) * max(len(encoded.dictionary), 1) + fresh
        codes = pa.array(pairs).dictionary_encode().indices.to_numpy(zero_copy_only=False)
    if codes is None or not len(codes):
        return np.zeros(0, bool)
    return (np.bincount(codes) > 1)[codes]


def _surely_distinct(column: pa.ChunkedArray) -> bool:
    """Returns whether no two texts of a column are alike, where that is quickly told.

    Equal texts have equal hashes: where all hashes differ, all texts do. It takes a tenth of the time of a
    dictionary of all texts, and an identity is what a contract asks about most.
    """
    if not _is_text(column.type) or column.null_count > 1:
        return False
    longest = pc.max(pc.binary_length(column)).as_py() or 0
    if longest > _LONGEST:
        return False
    hashes = np.concatenate([np.zeros(0, np.uint64), *(_hashes(chunk, longest) for chunk in column.chunks)])
    hashes.sort()
    return not (hashes[1:] == hashes[:-1]).any()


def _hashes(texts: pa.Array, longest: int) -> np.ndarray:
    """Returns a 64-bit hash of each text, from its length and its words of eight bytes; of a missing one, any."""
    _, offsets, data = texts.buffers()
    kind = np.int64 if pt.is_large_string(texts.type) else np.int32
    bounds = (
        np.frombuffer(offsets, kind)[texts.offset : texts.offset + len(texts) + 1] if len(texts) else np.zeros(1, kind)
    )
    first, size = int(bounds[0]), int(bounds[-1] - bounds[0])
    held = np.zeros(size + 8, np.uint8)  # a word that begins with a text's last bytes ends behind them
    if size:
        held[:size] = np.frombuffer(data, np.uint8)[first : first + size]
    words = np.lib.stride_tricks.as_strided(held[:8].view(np.uint64), (size + 1,), (1,))  # one from each byte on
    begins, lengths = (bounds[:-1] - first).astype(np.int64), np.diff(bounds)
    hashes = lengths.astype(np.uint64)
    for at in range(0, longest, 8):
        word = words[np.minimum(begins + at, size)] & _KEPT[np.clip(lengths - at, 0, 8)]
        hashes = (hashes ^ word) * _ODD
        hashes ^= hashes >> _HALF
    return hashes


def missing(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Returns which values are missing, as pandas sees it: a float that is no number is missing too."""
    return pc.is_null(column, nan_is_null=pt.is_floating(column.type))


def _not_between(column: pa.ChunkedArray, arguments: Mapping[str, Any]) -> np.ndarray | None:
    low, high = arguments.get("min_value"), arguments.get("max_value")
    bounds = [bound for bound in (low, high) if bound is not None]
    if not bounds or not all(_comparable(column.type, bound) for bound in bounds):
        return None
    if len(bounds) == 2 and low > high:
        return None
    outside = []
    if low is not None:
        below = pc.less_equal if arguments.get("strict_min") else pc.less
        outside.append(below(column, _scalar(low, column.type)))
    if high is not None:
        above = pc.greater_equal if arguments.get("strict_max") else pc.greater
        outside.append(above(column, _scalar(high, column.type)))
    return _rows(outside[0] if len(outside) == 1 else pc.or_(*outside))


def _comparable(kind: pa.DataType, bound: Any) -> bool:
    """Returns whether Arrow compares a column with a bound exactly as pandas does."""
    if isinstance(bound, bool) or bound != bound:
        return False
    if pt.is_integer(kind):
        return isinstance(bound, int) or (isinstance(bound, float) and abs(bound) < _EXACT)
    if pt.is_float64(kind):
        return isinstance(bound, float) or (isinstance(bound, int) and abs(bound) < _EXACT)
    if isinstance(bound, datetime):
        return pt.is_timestamp(kind) and (kind.tz is None) == (bound.tzinfo is None)
    return isinstance(bound, date) and pt.is_date(kind)


def _scalar(bound: Any, kind: pa.DataType) -> pa.Scalar:
    if isinstance(bound, datetime):
        return pa.scalar(bound, pa.timestamp("us", kind.tz))
    if isinstance(bound, int | float):
        return pa.scalar(bound, pa.float64() if pt.is_floating(kind) or isinstance(bound, float) else pa.int64())
    return pa.scalar(bound, kind)


def _is_text(kind: pa.DataType) -> bool:
    return pt.is_string(kind) or pt.is_large_string(kind)


def _rows(mask: pa.ChunkedArray) -> np.ndarray:
    if not pc.any(mask, min_count=0).as_py():  # the usual case, told without an array of the rows
        return np.zeros(0, np.int64)
    return np.flatnonzero(pc.fill_null(mask, False).to_numpy())
