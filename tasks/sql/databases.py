"""Closed databases that see one cut of the sources at a time.

For each query a database holds the views that its SQL reads, each made of exactly the visible
revisions, and nothing else: what is outside of the cut can't be reached by any SQL. Each computes in
one thread, so a result does not depend on how many run at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from queue import SimpleQueue
from typing import TypeVar

import pyarrow as pa

from tasks.sql.session import explained, open_session, set_moments
from tasks.sql.slices import Slices, SourceRows

Revisions = tuple[tuple[str, int], ...]
"""(partition key, revision) pairs."""
_In = TypeVar("_In")
_Out = TypeVar("_Out")


class Databases:
    """As many databases as threads, over the rows of a run. A context manager."""

    def __init__(self, sources: Mapping[str, SourceRows], *, threads: int, memory_limit: str | None) -> None:
        """Cuts the rows into revisions and opens the databases.

        Args:
            sources: by the name of their view.
            threads: queries at a time.
            memory_limit: of each of these, in DuckDB's spelling.
        """
        self.slices = {name: Slices(rows) for name, rows in sources.items()}
        self._threads = threads
        self._sessions = [open_session(memory_limit=memory_limit) for _ in range(threads)]
        self._free: SimpleQueue = SimpleQueue()
        for session in self._sessions:
            self._free.put(session)

    def __enter__(self) -> Databases:
        return self

    def __exit__(self, *_: object) -> None:
        for session in self._sessions:
            session.close()

    def query(
        self,
        sql: str,
        *,
        reads: Iterable[str],
        visible: Mapping[str, Revisions],
        others: Mapping[str, pa.Table],
        moments: Mapping[str, datetime],
        at: str,
    ) -> pa.Table:
        """What a SELECT gives.

        Args:
            reads: names of the sources that it reads.
            visible: source -> its visible revisions, in the order of time; one left out shows no row.
            others: further views by name.
            moments: as_of, partition_start and partition_end.
            at: named in errors.

        Raises:
            SqlError: the SQL fails.
        """
        session = self._free.get()
        try:
            for name in reads:
                session.register(name, self.slices[name].view(visible.get(name, ())))
            for name, table in others.items():
                session.register(name, table)
            set_moments(session, moments)
            with explained(at):
                return session.sql(sql).to_arrow_table()
        finally:
            self._free.put(session)

    def each(self, compute: Callable[[_In], _Out], items: Iterable[_In]) -> Iterator[_Out]:
        """`compute` of each item in their order, as many at a time as there are databases."""
        waiting: deque = deque()
        with ThreadPoolExecutor(self._threads, thread_name_prefix="sql") as pool:
            try:
                for item in items:
                    waiting.append(pool.submit(compute, item))
                    # bounds the finished tables that wait for a slow reader
                    if len(waiting) > 2 * self._threads:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()
