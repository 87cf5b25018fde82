"""Texts -> the declared types: whole columns at once, and one by one only to name the first bad value."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

ARROW_TYPES: dict[str, pa.DataType] = {
    "string": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", "UTC"),
    "local_timestamp": pa.timestamp("us"),
}
"""Arrow type of each declared type."""

EXPECTED = {
    "string": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "date": "a date such as 2013-01-05",
    "timestamp": "an instant such as 2013-01-05T09:00:00Z",
    "local_timestamp": "a wall-clock time without offset, such as 2013-01-05T04:00:00",
}
"""What an error says was expected, by declared type."""

_TRUE = pa.array(["true", "t", "yes", "y", "1"])
_FALSE = pa.array(["false", "f", "no", "n", "0"])
# The largest whole number up to which every float is exact: beyond it 1e17 may mean its neighbour.
_EXACT = float(1 << 53)
_ZONED = r"[T ].*(?:Z|[+-]\d\d(?::?\d\d)?)$"

Column = pa.Array | pa.ChunkedArray


def cast_texts(texts: Column, kind: str, *, decimal: str = ".") -> Column:
    """Turns texts into a declared type; nulls stay null.

    Whole numbers may be written as `3.0` or `1e5`, truth values as true/false, t/f, yes/no, y/n
    or 1/0 in any case, `NaN` is a missing float, instants without an offset are UTC, digits beyond the
    microsecond are cut off. Spaces around a value don't count, except in strings.

    Args:
        texts: string column.
        kind: a declared type.
        decimal: decimal mark of numbers; with `,` a point in a number is refused, since it may
            as well separate thousands.

    Raises:
        pyarrow.ArrowInvalid: a text is not of that type; `first_bad` tells which.
    """
    if kind == "string":
        return texts
    if kind == "bool":
        return _bools(texts)
    if kind in ("int", "float") and decimal != ".":
        if pc.any(pc.match_substring(texts, ".")).as_py():
            raise pa.ArrowInvalid("a point in a number whose decimal mark is a comma")
        texts = pc.replace_substring(texts, decimal, ".")
    try:
        return _strict(texts, kind)
    except pa.ArrowInvalid:
        # The usual spelling failed somewhere: try the other ones that are allowed.
        return _LENIENT[kind](pc.utf8_trim_whitespace(texts))


def first_bad(values: Column, cast: Callable[[Column], Column]) -> int:
    """Returns the index of the first value on which `cast` fails, given that it fails on `values`."""
    low, high = 0, len(values)  # the first bad one lies in [low, high)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            cast(values[low:middle])
        except pa.ArrowInvalid:
            high = middle
        else:
            low = middle
    return low


def without_nan(values: Column) -> Column:
    """Returns floats with NaN made null: a missing value has one spelling in the lake."""
    if pc.any(pc.is_nan(values)).as_py():
        return pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)
    return values


def _strict(texts: Column, kind: str) -> Column:
    if kind == "int" and pc.any(pc.match_substring(texts, "x", ignore_case=True)).as_py():
        raise pa.ArrowInvalid("hexadecimal")  # which Arrow would take
    values = pc.cast(texts, ARROW_TYPES[kind])
    return without_nan(values) if kind == "float" else values


def _bools(texts: Column) -> Column:
    words = pc.utf8_lower(pc.utf8_trim_whitespace(texts))
    true, false = pc.is_in(words, _TRUE), pc.is_in(words, _FALSE)
    valid = pc.is_valid(words)
    if pc.any(pc.and_(valid, pc.invert(pc.or_(true, false)))).as_py():
        raise pa.ArrowInvalid("not a truth value")
    return pc.if_else(valid, true, pa.scalar(None, pa.bool_()))


def _ints(texts: Column) -> Column:
    texts = pc.replace_substring_regex(texts, r"^\+|\.0*$", "")
    plain = pc.match_substring_regex(texts, r"^-?\d+$")
    nothing = pa.scalar(None, pa.string())
    numbers = pc.cast(pc.if_else(plain, nothing, texts), pa.float64())  # 1e5, as R writes it
    # NaN fails the comparison: a missing whole number is an empty field, not a NaN
    whole = pc.and_(pc.equal(pc.floor(numbers), numbers), pc.less_equal(pc.abs(numbers), _EXACT))
    if not pc.all(whole, min_count=0).as_py():
        raise pa.ArrowInvalid("not a whole number")
    return pc.coalesce(pc.cast(pc.if_else(plain, texts, nothing), pa.int64()), pc.cast(numbers, pa.int64()))


def _instants(texts: Column) -> Column:
    texts = pc.replace_substring_regex(texts, r"(\.\d{6})\d+", r"\1")
    zoned = pc.match_substring_regex(texts, _ZONED)
    nothing = pa.scalar(None, pa.string())
    aware = pc.cast(pc.if_else(zoned, texts, nothing), pa.timestamp("us", "UTC"))
    naive = pc.cast(pc.if_else(zoned, nothing, texts), pa.timestamp("us"))
    return pc.coalesce(aware, pc.assume_timezone(naive, "UTC"))


def _wall_clock(texts: Column) -> Column:
    return pc.cast(pc.replace_substring_regex(texts, r"(\.\d{6})\d+", r"\1"), pa.timestamp("us"))


_LENIENT: dict[str, Callable[[Column], Column]] = {
    "int": _ints,
    "float": lambda texts: without_nan(pc.cast(texts, pa.float64())),
    "date": lambda texts: pc.cast(texts, pa.date32()),
    "timestamp": _instants,
    "local_timestamp": _wall_clock,
}
