"""Landing objects -> raw: each delivery of a source partition becomes a numbered revision.

The same bytes twice are one revision; other bytes are the next. Where the source says until when a file is waited
for, a revision without rows says afterwards that none came. A file that can't be read stops its
own partition only: the others of the call land, the error names file, line and column.
"""

from __future__ import annotations

import hashlib
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
from tasks.errors import FileError, MillraceError, NotReadyError, StorageError, SupersededError
from tasks.lake import Entry, Lake, ObjectStore

if TYPE_CHECKING:
    import pyarrow as pa


ROUNDS = 5
"""How often the landing zone is looked at again because somebody else landed one of the partitions meanwhile."""


@dataclass(frozen=True)
class _New:
    landed: Landed
    table: pa.Table
    file: str
    modified: datetime
    size: int


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
        uri = source.location(partition, root)
        try:
            one = _land(source, partition, landing, uri, before.get(partition.key, ()), manifest, clock, found.notices)
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
        and landing.head(source.location(partition, root)) is None
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
    uri: str,
    before: Sequence[tuple[int, Entry]],
    manifest: dict[str, str],
    clock: Callable[[], datetime],
    notices: list[str],
) -> Landed | _New:
    file = _read(landing, uri)
    if file is None:
        if partition.key in source.missing:
            return Landed(partition.key, 0, 0, "", "", "missing")
        if before and before[-1][1].meta.get("absent"):
            return Landed(partition.key, before[-1][0], 0, "", before[-1][1].meta["known_at"], "absent")
        if not before and source.is_given_up(partition, now := clock()):
            return _absence(source, partition, uri, now)
        raise NotReadyError(f"{source.name}: no file", missing=(f"{source.name}/{partition.key}",))
    data, modified = file
    digest = hashlib.sha256(data).hexdigest()
    if before and before[-1][1].meta["digest"] == digest:
        revision, entry = before[-1]
        return Landed(partition.key, revision, entry.rows, digest, entry.meta["known_at"], "duplicate")
    from tasks.formats import read_file

    parsed = read_file(data, uri=uri, source=source)
    notices += parsed.notices
    known_at = iso(_known_at(source, partition, modified, before, manifest, clock()))
    revision = before[-1][0] + 1 if before else 1
    landed = Landed(partition.key, revision, parsed.table.num_rows, digest, known_at, "landed")
    return _New(landed, parsed.table, uri, modified, len(data))


def _absence(source: SourceSpec, partition: Partition, uri: str, now: datetime) -> _New:
    """A first revision without rows: no file came in time, which is known from now on."""
    from tasks.formats import no_rows

    return _New(Landed(partition.key, 1, 0, "", iso(now), "absent"), no_rows(source.columns), uri, now, 0)


def _read(landing: ObjectStore, uri: str) -> tuple[bytes, datetime] | None:
    """A file's bytes and the moment of its last write, both of the same delivery; None where there is none."""
    info = landing.head(uri)
    for _ in range(ROUNDS):
        if info is None:
            return None
        try:
            data = landing.get(uri)
        except FileNotFoundError:
            return None
        before, info = info, landing.head(uri)
        if info == before:
            return data, info.modified
    raise StorageError(f"{uri} changes while it is read", hint="is it still being written? deliver files by renaming")


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
        table = table.append_column("_file", pa.array([item.file], pa.string()).take(pa.array([0] * rows, pa.int8())))
        table = table.append_column("partition_key", pa.array([item.landed.key] * rows, pa.string()))
        parts.append(table.append_column("revision", pa.array([item.landed.revision] * rows, pa.int64())))
        meta = {
            "digest": item.landed.digest,
            "known_at": item.landed.known_at,
            "modified": iso(item.modified),
            "size": item.size,
            "file": item.file,
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
