"""SQL texts as DuckDB's own syntax tree."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from tasks.errors import SqlError
from tasks.sql.session import open_session

Node = dict[str, Any]
_LOCATIONS = ("query_location", "query_location_length")
_NOWHERE = 2**64 - 1


def parse(sql: str, *, file: str) -> list[Node]:
    """The statements of a text, as DuckDB parses them.

    Raises:
        SqlError: the text is no SQL, or has a statement that is not a SELECT.
    """
    try:
        tree = _tree(sql)
    except RecursionError as error:
        raise SqlError(f"{file}: the SQL is nested too deeply") from error
    if not tree["error"]:
        return tree["statements"]
    if tree["error_type"] == "not implemented":
        raise SqlError(f"{file}: expected one SELECT, found another kind of statement")
    where = line_of(sql, int(tree["position"])) if str(tree.get("position", "")).isdigit() else None
    at = f" line {where}:" if where else ""
    raise SqlError(f"{file}:{at} {tree['error_message']}")


def tables_in(sql: str, *, among: Iterable[str]) -> tuple[str, ...]:
    """Those of some names that the SQL reads, or may: a common table expression of the same name hides it."""
    found = {
        node["table_name"].lower()
        for node in nodes(parse(sql, file="sql"))
        if node.get("type") == "BASE_TABLE" and "table_name" in node
    }
    return tuple(name for name in among if name.lower() in found)


def line_of(sql: str, location: int) -> int | None:
    """The 1-based line of a location (DuckDB counts bytes), or None where the tree has no location."""
    return None if location >= _NOWHERE else sql.encode()[:location].count(b"\n") + 1


def without_locations(node: Any) -> Any:
    """The tree without positions in the text: equal for texts that differ in layout and comments only."""
    if isinstance(node, dict):
        return {key: without_locations(value) for key, value in node.items() if key not in _LOCATIONS}
    return [without_locations(value) for value in node] if isinstance(node, list) else node


def nodes(node: Any) -> Iterator[Node]:
    """All objects of a tree, from the top."""
    waiting = [node]
    while waiting:
        current = waiting.pop()
        if isinstance(current, dict):
            yield current
            waiting.extend(current.values())
        elif isinstance(current, list):
            waiting.extend(current)


@lru_cache(maxsize=256)
def _tree(sql: str) -> Node:
    session = open_session()
    try:
        text = session.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchall()[0][0]
    finally:
        session.close()
    return json.loads(text)
