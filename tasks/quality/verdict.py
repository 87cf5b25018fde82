"""What a suite said about one partition."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Rejected(NamedTuple):
    """One row that breaks one row-level expectation.

    Attributes:
        row_index: 0-based row of the validated table.
        expectation: the expectation's type, such as `expect_column_values_to_be_between`.
        column: the column; several are joined by `, `.
        value: the offending value as text, None where it is missing; several are joined by `, `.
    """

    row_index: int
    expectation: str
    column: str
    value: str | None


@dataclass(frozen=True)
class Failure:
    """One expectation that stops the partition.

    Attributes:
        expectation: the expectation's type.
        column: the column it is on; several are joined by `, `; empty for the whole table.
        message: what was observed and what was expected, in one line.
    """

    expectation: str
    column: str
    message: str

    def __str__(self) -> str:
        return f"{self.expectation}{f'({self.column})' if self.column else ''}: {self.message}"


@dataclass(frozen=True)
class Verdict:
    """What a suite said about one partition; `tasks.quality` tells how it is read.

    Attributes:
        key: what the caller named the partition.
        success: False where the partition must be stopped, whatever the rejected rows.
        table_failures: why, in the suite's order.
        rejected: rows to set aside, by row and then in the suite's order; a row that breaks two
            expectations comes twice.
        statistics: `rows`, `rejected_rows`, `expectations`, `met`.
        outcome: Great Expectations' own result object.
    """

    key: Any
    success: bool
    table_failures: tuple[Failure, ...]
    rejected: tuple[Rejected, ...]
    statistics: dict[str, int]
    outcome: Any = field(repr=False, compare=False)

    @functools.cached_property
    def results(self) -> dict[str, Any]:
        """Great Expectations' own result, plain JSON values only.

        Made when asked for: it costs a quarter of a validation, and of many partitions only some
        get a page.
        """
        from tasks.quality.plain import plain  # NumPy comes in here, not with every reader of a suite

        return plain(self.outcome.to_json_dict())

    @property
    def rejected_rows(self) -> list[int]:
        """The distinct rows to set aside, ascending."""
        return sorted({rejected.row_index for rejected in self.rejected})
