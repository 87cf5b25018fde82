"""Contract over raw revisions: clean rows are published, bad rows quarantined with their reason, or blocked.

The quarantine is committed first, then clean, which names it: a reader of clean never sees a row
whose rejected neighbours are not accounted for. Rows in = clean + quarantined, checked before each commit.

A clean revision is final: a changed contract judges what was blocked and what comes, not what was
published (docs/decisions/0009-clean-revisions-are-final.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.domain import tables
from tasks.domain.partition import Partition, instant, iso
from tasks.domain.results import Validated, ValidateResult
from tasks.domain.run import RunRef
from tasks.domain.spec import SourceSpec
from tasks.errors import ContractError, NotReadyError, PopulationError
from tasks.lake import Entry, Lake

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from tasks.quality import Rejected

SETTLING = timedelta(seconds=60)
"""A restatement is known this long after its commits begin: they have ended by then, so nothing is known before it shows."""
PAGES = 31
"""Data Docs pages written by one call at most, beside those of partitions with rejected rows."""
ASTRAY = "time_within_partition"
"""Why a row is rejected whose time lies outside of its delivery: no pipeline partition would ever hold it."""


@dataclass(frozen=True)
class _Rows:
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
class _Checked:
    outcome: Validated
    clean: _Rows
    rejected: pa.Table
    statistics: dict[str, Any]


def validate(
    *,
    source: SourceSpec,
    partitions: Sequence[Partition],
    contract: Path | None,
    lake: Lake,
    run: RunRef,
    clock: Callable[[], datetime],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ValidateResult:
    """Check every raw revision of `partitions` that is not clean yet, unless these very rules blocked it.

    A revision that somebody else judged meanwhile is left alone (status superseded).

    Args:
        clock: tells the time; a restatement counts as known from `SETTLING` after its commit begins.

    Raises:
        ContractError: a partition is blocked; the others are published.
        NotReadyError: a partition was not ingested; the others are published.
        SupersededError: somebody else judged all of them meanwhile.
    """
    raw = lake.table(tables.raw(source.name))
    quarantine = lake.table(tables.quarantine(source.name))
    clean = lake.table(tables.clean(source.name))
    pins = {table.name: table.version() for table in (raw, quarantine, clean)}
    raw_entries = raw.entries(version=pins[raw.name])
    cleaned = clean.entries(version=pins[clean.name])
    suite = _suite(contract)
    rules = {"suite": suite.digest if suite else "", "max_reject_rate": source.max_reject_rate}
    wanted = {partition.key for partition in partitions}
    judged = _judged(quarantine.entries(version=pins[quarantine.name]), cleaned, rules)
    todo, outcomes = [], []
    for key in sorted(raw_entries):
        if key[0] in wanted:
            outcome = judged.get(key)
            outcomes += [outcome] if outcome else []
            todo += [] if outcome else [key]
    checked = []
    for done, one in enumerate(_check(source, todo, raw, pins[raw.name], suite, lake, raw_entries)):
        checked.append(one)
        progress(done + 1, len(todo))
    if checked:
        known = clock() + SETTLING
        metas = {key: {**_facts(key, raw_entries[key], cleaned, known), **rules} for key in todo}
        files = {key: raw_entries[key].meta["file"] for key in todo}
        versions, fresh = _publish(source, checked, metas, files, quarantine, clean, pins, run)
        pins |= versions
        outcomes += fresh
    outcomes.sort(key=lambda one: (one.key, one.revision))
    _raise_blocked(source, outcomes)
    absent = sorted(wanted - {key for key, _ in raw_entries} - set(source.missing))
    if absent:
        raise NotReadyError(
            f"{source.name}: {len(absent)} partitions were not ingested, first {absent[0]}",
            missing=tuple(f"{source.name}/{key}" for key in absent),
            hint=f"`millrace run ingest {source.name} {absent[0]}`",
        )
    return ValidateResult(source.name, pins[clean.name], pins[quarantine.name], tuple(outcomes))


def _facts(key: tuple, raw: Entry, cleaned: dict[tuple, Entry], known: datetime) -> dict[str, Any]:
    """What the commits say of a revision beside its counts.

    Until a restatement is clean, partitions are scored with the revision before it: it is known from
    then on, not from its file's arrival.
    """
    known_at = raw.meta["known_at"]
    if any(name == key[0] and revision < key[1] for name, revision in cleaned):
        known_at = max(known_at, iso(known))
    return {"digest": raw.meta["digest"], "known_at": known_at}


def _suite(contract: Path | None):
    if contract is None:
        return None
    from tasks.quality import load_suite

    return load_suite(contract)


def _judged(
    quarantined: dict[tuple, Entry], cleaned: dict[tuple, Entry], rules: dict[str, Any]
) -> dict[tuple, Validated]:
    """Table key -> the outcome of a revision that is clean, or that these very rules blocked."""
    found = {}
    for key, entry in quarantined.items():
        outcome = Validated.from_dict(entry.meta["outcome"])
        if key in cleaned:
            found[key] = replace(outcome, status="unchanged")
        elif outcome.status == "blocked" and rules.items() <= entry.meta.items():
            found[key] = outcome
    return found


def _check(source, todo, raw, version, suite, lake, raw_entries) -> Iterator[_Checked]:
    if not todo:
        return
    frames = dict(_frames(source, raw, version, todo, raw_entries))
    if suite is None:
        for key, table in frames.items():
            yield _checked(source, key, table, _astray(source, key[0], table), (), {})
        return
    from tasks.quality import validate as run_suite

    pages = 0
    for position, verdict in enumerate(run_suite(frames.items(), suite)):
        table = frames[verdict.key]
        rejected = [*_astray(source, verdict.key[0], table), *verdict.rejected]
        one = _checked(source, verdict.key, table, rejected, verdict.table_failures, verdict.statistics)
        last = position == len(todo) - 1
        if pages < PAGES or last or one.outcome.quarantined or one.outcome.status == "blocked":
            one = replace(one, outcome=replace(one.outcome, docs=_docs(source, verdict, one.outcome, lake)))
            pages += 1
        yield one


def _checked(source, key, table, rejected, failures, statistics) -> _Checked:
    kept = _without(table, [row.row_index for row in rejected])
    outcome = _judge(source, key, failures, rejected, table.num_rows, kept.count)
    return _Checked(outcome, kept, _rejected_rows(table, rejected), statistics)


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


def _frames(source, raw, version, todo, raw_entries):
    columns = [name for name in tables.raw_columns(source.columns) if name != "_file"]  # its entry has it
    table = raw.read(version=version, keys=todo, columns=columns)
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


def _judge(source: SourceSpec, key: tuple, failures, rejected, rows: int, kept: int) -> Validated:
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


def _without(table: pa.Table, rows: list[int]) -> _Rows:
    if not rows:
        return _Rows(table)
    import numpy as np

    kept = np.ones(table.num_rows, dtype=bool)
    kept[rows] = False
    return _Rows(table, kept)


def _docs(source: SourceSpec, verdict, outcome: Validated, lake: Lake) -> str:
    from tasks.quality import render_docs

    key = f"sources/{source.name}/docs/{outcome.key}.{outcome.revision}.html"
    lake.objects.put(
        key, render_docs(verdict.results, title=f"{source.name} {outcome.key} r{outcome.revision}").encode()
    )
    return key


def _publish(source, checked, metas, files, quarantine, clean, pins, run) -> tuple[dict[str, int], list[Validated]]:
    """Commit to the quarantine, then to clean what is good; versions, and what became of each revision."""
    outcomes = {(one.outcome.key, one.outcome.revision): one.outcome for one in checked}
    raw = {tables.raw(source.name): pins[tables.raw(source.name)]}
    parts, entries = {}, {}
    texts = {"_expectation": None, "_column": None, "_value": None}
    for one in checked:
        key, outcome = (one.outcome.key, one.outcome.revision), one.outcome
        if outcome.rows_in != one.clean.count + one.rejected.num_rows:
            raise PopulationError(
                f"{source.name} {outcome.key}: {outcome.rows_in} rows in, {one.clean.count} clean + {one.rejected.num_rows} quarantined"
            )
        parts[key] = _Rows(one.rejected, constants=texts | {"_file": files[key]})
        facts = {"outcome": outcome.to_dict(), "statistics": one.statistics, "inputs": raw}
        entries[key] = Entry(key, one.rejected.num_rows, {**metas[key], **facts})
    columns = tables.quarantine_columns(source.columns)
    at_quarantine, mine = _replace(quarantine, columns, pins, parts, entries, run)
    parts, entries = {}, {}
    for one in checked:
        key = (one.outcome.key, one.outcome.revision)
        if key in mine and one.outcome.status == "published":
            constants = {"_known_at": instant(metas[key]["known_at"])}
            parts[key] = replace(one.clean, constants=constants)
            facts = {"rows_in": one.outcome.rows_in, "quarantined": one.outcome.quarantined, "docs": one.outcome.docs}
            inputs = raw | {quarantine.name: at_quarantine}
            entries[key] = Entry(key, one.clean.count, {**metas[key], **facts, "inputs": inputs})
    versions = {quarantine.name: at_quarantine}
    if entries:
        versions[clean.name], published = _replace(
            clean, tables.clean_columns(source.columns), pins, parts, entries, run
        )
        mine -= entries.keys() - published
    return versions, [one if key in mine else replace(one, status="superseded") for key, one in outcomes.items()]


def _replace(table, columns, pins, parts, entries, run):
    from tasks.lake.racing import replace_untouched
    from tasks.lake.schema import arrow_schema

    return replace_untouched(
        table,
        pinned=pins[table.name],
        columns=arrow_schema(columns),
        partition_by=tables.SOURCE_KEY,
        stream=lambda keys: ((key, batch) for key in keys for batch in parts[key].batches(columns)),
        entries=entries,
        run=run,
    )


def _with(table: pa.RecordBatch, constants: dict[str, Any]) -> pa.RecordBatch:
    """The rows with constant columns appended where they lack: a moment, or a text."""
    import pyarrow as pa

    for name, value in constants.items():
        if name not in table.schema.names:
            kind = pa.timestamp("us", tz="UTC") if isinstance(value, datetime) else pa.string()
            table = table.append_column(name, pa.repeat(pa.scalar(value, kind), table.num_rows))
    return table


def _raise_blocked(source: SourceSpec, outcomes: list[Validated]) -> None:
    newest = {one.key: one for one in outcomes}
    blocked = [one for one in newest.values() if one.status == "blocked"]
    if blocked:
        first = blocked[0]
        more = f" (and {len(blocked) - 1} more partitions)" if len(blocked) > 1 else ""
        raise ContractError(
            f"{source.name} {first.key} revision {first.revision} is blocked{more}: {first.reason}",
            hint=f"rows and reasons: {tables.quarantine(source.name)}, Data Docs: {first.docs}; after mending the file or the suite run `millrace run validate {source.name} {first.key}`",
        )
