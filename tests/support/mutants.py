"""Faults planted into a forked command, each of a kind that the checks must catch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any


def apply(names: str) -> None:
    """Plant mutants, joined by `+`, into this process."""
    for name in names.split("+"):
        MUTANTS[name]()


def commit_twice() -> None:
    """A commit whose answer is taken for lost is offered once more."""
    from tasks.lake.publish import _Write

    commit = _Write.commit

    def twice(self: Any, written: Any) -> Any:
        first = commit(self, written)
        log = self.table.folder / "_delta_log"
        last = sorted(log.glob("[0-9]*.json"))[-1]
        again = [line for line in last.read_text().splitlines() if "commitInfo" in line]
        # what it says of its partitions, and no file: a reader of the newest version alone would not see it
        (log / f"{int(last.stem) + 1:020d}.json").write_text("\n".join(again))
        return first

    _Write.commit = twice


def skip_the_fence() -> None:
    """A writer does not look at what others committed since it was pinned."""
    from tasks.lake.publish import _Write

    def look(self: Any, head: int) -> None:
        self.seen = head

    _Write.look = look


def lose_a_row() -> None:
    """Something between the prediction and the file loses a row; by itself no mutant, but what checks are for."""
    from tasks.lake import staging

    write = staging.write_partition

    def losing(batches: Iterator, **more: Any) -> Any:
        first = next(batches)
        return write(iter([first.slice(1), *batches]), **more)

    staging.write_partition = losing


def check_after_the_commit() -> None:
    """The population is checked when the rows are published already."""
    from tasks.lake.publish import _Write

    check, commit = _Write.check_population, _Write.commit

    def late(self: Any, written: Any) -> Any:
        found = commit(self, written)
        check(self, written)
        return found

    _Write.check_population, _Write.commit = lambda self, written: None, late


def champion_at_now() -> None:
    """The champion is resolved at the moment of the run, not at the partition's as_of."""
    from tasks import pin, score

    resolve = pin.champion_at
    for verb in (pin, score):  # the second asks again before it publishes, and would refuse what the first pinned
        verb.champion_at = lambda events, moment, **more: resolve(events, datetime.now(UTC), **more)


MUTANTS: dict[str, Callable[[], None]] = {
    one.__name__: one for one in (commit_twice, skip_the_fence, lose_a_row, check_after_the_commit, champion_at_now)
}
