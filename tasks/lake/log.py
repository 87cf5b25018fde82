"""A Delta table's commits, read as the JSON they are.

Pure Python over an ObjectStore, no deltalake: what is due is computed from commits, often, and by
processes that must start fast. The log is never cleaned, so commit 0 to the newest are all there.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from tasks.errors import StorageError
from tasks.lake.objects import ObjectStore

Key = tuple[str | int, ...]

METADATA = "millrace"  # the name of our part of a commit's metadata
_COMMIT = re.compile(r"(\d{20})\.json")


@dataclass(frozen=True)
class Entry:
    """What one commit says of one partition that it replaced.

    Attributes:
        key: values of the table's partition columns, in their order.
        rows: rows of the partition after the commit; 0 records an empty one.
        meta: JSON-able facts about it: known_at, digest, inputs, model version, counts.
        version: the table's version that the commit made; -1 before it is written.
        run_id: the run that wrote it; empty before.
        recorded_at: ISO-8601 UTC text, wall clock of the write; empty before.
    """

    key: Key
    rows: int
    meta: dict[str, Any] = field(default_factory=dict)
    version: int = field(default=-1, compare=False)
    run_id: str = field(default="", compare=False)
    recorded_at: str = field(default="", compare=False)


@dataclass(frozen=True)
class Commit:
    """One commit of a table's log.

    Attributes:
        version: the table's version that it made.
        digest: SHA-256 of the log object.
        operation: Delta's word for it, such as WRITE.
        run_id, attempt, actor, write_id, recorded_at: who wrote it; empty for other writers.
        entries: one for each partition that it replaced.
        touched: the partitions whose data it changed, ours or another writer's, each as `spell()` has it.
        took: what the run took until the commit, such as seconds by step; empty where nobody measured it.
    """

    version: int
    digest: str
    operation: str
    run_id: str
    attempt: int
    actor: str
    write_id: str
    recorded_at: str
    entries: tuple[Entry, ...]
    touched: frozenset[str]
    took: dict[str, Any] = field(default_factory=dict)


def spell(partition_by: Sequence[str], key: Iterable[Any]) -> str:
    """One text for a partition, the same from an Entry's key and from a Delta action's values."""
    return "/".join(sorted(f"{name}={value}" for name, value in zip(partition_by, key, strict=True)))


class DeltaLog:
    """The `_delta_log` of the table at a prefix of a store."""

    def __init__(self, store: ObjectStore, table: str) -> None:
        self._store = store
        self.table = table
        self._prefix = f"{table}/_delta_log/"

    def version(self) -> int:
        """The newest version; -1 when there is no table."""
        infos = self._store.list(self._prefix, after=self._before_checkpoint())
        versions = [int(match[1]) for info in infos if (match := _COMMIT.fullmatch(info.key.rpartition("/")[2]))]
        return max(versions, default=-1)

    def read(self, version: int) -> Commit:
        """One commit.

        Raises:
            FileNotFoundError: the log has no such version.
        """
        return parse_commit(version, self._store.get(self.key(version)))

    def read_range(self, first: int, last: int) -> list[Commit]:
        """The commits from `first` to `last`, both included.

        Raises:
            StorageError: one is missing, so that the table's state is not known.
        """
        try:
            if last - first < 4:
                return [self.read(version) for version in range(first, last + 1)]
            with ThreadPoolExecutor(8, thread_name_prefix="delta-log") as pool:
                return list(pool.map(self.read, range(first, last + 1)))
        except FileNotFoundError as error:
            raise StorageError(
                f"table {self.table!r} lacks a commit between versions {first} and {last}: {error}",
                hint="the log must be kept whole: restore the object, and let no other tool clean it",
            ) from error

    def moments(self) -> dict[int, datetime]:
        """When each version was made, by the store's clock, in order."""
        infos = self._store.list(self._prefix)
        found = {int(m[1]): info.modified for info in infos if (m := _COMMIT.fullmatch(info.key.rpartition("/")[2]))}
        return dict(sorted(found.items()))

    def added(self, first: int, last: int) -> set[str]:
        """The paths of the data files that the commits `first` to `last` added, also those removed again since.

        Raises:
            FileNotFoundError: one is missing.
        """
        with ThreadPoolExecutor(8, thread_name_prefix="delta-log") as pool:
            return set().union(*pool.map(self._added, range(first, last + 1)))

    def _added(self, version: int) -> set[str]:
        lines = [line for line in self._store.get(self.key(version)).splitlines() if line.strip()]
        # Paths in the log are escaped as URIs are; those of a listing are not.
        return {unquote(action["add"]["path"]) for line in lines if "add" in (action := json.loads(line))}

    def key(self, version: int) -> str:
        return f"{self._prefix}{version:020d}.json"

    def _before_checkpoint(self) -> str:
        # Saves listing ten thousand commits page by page on S3; the newest is never before a checkpoint.
        try:
            checkpoint = json.loads(self._store.get(self._prefix + "_last_checkpoint"))["version"]
            return self.key(checkpoint - 1) if checkpoint > 0 else ""
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return ""


def parse_commit(version: int, data: bytes) -> Commit:
    """Reads a log object: one JSON action per line."""
    info: dict[str, Any] = {}
    touched: set[str] = set()
    for line in data.splitlines():
        if not line.strip():
            continue
        action = json.loads(line)
        if "commitInfo" in action:
            info = action["commitInfo"]
            continue
        change = action.get("add") or action.get("remove")
        # Compaction moves rows without changing them (dataChange false): it touches no partition.
        if change and change.get("dataChange", True):
            values = change.get("partitionValues") or {}
            touched.add(spell(tuple(values), values.values()))
    ours = info.get(METADATA)
    ours = ours if isinstance(ours, dict) else {}
    stamp = {"run_id": ours.get("run_id", ""), "recorded_at": ours.get("recorded_at", "")}
    entries = tuple(
        Entry(tuple(entry["key"]), entry["rows"], entry["meta"], version=version, **stamp)
        for entry in ours.get("entries", ())
    )
    touched.update(spell(ours["partition_by"], entry.key) for entry in entries)
    return Commit(
        version,
        hashlib.sha256(data).hexdigest(),
        info.get("operation", ""),
        attempt=ours.get("attempt", 0),
        actor=ours.get("actor", ""),
        write_id=ours.get("write_id", ""),
        entries=entries,
        touched=frozenset(touched),
        took=ours.get("took") or {},
        **stamp,
    )
