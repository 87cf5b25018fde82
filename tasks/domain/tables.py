"""The lake's tables: their names, and the columns that are Millrace's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Columns = Mapping[str, str]
"""Column name -> type: string, int, float, bool, date, timestamp, local_timestamp, `list<float>` or `list<reason>`."""

SOURCE_KEY = ("partition_key", "revision")
PIPELINE_KEY = ("partition_key",)
ROLLUP_KEY = ("partition_key", "made_of")
_SOURCE_COLUMNS = {"partition_key": "string", "revision": "int"}


def raw(source: str) -> str:
    return f"sources/{source}/raw"


def clean(source: str) -> str:
    return f"sources/{source}/clean"


def quarantine(source: str) -> str:
    return f"sources/{source}/quarantine"


def features(pipeline: str, view: str) -> str:
    return f"{pipeline}/features/{view}"


def rollup(pipeline: str, identity: str) -> str:
    return f"{pipeline}/rollups/{identity}"


def predictions(line: str) -> str:
    """Of a pipeline's main line, which is named as the pipeline, or of a backtest's."""
    return f"{line}/predictions"


def raw_columns(columns: Columns) -> dict[str, str]:
    """Delivered columns, the file's name, the line, and the table's key."""
    return {**columns, "_file": "string", "_line": "int", **_SOURCE_COLUMNS}


def clean_columns(columns: Columns) -> dict[str, str]:
    """As raw, plus the moment from which the row is known."""
    return {**columns, "_known_at": "timestamp", "_line": "int", **_SOURCE_COLUMNS}


def rollup_columns(columns: Columns) -> dict[str, str]:
    """What comes out of the rollup's SQL, when the last of what it is made of became known, the order, the key."""
    return {**columns, "_known_at": "timestamp", "_line": "int", "partition_key": "string", "made_of": "string"}


def quarantine_columns(columns: Columns) -> dict[str, str]:
    """The rejected row, and why: the expectation, the column, the value as text, the file, the line."""
    return {
        **columns,
        "_expectation": "string",
        "_column": "string",
        "_value": "string",
        "_file": "string",
        "_line": "int",
        **_SOURCE_COLUMNS,
    }


def predictions_columns(
    entity: Columns, *, classes: bool, reasons: bool = False, corrected: bool = False
) -> dict[str, str]:
    """Entity, key, score and model version.

    For several classes also the class and all probabilities; with reasons, in the margin's units, a list of
    {feature, value, contribution}, the largest contribution first. On corrected data whether it differs from what was
    known, for the partition; elsewhere the column is empty.
    """
    several = {"predicted": "string", "scores": "list<float>"} if classes else {}
    why = {"reasons": "list<reason>"} if reasons else {}
    marks = {"restated": "bool"} if corrected else {}
    return {**entity, "partition_key": "string", "score": "float", **several, **why, "model_version": "int", **marks}


def file_of(meta: Mapping[str, Any], file: str, line: int) -> str:
    """The file of a line of a delivery, which is `file` unless its entry says that it is several."""
    files: Mapping[str, int] = meta.get("files", {})
    return max((one for one in files if files[one] < line), key=files.__getitem__, default=file)


def line_of(meta: Mapping[str, Any], file: str, line: int) -> int:
    """The line within its file: of a delivery of several, lines go on from one file to the next."""
    return line - meta.get("files", {}).get(file, 0)
