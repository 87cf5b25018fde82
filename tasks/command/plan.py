"""`millrace plan`: what a scoring of a range would do now, and why, as a table; nothing is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime

from tasks.command.output import table
from tasks.domain.estimate import Estimate, Measured, Prices
from tasks.domain.partition import Partition
from tasks.domain.ranges import chunks_of, pipeline_partitions
from tasks.domain.results import Data, Planned, PlanResult
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
    data: Data = "as-known",
) -> PlanResult:
    """Plan the local days `first` to `last`; left out, from the pipeline's first day to its last, or to today.

    Raises:
        UsageError: no partition, or no such model.
    """
    from tasks.pin import look
    from tasks.plan import plan as plan_partitions

    spec, lake, now = load_pipeline(settings.config, pipeline), open_lake(settings), datetime.now(UTC)
    today = Partition.containing("day", spec.timezone, now).local_start.date()
    first, last = first or spec.start, last or spec.end or today
    wanted = pipeline_partitions(spec, first, last)
    if not wanted:
        raise UsageError(f"{pipeline} has no partitions from {first} to {last}")
    pinned, missing = look(
        spec=spec,
        partitions=wanted,
        lake=lake,
        force=force,
        model=model,
        allow_in_sample=allow_in_sample,
        data=data,
        now=now,
    )

    return plan_partitions(
        spec=spec,
        wanted=wanted,
        pinned=pinned,
        missing=missing,
        model=str(model),
        lake=lake,
        now=now,
        runs=lambda keys: len(chunks_of(pipeline, keys)),
        prices=Prices(settings.cpu_hour_price, settings.gpu_hour_price),
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
            *([_time(result.estimate)] if due else []),
            *([] if result.measured is None else [against(result.measured)]),
        ]
    )


def _time(found: Estimate | None) -> str:
    if found is None:
        return "estimated time: no earlier run tells"
    more = "" if found.gpu_minutes is None else f", {found.gpu_minutes:.1f} GPU-minutes"
    more += "" if found.cost is None else f", cost {found.cost:.2f}"
    return (
        f"estimated time: {found.seconds:.1f} s on {found.threads} threads in {found.runs} runs{more}; "
        f"learnt from {found.learnt_from} runs of {found.smallest} to {found.largest} partitions"
    )


def against(found: Measured) -> str:
    """Plan against actual, in a sentence."""
    took = f"what is published took {found.actual:.1f} s in {found.runs} runs of {found.partitions} partitions"
    if found.estimated is None:
        return f"{took}; no earlier run told how long"
    off = (found.estimated / found.actual - 1) * 100
    return f"{took}; estimated {found.estimated:.1f} s ({off:+.0f} %) from the {found.learnt_from} runs before"


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
