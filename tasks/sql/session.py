"""DuckDB, closed: in memory, without files, network, extensions, Python variables or open settings.

A session computes with one thread, so that sums of floats and rows without an order come out the
same each time; whoever needs more threads opens more sessions.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tasks.domain.partition import iso
from tasks.errors import SqlError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

DUCKDB_TYPES = {
    "string": "VARCHAR",
    "int": "BIGINT",
    "float": "DOUBLE",
    "bool": "BOOLEAN",
    "date": "DATE",
    "timestamp": "TIMESTAMP WITH TIME ZONE",
    "local_timestamp": "TIMESTAMP",
}
MOMENTS = ("as_of", "partition_start", "partition_end")
"""Macros of ours in feature SQL: each is one instant of the partition."""
_SQL_SHARE = 0.5
"""Of a process's memory, for its sessions together; the rest is for the rows that they read and give."""
_LEAST_MIB = 256
"""A session gets so much also on a machine that is short of memory: to be refused it would be final."""


def open_session(*, memory_limit: str | None = None) -> DuckDBPyConnection:
    """A closed in-memory database; the caller closes it.

    Args:
        memory_limit: in DuckDB's spelling, for instance 4GB; None for DuckDB's own (80 % of the memory).
    """
    import duckdb

    config: dict[str, Any] = {
        "threads": 1,
        "enable_external_access": False,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_community_extensions": False,
        # otherwise a table name may mean a variable of the calling Python code
        "python_enable_replacements": False,
        "temp_directory": "",
    }
    if memory_limit is not None:
        config["memory_limit"] = memory_limit
    session = duckdb.connect(":memory:", config=config)
    session.execute("SET TimeZone = 'UTC'")
    # a ratio with nothing below the line is a missing value, not a failed partition
    session.execute("SET error_on_division_by_zero = false")
    session.execute("SET ieee_floating_point_ops = false")
    # standard output is the command's: a query of two seconds would draw on it
    session.execute("SET enable_progress_bar = false")
    session.execute("SET lock_configuration = true")
    return session


def sql_memory(memory: int | None, threads: int) -> str | None:
    """What the SQL of one of `threads` may take of a process's memory, in DuckDB's spelling; None for no limit."""
    return f"{max(_LEAST_MIB, int(memory * _SQL_SHARE / threads) >> 20)}MiB" if memory is not None else None


def set_moments(session: DuckDBPyConnection, moments: Mapping[str, datetime]) -> None:
    """Defines the macros as_of(), partition_start() and partition_end() as instants."""
    for name in MOMENTS:
        session.execute(f"CREATE OR REPLACE TEMP MACRO {name}() AS TIMESTAMPTZ '{iso(moments[name])}'")


def create_empty(session: DuckDBPyConnection, name: str, columns: Mapping[str, str]) -> None:
    """An empty table of Millrace's column types, to bind SQL against."""
    texts = ", ".join(f"{quoted(column)} {DUCKDB_TYPES[kind]}" for column, kind in columns.items())
    session.execute(f"CREATE TEMP TABLE {quoted(name)} ({texts})")


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@contextmanager
def explained(file: str):
    """Turns DuckDB's errors into SqlError with the file."""
    import duckdb

    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise SqlError(
            f"{file}: {_first(error)}",
            hint="give it more memory or fewer threads (MILLRACE_THREADS), or shorten the lookback",
        ) from error
    except duckdb.Error as error:
        raise SqlError(f"{file}: {_first(error)}") from error


def _first(error: Exception) -> str:
    """DuckDB's message on one line: the kind, the sentence, the candidates, and the line that it points at."""
    lines = [line.strip() for line in str(error).splitlines()]
    kept = [line for line in lines if line and not set(line) <= {"^", "~"}]
    return "; ".join(kept)
