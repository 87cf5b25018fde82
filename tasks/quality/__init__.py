"""Contracts: Great Expectations suites over one partition at a time. The sole owner of that library.

Importing this package is cheap: Great Expectations itself takes seconds to import and comes in with
the first validation or rendering, never when a suite is only read or checked.

How a suite's outcome is read (`Verdict`):

- A *row-level* expectation (`expect_column_values_...` and the like) sets the rows that break it
  aside, into quarantine, whatever its `mostly`; `"meta": {"keep": true}` leaves them in.
- It stops the whole partition only where the suite gives it a `mostly` and fewer rows keep it.
  Without `mostly` the source's `max_reject_rate` decides, over all expectations together.
- Any other expectation (row counts, means, sets of columns) stops the partition when it isn't met.
- `"severity": "warning"` or `"info"` only reports. An expectation that can't be evaluated stops.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tasks.quality.suite import Expectation, Suite, check_suite, load_suite
from tasks.quality.verdict import Failure, Rejected, Verdict

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Expectation",
    "Failure",
    "Rejected",
    "Suite",
    "Verdict",
    "check_suite",
    "load_suite",
    "render_docs",
    "validate",
]


def validate(batches: Iterable[tuple[Any, pa.Table]], suite: Suite) -> Iterator[Verdict]:
    """Validates partitions one by one; see `tasks.quality.validation.validate`."""
    from tasks.quality.validation import validate as run

    return run(batches, suite)


def render_docs(results: Mapping[str, Any], *, title: str) -> str:
    """Renders one validation as an HTML page; see `tasks.quality.docs.render_docs`."""
    from tasks.quality.docs import render_docs as run

    return run(results, title=title)
