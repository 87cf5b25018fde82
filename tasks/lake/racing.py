"""Several partitions written where others may write some of the same: who was first keeps his, the rest lands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from tasks.errors import SupersededError
from tasks.lake.log import Commit, Entry, Key, spell
from tasks.lake.staging import Confirm, Staged, Stream

if TYPE_CHECKING:
    from tasks.domain.run import RunRef
    from tasks.lake.publish import Took
    from tasks.lake.table import Table


def replace_untouched(
    table: Table,
    *,
    pinned: int,
    columns: pa.Schema,
    partition_by: tuple[str, ...],
    stream: Stream,
    entries: Mapping[Key, Entry],
    run: RunRef,
    confirm: Confirm | None = None,
    took: Took | None = None,
) -> tuple[int, frozenset[Key]]:
    """Replaces, in one commit, those of the partitions that nobody else wrote since `pinned`.

    Args:
        pinned, columns, partition_by, run, took: see `Table.replace`.
        stream: gives the rows of partitions; asked once for each that is not yet lost, also where a commit is
            tried again.
        entries: the entry of each.
        confirm: asked when the rows are written and before the commit, however long that took: the partitions
            that may be published still.

    Returns:
        The table's version that holds them, and the keys that were written.

    Raises:
        SupersededError: others wrote all of them, or none is confirmed.
    """
    with Staged(table, columns=columns, partition_by=partition_by, data=stream, confirm=confirm) as staged:
        left, ours = list(entries), frozenset()
        while True:
            try:
                version = table.replace(
                    pinned=pinned,
                    columns=columns,
                    partition_by=partition_by,
                    data=staged,
                    entries=[entries[key] for key in left],
                    run=run,
                    took=took,
                )
            except SupersededError:
                seen = table.version()
                commits = table.commits(since=pinned, version=seen)
                ours |= {entry.key for commit in commits if commit.run_id == run.run_id for entry in commit.entries}
                still = _untouched(commits, left, partition_by)
                # an earlier attempt of this run landed them before it was killed, and what is left is refused
                if ours and (not still or len(still) == len(left)):
                    return seen, ours & frozenset(entries)
                if not still or len(still) == len(left):
                    raise
                left, pinned = still, seen
            else:
                return version, (frozenset(left) - staged.refused) | (ours & frozenset(entries))


def _untouched(commits: Iterable[Commit], keys: Iterable[Key], partition_by: tuple[str, ...]) -> list[Key]:
    touched = {name for commit in commits for name in commit.touched}
    return [key for key in keys if spell(partition_by, key) not in touched]
