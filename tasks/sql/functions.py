"""Which of DuckDB's functions give the same for the same rows, today and in a backfill next year."""

from __future__ import annotations

import json
from functools import lru_cache

from tasks.sql.session import MOMENTS, open_session
from tasks.sql.syntax import nodes

CLOCKS_AND_USERS = frozenset(
    [
        "current_catalog",
        "current_database",
        "current_date",
        "current_role",
        "current_schema",
        "current_time",
        "current_timestamp",
        "current_user",
        "localtime",
        "localtimestamp",
        "session_user",
        "user",
    ]
)
"""Words that mean a function where no column has that name."""

# DuckDB calls these CONSISTENT, yet they sample, ask the clock, or answer by the DuckDB or the user that runs
_REFUSED = frozenset(
    ["reservoir_quantile", "version", "current_localtime", "current_localtimestamp", *CLOCKS_AND_USERS]
)
# part of the syntax, or listed as table functions only
_SYNTAX = frozenset(["unnest", "grouping", "grouping_id", "ifnull", *MOMENTS])


@lru_cache(maxsize=1)
def deterministic() -> frozenset[str]:
    """Names of the functions that feature SQL may call.

    Scalar, aggregate and window functions of which every form is CONSISTENT by DuckDB's own
    account, and macros made of these alone.
    """
    session = open_session()
    try:
        rows = session.execute(
            "SELECT function_name, function_type, coalesce(stability, ''), coalesce(macro_definition, '')"
            " FROM duckdb_functions() WHERE function_type IN ('scalar', 'aggregate', 'window', 'macro')"
        ).fetchall()
        macros = [(name, definition) for name, kind, _, definition in rows if kind == "macro"]
        texts = [f"SELECT {definition}" for _, definition in macros]
        trees = session.execute("SELECT json_serialize_sql(t) FROM (SELECT unnest(?::VARCHAR[]) AS t)", [texts])
        bodies = [json.loads(tree) for (tree,) in trees.fetchall()]
    finally:
        session.close()
    plain = [(name, stability) for name, kind, stability, _ in rows if kind != "macro"]
    unstable = {name for name, stability in plain if stability != "CONSISTENT"} | _REFUSED
    allowed = ({name for name, _ in plain} | _SYNTAX) - unstable
    waiting = {name: [] for name, _ in macros}
    for (name, _), body in zip(macros, bodies, strict=True):
        waiting[name].append(body)
    grown = True
    while grown:
        stable = {name for name, forms in waiting.items() if all(_stable(form, allowed) for form in forms)} - unstable
        grown = bool(stable - allowed)
        allowed |= stable
    return frozenset(allowed)


def _stable(tree: dict, allowed: set[str]) -> bool:
    if tree["error"]:
        return False
    for node in nodes(tree["statements"]):
        if node.get("type") in ("SUBQUERY", "BASE_TABLE", "TABLE_FUNCTION"):
            return False
        if "function_name" in node and node["function_name"].lower() not in allowed:
            return False
        if node.get("class") == "COLUMN_REF" and node["column_names"][-1].lower() in CLOCKS_AND_USERS:
            return False
    return True


@lru_cache(maxsize=1)
def known() -> frozenset[str]:
    """Names of all functions of this DuckDB."""
    session = open_session()
    try:
        rows = session.execute("SELECT DISTINCT function_name FROM duckdb_functions()").fetchall()
    finally:
        session.close()
    return frozenset(name for (name,) in rows)


@lru_cache(maxsize=1)
def aggregates() -> frozenset[str]:
    """Names that are aggregate functions and nothing else."""
    session = open_session()
    try:
        rows = session.execute(
            "SELECT function_name FROM duckdb_functions() GROUP BY function_name HAVING bool_and(function_type = 'aggregate')"
        ).fetchall()
    finally:
        session.close()
    return frozenset(name for (name,) in rows)
