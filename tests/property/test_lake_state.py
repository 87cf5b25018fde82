"""The state index equals the log, whatever happened to either; snapshots equal a model of them."""

from __future__ import annotations

import json
import shutil
import tempfile
import uuid
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.errors import SupersededError
from tasks.lake import Entry, open_lake
from tasks.lake.log import DeltaLog
from tasks.lake.objects import FolderStore
from tasks.lake.state import StateIndex, fold
from tasks.settings import Settings
from tests.support.rows import put, values_of

KEYS = [("2013-11-03T01-0400", 1), ("2013-11-03T01-0400", 2), ("2013-11-03T01-0500", 1)]

counts = st.integers(1, 130)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), counts),
        st.tuples(st.just("read"), st.integers(0, 300)),
        st.tuples(st.just("new process"), st.just(0)),
        st.tuples(st.just("forget"), st.integers(0, 3)),
        st.tuples(st.just("tear"), st.integers(0, 3)),
        st.tuples(st.just("restore"), counts),
        st.tuples(st.just("another lake"), counts),
        st.tuples(st.just("older index"), st.just(0)),
    ),
    min_size=2,
    max_size=12,
)


class World:
    """A log written by hand, as cheap as its JSON, and an index over it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cache = folder / "cache"
        self.log = DeltaLog(FolderStore(folder / "lake"), "t")
        self.commits = 0
        self.new_process(0)

    def new_process(self, _: int) -> None:
        self.index = StateIndex(self.log, self.cache)

    def commit(self, count: int) -> None:
        path = self.folder / "lake" / "t" / "_delta_log"
        path.mkdir(parents=True, exist_ok=True)
        for version in range(self.commits, self.commits + count):
            entries = [{"key": [f"day-{version % 7}", version % 3], "rows": version, "meta": {"n": version}}]
            ours = {"run_id": "r", "recorded_at": "", "partition_by": ["partition_key", "revision"], "entries": entries}
            lines = [{"commitInfo": {"operation": "WRITE"} | ({"millrace": ours} if version % 5 else {})}]
            lines.append({"add": {"path": uuid.uuid4().hex, "partitionValues": {}, "dataChange": False}})
            (path / f"{version:020d}.json").write_text("\n".join(json.dumps(line) for line in lines))
        self.commits += count

    def read(self, version: int) -> None:
        version = min(version, self.commits - 1)
        assert self.index.commits(version) == self.log.read_range(0, version)
        assert self.index.entries(version) == fold(self.log.read_range(0, version))

    def forget(self, segment: int) -> None:
        (self.cache / f"{segment:06d}.json").unlink(missing_ok=True)
        self.new_process(0)

    def tear(self, segment: int) -> None:
        path = self.cache / f"{segment:06d}.json"
        if path.exists():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        self.new_process(0)

    def restore(self, count: int) -> None:
        """The lake goes back to an earlier version, and on from there on another way."""
        back = max(self.commits - count, 0)
        for version in range(back, self.commits):
            (self.folder / "lake" / self.log.key(version)).unlink()
        self.commits = back
        self.commit(count)
        self.new_process(0)

    def another_lake(self, count: int) -> None:
        shutil.rmtree(self.folder / "lake", ignore_errors=True)
        self.commits = 0
        self.commit(count)
        self.new_process(0)

    def older_index(self, _: int) -> None:
        """A slower process writes what it knew, behind the back of a faster one."""
        slow = StateIndex(self.log, self.cache)
        slow.commits(self.commits - 1)
        self.commit(3)
        self.index.commits(self.commits - 1)
        slow._store(0)
        self.new_process(0)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(steps)
def test_the_index_equals_a_rebuild_from_nothing(history: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        world.commit(1)
        for step, argument in history:
            getattr(world, step.replace(" ", "_"))(argument)
        world.read(world.commits - 1)
        world.read(world.commits // 2)
        fresh = StateIndex(world.log, Path(folder) / "elsewhere")
        assert fresh.entries(world.commits - 1) == StateIndex(world.log, world.cache).entries(world.commits - 1)


def test_segments_of_two_lakes_are_never_joined() -> None:
    """A slow process of a lake that is gone writes its segments below the newer ones of another lake."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        world.commit(200)
        world.read(199)
        slow = world.index
        world.another_lake(250)
        world.read(249)
        slow._store(0)
        world.new_process(0)
        world.read(249)


writes = st.lists(
    st.tuples(st.sampled_from(KEYS), st.lists(st.integers(0, 9), max_size=3), st.integers(0, 3)),
    min_size=1,
    max_size=8,
)


@settings(max_examples=15)
@given(writes)
def test_each_write_lands_exactly_or_is_fenced(history: list[tuple[tuple[str, int], list[int], int]]) -> None:
    """Against a plain model: a stale write lands unless its partition was written since it was pinned."""
    with tempfile.TemporaryDirectory() as folder:
        table = open_lake(Settings(home=Path(folder))).table("t")
        states: list[dict] = [{}]  # rows by partition at each version; version 0 has none
        written: dict[tuple[str, int], int] = {}
        for number, (key, values, behind) in enumerate(history):
            newest = len(states) - 1 if table.version() >= 0 else -1
            pinned = max(newest - behind, -1)
            try:
                version = put(table, key, values, pinned=pinned, run=f"run-{number}")
            except SupersededError:
                assert written[key] > pinned
                continue
            assert written.get(key, -1) <= pinned
            states.append({**states[-1], key: values})
            written[key] = version
            assert version == table.version() == len(states) - 1
        for version, state in enumerate(states):
            assert values_of(table, version) == {key: values for key, values in sorted(state.items()) if values}
            assert table.entries(version) == {key: Entry(key, len(values)) for key, values in state.items()}
