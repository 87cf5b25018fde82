"""Rollups of source partitions: read from their tables, or computed and kept there, once for all cuts that see them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from tasks.domain import tables
from tasks.domain.cut import Deliveries
from tasks.domain.grouping import groups
from tasks.domain.rollup import Piece, Rollup
from tasks.domain.run import RunRef
from tasks.errors import SupersededError
from tasks.lake import Entry, Lake

if TYPE_CHECKING:
    from tasks.sql.slices import SourceRows

ROUNDS = 5
"""How often the table is looked at again because somebody else computed one of the pieces meanwhile."""

Needed = tuple[str, tuple[str, int]]
"""A source, and one of its revisions."""


def rollup_rows(
    *,
    pipeline: str,
    rollup: Rollup,
    pieces: Collection[Piece],
    deliveries: Mapping[str, Deliveries],
    read: Callable[[Collection[Needed]], Mapping[str, SourceRows]],
    weigh: Callable[[Needed], int],
    limit: int,
    inputs: Mapping[str, int],
    lake: Lake,
    run: RunRef,
    threads: int,
    memory_limit: str | None,
) -> tuple[SourceRows, int]:
    """The rows of pieces, those that no run has computed yet computed and kept.

    Args:
        pieces: each once.
        deliveries: of each source, at the versions that were pinned.
        read: gives the rows of revisions, by source.
        weigh: rows of a revision.
        limit: rows of revisions that are held at a time.
        inputs: table name -> version, for the entries.
        threads: pieces that are computed at a time.
        memory_limit: of the SQL of each, in DuckDB's spelling.

    Returns:
        The rows, as a source's whose revision is the piece's place in `pieces`, from 1; and the table's version.

    Raises:
        SqlError: the SQL fails, or a number is infinite.
    """
    table = lake.table(tables.rollup(pipeline, rollup.id))
    lost, least = 0, len(pieces) + 1
    while True:
        version = table.version()
        there = table.entries(version=version)
        todo = [piece for piece in pieces if (piece.key, piece.made_of) not in there]
        lost, least = (0, len(todo)) if len(todo) < least else (lost + 1, least)
        try:
            for group in groups(todo, needs=needs, weight=weigh, limit=limit):
                version = _compute(rollup, group, deliveries, read, inputs, table, version, run, threads, memory_limit)
            return _read(rollup, list(pieces), table, version), version
        except SupersededError:
            # A piece follows from what it is made of, so whoever computed it, it is the same: look again.
            if lost == ROUNDS:
                raise


def needs(piece: Piece) -> list[Needed]:
    """The revisions that a piece is made of."""
    return [(name, pair) for name, pairs in piece.inputs for pair in pairs]


def _compute(rollup, group, deliveries, read, inputs, table, pinned, run, threads, memory_limit) -> int:
    import pyarrow as pa

    from tasks.lake.schema import arrow_schema
    from tasks.sql.rollups import roll_up

    columns = arrow_schema(tables.rollup_columns(rollup.columns))
    rows = read({need for piece in group for need in needs(piece)})
    parts, entries = [], []
    for piece, part in zip(
        group, roll_up(rollup, group, rows, threads=threads, memory_limit=memory_limit), strict=True
    ):
        count = part.num_rows
        known = max(_known_at(deliveries[name], pair) for name, pair in needs(piece))
        beside = {
            "_known_at": pa.array([known] * count, columns.field("_known_at").type),
            "_line": pa.array(range(count), pa.int64()),
            "partition_key": pa.array([piece.key] * count, pa.string()),
            "made_of": pa.array([piece.made_of] * count, pa.string()),
        }
        for name, values in beside.items():
            part = part.append_column(name, values)
        parts.append(part)
        meta = {
            "inputs": dict(inputs),
            "made_of": {name: [list(pair) for pair in pairs] for name, pairs in piece.inputs},
        }
        entries.append(Entry((piece.key, piece.made_of), count, meta))
    return table.replace(
        pinned=pinned,
        columns=columns,
        partition_by=tables.ROLLUP_KEY,
        data=pa.concat_tables(parts),
        entries=entries,
        run=run,
    )


def _read(rollup: Rollup, pieces: list[Piece], table, version: int) -> SourceRows:
    import pyarrow as pa
    import pyarrow.compute as pc

    from tasks.lake.schema import arrow_schema
    from tasks.sql.slices import SourceRows

    kept = tables.rollup_columns(rollup.columns)
    if pieces:
        rows = table.read(version=version, keys=[(piece.key, piece.made_of) for piece in pieces], columns=list(kept))
    else:
        rows = arrow_schema(kept).empty_table()
    # a piece's key and revisions make its digest: the digest alone tells the pieces of one rollup apart
    place = pc.index_in(rows["made_of"].cast(pa.string()), pa.array([piece.made_of for piece in pieces], pa.string()))
    revision = pc.add(place, 1).cast(pa.int64())
    return SourceRows(rollup.columns, rows.drop_columns(["made_of"]).append_column("revision", revision))


def _known_at(deliveries: Deliveries, pair: tuple[str, int]):
    key, revision = pair
    return next(one.known_at for one in deliveries[key] if one.revision == revision)
