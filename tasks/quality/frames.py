"""Arrow -> pandas, as Great Expectations' expectations on data frames want it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.types as pt

if TYPE_CHECKING:
    import pandas as pd

SLICE = 1 << 17
"""Rows that are pandas' at a time, where a check can be made by slices."""


def to_pandas(table: pa.Table, *, whole: pa.Table | None = None) -> pd.DataFrame:
    """Returns the table as pandas has it best: whole numbers with gaps stay whole numbers.

    Args:
        table: what to turn.
        whole: the table of which it is a part: what pandas makes of a column depends on whether there are
            gaps in it, and a part must come out as it does in the whole.
    """
    import pandas as pd

    whole = table if whole is None else whole
    frame = table.to_pandas()
    for name in table.column_names:
        column = table.column(name)
        if whole.column(name).null_count:
            if pt.is_integer(column.type):
                frame[name] = column.to_pandas(types_mapper={column.type: pd.Int64Dtype()}.get)
            elif pt.is_boolean(column.type):
                frame[name] = frame[name].astype(object)
    return frame
