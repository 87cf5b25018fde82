"""Great Expectations' engine for data frames, over an Arrow table that never becomes a data frame as a whole.

Its own engine copies the whole frame for each expectation. Here a metric sees the columns that it is about.
A condition on rows, which makes up nearly all of a contract, is told from slices of `frames.SLICE` rows, and what
stays of it are the numbers of the rows that break it: its count and its examples follow from them. The
function that judges the rows is Great Expectations' own, or a kernel that equals it. What can't be told by
slices (medians, orders, distributions) gets its columns in one piece; whatever fails here is asked of its
engine again in that way, so that errors are its own as well.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.types as pt
from great_expectations.exceptions import MetricResolutionError
from great_expectations.execution_engine import PandasExecutionEngine
from great_expectations.execution_engine.pandas_batch_data import PandasBatchData
from great_expectations.expectations.registry import get_metric_provider
from great_expectations.expectations.row_conditions import (
    AndCondition,
    ComparisonCondition,
    NullityCondition,
    OrCondition,
    deserialize_row_condition,
)

from tasks.quality import frames, kernels

_BY_ROW = frozenset(
    f"column_values.{name}"
    for name in (
        *("nonnull", "null", "between", "in_set", "not_in_set", "of_type", "in_type_list"),
        *("match_regex", "not_match_regex", "match_regex_list", "not_match_regex_list"),
        *("match_strftime_format", "dateutil_parseable", "json_parseable", "match_json_schema"),
        *("value_length", "value_length.equals", "value_length.between"),
        *("z_score", "z_score.under_threshold", "not_outliers"),
    )
) | {
    *("column_pair_values.equal", "column_pair_values.a_greater_than_b", "column_pair_values.in_set"),
    *("multicolumn_sum.equal", "multicolumn_values.equal", "select_column_values.unique.within_record"),
}
"""Conditions, and functions of values, that look at one row at a time."""
_REPEATED = ("column_values.unique", "compound_columns.unique")
_WHOLE_TABLE = ("table.columns", "table.column_types", "table.column_count")

_COMPARING = (AndCondition, ComparisonCondition, NullityCondition, OrCondition)

_log = logging.getLogger(__name__)


class Count(int):
    """How many rows break an expectation, and `rows`: which, ascending."""

    rows: np.ndarray

    def __new__(cls, rows: np.ndarray) -> Count:
        count = super().__new__(cls, len(rows))
        count.rows = rows
        return count

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        """Makes copies plain numbers: results are copied when they are written, and the rows aren't part of them."""
        return int, (int(self),)


@dataclass(frozen=True)
class _Broken:
    """What is kept of a condition on rows: the numbers of the rows that break it, and what it was on."""

    rows: np.ndarray
    compute: dict[str, Any]
    accessor: dict[str, Any]


@dataclass(frozen=True)
class _Later:
    """A function of each row's values; it is evaluated with each slice."""

    metric: Any


class ArrowEngine(PandasExecutionEngine):
    """Computes the metrics of `table`; the data frame of the batch that it is asked about stands for it only."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "caching": False})
        self.load(pa.table({}))

    def load(self, table: pa.Table) -> None:
        """Takes another table, and forgets what was computed of the one before."""
        self._table = table
        self._known: dict[Any, Any] = {}
        self._distinct: set[str] = set()
        self._view: np.ndarray | tuple[int, int] | None = None
        self._frame: tuple[Any, pd.DataFrame] | None = None

    def resolve_metrics(
        self,
        metrics_to_resolve: Iterable[Any],
        metrics: dict[Any, Any] | None = None,
        runtime_configuration: dict | None = None,
    ) -> dict[Any, Any]:
        """Computes metrics; one that fails is told as its own engine tells it, and the others are kept for then."""
        failed: MetricResolutionError | None = None
        found = {}
        for metric in sorted(metrics_to_resolve, key=lambda one: str(one.metric_domain_kwargs)):
            if metric.id not in self._known:
                try:
                    self._known[metric.id] = self._value(metric, metrics or {}, runtime_configuration)
                except MetricResolutionError as error:
                    self._fail(metric, error, metrics or {})
                    failed = failed or error
                    continue
            value = self._known[metric.id]
            if isinstance(value, MetricResolutionError):
                failed = failed or value
            else:
                found[metric.id] = value
        self._frame = None
        if failed is not None:
            raise failed
        return found

    def _fail(self, metric: Any, error: MetricResolutionError, metrics: dict[Any, Any]) -> None:
        """Keeps an error for all who ask again: for ever, were a metric named that Great Expectations takes for known.

        Such a one was put off (`_Later`). It is taken out of what is known, so that it is asked for, and fails, by itself.
        """
        others = [one for one in error.failed_metrics if one.id != metric.id]
        for one in others:
            self._known[one.id] = error
            metrics.pop(one.id, None)
        if not others:
            self._known[metric.id] = error

    def get_domain_records(self, domain_kwargs: dict) -> pd.DataFrame:
        """Returns the rows of the present view with the columns that a metric is about; all for a condition on rows."""
        names = _columns(domain_kwargs, self._table) or self._table.column_names
        part = self._table.select([name for name in self._table.column_names if name in names])
        if self._view is None:
            key = tuple(part.column_names)
            if self._frame is None or self._frame[0] != key:
                self._frame = (key, frames.to_pandas(part))
            frame = self._frame[1]
        elif isinstance(self._view, tuple):
            start, rows = self._view
            frame = frames.to_pandas(part.slice(start, rows), whole=part)
            frame.index = pd.RangeIndex(start, start + len(frame))
        else:
            frame = frames.to_pandas(part.take(pa.array(self._view)), whole=part)
            frame.index = pd.Index(self._view)
        batch = domain_kwargs.get("batch_id") or self.batch_manager.active_batch_data_id
        kept = self.batch_manager.batch_data_cache.get(batch)
        self.batch_manager.batch_data_cache[batch] = PandasBatchData(self, frame)
        try:
            return super().get_domain_records(domain_kwargs)
        finally:
            self.batch_manager.batch_data_cache[batch] = kept

    def _value(self, metric: Any, metrics: dict[Any, Any], configuration: dict | None) -> Any:
        name, domain = metric.metric_name, metric.metric_domain_kwargs
        needs = {key: metrics[need.id] for key, need in metric.metric_dependencies.items() if need.id in metrics}
        condition = needs.get("unexpected_condition")
        if isinstance(condition, _Broken):
            return self._told(metric, condition, metrics, configuration)
        if name == "table.row_count" and not domain.get("row_condition"):
            return self._table.num_rows
        if name in _WHOLE_TABLE:
            with self._seeing((0, 0)):
                return self._asked(metric, metrics, configuration)
        if name == "column.mean" and pt.is_floating(self._kind(domain)):
            # as its own does, but for a look at each value whether it is a decimal
            return self.get_domain_records(domain)[domain["column"]].mean()
        stem, _, kind = name.rpartition(".")
        if kind == "map" and stem in _BY_ROW and _sliceable(domain):
            return _Later(metric)
        if kind != "condition":
            return self._asked(metric, metrics, configuration)
        try:
            if stem in _BY_ROW and _sliceable(domain):
                return self._by_slices(metric, stem, needs, configuration)
            if stem in _REPEATED and (same := self._repeated(stem, metric)) is not None:
                return same
        except Exception as error:  # whatever it is, its own engine says it in its own words
            _log.info("%s on %s: asked of the whole column, by slices: %s", stem, _columns(domain, self._table), error)
        else:
            _log.info("%s on %s: asked of the whole column", stem, _columns(domain, self._table))
        judged = self._asked(metric, metrics, configuration)
        if not _sliceable(domain):
            return judged
        try:
            return _Broken(_broken_rows(judged), *judged[1:])
        except ValueError:  # its own counting has a word for that too
            return judged

    def _kind(self, domain: dict) -> pa.DataType:
        """Returns the type of the column that a metric is about; null where there is none."""
        name = domain.get("column")
        return self._table.schema.field(name).type if name in self._table.column_names else pa.null()

    def _asked(self, metric: Any, metrics: dict[Any, Any], configuration: dict | None) -> Any:
        """Returns what Great Expectations' own engine computes on the present view."""
        values = {need.id: metrics[need.id] for need in metric.metric_dependencies.values() if need.id in metrics}
        for key, value in values.items():
            if isinstance(value, _Later):
                values[key] = self._asked(value.metric, metrics, configuration)
        return super().resolve_metrics([metric], values, configuration)[metric.id]

    def _by_slices(self, metric: Any, stem: str, needs: dict[str, Any], configuration: dict | None) -> _Broken:
        domain, arguments = metric.metric_domain_kwargs, metric.metric_value_kwargs
        if "column" in domain and not domain.get("row_condition"):
            rows = kernels.broken(stem, self._table.column(domain["column"]), arguments)
            if rows is not None:
                return self._on(metric, rows)
        found = []
        for start in range(0, max(self._table.num_rows, 1), frames.SLICE):
            with self._seeing((start, frames.SLICE)):
                found.append(_broken_rows(self._judged(metric, needs, configuration)))
        return self._on(metric, np.concatenate(found))

    def _judged(self, metric: Any, needs: dict[str, Any], configuration: dict | None) -> tuple[Any, dict, dict]:
        """Returns Great Expectations' own judgement of the rows in view: a series of those that it did not expect."""
        cls, judge = get_metric_provider(metric_name=metric.metric_name, execution_engine=self)
        values = {}
        for key, value in needs.items():
            if isinstance(value, _Later):
                inner = {name: self._known[need.id] for name, need in value.metric.metric_dependencies.items()}
                value = self._judged(value.metric, inner, configuration)
            values[key] = value
        return judge(
            cls=cls,
            execution_engine=self,
            metric_domain_kwargs=metric.metric_domain_kwargs,
            metric_value_kwargs=metric.metric_value_kwargs,
            metrics=values,
            runtime_configuration=configuration,
        )

    def _repeated(self, stem: str, metric: Any) -> _Broken | None:
        """Returns the rows that hold what another row holds too."""
        domain = metric.metric_domain_kwargs
        if domain.get("row_condition"):
            return None
        names = _columns(domain, self._table)
        if self._distinct.intersection(names):
            return self._on(metric, np.zeros(0, np.int64))  # already one of them tells all rows apart
        columns = [self._table.column(name) for name in names]
        same = kernels.repeated(columns)
        if same is None:
            return None
        if len(names) == 1 and not same.any():
            self._distinct.update(names)
        if same.any():
            # rows with missing values are alike among themselves only: those that don't count are taken out
            gaps = [kernels.missing(column).to_numpy() for column in columns]
            ignored = domain.get("ignore_row_if", "any_value_is_missing" if "column" in domain else "never")
            if ignored == "any_value_is_missing":
                same &= ~np.logical_or.reduce(gaps)
            elif ignored == "all_values_are_missing":
                same &= ~np.logical_and.reduce(gaps)
            elif ignored != "never":
                return None
        return self._on(metric, np.flatnonzero(same))

    def _on(self, metric: Any, rows: np.ndarray) -> _Broken:
        """Returns a condition's outcome with what it is on, in Great Expectations' words."""
        parts = self._partition_domain_kwargs(metric.metric_domain_kwargs, metric.get_domain_type(), None)
        return _Broken(rows, parts.compute, parts.accessor)

    def _told(self, metric: Any, condition: _Broken, metrics: dict[Any, Any], configuration: dict | None) -> Any:
        """Returns what a result says of the rows that broke a condition."""
        kind = metric.metric_name.rpartition(".")[2]
        if kind == "unexpected_count":
            return Count(condition.rows)
        if kind == "unexpected_index_query":
            return None  # it would list every row once more
        if kind == "filtered_row_count":
            return self._filtered(condition)
        wanted = metric.metric_value_kwargs["result_format"]
        first = condition.rows
        if wanted["result_format"] != "COMPLETE":
            first = first[: wanted["partial_unexpected_count"]]
        if kind == "unexpected_index_list":
            return first.tolist()
        if kind == "unexpected_values" and not len(first):
            return []
        with self._seeing(first):
            # all that is in view broke it
            series = pd.Series(np.ones(len(first), bool), index=pd.Index(first, dtype=np.int64))
            need = metric.metric_dependencies["unexpected_condition"]
            values = {**metrics, need.id: (series, condition.compute, condition.accessor)}
            return self._asked(metric, values, configuration)

    def _filtered(self, condition: _Broken) -> int:
        """Returns how many rows a condition was on, told by slices."""
        rows = 0
        for start in range(0, max(self._table.num_rows, 1), frames.SLICE):
            with self._seeing((start, frames.SLICE)):
                rows += len(self.get_domain_records({**condition.compute, **condition.accessor}))
        return rows

    @contextlib.contextmanager
    def _seeing(self, view: np.ndarray | tuple[int, int]) -> Iterator[None]:
        """Within it, only some of the table's rows are there: a slice (start, rows), or those of these numbers."""
        self._view = view
        try:
            yield
        finally:
            self._view = None


def _columns(domain: dict, table: pa.Table) -> list[str]:
    """Returns the columns that a metric is about; all of them where a condition on rows may name any."""
    if domain.get("row_condition"):
        return table.column_names
    if "column_list" in domain:
        return list(domain["column_list"])
    return [domain[key] for key in ("column", "column_A", "column_B") if key in domain]


def _sliceable(domain: dict) -> bool:
    """Returns whether a condition on rows, if any, is one of comparisons; a text may be about the whole column."""
    condition = domain.get("row_condition")
    if isinstance(condition, dict):
        condition = deserialize_row_condition(condition)
    return condition is None or isinstance(condition, _COMPARING)


def _broken_rows(judged: tuple[Any, dict, dict]) -> np.ndarray:
    """Returns the numbers of the rows in a judgement that are not as expected.

    Raises:
        ValueError: it isn't yes or no for each row.
    """
    series = judged[0]
    if not isinstance(series, pd.Series) or not (pd.api.types.is_bool_dtype(series.dtype) or not len(series)):
        raise ValueError("not a truth value for each row")
    if series.isna().any():
        raise ValueError("a truth value is missing")
    return series.index.to_numpy()[series.to_numpy(dtype=bool)]
