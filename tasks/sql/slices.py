"""A source's rows, cut into its revisions once: a cut view is then a list of slices, without a copy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.sql.guard import VIEW_COLUMNS

ARROW = {
    "string": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "local_timestamp": pa.timestamp("us"),
}


@dataclass(frozen=True)
class SourceRows:
    """The clean rows of one source, of all revisions that any cut of a run may show.

    Attributes:
        columns: declared columns and types.
        table: these columns, `partition_key`, `revision`, `_known_at`, and `_line` where rows shall
            keep the order of the delivered file.
    """

    columns: Mapping[str, str]
    table: pa.Table


class Slices:
    """The rows of one source by (partition key, revision)."""

    def __init__(self, rows: SourceRows) -> None:
        names = [*rows.columns, "_known_at"]
        self._schema = pa.schema([(name, ARROW[kind]) for name, kind in {**rows.columns, **VIEW_COLUMNS}.items()])
        table, codes, keys = _clustered(rows.table)
        bounds = np.flatnonzero(np.diff(codes, prepend=-1, append=-1)) if len(codes) else np.array([0])
        order = [*rows.columns, "_partition", "_known_at"]
        table = table.select([*names, "partition_key"]).rename_columns([*names, "_partition"]).select(order)
        self._table = table.cast(self._schema)
        self._at = {
            keys[codes[low]]: (int(low), int(high - low)) for low, high in zip(bounds[:-1], bounds[1:], strict=True)
        }

    def view(self, visible: Iterable[tuple[str, int]]) -> pa.Table:
        """The rows of exactly these revisions, in this order: declared columns, `_partition`, `_known_at`."""
        found = [self._at[pair] for pair in visible if pair in self._at]
        merged: list[tuple[int, int]] = []
        for low, length in found:
            if merged and sum(merged[-1]) == low:
                merged[-1] = (merged[-1][0], merged[-1][1] + length)
            else:
                merged.append((low, length))
        parts = [self._table.slice(low, length) for low, length in merged]
        return pa.concat_tables(parts) if parts else self._schema.empty_table()


def _clustered(table: pa.Table) -> tuple[pa.Table, np.ndarray, list[tuple[str, int]]]:
    """The table with each revision's rows together in the order of their lines, their codes, and what codes mean."""
    texts = pc.dictionary_encode(table["partition_key"].cast(pa.string())).unify_dictionaries().combine_chunks()
    revisions = table["revision"].to_numpy().astype(np.int64)
    if not len(revisions):
        return table, revisions, []
    indices = texts.indices.to_numpy()
    known, codes = np.unique(indices.astype(np.int64) << 32 | revisions, return_inverse=True)
    names = texts.dictionary.to_pylist()
    keys = [(names[code >> 32], int(code & 0xFFFFFFFF)) for code in known]
    lines = table["_line"].to_numpy() if "_line" in table.column_names else np.zeros(len(codes), dtype=np.int64)
    change = np.diff(codes) != 0
    together = np.count_nonzero(change) + 1 == len(known)
    if not together or np.any(np.diff(lines)[~change] < 0):
        order = np.lexsort((lines, codes))
        table, codes = table.take(pa.array(order)), codes[order]
    return table, codes, keys
