"""The derived index over a table's commits: local, incremental by version, deletable.

Commits lie in segments of 100 as `<home>/cache/state/<table>/000000.json`, each naming the digest of
the commit before its first. The newest commit in the index is compared with the log's own before
anything is believed: each commit's bytes hold random file names, so an index that agrees there is
an index of this log. Whatever else it is (torn, foreign, of a lake restored from a backup), it is
rebuilt from the log.
"""

from __future__ import annotations

import json
import os
import threading
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tasks.lake.log import Commit, DeltaLog, Entry, Key

_SEGMENT = 100  # commits per file: an update writes at most this many again
_FORMAT = 1


class StateIndex:
    """The commits of one table, cached in a folder."""

    def __init__(self, log: DeltaLog, folder: Path) -> None:
        self._log = log
        self._folder = folder
        self._commits: list[Commit] = []
        self._folded: tuple[str, dict[Key, Entry]] = ("", {})
        self._lock = threading.Lock()

    def commits(self, version: int) -> list[Commit]:
        """Commits 0 to `version`, from the index where it has them, else from the log."""
        with self._lock:
            known = self._commits or self._load()
            self._commits = known if self._agrees(known) else []
            have = len(self._commits)
            if have <= version:
                self._commits += self._log.read_range(have, version)
                self._store(have)
            return self._commits[: version + 1]

    def entries(self, version: int) -> dict[Key, Entry]:
        """The newest entry of each partition at `version`."""
        commits = self.commits(version)
        digest = commits[-1].digest if commits else ""
        if self._folded[0] != digest:
            self._folded = digest, fold(commits)
        return dict(self._folded[1])

    def _load(self) -> list[Commit]:
        commits: list[Commit] = []
        while True:
            part = self._read_segment(len(commits), commits[-1].digest if commits else "")
            commits += part
            if len(part) < _SEGMENT:
                return commits

    def _agrees(self, commits: list[Commit]) -> bool:
        """Whether the newest of these is the log's own."""
        try:
            return not commits or self._log.read(commits[-1].version).digest == commits[-1].digest
        except (FileNotFoundError, ValueError):
            return False

    def _read_segment(self, first: int, previous: str) -> list[Commit]:
        try:
            segment = json.loads(self._path(first).read_bytes())
            if (segment["format"], segment["first"], segment["previous"]) != (_FORMAT, first, previous):
                return []
            commits = [_from_dict(values) for values in segment["commits"]]
        except (OSError, ValueError, KeyError, TypeError):
            return []
        whole = [commit.version for commit in commits] == list(range(first, first + len(commits)))
        return commits if whole else []

    def _store(self, changed: int) -> None:
        for first in range(changed - changed % _SEGMENT, len(self._commits), _SEGMENT):
            part = self._commits[first : first + _SEGMENT]
            segment = {
                "format": _FORMAT,
                "first": first,
                "previous": self._commits[first - 1].digest if first else "",
                "commits": [_to_dict(commit) for commit in part],
            }
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                temporary = self._folder / f".{uuid.uuid4().hex}.tmp"
                temporary.write_text(json.dumps(segment), encoding="utf-8")
                os.replace(temporary, self._path(first))
            except OSError:  # a full disk or a read-only home: the index only saves time
                return

    def _path(self, first: int) -> Path:
        return self._folder / f"{first // _SEGMENT:06d}.json"


def fold(commits: list[Commit]) -> dict[Key, Entry]:
    """The newest entry of each partition after these commits, in the order of keys."""
    newest = {entry.key: entry for commit in commits for entry in commit.entries}
    return dict(sorted(newest.items(), key=lambda item: [(type(part).__name__, part) for part in item[0]]))


def _to_dict(commit: Commit) -> dict[str, Any]:
    values = asdict(commit)
    values["touched"] = sorted(commit.touched)
    # Three of an entry's fields are the commit's own.
    values["entries"] = [[list(entry.key), entry.rows, entry.meta] for entry in commit.entries]
    return values


def _from_dict(values: dict[str, Any]) -> Commit:
    stamp = {name: values[name] for name in ("version", "run_id", "recorded_at")}
    entries = tuple(Entry(tuple(key), rows, meta, **stamp) for key, rows, meta in values["entries"])
    return Commit(**{**values, "entries": entries, "touched": frozenset(values["touched"])})
