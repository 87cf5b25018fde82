"""`millrace plan`: what a scoring of a range would do now, and why, as a table; nothing is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime

from tasks.command.airflow import pipeline_partitions
from tasks.command.output import table
from tasks.domain.partition import Partition
from tasks.domain.results import Planned, PlanResult
from tasks.errors import UsageError
from tasks.lake import open_lake
from tasks.settings import Settings, load_pipeline


def plan(
    settings: Settings,
    pipeline: str,
    first: date | None,
    last: date | None,
    *,
    model: str | int,
    allow_in_sample: bool = False,
    force: bool = False,
) -> PlanResult:
    """Plan the local days `first` to `last`; left out, from the pipeline's first day to its last, or to today.

    Raises:
        UsageError: no partition, or no such model.
    """
    from tasks.pin import look
    from tasks.plan import plan as plan_partitions

    spec, lake, now = load_pipeline(settings.config, pipeline), open_lake(settings), datetime.now(UTC)
    today = Partition.containing("day", spec.timezone, now).local_start.date()
    wanted = pipeline_partitions(spec, first or spec.start, last or spec.end or today)
    if not wanted:
        raise UsageError(f"{pipeline} has no partitions from {first or spec.start} to {last or spec.end or today}")
    pinned, missing = look(
        spec=spec,
        partitions=wanted,
        lake=lake,
        force=force,
        model=model,
        allow_in_sample=allow_in_sample,
        now=now,
    )
    return plan_partitions(
        spec=spec, wanted=wanted, pinned=pinned, missing=missing, model=str(model), lake=lake, now=now
    )


def text(result: PlanResult) -> str:
    """One line for each run of partitions that stand alike, and the sums of what is due."""
    lines = [
        (
            _span(group),
            len(group),
            "due" if group[0].due else "",
            "" if group[0].version is None else group[0].version,
            _sum(one.rows for one in group),
            _megabytes(group),
            group[0].why,
        )
        for group in _alike(result.partitions)
    ]
    due = result.due
    reasons = Counter(one.why for one in due)
    told = ", ".join(f"{count} {why}" for why, count in reasons.items()) or "nothing"
    size = _megabytes(due)
    return "\n".join(
        [
            table(("partitions", "", "due", "version", "rows", "MB", "why"), lines),
            "",
            f"{len(due)} of {len(result.partitions)} partitions are due: {told}"
            + (f"; {_sum(one.rows for one in due)} rows, {size} MB" if size else ""),
        ]
    )


def _alike(partitions: Sequence[Planned]) -> list[list[Planned]]:
    found: list[list[Planned]] = []
    for one in partitions:
        if found and (found[-1][-1].due, found[-1][-1].why, found[-1][-1].version) == (one.due, one.why, one.version):
            found[-1].append(one)
        else:
            found.append([one])
    return found


def _span(group: Sequence[Planned]) -> str:
    return group[0].key if len(group) == 1 else f"{group[0].key}..{group[-1].key}"


def _sum(values) -> int | str:
    known = [value for value in values if value is not None]
    return sum(known) if known else ""


def _megabytes(group: Sequence[Planned]) -> str:
    size = _sum(one.size for one in group)
    return "" if size == "" else f"{size / 1e6:.1f}"
