"""Suites run by Great Expectations, one partition after another with everything prepared once."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from tasks.quality.building import build, id_of
from tasks.quality.frames import to_pandas
from tasks.quality.great import great_expectations, new_context, quietly
from tasks.quality.plain import plain
from tasks.quality.suite import Expectation, Suite
from tasks.quality.verdict import Failure, Rejected, Verdict

_OWN = ("partition_key", "revision")


def validate(batches: Iterable[tuple[Any, pa.Table]], suite: Suite) -> Iterator[Verdict]:
    """Validates partitions one by one, in order; `tasks.quality` tells how the outcome is read.

    Preparing costs the library's import (seconds) and a few hundredths of a second, once for all
    partitions; a partition then costs about 7 ms for each expectation, and with its rows (14 expectations on five million:
    four seconds of processor time and 1.2 GB, of which 0.4 GB are the table).

    Args:
        batches: key and table of each partition; all tables have the same schema. Millrace's own
            columns (`partition_key`, `revision`, a leading underscore) are hidden from the suite.
        suite: the contract.

    Yields:
        One verdict for each partition. Only one partition's data is held at a time.

    Raises:
        SpecError: Great Expectations refuses an expectation's arguments.
    """
    runner = None
    for key, table in batches:
        table = table.select([name for name in table.column_names if name[0] != "_" and name not in _OWN])
        if runner is None:
            runner = _Runner(suite, table.schema)
        yield runner.validate(key, table)


class _Runner:
    """A suite made ready for tables of one schema."""

    def __init__(self, suite: Suite, schema: pa.Schema) -> None:
        self.suite = suite
        self.stand_in = to_pandas(schema.empty_table())
        context = new_context()
        source = context.data_sources.add_pandas(suite.name)
        from tasks.quality.engine import ArrowEngine

        # Its hook for another engine is by class, for all data sources of a process; these two belong to this one.
        self.engine = source._execution_engine = ArrowEngine()
        source._cached_execution_engine_kwargs = source.dict(
            exclude=source._get_exec_engine_excludes(), config_provider=source._config_provider
        )
        # One batch definition serves all partitions: making one for each costs more than a small validation.
        self.batches = source.add_dataframe_asset(suite.name).add_batch_definition_whole_dataframe(suite.name)
        self.built = build(suite, _declared(schema))
        self.row_level = [_about_rows(one) for one in self.built]
        self.all = self._suite_of(range(len(self.built)))

    def validate(self, key: Any, table: pa.Table) -> Verdict:
        self.engine.load(table)
        with quietly():
            # a frame that only stands for the table: the engine has the rows
            batch = self.batches.get_batch(batch_parameters={"dataframe": self.stand_in})
            outcome = batch.validate(self.all, result_format="BASIC")
        results = _in_order(outcome.results, len(self.built))
        setting_aside = [i for i, result in enumerate(results) if self._sets_aside(i) and _broken_rows(result)]
        rejected: list[Rejected] = []
        for i in setting_aside:
            rejected.extend(_rejected(table, self._rows(batch, i, results[i]), self.suite.expectations[i]))
        rejected.sort(key=lambda one: one.row_index)  # stable: the suite's order stays within a row
        if setting_aside:
            # Examples with their counts and rows, for the page; what they are taken from is there already.
            with quietly():
                detail = batch.validate(self._suite_of(setting_aside), result_format="SUMMARY")
            for i, result in zip(setting_aside, _in_order(detail.results, len(self.built), setting_aside), strict=True):
                results[i] = result
        self.engine.load(table.slice(0, 0))  # what it knows of the rows isn't needed any more
        failures = tuple(
            failure
            for expectation, about_rows, result in zip(self.suite.expectations, self.row_level, results, strict=True)
            if (failure := _failure(expectation, result, about_rows=about_rows))
        )
        outcome.results = copy.deepcopy(results)  # without the numbers of the rows
        return Verdict(
            key=key,
            success=not failures,
            table_failures=failures,
            rejected=tuple(rejected),
            outcome=outcome,
            statistics={
                "rows": table.num_rows,
                "rejected_rows": len({one.row_index for one in rejected}),
                "expectations": len(results),
                "met": sum(bool(result.success) for result in results),
            },
        )

    def _rows(self, batch: Any, index: int, result: Any) -> np.ndarray:
        """Returns the rows that break an expectation, ascending."""
        from tasks.quality.engine import Count

        count = result.result["unexpected_count"]
        if isinstance(count, Count):
            return count.rows
        # The engine could not make truth values of what it was told: Great Expectations lists them itself.
        with quietly():
            (detail,) = batch.validate(self._suite_of([index]), result_format="COMPLETE").results
        return np.asarray(detail.result["unexpected_index_list"], np.int64)

    def _sets_aside(self, index: int) -> bool:
        """Returns whether rows that break an expectation go into quarantine."""
        expectation = self.suite.expectations[index]
        return self.row_level[index] and expectation.severity == "critical" and not expectation.meta.get("keep", False)

    def _suite_of(self, indices: Iterable[int]) -> Any:
        return great_expectations().ExpectationSuite(
            name=self.suite.name, expectations=[self.built[i].configuration for i in indices]
        )


def _about_rows(built: Any) -> bool:
    """Returns whether an expectation is about rows; others may count values that they did not expect, but not rows."""
    from great_expectations.expectations import expectation as kinds

    return isinstance(
        built, kinds.ColumnMapExpectation | kinds.ColumnPairMapExpectation | kinds.MulticolumnMapExpectation
    )


def _declared(schema: pa.Schema) -> dict[str, str]:
    """Returns `date`, `timestamp` or `local_timestamp` by name, for the columns that hold times."""
    times = {}
    for field in schema:
        if pt.is_timestamp(field.type):
            times[field.name] = "timestamp" if field.type.tz else "local_timestamp"
        elif pt.is_date(field.type):
            times[field.name] = "date"
    return times


def _in_order(results: Iterable[Any], count: int, wanted: Iterable[int] | None = None) -> list[Any]:
    """Returns results in the suite's order.

    Raises:
        KeyError: one is missing, which nothing may pass over in silence.
    """
    by_id = {str(result.expectation_config.id): result for result in results}
    return [by_id[id_of(i)] for i in (range(count) if wanted is None else wanted)]


def _broken_rows(result: Any) -> int | None:
    """Returns how many rows break a row-level expectation.

    None where it isn't about rows after all (a column's type on pandas), or could not be evaluated.
    """
    return None if _exception(result) else result.result.get("unexpected_count")


def _exception(result: Any) -> str | None:
    """Returns the message where an expectation could not be evaluated."""
    info = result.exception_info or {}
    # of the whole expectation, or by metric
    entries = [info] if "raised_exception" in info else [entry for entry in info.values() if isinstance(entry, dict)]
    return next((str(entry.get("exception_message")) for entry in entries if entry.get("raised_exception")), None)


def _failure(expectation: Expectation, result: Any, *, about_rows: bool) -> Failure | None:
    """Returns why the expectation stops the partition, or None."""
    columns = ", ".join(expectation.columns)
    if (message := _exception(result)) is not None:
        return Failure(expectation.type, columns, f"can't be evaluated: {' '.join(message.split())[:300]}")
    if result.success or expectation.severity != "critical":
        return None
    found = result.result or {}
    if about_rows and _broken_rows(result) is not None:
        mostly = expectation.kwargs.get("mostly")
        if mostly is None:
            return None
        bad, rows = found["unexpected_count"], found.get("element_count")
        return Failure(expectation.type, columns, f"{bad} of {rows} rows break it, where {mostly:.4g} must keep it")
    limits = {
        name: plain(value)
        for name, value in expectation.kwargs.items()
        if name not in ("column", "column_A", "column_B", "column_list")
    }
    return Failure(
        expectation.type, columns, f"observed {_short(found.get('observed_value'))}, expected {_short(limits)}"
    )


def _short(value: Any) -> str:
    text = str(plain(value))
    return text if len(text) <= 160 else f"{text[:150]} ..."


def _rejected(table: pa.Table, rows: np.ndarray, expectation: Expectation) -> list[Rejected]:
    """Names rows with their values, taken from the table: pandas has turned some into other types."""
    index = pa.array(rows, pa.int64())
    texts = [pc.cast(table.column(column).take(index), pa.string()).to_pylist() for column in expectation.columns]
    name = ", ".join(expectation.columns)
    if len(texts) == 1:
        values: list[str | None] = texts[0]
    else:
        values = [", ".join("" if part is None else part for part in parts) for parts in zip(*texts, strict=True)]
    return [Rejected(row, expectation.type, name, value) for row, value in zip(rows.tolist(), values, strict=True)]
