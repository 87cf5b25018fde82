"""The guard of feature SQL: one SELECT over the cut views, deterministic, and what it gives.

The walk knows what is allowed and refuses the rest: a kind of node that a later DuckDB invents is
refused until somebody has thought about it.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

from tasks.errors import SqlError
from tasks.sql.functions import CLOCKS_AND_USERS, deterministic, known
from tasks.sql.session import MOMENTS, create_empty, explained, open_session, set_moments
from tasks.sql.syntax import Node, line_of, parse

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

ENTITIES = "entities"
VIEW_COLUMNS = {"_partition": "string", "_known_at": "timestamp"}
"""What each view has beside the source's declared columns."""
RESERVED = ("partition_key", "revision", "label", "score", "scores", "predicted", "model_version")
"""Names that a feature can't have: they stand beside the features in Millrace's own tables."""

_QUERIES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
_TABLES = {"BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION", "EMPTY", "EXPRESSION_LIST"}
_TABLE_FUNCTIONS = {"unnest", "range", "generate_series"}
_EXPRESSIONS = set(
    [
        "COLUMN_REF",
        "CONSTANT",
        "FUNCTION",
        "WINDOW",
        "CAST",
        "COMPARISON",
        "CONJUNCTION",
        "OPERATOR",
        "CASE",
        "BETWEEN",
        "SUBQUERY",
        "STAR",
        "LAMBDA",
        "LAMBDA_REF",
        "COLLATE",
        "POSITIONAL_REFERENCE",
        "TYPE",
    ]
)
_BY_NAME = {"aggregate", "array_aggr", "array_aggregate", "list_aggr", "list_aggregate"}
_CLOCKS = ("date", "time", "now", "today", "ago")
TYPES = {
    "VARCHAR": "string",
    "BOOLEAN": "bool",
    "FLOAT": "float",
    "DOUBLE": "float",
    **dict.fromkeys(
        ["TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"], "int"
    ),
}
TEMPORAL = {"DATE": "date", "TIMESTAMP": "local_timestamp", "TIMESTAMP WITH TIME ZONE": "timestamp"}


def check_text(sql: str, *, file: str, views: Collection[str]) -> None:
    """Refuses SQL that is not one deterministic SELECT over the views.

    Args:
        file: named in errors.
        views: names that may be read, beside the SQL's own common table expressions.

    Raises:
        SqlError: names the file, the line and what is refused.
    """
    statements = parse(sql, file=file)
    if len(statements) != 1:
        raise SqlError(f"{file}: expected one SELECT, found {len(statements) or 'no'} statements")
    try:
        _Walk(sql, file, views).visit(statements[0]["node"], frozenset(view.lower() for view in views))
    except RecursionError as error:
        raise SqlError(f"{file}: the SQL is nested too deeply") from error


def describe(
    sql: str, *, sources: Mapping[str, Mapping[str, str]], driver: str, entity: tuple[str, ...], file: str
) -> dict[str, str]:
    """The output columns of a feature SQL and their types, by binding it against empty views.

    Args:
        sources: source name -> its declared columns and types.
        driver: the source whose rows are scored.
        entity: the columns that name a row.

    Returns:
        Column name -> type (string, int, float or bool; an entity column has its source's type),
        entity columns first.

    Raises:
        SqlError: refused by `check_text`, an unknown column or table, a lacking entity column, or a
            type that is no feature.
    """
    if ENTITIES in sources:
        raise SqlError(f"{file}: a source can't be called {ENTITIES!r}: that is the view of the rows to be scored")
    check_text(sql, file=file, views=[*sources, ENTITIES])
    session = open_session()
    try:
        found = bound(session, sql, {**sources, ENTITIES: sources[driver]}, file)
    finally:
        session.close()
    return _features(found, sources[driver], entity, file)


def bound(
    session: DuckDBPyConnection, sql: str, views: Mapping[str, Mapping[str, str]], file: str
) -> list[tuple[str, str]]:
    """Name and DuckDB's type of each output column, by binding the SQL against empty views.

    Args:
        views: view -> its source's declared columns and types.

    Raises:
        SqlError: an unknown column or table, or a column that comes out twice.
    """
    for name, columns in views.items():
        create_empty(session, name, {**columns, **VIEW_COLUMNS})
    set_moments(session, dict.fromkeys(MOMENTS, datetime(2000, 1, 1, tzinfo=UTC)))
    with explained(file):
        relation = session.sql(sql)
        found = [(name, str(kind)) for name, kind in zip(relation.columns, relation.types, strict=True)]
    seen: set[str] = set()
    for name, _ in found:
        if name.lower() in seen:
            raise SqlError(f"{file}: the column {name!r} comes out twice", hint="give one of them another name with AS")
        seen.add(name.lower())
    return found


def check_name(name: str, file: str, *, reserved: Collection[str] = RESERVED) -> None:
    """Refuses names that stand beside the columns in Millrace's own tables."""
    if name.startswith("_") or name.lower() in reserved:
        raise SqlError(
            f"{file}: a column can't be called {name!r}: that name is Millrace's own", hint="rename it with AS"
        )


def _features(found: list[tuple[str, str]], driver: Mapping[str, str], entity: tuple[str, ...], file: str):
    names = [name for name, _ in found]
    for name in names:
        if name not in entity:
            check_name(name, file)
    for column in entity:
        if column not in names:
            raise SqlError(
                f"{file}: the entity column {column!r} is not among the output columns {', '.join(names)}",
                hint=f"add {column} to the outermost SELECT",
            )
    if len(names) == len(entity):
        raise SqlError(f"{file}: there is no feature beside the entity {', '.join(entity)}")
    types = dict(found)
    columns = {name: _entity_type(file, name, types[name], driver[name]) for name in entity}
    return columns | {name: feature_type(file, name, kind) for name, kind in found if name not in entity}


def _entity_type(file: str, name: str, kind: str, declared: str) -> str:
    given = TYPES.get(kind) or TEMPORAL.get(kind)
    if given != declared:
        raise SqlError(
            f"{file}: the entity column {name!r} comes out as {kind}, its source declares {declared}",
            hint="pass entity columns through as they are",
        )
    return declared


def feature_type(file: str, name: str, kind: str) -> str:
    if kind in TYPES:
        return TYPES[kind]
    if kind.startswith("DECIMAL"):
        return "float"
    if kind.startswith("ENUM"):
        return "string"
    hints = {
        "DATE": f"make a number of it, for instance date_diff('day', {name}, as_of()::DATE) or month({name})",
        "INTERVAL": f"make a number of it, for instance epoch({name}) for seconds",
        '"NULL"': f"give it a type, for instance CAST(NULL AS DOUBLE) AS {name}",
    }
    hint = hints.get(kind, "a feature is a string, an int, a float or a bool")
    if kind.startswith("TIMESTAMP"):
        hint = f"make a number of it, for instance date_diff('minute', {name}, as_of()) or hour({name})"
    raise SqlError(f"{file}: the column {name!r} is of type {kind}, which is no feature", hint=hint)


class _Walk:
    """One pass over a syntax tree; `scope` holds the table names visible at a place, in lower case."""

    def __init__(self, sql: str, file: str, views: Collection[str]) -> None:
        self.sql = sql
        self.file = file
        self.views = sorted(views)

    def visit(self, node: Any, scope: frozenset[str]) -> None:
        if isinstance(node, list):
            for item in node:
                self.visit(item, scope)
            return
        if not isinstance(node, dict):
            return
        kind = str(node.get("type", ""))
        if kind.endswith("_NODE"):
            scope = self.query(node, kind, scope)
        elif "alias" in node and "sample" in node:
            self.table(node, kind, scope)
        elif "class" in node:
            self.expression(node)
        if node.get("sample") is not None:
            self.refuse(node, "sampling takes other rows each time", hint="select rows by a condition")
        for key, value in node.items():
            # a table function's name follows rules of its own; common table expressions are visited in order
            if key == "cte_map" or (kind == "TABLE_FUNCTION" and key == "function"):
                continue
            self.visit(value, scope)

    def query(self, node: Node, kind: str, scope: frozenset[str]) -> frozenset[str]:
        if kind not in _QUERIES:
            self.refuse(node, f"{kind.removesuffix('_NODE').replace('_', ' ').lower()} is not allowed")
        for entry in node.get("cte_map", {}).get("map", []):
            self.visit(entry["value"], scope)
            scope |= {entry["key"].lower()}
        if "cte_name" in node:
            scope |= {node["cte_name"].lower()}
        return scope

    def table(self, node: Node, kind: str, scope: frozenset[str]) -> None:
        if kind not in _TABLES:
            self.refuse(node, f"{kind.removesuffix('_REF').lower()} is not allowed in FROM")
        if kind == "TABLE_FUNCTION":
            name = node["function"]["function_name"].lower()
            if name not in _TABLE_FUNCTIONS:
                self.refuse(
                    node,
                    f"the table function {name}() is not allowed",
                    hint=f"read one of the views: {', '.join(self.views)}",
                )
            self.visit(node["function"]["arguments"], scope)
        if kind == "BASE_TABLE":
            parts = [node["catalog_name"], node["schema_name"], node["table_name"]]
            name = ".".join(part for part in parts if part)
            if node.get("at_clause") is not None or name.lower() not in scope or parts[:2] != ["", ""]:
                near = difflib.get_close_matches(name, self.views, n=1)
                self.refuse(
                    node,
                    f"there is no view {name!r}",
                    hint=f"did you mean {near[0]!r}?" if near else f"the views are {', '.join(self.views) or 'none'}",
                )

    def expression(self, node: Node) -> None:
        kind = node["class"]
        if kind not in _EXPRESSIONS:
            self.refuse(node, f"a {kind.lower()} is not allowed")
        if kind == "TYPE" and node["type_name"].upper() in ("TIMETZ", "TIME WITH TIME ZONE"):
            self.refuse(
                node, "a time of day in a zone has no date, so its offset is that of today", hint="use TIMESTAMPTZ"
            )
        if kind == "COLUMN_REF" and len(node["column_names"]) == 1:
            name = node["column_names"][0].lower()
            if name in CLOCKS_AND_USERS:
                self.refuse_function(node, name)
        if "function_name" in node:
            name = node["function_name"].lower()
            # a schema in front is of no account: x.lower() is parsed as lower() in the schema x
            if name not in deterministic():
                self.refuse_function(node, name)
            if name in _BY_NAME:
                self.aggregate_by_name(node)
            if name == "age" and len(node["arguments"]) < 2:
                self.refuse(node, "age() of one moment asks the clock", hint="age(as_of(), …) tells from when")

    def aggregate_by_name(self, node: Node) -> None:
        name = node["arguments"][1]["expression"].get("literal", {}).get("text") if len(node["arguments"]) > 1 else None
        if name is None or name.lower() not in deterministic():
            self.refuse(node, f"{node['function_name']}() needs the plain name of a deterministic aggregate")

    def refuse_function(self, node: Node, name: str) -> NoReturn:
        if name not in known() and name not in CLOCKS_AND_USERS:
            near = difflib.get_close_matches(name, sorted(deterministic()), n=1)
            self.refuse(node, f"there is no function {name}()", hint=f"did you mean {near[0]}()?" if near else "")
        hint = "the same rows must give the same features, today and in a backfill"
        if any(word in name for word in _CLOCKS):
            hint = "as_of() is the moment at which the features are known; partition_start() and partition_end() are the partition's bounds"
        self.refuse(node, f"{name}() is not allowed: its value does not follow from the rows", hint=hint)

    def refuse(self, node: Node, what: str, *, hint: str = "") -> NoReturn:
        line = line_of(self.sql, node.get("query_location", 2**64 - 1))
        raise SqlError(f"{self.file}:{f' line {line}:' if line else ''} {what}", hint=hint)
