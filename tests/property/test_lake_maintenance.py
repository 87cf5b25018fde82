"""Whatever is compacted, vacuumed and checkpointed in between, rows, entries and the fence are as without it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.domain.run import RunRef
from tasks.errors import SupersededError, VacuumedError
from tasks.lake import Entry, open_lake
from tasks.lake.checkpoints import tend
from tasks.lake.compact import compact
from tasks.lake.table import Table
from tasks.lake.vacuum import vacuum
from tasks.settings import Settings
from tests.support.rows import later, put, scatter, values_of

Key = tuple[str, int]
KEYS = [("2013-11-03T01-0400", 1), ("2013-11-03T01-0400", 2), ("2013-11-03T01-0500", 1)]
FILE = 1 << 20

puts = st.tuples(st.sampled_from(KEYS), st.lists(st.integers(0, 9), max_size=4), st.integers(0, 2))
others = st.sampled_from(["scatter", "compact", "compact what was seen before", "vacuum", "checkpoint"])
histories = st.lists(st.one_of(puts, others), min_size=2, max_size=12)


class World:
    """A table that is maintained, and what it would be without."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.rows: dict[Key, list[int]] = {}
        self.entries: dict[Key, Entry] = {}
        self.pins = [-1]  # the table's version after each write
        self.states: list[dict[Key, list[int]]] = [{}]
        self.written: dict[Key, int] = {}  # which write was a partition's last
        self.seen = 0
        self.keeps = True

    @property
    def kept(self) -> list[int]:
        """The version after the first write, which vacuums are told to keep."""
        return self.pins[1:2] if self.keeps else []

    def put(self, key: Key, values: list[int], behind: int) -> None:
        number = max(len(self.pins) - 1 - behind, 0)
        run = f"run-{len(self.pins)}"
        try:
            version = put(self.table, key, values, pinned=self.pins[number], run=run)
        except SupersededError:
            assert self.written[key] > number
            return
        assert self.written.get(key, 0) <= number
        self.rows = {**self.rows, key: values}
        self.written[key] = len(self.pins)
        self.entries[key] = Entry(key, len(values))
        self.pins.append(version)
        self.states.append(self.rows)

    def other(self, what: str) -> None:
        if self.table.version() < 0:
            return
        before, self.seen = self.seen, self.table.version()
        if what == "scatter":
            scatter(self.table)
        elif what == "vacuum":
            vacuum(self.table, before=later(1), keep=self.kept)
        elif what == "checkpoint":
            tend(self.table, before=later(1), every=0)
        else:
            version = before if what == "compact what was seen before" else None
            compact(self.table, file_bytes=FILE, run=RunRef("maintain"), version=version)

    def check(self) -> None:
        version = self.table.version()
        assert values_of(self.table, version) == _present(self.rows)
        assert self.table.entries() == self.entries
        for number, (pinned, state) in enumerate(zip(self.pins[1:], self.states[1:], strict=True), start=1):
            untouched = [key for key in state if self.written[key] <= number]
            found = self.table.read(version=pinned, keys=untouched)
            assert found.num_rows == sum(len(state[key]) for key in untouched)
            try:
                assert values_of(self.table, pinned) == _present(state)
            except VacuumedError:
                assert len(untouched) < len(state) and pinned not in self.kept


def _present(rows: dict[Key, list[int]]) -> dict[Key, list[int]]:
    return {key: values for key, values in sorted(rows.items()) if values}


@settings(max_examples=20)
@given(histories)
def test_rows_entries_and_the_fence_are_as_without_maintenance(history: list) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(open_lake(Settings(home=Path(folder))).table("t"))
        world.put(KEYS[0], [1, 2, 3], 0)
        for step in history:
            world.other(step) if isinstance(step, str) else world.put(*step)
        world.check()
        compact(world.table, file_bytes=FILE, run=RunRef("maintain"))
        world.keeps = False
        vacuum(world.table, before=later(1))
        world.check()
        files = list(Path(folder).glob("lake/t/partition_key=*/*/*.parquet"))
        assert len(files) == len(_present(world.rows)), "a file for each partition that has rows, and no other"
