"""What stands in a lake folder, read by a reader that shares no code with the product: JSON, Parquet and digests.

It reads the whole log of each table and refuses what must never be: a commit twice, rows without an entry, an
entity twice in a partition, a chain that is broken, a version that was not champion.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from zoneinfo import ZoneInfo

import pyarrow.parquet as pq

Key = tuple[str, ...]
STARTED = datetime.now(UTC)
"""What is known since then became known by what is tested: no two runs agree on when."""


@dataclass
class Read:
    """A table as its log tells it.

    Attributes:
        files: path -> partition, of the newest version.
        entries: partition -> what the newest commit that named it says.
        wrote: (run, partition) of every commit, in order.
    """

    folder: Path
    version: int = -1
    files: dict[str, Key] = field(default_factory=dict)
    entries: dict[Key, dict[str, Any]] = field(default_factory=dict)
    wrote: list[tuple[str, Key]] = field(default_factory=list)

    def rows(self) -> dict[Key, list[str]]:
        """Partition -> its rows as texts, sorted; partitions without rows as their entries say."""
        found: dict[Key, list[str]] = {key: [] for key in self.entries}
        for path, key in self.files.items():
            file = self.folder / path
            assert file.exists(), f"{file} is named by the log and is not there"
            found.setdefault(key, []).extend(_texts(file.parent.name, file.name, file.stat().st_size, file))
        return {key: sorted(rows) for key, rows in found.items()}


_read: dict[tuple[str, str, int], list[str]] = {}


def _texts(folder: str, name: str, size: int, file: Path) -> list[str]:
    """A file's rows; a copy of one that was read has the same, its name being drawn at random."""
    if (folder, name, size) not in _read:
        rows = pq.read_table(file, partitioning=None).to_pylist()
        for row in rows:
            if "_known_at" in row and row["_known_at"] > STARTED:
                row["_known_at"] = "while this ran"
        _read[folder, name, size] = [json.dumps(row, default=str, sort_keys=True) for row in rows]
    return _read[folder, name, size]


def tables(lake: Path) -> Iterator[tuple[str, Read]]:
    """Each table of a lake with its name."""
    for log in sorted(lake.rglob("_delta_log")):
        yield str(log.parent.relative_to(lake)), read(log.parent)


def read(folder: Path) -> Read:
    """Replay a table's log from its first commit."""
    found, by = Read(folder), ()
    for number, file in enumerate(sorted((folder / "_delta_log").glob("[0-9]*.json"))):
        assert file.stem == f"{number:020d}", f"{file} does not follow commit {number - 1}"
        info: dict[str, Any] = {}
        for action in map(json.loads, file.read_text().splitlines()):
            if "metaData" in action:
                by = tuple(action["metaData"]["partitionColumns"])
            elif "add" in action:
                path = unquote(action["add"]["path"])
                assert path not in found.files, f"{file}: {path} is added twice"
                found.files[path] = tuple(str(action["add"]["partitionValues"][name]) for name in by)
            elif "remove" in action:
                assert found.files.pop(unquote(action["remove"]["path"]), None) is not None, f"{file}: removes nothing"
            elif "commitInfo" in action:
                info = action["commitInfo"].get("millrace") or {}
        for entry in info.get("entries", ()):
            key = tuple(map(str, entry["key"]))
            found.entries[key] = entry
            found.wrote.append((info["run_id"], key))
        found.version = number
    return found


def check(lake: Path, *, zone: str = "America/New_York", cut: timedelta = timedelta(hours=4)) -> None:
    """Assert of every table, ledger and model of a lake what must be true at any moment.

    Args:
        zone, cut: the pipelines' as_of after a day's start.
    """
    for name, table in tables(lake):
        # a verdict is given anew when a run died before the rows that it lets through were published
        twice = [one for one, count in Counter(table.wrote).items() if count > 1 and not name.endswith("/quarantine")]
        assert not twice, f"{name}: {twice[0]} was committed twice"
        rows = table.rows()
        for key, there in rows.items():
            assert key in table.entries, f"{name}: {key} has rows and no entry"
            said = table.entries[key]["rows"]
            assert len(there) == said, f"{name}: {key} has {len(there)} rows, its entry says {said}"
        if "/features/" in name or name.endswith("/predictions"):
            _check_entities(name, rows)
        if name.endswith("/predictions"):
            _check_population(lake, name, table)
            _check_champions(lake, name, table, rows, zone, cut)
    for file in sorted((lake / "ledger").rglob("000001.json")):
        events(file.parent)
    for file in lake.glob("models/*.ubj"):
        assert hashlib.sha256(file.read_bytes()).hexdigest() == file.stem, f"{file} is not what its name says"
    for file in lake.glob("*/versions/*.json"):
        digest = json.loads(file.read_text())["digest"]
        assert (lake / "models" / f"{digest}.ubj").exists(), f"{file}: its model is not there"


def events(folder: Path) -> list[dict[str, Any]]:
    """A ledger's events, whose numbers and digests must be a chain."""
    found: list[dict[str, Any]] = []
    for number, file in enumerate(sorted(folder.glob("[0-9]*.json")), start=1):
        event = json.loads(file.read_text())
        rest = {name: value for name, value in event.items() if name != "digest"}
        text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
        assert hashlib.sha256(text.encode()).hexdigest() == event["digest"], f"{file} was changed"
        assert (file.stem, event["number"]) == (f"{number:06d}", number), f"{file} is not event {number}"
        assert event["previous"] == (found[-1]["digest"] if found else ""), f"{file} does not follow"
        found.append(event)
    return found


def state(lake: Path) -> dict[str, Any]:
    """What a reader sees: rows of each partition of each table, and the ledgers without who, when and which run."""
    seen: dict[str, Any] = {name: table.rows() for name, table in tables(lake)}
    for first in sorted((lake / "ledger").rglob("000001.json")):
        seen[str(first.parent.relative_to(lake))] = [
            (one["verdict"], one["training"], version_of(one["from_model"]), version_of(one["to_model"]))
            for one in events(first.parent)
        ]
    return seen


def orphans(lake: Path) -> list[Path]:
    """Data files that no commit names, and whatever else a killed writer may leave."""
    named = {table.folder / path for _, table in tables(lake) for path in _ever(table.folder)}
    files = {file for _, table in tables(lake) for file in table.folder.glob("*=*/**/*.parquet")}
    return sorted(files - named) + sorted(file for file in lake.rglob("*.tmp*") if file.is_file())


def _ever(folder: Path) -> set[str]:
    lines = [line for file in (folder / "_delta_log").glob("[0-9]*.json") for line in file.read_text().splitlines()]
    return {unquote(action["add"]["path"]) for line in lines if "add" in (action := json.loads(line))}


def champion_at(told: list[dict[str, Any]], moment: datetime) -> int | None:
    """The version that scores at a moment, by a ledger's events as they are now."""
    champion = None
    for event in told:
        skipped = event.get("repair") and version_of(event["from_model"]) != champion
        if datetime.fromisoformat(event["effective_from"]) <= moment and not skipped:
            champion = version_of(event["to_model"])
    return champion


def version_in(row: str) -> int:
    """The version that scored a row."""
    return json.loads(row)["model_version"]


def version_of(model: dict[str, Any] | None) -> int | None:
    return None if model is None else model["version"]


def _check_entities(name: str, rows: dict[Key, list[str]]) -> None:
    for key, there in rows.items():
        ids = Counter(json.loads(row)["order_id"] for row in there)
        twice = [one for one, count in ids.items() if count > 1]
        assert not twice, f"{name}: {twice[0]} is in {key} twice"


def _check_population(lake: Path, name: str, table: Read) -> None:
    """Driving rows = predictions + those left out, and no driving row is without an answer."""
    clean = read(lake / "sources" / "orders" / "clean")
    for key, entry in table.entries.items():
        driving = [one["rows"] for (day, _), one in clean.entries.items() if day == key[0]]
        left = sum(entry["meta"]["filtered"].values())
        assert entry["rows"] + left in driving, f"{name}: {key} has {entry['rows']} of {driving} rows"


def _check_champions(lake: Path, name: str, table: Read, rows: dict[Key, list[str]], zone: str, cut: timedelta) -> None:
    """Each partition was scored by the version that was champion at its as_of when it was written, or is now."""
    told = events(lake / "ledger" / name.removesuffix("/predictions"))
    for key, there in rows.items():
        as_of = datetime.fromisoformat(key[0]).replace(tzinfo=ZoneInfo(zone)) + cut
        allowed = {champion_at(told[:count], as_of) for count in range(1, len(told) + 1)}
        found = set(map(version_in, there))
        assert found <= allowed, f"{name}: {key} was scored by {found}, its champions were {allowed}"
