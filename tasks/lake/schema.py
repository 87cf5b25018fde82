"""Column types as a spec writes them, as Arrow types."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

# Delta keeps microseconds; an instant is UTC, a wall clock has no zone.
ARROW_TYPES: dict[str, pa.DataType] = {
    "string": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "local_timestamp": pa.timestamp("us"),
    "list<float>": pa.list_(pa.float64()),
    "list<reason>": pa.list_(
        pa.struct({"feature": pa.string(), "value": pa.string(), "contribution": pa.float64()}),
    ),
}


def arrow_schema(columns: Mapping[str, str]) -> pa.Schema:
    """The Arrow schema of columns given as name and type, such as {"origin": "string"}."""
    return pa.schema([pa.field(name, ARROW_TYPES[kind]) for name, kind in columns.items()])
