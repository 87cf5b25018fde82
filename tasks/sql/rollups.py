"""Rollup SQL: what it gives, and its rows for one source partition after another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa

from tasks.domain.rollup import Piece, Rollup
from tasks.domain.spec import PipelineSpec
from tasks.errors import SqlError
from tasks.sql.databases import Databases
from tasks.sql.guard import TEMPORAL, bound, check_name, check_text, feature_type
from tasks.sql.session import open_session
from tasks.sql.slices import ARROW, SourceRows
from tasks.sql.syntax import nodes, parse, tables_in
from tasks.sql.values import plain
from tasks.sql.views import canonical, source_identity


def describe_rollup(name: str, sql: str, *, spec: PipelineSpec, file: str) -> Rollup:
    """A rollup of a pipeline, checked by binding its SQL against empty views.

    Args:
        name: as the spec's `rollups` has it.
        file: named in errors.

    Raises:
        SqlError: refused as feature SQL is; or it asks for as_of(), does not read the source that it follows,
            or has a column whose type or name can't be kept.
    """
    over = spec.rollups[name]
    declared = {one: dict(use.source.columns) for one, use in spec.sources.items()}
    check_text(sql, file=file, views=declared)
    if any(node.get("function_name", "").lower() == "as_of" for node in nodes(parse(sql, file=file))):
        raise SqlError(
            f"{file}: as_of() is not allowed in a rollup, which is computed once for all cuts",
            hint="partition_start() and partition_end() are the bounds of its partition; compare with as_of() in the feature SQL",
        )
    reads = tables_in(sql, among=declared)
    if over not in reads:
        raise SqlError(
            f"{file}: does not read {over!r}, whose partitions it follows",
            hint=f"select FROM {over}, or name another source under rollups.{name}",
        )
    columns = _columns(sql, {one: declared[one] for one in reads}, file)
    identity = {
        "sql": canonical(sql),
        "over": over,
        "sources": {one: source_identity(spec.sources[one].source) for one in reads},
    }
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return Rollup(name, over, sql, reads, columns, hashlib.sha256(text.encode()).hexdigest()[:12])


def roll_up(
    rollup: Rollup,
    pieces: Iterable[Piece],
    sources: Mapping[str, SourceRows],
    *,
    threads: int,
    memory_limit: str | None = None,
) -> Iterator[pa.Table]:
    """The rows of each piece, in the order of `pieces`: the rollup's columns, in the order that the SQL gave.

    Args:
        sources: the rows of all revisions that the pieces are made of.
        threads: pieces that are computed at a time.
        memory_limit: of each, in DuckDB's spelling.

    Raises:
        SqlError: the SQL fails, or a number is infinite.
    """

    def compute(piece: Piece) -> pa.Table:
        at = f"rollup {rollup.name} of {rollup.over} {piece.key}"
        table = databases.query(
            rollup.sql,
            reads=rollup.reads,
            visible=dict(piece.inputs),
            others={},
            moments={"as_of": piece.end, "partition_start": piece.start, "partition_end": piece.end},
            at=at,
        )
        columns = [
            column.cast(ARROW[kind]) if kind in TEMPORAL.values() else plain(column, name, at)
            for column, (name, kind) in zip(table.columns, rollup.columns.items(), strict=True)
        ]
        return pa.table(columns, schema=pa.schema([(name, ARROW[kind]) for name, kind in rollup.columns.items()]))

    with Databases(sources, threads=threads, memory_limit=memory_limit) as databases:
        yield from databases.each(compute, pieces)


def _columns(sql: str, sources: Mapping[str, Mapping[str, str]], file: str) -> dict[str, str]:
    session = open_session()
    try:
        found = bound(session, sql, sources, file)
    finally:
        session.close()
    for name, kind in found:
        check_name(name, file, reserved=("partition_key", "made_of", "revision"))
        if kind.startswith("TIME") and kind not in TEMPORAL:
            raise SqlError(
                f"{file}: the column {name!r} is of type {kind}, which is not kept",
                hint="cast it to TIMESTAMP, or to TIMESTAMPTZ",
            )
    return {name: TEMPORAL.get(kind) or feature_type(file, name, kind) for name, kind in found}
