"""Any value of a validation result -> plain JSON values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

import numpy as np

_TRACE = "exception_traceback"


def plain(value: Any) -> Any:
    """Returns the value with JSON's types only.

    Great Expectations' own conversion leaves some values in that `json` refuses, such as NumPy's
    truth values among the details of quantiles. NaN and infinities, which JSON doesn't have, become
    None and texts. Tracebacks are left out: they are long, and name folders of the machine.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, np.generic):
        # a moment of NumPy's in nanoseconds would become a bare number
        return str(value) if isinstance(value, np.datetime64 | np.timedelta64) else plain(value.item())
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None if math.isnan(value) else str(value)
    if isinstance(value, Mapping):
        # The renderer wants a text there, whatever it says.
        return {str(key): "" if key == _TRACE else plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, datetime | date):
        return None if value != value else value.isoformat()  # pandas' missing moment differs from itself
    return str(value)
