"""Landing objects -> raw: each delivery of a source partition becomes a numbered revision.

The same bytes twice are one revision; other bytes are the next. Where the source says until when a file is waited
for, a revision without rows says afterwards that none came. A file that can't be read stops its
own partition only: the others of the call land, the error names file, line and column.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from tasks.domain import tables
from tasks.domain.partition import Partition, instant, iso
from tasks.domain.results import IngestResult, Landed
from tasks.domain.run import RunRef
from tasks.domain.source import SourceSpec
from tasks.errors import FileError, MillraceError, NotReadyError, SupersededError
from tasks.lake import Entry, Lake, ObjectInfo, ObjectStore
from tasks.landing import Delivered, arrived, fetch

if TYPE_CHECKING:
    import pyarrow as pa


ROUNDS = 5
"""How often the landing zone is looked at again because somebody else landed one of the partitions meanwhile."""


@dataclass(frozen=True)
class _New:
    landed: Landed
    table: pa.Table
    info: ObjectInfo
    files: dict[str, int] = field(default_factory=dict)
    """Address -> lines of the files before it, where a delivery is several."""


@dataclass
class _Found:
    """What one look at the landing zone gave."""

    landed: list[Landed] = field(default_factory=list)
    new: list[_New] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    broken: list[FileError] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


def ingest(
    *,
    source: SourceSpec,
    partitions: Sequence[Partition],
    lake: Lake,
    landing: ObjectStore,
    root: str,
    run: RunRef,
    clock: Callable[[], datetime],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> IngestResult:
    """Land the deliveries of `partitions` as revisions of the raw table, in one commit.

    Args:
        landing: files by absolute URI.
        root: the landing zone's URI, {landing} in the source's uri.
        clock: the present moment, from which a delivery is known that nobody waited for.

    Raises:
        NotReadyError: a file that is not declared missing has not arrived; what had arrived is landed.
        FileError: a file can't be read; what can be read is landed.
    """
    raw = lake.table(tables.raw(source.name))
    manifest = _manifest(source, landing, root)
    for number in range(1, ROUNDS + 1):
        pinned = raw.version()
        found = _look(source, partitions, raw.entries(version=pinned), landing, root, manifest, clock, progress)
        try:
            version = _commit(source, raw, pinned, found.new, run) if found.new else pinned
            break
        except SupersededError:
            # The files are read again: what the other one landed is a duplicate now, or the next revision.
            if number == ROUNDS:
                raise
    if found.broken:
        raise _first(found.broken)
    if found.absent:
        first = source.partition(found.absent[0].split("/")[1])
        raise NotReadyError(
            f"{source.name}: no file yet for {_list(found.absent)}; expected at {source.location(first, root)}",
            missing=tuple(found.absent),
            hint=_hint(source, first),
        )
    return IngestResult(source.name, version, tuple(found.landed), tuple(dict.fromkeys(found.notices)))


def _look(source, partitions, entries, landing, root, manifest, clock, progress) -> _Found:
    before, found = revisions(entries), _Found()
    for done, partition in enumerate(partitions):
        try:
            one = _land(source, partition, landing, root, before.get(partition.key, ()), manifest, clock, found.notices)
        except NotReadyError as error:
            found.absent += error.missing
        except FileError as error:
            found.broken.append(error)
        else:
            found.landed.append(one.landed if isinstance(one, _New) else one)
            found.new += [one] if isinstance(one, _New) else []
        progress(done + 1, len(partitions))
    return found


def waiting(
    *, source: SourceSpec, partitions: Sequence[Partition], landing: ObjectStore, root: str, now: datetime
) -> tuple[str, ...]:
    """The partitions whose file is waited for, as `source/partition`; light enough to be asked every second."""
    return tuple(
        f"{source.name}/{partition.key}"
        for partition in partitions
        if partition.key not in source.missing
        and not source.is_given_up(partition, now)
        and arrived(source, partition, landing, root) is None
    )


def revisions(entries: dict[tuple, Entry]) -> dict[str, tuple[tuple[int, Entry], ...]]:
    """Partition key -> its (revision, entry) pairs in ascending order."""
    found: dict[str, list[tuple[int, Entry]]] = {}
    for (key, revision), entry in entries.items():
        found.setdefault(key, []).append((int(revision), entry))
    return {key: tuple(sorted(pairs, key=lambda pair: pair[0])) for key, pairs in found.items()}


def _land(
    source: SourceSpec,
    partition: Partition,
    landing: ObjectStore,
    root: str,
    before: Sequence[tuple[int, Entry]],
    manifest: dict[str, str],
    clock: Callable[[], datetime],
    notices: list[str],
) -> Landed | _New:
    delivered = fetch(source, partition, landing, root)
    if delivered is None:
        if partition.key in source.missing:
            return Landed(partition.key, 0, 0, "", "", "missing")
        if before and before[-1][1].meta.get("absent"):
            return Landed(partition.key, before[-1][0], 0, "", before[-1][1].meta["known_at"], "absent")
        if not before and source.is_given_up(partition, now := clock()):
            return _absence(source, partition, source.location(partition, root), now)
        raise NotReadyError(f"{source.name}: no file", missing=(f"{source.name}/{partition.key}",))
    digest = delivered.digest
    if before and before[-1][1].meta["digest"] == digest:
        revision, entry = before[-1]
        return Landed(partition.key, revision, entry.rows, digest, entry.meta["known_at"], "duplicate")
    table, files = _parsed(source, delivered, notices)
    known_at = iso(_known_at(source, partition, delivered.info.modified, before, manifest, clock()))
    revision = before[-1][0] + 1 if before else 1
    landed = Landed(partition.key, revision, table.num_rows, digest, known_at, "landed")
    return _New(landed, table, delivered.info, files)


def _parsed(source: SourceSpec, delivered: Delivered, notices: list[str]) -> tuple[pa.Table, dict[str, int]]:
    """The rows of a delivery with `_file`; of several files the lines go on from one to the next.

    Returns:
        The rows; of several files also the lines before each that has rows.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from tasks.formats import LINE_COLUMN, read_file

    parts, files, lines = [], {}, 0
    for uri, data in delivered.files:
        parsed = read_file(data, uri=uri, source=source)
        notices += parsed.notices
        table, rows = parsed.table, parsed.table.num_rows
        place = table.schema.get_field_index(LINE_COLUMN)
        if rows:
            files[uri] = lines
        if lines:
            moved = pc.add(table[LINE_COLUMN], pa.scalar(lines, pa.int64()))
            table = table.set_column(place, table.schema.field(LINE_COLUMN), moved)
        if rows:
            lines = table[LINE_COLUMN][-1].as_py()
        name = pa.array([uri], pa.string()).take(pa.array([0] * rows, pa.int8()))
        parts.append(table.append_column("_file", name))
    return pa.concat_tables(parts), files if len(parts) > 1 else {}


def _absence(source: SourceSpec, partition: Partition, uri: str, now: datetime) -> _New:
    """A first revision without rows: no file came in time, which is known from now on."""
    import pyarrow as pa

    from tasks.formats import no_rows

    table = no_rows(source.columns).append_column("_file", pa.array([], pa.string()))
    return _New(Landed(partition.key, 1, 0, "", iso(now), "absent"), table, ObjectInfo(uri, 0, now))


def _known_at(
    source: SourceSpec,
    partition: Partition,
    arrived: datetime,
    before: Sequence[tuple[int, Entry]],
    manifest: dict[str, str],
    now: datetime,
) -> datetime:
    """When a delivery became known.

    A historical first delivery is known at its declared moment, or at the manifest's; every other
    delivery at the later of the declared moment and its arrival, and after the revision before it.
    One that is declared missing comes to everybody's surprise: whatever its file says, partitions may
    have been published without it, so it is known from now on (docs/decisions/0003-late-first-delivery.md).
    """
    declared = source.declared(partition)
    if not before and partition.key in source.missing:
        return max(declared, arrived, now)
    if not before and source.is_history(partition):
        return instant(manifest[partition.key]) if partition.key in manifest else declared
    known = max(declared, arrived)
    return max(known, instant(before[-1][1].meta["known_at"]) + timedelta(microseconds=1)) if before else known


def _commit(source: SourceSpec, raw, pinned: int, new: list[_New], run: RunRef) -> int:
    import pyarrow as pa

    from tasks.lake.schema import arrow_schema

    parts, entries = [], []
    for item in new:
        table, rows = item.table, item.table.num_rows
        table = table.append_column("partition_key", pa.array([item.landed.key] * rows, pa.string()))
        parts.append(table.append_column("revision", pa.array([item.landed.revision] * rows, pa.int64())))
        meta = {
            "digest": item.landed.digest,
            "known_at": item.landed.known_at,
            "modified": iso(item.info.modified),
            "size": item.info.size,
            "file": item.info.key,
            **({"files": item.files} if item.files else {}),
            **({"absent": True} if item.landed.status == "absent" else {}),
        }
        entries.append(Entry((item.landed.key, item.landed.revision), rows, meta))
    columns = tables.raw_columns(source.columns)
    data = pa.concat_tables([part.select(list(columns)) for part in parts])
    return raw.replace(
        pinned=pinned,
        columns=arrow_schema(columns),
        partition_by=tables.SOURCE_KEY,
        data=data,
        entries=entries,
        run=run,
    )


def _manifest(source: SourceSpec, landing: ObjectStore, root: str) -> dict[str, str]:
    if source.manifest is None:
        return {}
    name = source.manifest.replace("{landing}", root)
    if landing.head(name) is None:
        return {}
    try:
        values = json.loads(landing.get(name))
        for text in values.values():
            instant(text)
    except (ValueError, AttributeError, TypeError) as error:
        raise FileError(
            f"{name}: expected a JSON object of partition keys and ISO-8601 moments: {error}", uri=name
        ) from error
    return values


def _hint(source: SourceSpec, partition: Partition) -> str:
    until = source.given_up(partition)
    more = f"; it is given up at {iso(until)}" if until else ""
    return f"deliver the file, or declare the partition under `missing` of the source{more}"


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _first(errors: list[FileError]) -> MillraceError:
    first = errors[0]
    if len(errors) > 1:
        first.hint = f"{len(errors) - 1} more files can't be read; {first.hint}".rstrip("; ")
    return first
