"""DuckDB's values as the few types that Millrace keeps."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from tasks.errors import SqlError


def plain(column: pa.ChunkedArray, name: str, at: str, row: Callable[[int], str] = lambda number: "a row"):
    """A column as string, int64, double or bool; a NaN is a missing value.

    Args:
        name, at: of the column and of the SQL, for errors.
        row: a row's name by its number, for errors.

    Raises:
        SqlError: another type, a whole number beyond 64 bits, or an infinite one.
    """
    kind = column.type
    if pa.types.is_boolean(kind):
        return column
    if pa.types.is_dictionary(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return column.cast(pa.string())
    if pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0 and kind.precision == 38):
        try:
            return column.cast(pa.int64())
        except pa.ArrowInvalid as error:
            raise SqlError(f"{at}: {name!r} has a number that does not fit in 64 bits: {error}") from error
    if not pa.types.is_floating(kind) and not pa.types.is_decimal(kind):
        raise SqlError(f"{at}: the column {name!r} is of type {kind}, which is no feature")
    column = column.cast(pa.float64())
    column = pc.if_else(pc.is_nan(column), pa.scalar(None, pa.float64()), column)
    infinite = pc.fill_null(pc.is_inf(column), False)
    if pc.any(infinite).as_py():
        found = row(pc.index(infinite, True).as_py())
        raise SqlError(f"{at}: {name!r} is infinite for {found}", hint="bound it, for instance with least()")
    return column
