"""Suites in Great Expectations' own JSON format, read and checked without importing that library."""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib.util
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tasks.errors import SpecError

# They need a SQL data source: on a data frame Great Expectations has nothing that computes them.
_SQL_ONLY = frozenset(
    (
        "expect_column_values_to_match_like_pattern",
        "expect_column_values_to_match_like_pattern_list",
        "expect_column_values_to_not_match_like_pattern",
        "expect_column_values_to_not_match_like_pattern_list",
        "expect_query_results_to_match_comparison",
        "expect_table_row_count_to_equal_other_table",
        "unexpected_rows_expectation",
    )
)
# Modules in its core that register no expectation.
_EMPTY = frozenset(
    (
        "expect_column_bootstrapped_ks_test_p_value_to_be_greater_than",
        "expect_column_chisquare_test_p_value_to_be_greater_than",
        "expect_column_pair_cramers_phi_value_to_be_less_than",
        "expect_column_parameterized_distribution_ks_test_p_value_to_be_greater_than",
        "expect_multicolumn_values_to_be_unique",
    )
)
_FIELDS = ("type", "kwargs", "meta", "severity", "notes", "description", "id")
_SEVERITIES = ("critical", "warning", "info")
_COLUMN_KWARGS = ("column", "column_A", "column_B", "column_list")
TIME_KWARGS = ("min_value", "max_value", "value_set", "value")
"""Arguments that hold values of the column: ISO texts where the column is a date or a time."""


@dataclass(frozen=True)
class Expectation:
    """One expectation as the suite's file has it.

    Attributes:
        type: such as `expect_column_values_to_not_be_null`.
        kwargs: its arguments.
        meta: free notes; `keep` is Millrace's: rows that break it stay in.
        severity: `critical`; `warning` and `info` only report.
        notes: for the reader of the Data Docs.
    """

    type: str
    kwargs: Mapping[str, Any]
    meta: Mapping[str, Any]
    severity: str = "critical"
    notes: str | list[str] | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it is on; none for a table expectation."""
        found: list[str] = []
        for name in _COLUMN_KWARGS:
            value = self.kwargs.get(name)
            found.extend([value] if isinstance(value, str) else value or ())
        return tuple(found)


@dataclass(frozen=True)
class Suite:
    """A contract: named expectations.

    Attributes:
        name: the suite's name.
        expectations: in the file's order.
        path: where it was read.
        digest: SHA-256 (hex) of its content, spacing apart; the same digest is the same contract.
    """

    name: str
    expectations: tuple[Expectation, ...]
    path: str
    digest: str


def load_suite(path: str | Path) -> Suite:
    """Reads a suite.

    Raises:
        SpecError: no readable JSON, a wrong structure, or an expectation that Great Expectations
            doesn't have; names the file, the expectation and the nearest valid name.
    """
    path = Path(path)
    content = _content(path)
    _only_keys(content, ("name", "expectations", "meta", "notes", "id", "suite_parameters"), f"{path}", "the suite")
    name, entries = content.get("name"), content.get("expectations")
    if not isinstance(name, str) or not name:
        raise SpecError(f"{path}: name: expected a text", hint='begin with {"name": "...", "expectations": [...]}')
    if content.get("suite_parameters"):
        raise SpecError(f"{path}: suite_parameters: expected none", hint="write the values into the expectations")
    if not isinstance(entries, list) or not entries:
        raise SpecError(
            f"{path}: expectations: expected a list with at least one",
            hint="a contract that checks nothing is no contract: leave `contract` out of the source",
        )
    expectations = tuple(
        _expectation(entry, f"{path}: expectation {number}") for number, entry in enumerate(entries, 1)
    )
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return Suite(
        name=name,
        expectations=expectations,
        path=str(path),
        digest=hashlib.sha256(canonical.encode()).hexdigest(),
    )


def check_suite(path: str | Path, columns: Mapping[str, str], *, deep: bool = False) -> None:
    """Checks a suite against the columns that its source declares.

    Args:
        path: the suite's file.
        columns: declared type by column name.
        deep: let Great Expectations itself build every expectation, which finds wrong arguments
            but costs its import of several seconds; a validation always does.

    Raises:
        SpecError: as `load_suite`, or a column that the source lacks, or a `mostly` that is no
            share, or a text that is no time for a column of times.
    """
    suite = load_suite(path)
    for number, expectation in enumerate(suite.expectations, 1):
        where = f"{path}: expectation {number} ({expectation.type})"
        for column in expectation.columns:
            if column not in columns:
                raise SpecError(
                    f"{where}: the source has no column {column!r}", hint=_nearest(column, columns, "its columns")
                )
        mostly = expectation.kwargs.get("mostly")
        if mostly is not None and (
            isinstance(mostly, bool) or not isinstance(mostly, int | float) or not 0 <= mostly <= 1
        ):
            raise SpecError(f"{where}: mostly: expected a share between 0 and 1, found {mostly!r}")
        if len(expectation.columns) == 1 and columns[expectation.columns[0]] in (
            "date",
            "timestamp",
            "local_timestamp",
        ):
            _check_times(expectation, where)
    if deep:
        from tasks.quality.building import build

        build(suite, columns)


@functools.cache
def expectation_types() -> frozenset[str]:
    """Returns the expectation types that Great Expectations has for data frames.

    Its core holds one module for each, under the type's name: their file names tell without the
    import.
    """
    spec = importlib.util.find_spec("great_expectations")
    folders = [Path(folder, "expectations", "core") for folder in spec.submodule_search_locations] if spec else []
    found = {file.stem for folder in folders for file in folder.glob("expect_*.py")}
    return frozenset(found - _SQL_ONLY - _EMPTY)


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise SpecError(f"{path}: can't be read: {error.strerror}", hint="check the source's `contract`") from error
    except ValueError as error:
        line = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise SpecError(f"{path}{line}: not JSON: {error}") from error
    if not isinstance(content, dict):
        raise SpecError(f"{path}: expected a JSON object", hint='begin with {"name": "...", "expectations": [...]}')
    return content


def _expectation(entry: Any, where: str) -> Expectation:
    if not isinstance(entry, dict):
        raise SpecError(f'{where}: expected an object {{"type": ..., "kwargs": {{...}}}}, found {entry!r}')
    _only_keys(entry, _FIELDS, where, "an expectation")
    kind = entry.get("type")
    if not isinstance(kind, str):
        raise SpecError(f"{where}: type: expected the expectation's name, such as expect_column_values_to_not_be_null")
    where = f"{where} ({kind})"
    if kind in _SQL_ONLY:
        raise SpecError(f"{where}: works on SQL sources only, a contract on data frames", hint="patterns go as regex")
    if kind not in expectation_types():
        raise SpecError(
            f"{where}: Great Expectations has no such expectation",
            hint=_nearest(kind, expectation_types(), "its types"),
        )
    kwargs, meta, severity = entry.get("kwargs", {}), entry.get("meta") or {}, entry.get("severity", "critical")
    if not isinstance(kwargs, dict) or not isinstance(meta, dict):
        raise SpecError(f"{where}: kwargs and meta: expected objects")
    if severity not in _SEVERITIES:
        raise SpecError(f"{where}: severity: expected one of {', '.join(_SEVERITIES)}, found {severity!r}")
    if not isinstance(meta.get("keep", False), bool):
        raise SpecError(f"{where}: meta.keep: expected true or false, found {meta['keep']!r}")
    for name in _COLUMN_KWARGS:
        value = kwargs.get(name, "")
        listed = value if isinstance(value, list) and name == "column_list" else [value]
        if not all(isinstance(column, str) for column in listed):
            raise SpecError(f"{where}: kwargs.{name}: expected a column's name, found {value!r}")
    return Expectation(type=kind, kwargs=kwargs, meta=meta, severity=severity, notes=entry.get("notes"))


def _only_keys(content: Mapping[str, Any], known: Iterable[str], where: str, what: str) -> None:
    for key in content:
        if key not in known:
            raise SpecError(f"{where}: {what} has no {key!r}", hint=_nearest(key, known, "its keys"))


def _check_times(expectation: Expectation, where: str) -> None:
    for name in TIME_KWARGS:
        value = expectation.kwargs.get(name)
        for text in value if isinstance(value, list) else [value]:
            if text is None:
                continue
            try:
                datetime.fromisoformat(text)
            except (TypeError, ValueError) as error:
                raise SpecError(
                    f"{where}: {name}: expected an ISO date or time such as 2013-01-05T09:00:00Z, found {text!r}"
                ) from error


def _nearest(name: str, known: Iterable[str], what: str) -> str:
    known = list(known)
    near = difflib.get_close_matches(name, known, 1, 0.5)
    return f"did you mean {near[0]}?" if near else f"{what}: {', '.join(sorted(known)[:12])}"
