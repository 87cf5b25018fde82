"""A pipeline's feature SQL, computed for one knowledge cut after another, each in a database that holds that cut alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from tasks.errors import SqlError
from tasks.sql.databases import Databases, Revisions
from tasks.sql.guard import ENTITIES, check_text
from tasks.sql.slices import SourceRows
from tasks.sql.syntax import tables_in
from tasks.sql.values import plain

__all__ = ["Computed", "Cut", "FeatureEngine", "SourceRows"]


@dataclass(frozen=True)
class Cut:
    """What one pipeline partition may know.

    Attributes:
        partition_key: of the pipeline's partition.
        as_of, start, end: knowledge cut and bounds, aware.
        visible: source -> its visible revisions, in the order of time; a source left out shows no row.
        driving: the driving source's revisions that hold the partition's entities.
    """

    partition_key: str
    as_of: datetime
    start: datetime
    end: datetime
    visible: Mapping[str, Revisions]
    driving: Revisions


@dataclass(frozen=True)
class Computed:
    """One partition's features.

    Attributes:
        partition_key: of the pipeline's partition.
        table: entity columns, then the features (string, int64, double or bool), sorted by entity.
        entities: rows of the driving source; those that are not in `table` were filtered by the SQL.
    """

    partition_key: str
    table: pa.Table
    entities: int


class FeatureEngine:
    """Computes feature SQL over the rows of a run. A context manager."""

    def __init__(
        self,
        sources: Mapping[str, SourceRows],
        *,
        driver: str,
        time: str | None,
        entity: tuple[str, ...],
        threads: int = 1,
        memory_limit: str | None = None,
    ) -> None:
        """Cuts the rows into revisions and opens the databases.

        Args:
            sources: the sources, and the rollups beside them, by the name of their view.
            driver: the source whose rows are scored.
            time: its timestamp column that assigns a row to a partition, or None where grains are equal.
            entity: the columns that name a row.
            threads: cuts computed at a time by `compute_all`.
            memory_limit: of each of these, in DuckDB's spelling.
        """
        self._databases = Databases(sources, threads=threads, memory_limit=memory_limit)
        self._driver = driver
        self._time = time
        self._entity = list(entity)
        self._reads: dict[str, tuple[str, ...]] = {}

    def __enter__(self) -> FeatureEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self._databases.__exit__()

    def compute(self, sql: str, cut: Cut, *, file: str = "features.sql") -> Computed:
        """The features of one partition.

        Raises:
            SqlError: the SQL is refused or fails, an entity comes out twice, is missing or is not
                among the partition's entities, or a feature is infinite.
        """
        self._check(sql, file)
        return self._compute(sql, cut, file)

    def compute_all(self, sql: str, cuts: Iterable[Cut], *, file: str = "features.sql") -> Iterator[Computed]:
        """The features of several partitions in the order of `cuts`, `threads` at a time; errors as in `compute`."""
        self._check(sql, file)
        yield from self._databases.each(lambda cut: self._compute(sql, cut, file), cuts)

    def _check(self, sql: str, file: str) -> None:
        if sql not in self._reads:
            views = self._databases.slices
            check_text(sql, file=file, views=[*views, ENTITIES])
            self._reads[sql] = tables_in(sql, among=views)

    def _compute(self, sql: str, cut: Cut, file: str) -> Computed:
        entities = self._entities(cut)
        at = f"{file} for partition {cut.partition_key}"
        table = self._databases.query(
            sql,
            reads=self._reads[sql],
            visible=cut.visible,
            others={ENTITIES: entities},
            moments={"as_of": cut.as_of, "partition_start": cut.start, "partition_end": cut.end},
            at=at,
        )
        table = _normalised(table, self._entity, at)
        _check_entities(table, entities, self._entity, at)
        return Computed(cut.partition_key, table, entities.num_rows)

    def _entities(self, cut: Cut) -> pa.Table:
        rows = self._databases.slices[self._driver].view(cut.driving)
        if self._time is None:
            return rows
        moment = rows[self._time]
        start, end = (pa.scalar(bound, pa.timestamp("us", tz="UTC")) for bound in (cut.start, cut.end))
        return rows.filter(pc.and_(pc.greater_equal(moment, start), pc.less(moment, end)))


def _normalised(table: pa.Table, entity: list[str], at: str) -> pa.Table:
    """Entity first, few types, one order of rows; a NaN is a missing value."""
    lacking = [name for name in entity if name not in table.column_names]
    if lacking:
        raise SqlError(f"{at}: the entity column {lacking[0]!r} is not among the output columns")
    names = entity + [name for name in table.column_names if name not in entity]
    table = table.select(names)
    entities = table.select(entity)
    columns = [
        table[name] if name in entity else plain(table[name], name, at, lambda row: _text(entities, row))
        for name in names
    ]
    table = pa.table(columns, names=names)
    return table.take(pc.sort_indices(table, [(name, "ascending") for name in entity])).combine_chunks()


def _check_entities(table: pa.Table, entities: pa.Table, entity: list[str], at: str) -> None:
    """Each row is one entity of the partition: rows are sorted, so doubles stand side by side."""
    for name in entity:
        if table[name].null_count:
            raise SqlError(
                f"{at}: {table[name].null_count} rows have no {name}, which is part of the entity",
                hint=f"let the source's contract expect values in {name}, or leave the rows out with WHERE",
            )
    if table.num_rows > 1:
        same = None
        for name in entity:
            column = table[name]
            equal = pc.equal(column.slice(1), column.slice(0, len(column) - 1))
            same = equal if same is None else pc.and_(same, equal)
        if pc.any(same).as_py():
            example = _text(table.select(entity), pc.index(same, True).as_py())
            counts = entities.select(entity).group_by(entity).aggregate([([], "count_all")])["count_all"]
            if pc.any(pc.greater(counts, 1)).as_py():
                raise SqlError(
                    f"{at}: the driving source itself delivers {example} more than once",
                    hint="let its contract expect unique entities, so that the doubles go to the quarantine",
                )
            raise SqlError(
                f"{at}: {example} comes out more than once",
                hint="join to one row for each entity: GROUP BY, QUALIFY row_number() = 1, or an ASOF JOIN",
            )
    if len(entity) == 1:
        strange = table.select(entity).filter(pc.invert(pc.is_in(table[entity[0]], entities[entity[0]])))
    else:
        strange = table.select(entity).join(entities.select(entity), entity, join_type="left anti")
    if strange.num_rows:
        strange = strange.sort_by([(name, "ascending") for name in entity])
        raise SqlError(
            f"{at}: {_text(strange, 0)} is not among the partition's entities",
            hint="select FROM entities, and join to it",
        )


def _text(entities: pa.Table, row: int) -> str:
    return ", ".join(f"{name} {entities[name][row].as_py()!r}" for name in entities.column_names)
