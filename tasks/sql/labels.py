"""Labels: the expressions of a spec's `label`, and features joined with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.errors import SqlError
from tasks.sql.functions import aggregates
from tasks.sql.guard import TYPES, check_text
from tasks.sql.session import create_empty, explained, open_session, quoted
from tasks.sql.syntax import line_of, nodes, parse

NO_ROW = "no label row"
UNLABELLED = "unlabelled"
NULL = "label is null"
UNKNOWN_CLASS = "unknown class"
REASONS = ("", NO_ROW, UNLABELLED, NULL, UNKNOWN_CLASS)
"""Why a row of the features has no usable label, by code."""
_USABLE = 0


@dataclass(frozen=True)
class Labelled:
    """Features with their labels.

    Attributes:
        table: the features' columns and `label` (double; a class index for several classes), sorted
            by partition_key and entity.
        dropped: reason -> rows of the features that have no usable label.
        classes: for several classes, the label that each index means.
    """

    table: pa.Table
    dropped: dict[str, int]
    classes: tuple[str, ...]


def check_label(
    label_sql: str, *, unlabelled: str | None, columns: Mapping[str, str], objective: str, file: str
) -> None:
    """Refuses label expressions that do not fit the label source's columns or the objective.

    Args:
        columns: of the label source, with their types.
        objective: XGBoost's name.

    Raises:
        SqlError: no plain deterministic expression, an unknown column, or a type that can't be a label.
    """
    _check_expression(label_sql, f"{file}: label.sql")
    if unlabelled is not None:
        _check_expression(unlabelled, f"{file}: label.unlabelled")
    session = open_session()
    try:
        create_empty(session, "labels", columns)
        with explained(f"{file}: label.sql"):
            kind = str(session.sql(f"SELECT {_inside(label_sql)} AS _value FROM labels").types[0])
        _check_type(kind, objective, f"{file}: label.sql")
        if unlabelled is not None:
            with explained(f"{file}: label.unlabelled"):
                kind = str(session.sql(f"SELECT {_inside(unlabelled)} AS _value FROM labels").types[0])
            if kind != "BOOLEAN":
                raise SqlError(f"{file}: label.unlabelled: expected a condition, found a value of type {kind}")
    finally:
        session.close()


def join_labels(
    *,
    features: pa.Table,
    labels: pa.Table,
    keys: Mapping[str, tuple[str, ...]],
    entity: tuple[str, ...],
    label_sql: str,
    unlabelled: str | None,
    objective: str,
    classes: tuple[str, ...] | None = None,
    file: str = "pipeline.yaml",
    memory_limit: str | None = None,
) -> Labelled:
    """Joins each row of the features with the label row of its entity.

    Args:
        features: entity columns, `partition_key` (of the pipeline) and the features.
        labels: clean rows of the label source's visible revisions, with `partition_key` (of the source).
        keys: pipeline partition key -> label partition keys in which its labels are found.
        classes: the meaning of the class indices where it is fixed already, as for a holdout; rows of
            other classes are dropped.
        memory_limit: for the join, in DuckDB's spelling.

    Raises:
        SqlError: two label rows for one entity, or a label that the objective can't use.
    """
    rows, value, state, kind = _joined(features, labels, keys, entity, label_sql, unlabelled, file, memory_limit)
    _check_type(kind, objective, f"{file}: label.sql")
    if objective == "multi:softprob":
        numbers, found = _as_classes(value, state == _USABLE, classes)
        state[(state == _USABLE) & np.isnan(numbers)] = REASONS.index(UNKNOWN_CLASS)
    else:
        numbers, found = _as_numbers(value), ()
        state[(state == _USABLE) & np.isnan(numbers)] = REASONS.index(NULL)
        _check_numbers(numbers[state == _USABLE], objective, file)
    kept = state == _USABLE
    codes, counts = np.unique(state[~kept], return_counts=True)
    by = ["partition_key", *entity]
    order = pc.sort_indices(features.select(by).take(pa.array(rows[kept])), [(name, "ascending") for name in by])
    rows, numbers = rows[kept][order], numbers[kept][order]
    table = features.take(pa.array(rows)).append_column("label", pa.array(numbers, pa.float64()))
    dropped = {REASONS[code]: int(count) for code, count in zip(codes, counts, strict=True)}
    return Labelled(table, dropped, found)


def _joined(features, labels, keys, entity, label_sql, unlabelled, file, memory_limit):
    """For each row of the features: its number, its label's value, a code of REASONS, and DuckDB's type of the value."""
    _check_expression(label_sql, f"{file}: label.sql")
    if unlabelled is not None:
        _check_expression(unlabelled, f"{file}: label.unlabelled")
    pairs = [(key, label_key) for key, label_keys in keys.items() for label_key in label_keys]
    held = pa.table(
        [pa.array([pair[i] for pair in pairs], pa.string()) for i in range(2)],
        names=["_key", "_from"],
    )
    names = [f"_entity{i}" for i in range(len(entity))]
    wanted = features.select([*entity, "partition_key"]).rename_columns([*names, "_key"])
    wanted = wanted.append_column("_row", pa.array(np.arange(len(wanted))))
    columns = ", ".join(f"{quoted(column)} AS {name}" for column, name in zip(entity, names, strict=True))
    query = f"""
        WITH truth AS (
            SELECT {columns}, partition_key AS _from, {_inside(label_sql)} AS _value,
                   coalesce({_inside(unlabelled or "false")}, false) AS _unlabelled
            FROM labels
        ), found AS (SELECT _key, truth.* FROM held JOIN truth USING (_from))
        SELECT _row, _value,
               CASE WHEN found._key IS NULL THEN {REASONS.index(NO_ROW)}
                    WHEN _unlabelled THEN {REASONS.index(UNLABELLED)}
                    WHEN _value IS NULL THEN {REASONS.index(NULL)}
                    ELSE {_USABLE} END::TINYINT AS _state
        FROM wanted LEFT JOIN found
          ON wanted._key = found._key AND {" AND ".join(f"wanted.{name} = found.{name}" for name in names)}
        ORDER BY _row"""
    session = open_session(memory_limit=memory_limit)
    try:
        for name, table in (("wanted", wanted), ("held", held), ("labels", labels)):
            session.register(name, table)
        with explained(f"{file}: label"):
            relation = session.sql(query)
            kind = str(relation.types[1])
            table = relation.to_arrow_table()
    finally:
        session.close()
    rows = table["_row"].to_numpy()
    double = np.flatnonzero(np.diff(rows) == 0)
    if len(double):
        row = features.slice(int(rows[double[0]]), 1).to_pylist()[0]
        example = ", ".join(f"{name} {row[name]!r}" for name in entity)
        raise SqlError(
            f"{file}: label: {example} of partition {row['partition_key']} has more than one label row",
            hint="let the label source's contract expect the entity to be unique within a partition",
        )
    return rows, table["_value"], table["_state"].to_numpy().copy(), kind


def _as_classes(value: pa.ChunkedArray, usable: np.ndarray, classes: tuple[str, ...] | None):
    """Class indices as doubles, NaN where there is none, and the classes: as given, or the usable ones in order."""
    encoded = pc.dictionary_encode(value).unify_dictionaries().combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0)
    words = encoded.dictionary.to_pylist()
    codes = pc.fill_null(encoded.indices.cast(pa.int64()), len(words)).to_numpy(zero_copy_only=False)
    if classes is None:
        present = [words[code] for code in np.unique(codes[usable])]
        classes = tuple(_class_text(word) for word in sorted(present))
    index = {text: float(number) for number, text in enumerate(classes)}
    meaning = np.array([index.get(_class_text(word), np.nan) for word in words] + [np.nan])
    return meaning[codes], classes


def _as_numbers(value: pa.ChunkedArray) -> np.ndarray:
    """As doubles; NaN for a missing value."""
    return value.cast(pa.float64()).to_numpy(zero_copy_only=False).astype(float)


def _check_numbers(numbers: np.ndarray, objective: str, file: str) -> None:
    binary = objective == "binary:logistic"
    bad = numbers[~np.isin(numbers, (0.0, 1.0)) if binary else ~np.isfinite(numbers)]
    if len(bad):
        expected = "true, false, 0 or 1" if binary else "a finite number"
        raise SqlError(f"{file}: label.sql: expected {expected} for {objective}, found {bad[0]:g}")


def _class_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _inside(expression: str) -> str:
    # the bracket on a line of its own: a trailing comment ends before it
    return f"({expression}\n)"


def _check_expression(text: str, file: str) -> None:
    """One expression over the columns of a row: no tables, no aggregates over rows, nothing after it."""
    sql = f"SELECT {_inside(text)}"
    check_text(sql, file=file, views=())
    statement = parse(sql, file=file)[0]["node"]
    plain = statement["type"] == "SELECT_NODE" and len(statement["select_list"]) == 1 and not statement["modifiers"]
    if not plain or statement["from_table"]["type"] != "EMPTY" or statement["where_clause"]:
        raise SqlError(f"{file}: expected one expression over the label source's columns")
    for node in nodes(statement["select_list"]):
        name = node.get("function_name", "").lower()
        if node.get("class") in ("WINDOW", "SUBQUERY", "STAR") or name == "unnest" or name in aggregates():
            line = line_of(sql, node.get("query_location", 0)) or 1
            what = f"{name}()" if name else {"STAR": "*"}.get(node["class"], "a subquery")
            raise SqlError(f"{file}: line {line}: a label follows from one row, {what} reads several")


def _check_type(kind: str, objective: str, file: str) -> None:
    number = TYPES.get(kind) == "int"
    real = number or kind in ("FLOAT", "DOUBLE") or kind.startswith("DECIMAL")
    fitting = {
        "binary:logistic": (number or kind == "BOOLEAN", "a condition, or 0 and 1"),
        "multi:softprob": (number or kind in ("VARCHAR", "BOOLEAN") or kind.startswith("ENUM"), "a text or an integer"),
    }
    fits, expected = fitting.get(objective, (real, "a number"))
    if not fits:
        raise SqlError(f"{file}: expected {expected} for {objective}, found a value of type {kind}")
