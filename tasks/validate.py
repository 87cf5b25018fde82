"""Contract over raw revisions: clean rows are published, bad rows quarantined with their reason, or blocked.

The quarantine is committed first, then clean, which names it: a reader of clean never sees a row
whose rejected neighbours are not accounted for. Rows in = clean + quarantined, checked before each commit.

A clean revision is final: a changed contract judges what was blocked and what comes, not what was
published (docs/decisions/0009-clean-revisions-are-final.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.contract import Checked, Rows, check, rules_of, suite_of
from tasks.domain import tables
from tasks.domain.partition import Partition, instant, iso
from tasks.domain.results import Validated, ValidateResult
from tasks.domain.run import RunRef
from tasks.domain.source import SourceSpec
from tasks.errors import ContractError, NotReadyError, PopulationError
from tasks.lake import Entry, Lake

if TYPE_CHECKING:
    import pyarrow as pa

SETTLING = timedelta(seconds=60)
"""A restatement is known this long after its commits begin: they have ended by then, so nothing is known before it shows."""
PAGES = 31
"""Data Docs pages written by one call at most, beside those of partitions with rejected rows."""


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

    One that was blocked stays so once another delivery followed it. A revision that somebody else judged meanwhile is left alone (status superseded).

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
    suite = suite_of(contract)
    rules = rules_of(source, suite)
    wanted = {partition.key for partition in partitions}
    judged = _judged(quarantine.entries(version=pins[quarantine.name]), raw_entries, cleaned, rules)
    todo, outcomes = [], []
    for key in sorted(raw_entries):
        if key[0] in wanted:
            outcome = judged.get(key)
            outcomes += [outcome] if outcome else []
            todo += [] if outcome else [key]
    checked, pages = [], 0
    for done, one in enumerate(
        check(source, todo, raw=raw, version=pins[raw.name], entries=raw_entries, suite=suite), start=1
    ):
        if one.verdict and (pages < PAGES or done == len(todo) or one.remarkable):
            one = replace(one, outcome=replace(one.outcome, docs=_docs(source, one, lake)))
            pages += 1
        checked.append(replace(one, verdict=None))  # its pages of results are not held for a whole range
        progress(done, len(todo))
    if checked:
        known = clock() + SETTLING
        metas = {key: {**_facts(source, key, raw_entries[key], cleaned, known), **rules} for key in todo}
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


def _facts(source: SourceSpec, key: tuple, raw: Entry, cleaned: dict[tuple, Entry], known: datetime) -> dict[str, Any]:
    """What the commits say of a revision beside its counts.

    Until a restatement is clean, partitions are scored with the revision before it, and without any where the delivery is
    declared missing: it is known from then on, not from its file's arrival.
    """
    known_at = raw.meta["known_at"]
    restates = any(name == key[0] and revision < key[1] for name, revision in cleaned)
    if restates or key[0] in source.missing:
        known_at = max(known_at, iso(known))
    more = {name: raw.meta[name] for name in ("absent", "files") if name in raw.meta}
    return {"digest": raw.meta["digest"], "known_at": known_at, **more}


def _judged(
    quarantined: dict[tuple, Entry], raw: dict[tuple, Entry], cleaned: dict[tuple, Entry], rules: dict[str, Any]
) -> dict[tuple, Validated]:
    """Table key -> the outcome of a revision that is clean, or that was blocked by these very rules or before the newest.

    Another delivery took its place, and what was published without it would see it, did it become clean after that one.
    """
    found = {}
    newest = {key: revision for key, revision in sorted(raw)}
    for key, entry in quarantined.items():
        outcome = Validated.from_dict(entry.meta["outcome"])
        if key in cleaned:
            found[key] = replace(outcome, status="unchanged")
        elif outcome.status == "blocked" and (rules.items() <= entry.meta.items() or key[1] < newest[key[0]]):
            found[key] = outcome
    return found


def _docs(source: SourceSpec, checked: Checked, lake: Lake) -> str:
    from tasks.quality import render_docs

    key, revision = checked.key
    place = f"sources/{source.name}/docs/{key}.{revision}.html"
    lake.objects.put(place, render_docs(checked.verdict.results, title=f"{source.name} {key} r{revision}").encode())
    return place


def _publish(source, checked, metas, files, quarantine, clean, pins, run) -> tuple[dict[str, int], list[Validated]]:
    """Commit to the quarantine, then to clean what is good; versions, and what became of each revision."""
    outcomes = {one.key: one.outcome for one in checked}
    raw = {tables.raw(source.name): pins[tables.raw(source.name)]}
    parts, entries = {}, {}
    texts = {"_expectation": None, "_column": None, "_value": None}
    for one in checked:
        key, outcome = one.key, one.outcome
        if outcome.rows_in != one.clean.count + one.rejected.num_rows:
            raise PopulationError(
                f"{source.name} {outcome.key}: {outcome.rows_in} rows in, {one.clean.count} clean + {one.rejected.num_rows} quarantined"
            )
        parts[key] = Rows(_with_file(one.rejected, metas[key], files[key]), constants=texts)
        facts = {
            "outcome": outcome.to_dict(),
            "statistics": one.statistics,
            "inputs": raw,
        }
        entries[key] = Entry(key, one.rejected.num_rows, {**metas[key], **facts})
    columns = tables.quarantine_columns(source.columns)
    at_quarantine, mine = _replace(quarantine, columns, pins, parts, entries, run)
    parts, entries = {}, {}
    for one in checked:
        key = one.key
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


def _with_file(rejected: pa.Table, meta: dict[str, Any], file: str) -> pa.Table:
    import pyarrow as pa

    if "files" not in meta:
        return rejected.append_column("_file", pa.repeat(pa.scalar(file, pa.string()), rejected.num_rows))
    names = [tables.file_of(meta, file, line) for line in rejected["_line"].to_pylist()]
    return rejected.append_column("_file", pa.array(names, pa.string()))


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


def _raise_blocked(source: SourceSpec, outcomes: list[Validated]) -> None:
    newest = {one.key: one for one in outcomes}
    blocked = [one for one in newest.values() if one.status == "blocked"]
    if blocked:
        first = blocked[0]
        more = f" (and {len(blocked) - 1} more partitions)" if len(blocked) > 1 else ""
        docs = f", Data Docs: {first.docs}" if first.docs else ""
        raise ContractError(
            f"{source.name} {first.key} revision {first.revision} is blocked{more}: {first.reason}",
            hint=f"`millrace quarantine {source.name} {first.key}` shows its rows{docs}; after mending the file or the suite: `millrace replay {source.name} {first.key}`",
        )
