"""Expectations as Great Expectations' own objects, every one or an error."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from tasks.errors import SpecError
from tasks.quality.great import great_expectations
from tasks.quality.suite import TIME_KWARGS, Expectation, Suite

_IDS = uuid.UUID("6d696c6c-7261-6365-8000-000000000000")
_TIMES = ("date", "timestamp", "local_timestamp")


def build(suite: Suite, columns: Mapping[str, str]) -> list[Any]:
    """Returns Great Expectations' object for each expectation, in the suite's order.

    Its own suite class only logs an expectation that it refuses and goes on without: a contract with a hole.

    Args:
        suite: the contract.
        columns: declared type by column name; texts among the arguments are times where the column holds times.

    Raises:
        SpecError: it refuses an expectation's arguments.
    """
    great_expectations()
    from great_expectations.exceptions import GreatExpectationsError
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    built = []
    for number, expectation in enumerate(suite.expectations):
        try:
            built.append(
                ExpectationConfiguration(
                    type=expectation.type,
                    kwargs=_with_times(expectation, columns),
                    meta=dict(expectation.meta),
                    notes=expectation.notes,
                    severity=expectation.severity,
                    id=id_of(number),
                ).to_domain_obj()
            )
        except (GreatExpectationsError, ValueError, TypeError) as error:  # pydantic's errors are ValueErrors
            # pydantic's text has a heading, then the argument on one line and what is wrong on the next
            text = [line.strip() for line in str(error).splitlines() if line.strip()]
            reason = ": ".join(text[1:3]) if len(text) > 2 else text[0] if text else repr(error)
            raise SpecError(
                f"{suite.path}: expectation {number + 1} ({expectation.type}): {reason}",
                hint="its arguments are in Great Expectations' gallery of expectations",
            ) from error
    return built


def id_of(number: int) -> str:
    """Returns the id by which a result is matched to its expectation: results come in another order."""
    return str(uuid.uuid5(_IDS, str(number)))


def _with_times(expectation: Expectation, columns: Mapping[str, str]) -> dict[str, Any]:
    """Returns the arguments with ISO texts turned into the column's kind of time.

    Great Expectations compares a text, or a time without a zone, with an instant by failing.
    """
    kwargs = dict(expectation.kwargs)
    kind = columns.get(expectation.columns[0]) if len(expectation.columns) == 1 else None
    if kind not in _TIMES:
        return kwargs
    for name in TIME_KWARGS:
        value = kwargs.get(name)
        if isinstance(value, str):
            kwargs[name] = _time(value, kind)
        elif isinstance(value, list):
            kwargs[name] = [_time(text, kind) if isinstance(text, str) else text for text in value]
    return kwargs


def _time(text: str, kind: str) -> datetime | date:
    moment = datetime.fromisoformat(text)
    if kind == "date":
        return moment.date()
    if kind == "local_timestamp":
        return moment.replace(tzinfo=None)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
