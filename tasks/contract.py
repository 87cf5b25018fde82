"""A contract over raw revisions: which rows pass, which are set aside and why, or what blocks the partition.

Nothing is written here: `tasks.validate` publishes what is found, `tasks.replay` asks what would be found now.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.domain import tables
from tasks.domain.results import Validated
from tasks.domain.source import SourceSpec
from tasks.errors import PopulationError
from tasks.lake import Entry

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from tasks.lake.table import Table
    from tasks.quality import Failure, Rejected, Suite, Verdict

ASTRAY = "time_within_partition"
"""Why a row is rejected whose time lies outside of its delivery: no pipeline partition would ever hold it."""

Key = tuple[str, int]
"""Partition key and revision."""


@dataclass(frozen=True)
class Rows:
    """Rows of a table, or those of them that `kept` says, with columns that are the same in each of them.

    A large partition is never copied to leave some out, and a file's name is not held once for each row.
    """

    table: pa.Table
    kept: np.ndarray | None = None
    constants: dict[str, Any] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return self.table.num_rows if self.kept is None else int(self.kept.sum())

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        at = 0
        for batch in self.table.to_batches():
            here = slice(at, at := at + batch.num_rows)
            rows = batch if self.kept is None else batch.filter(pa.array(self.kept[here]))
            yield _with(rows, self.constants).select(list(columns))


@dataclass(frozen=True)
class Checked:
    """A revision under a contract.

    Attributes:
        outcome: the counts, and whether it is blocked and why; its Data Docs are not rendered yet.
        clean: rows that pass.
        rejected: rows that do not: the row, the first expectation that it failed, its column and value.
        verdict: of the suite, with all that its Data Docs show; None where there is none.
        statistics: of the suite, by expectation.
    """

    outcome: Validated
    clean: Rows
    rejected: pa.Table
    verdict: Verdict | None
    statistics: Mapping[str, Any]

    @property
    def key(self) -> Key:
        return self.outcome.key, self.outcome.revision

    @property
    def remarkable(self) -> bool:
        """Whether it is blocked, or rows of it are set aside."""
        return self.outcome.status == "blocked" or self.outcome.quarantined > 0


def suite_of(contract: Path | None) -> Suite | None:
    """The suite in a file; None where the source has no contract."""
    if contract is None:
        return None
    from tasks.quality import load_suite

    return load_suite(contract)


def rules_of(source: SourceSpec, suite: Suite | None) -> dict[str, Any]:
    """What a verdict depends on beside the rows, as commits record it."""
    rules = {"suite": suite.digest if suite else "", "max_reject_rate": source.max_reject_rate}
    return rules if source.time is None else {**rules, "time": source.time}


def check(
    source: SourceSpec,
    keys: Sequence[Key],
    *,
    raw: Table,
    version: int,
    entries: Mapping[Key, Entry],
    suite: Suite | None,
) -> Iterator[Checked]:
    """Hold raw revisions against a suite, one after the other; an absence has no rows that could break it.

    Args:
        keys: the revisions.
        raw, version: the table that holds them, and its snapshot.
        entries: what that table's commits say of each.

    Raises:
        PopulationError: the table holds other rows than its commits say.
    """
    if not keys:
        return
    frames = dict(_frames(source, raw, version, keys, entries))
    if suite is None:
        for key, table in frames.items():
            yield _checked(source, key, table, _astray(source, key[0], table))
        return
    from tasks.quality import validate as run_suite

    absent = [key for key in frames if is_absence(entries[key])]
    for key in absent:
        yield _checked(source, key, frames.pop(key), [])
    for verdict in run_suite(frames.items(), suite):
        table = frames[verdict.key]
        rejected = [*_astray(source, verdict.key[0], table), *verdict.rejected]
        yield _checked(source, verdict.key, table, rejected, verdict)


def is_absence(raw: Entry) -> bool:
    """Whether a raw revision says that no file came in time."""
    return raw.meta.get("absent", False)


def raw_rows(source: SourceSpec, raw: Table, version: int, keys: Sequence[Key], columns: Sequence[str]) -> pa.Table:
    """Rows of raw revisions; a column that was declared since they were landed is empty."""
    import pyarrow as pa

    from tasks.lake.schema import arrow_schema

    there = raw.snapshot(version).schema.names
    rows = raw.read(version=version, keys=keys, columns=[name for name in columns if name in there])
    for place, column in enumerate(arrow_schema({name: tables.raw_columns(source.columns)[name] for name in columns})):
        if column.name not in there:
            rows = rows.add_column(place, column, pa.nulls(len(rows), column.type))
    return rows


def _checked(source, key, table, rejected, verdict: Verdict | None = None) -> Checked:
    kept = _without(table, [row.row_index for row in rejected])
    failures = verdict.table_failures if verdict else ()
    outcome = _judge(source, key, failures, rejected, table.num_rows, kept.count)
    statistics = verdict.statistics if verdict else {}
    return Checked(outcome, kept, _rejected_rows(table, rejected), verdict, statistics)


def _astray(source: SourceSpec, key: str, table: pa.Table) -> list[Rejected]:
    """Rows whose time is missing or outside of the delivery's partition."""
    if source.time is None or source.grain == "none":
        return []
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from tasks.quality import Rejected

    partition, moments = source.partition(key), table[source.time]
    start, end = (pa.scalar(moment, moments.type) for moment in (partition.start, partition.end))
    inside = pc.fill_null(pc.and_(pc.greater_equal(moments, start), pc.less(moments, end)), False)
    rows = np.flatnonzero(~inside.to_numpy()).tolist()  # pc.indices_nonzero dies on a column without chunks
    texts = [str(moments[row].as_py() or "") or None for row in rows]
    return [Rejected(row, ASTRAY, source.time, text) for row, text in zip(rows, texts, strict=True)]


def _frames(
    source: SourceSpec, raw: Table, version: int, todo: Sequence[Key], raw_entries: Mapping[Key, Entry]
) -> Iterator[tuple[Key, pa.Table]]:
    columns = [name for name in tables.raw_columns(source.columns) if name != "_file"]  # its entry has it
    table = raw_rows(source, raw, version, todo, columns)
    parts, empty = _by_key(table), table.slice(0, 0)
    for key in todo:
        part = parts.get(key, empty)
        if part.num_rows != raw_entries[key].rows:
            raise PopulationError(
                f"{raw.name}@{version} holds {part.num_rows} rows of {key[0]}, its commit says {raw_entries[key].rows}",
                hint="restore the table from a backup; a file under it was changed",
            )
        yield key, part


def _by_key(table: pa.Table) -> dict[tuple, pa.Table]:
    """Slices of a table by (partition_key, revision), rows in the order of their file."""
    import numpy as np

    if not table.num_rows:
        return {}
    starts = _starts(table)
    lines = table["_line"].to_numpy()
    falls = np.flatnonzero(lines[1:] <= lines[:-1]) + 1
    keys = {_key(table, start) for start in starts}
    if len(keys) < len(starts) or not np.isin(falls, starts).all():  # a copy of all rows, which are seldom out of order
        table = table.sort_by([("partition_key", "ascending"), ("revision", "ascending"), ("_line", "ascending")])
        starts = _starts(table)
    ends = [*starts[1:], table.num_rows]
    return {_key(table, start): table.slice(start, end - start) for start, end in zip(starts, ends, strict=True)}


def _starts(table: pa.Table) -> list[int]:
    """Where the rows of another (partition_key, revision) begin."""
    import numpy as np
    import pyarrow.compute as pc

    last = table.num_rows - 1
    columns = [table["partition_key"], table["revision"]]
    changes = [pc.not_equal(column.slice(1), column.slice(0, last)).to_numpy() for column in columns]
    return [0, *(np.flatnonzero(np.logical_or(*changes)) + 1).tolist()]


def _key(table: pa.Table, row: int) -> tuple:
    return table["partition_key"][row].as_py(), table["revision"][row].as_py()


def _judge(
    source: SourceSpec, key: tuple, failures: Sequence[Failure], rejected: Sequence[Rejected], rows: int, kept: int
) -> Validated:
    reasons = [f"{failure.expectation}: {failure.message}" for failure in failures]
    share = (rows - kept) / rows if rows else 0.0
    if share > source.max_reject_rate:
        reasons.append(
            f"{rows - kept} of {rows} rows rejected ({share:.1%}), more than max_reject_rate {source.max_reject_rate:.1%}; first: {rejected[0].expectation} on {rejected[0].column}"
        )
    status = "blocked" if reasons else "published"
    return Validated(*key, rows, kept, rows - kept, status, "; ".join(reasons))


def _rejected_rows(table: pa.Table, rejected) -> pa.Table:
    """One line per rejected row: the row, and the first expectation that it failed."""
    import pyarrow as pa

    first = {}
    for row in rejected:
        first.setdefault(row.row_index, row)
    rows = [first[index] for index in sorted(first)]
    part = table.take(pa.array(sorted(first), pa.int64()))
    for name, attribute in (("_expectation", "expectation"), ("_column", "column"), ("_value", "value")):
        part = part.append_column(name, pa.array([getattr(row, attribute) for row in rows], pa.string()))
    return part


def _without(table: pa.Table, rows: list[int]) -> Rows:
    if not rows:
        return Rows(table)
    import numpy as np

    kept = np.ones(table.num_rows, dtype=bool)
    kept[rows] = False
    return Rows(table, kept)


def _with(table: pa.RecordBatch, constants: dict[str, Any]) -> pa.RecordBatch:
    """The rows with constant columns appended where they lack: a moment, or a text."""
    import pyarrow as pa

    for name, value in constants.items():
        if name not in table.schema.names:
            kind = pa.timestamp("us", tz="UTC") if isinstance(value, datetime) else pa.string()
            table = table.append_column(name, pa.repeat(pa.scalar(value, kind), table.num_rows))
    return table
