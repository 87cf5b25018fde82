"""Compaction, vacuum and checkpoints: a table's files and the time to open it stay bounded, its rows as they are.

Nothing here changes what a pinned snapshot or the newest one says of a partition, and no commit is ever deleted:
it may run at any moment, beside any run and beside itself, be killed at any line and run again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType

from tasks.domain import tables
from tasks.domain.promotion import LedgerEvent, latest_champions
from tasks.domain.results import MaintainedTable, MaintainResult
from tasks.domain.run import RunRef
from tasks.domain.spec import line_of
from tasks.errors import MillraceError
from tasks.lake import Lake
from tasks.lake.versions import load_version
from tasks.lake.views import load_view

CHAMPIONS = 3
"""Of so many of a pipeline's champions, counted back from the present one, the training data stays readable."""


def source_tables(source: str) -> tuple[str, ...]:
    """The tables of a source."""
    return tables.raw(source), tables.clean(source), tables.quarantine(source)


def pipeline_tables(pipeline: str, lake: Lake) -> tuple[str, ...]:
    """The tables of a pipeline: features and rollups of every view that was ever published, predictions of every line."""
    folder = f"{pipeline}/views/"
    views = [
        info.key.removeprefix(folder).removesuffix(".json")
        for info in lake.objects.list(folder)
        if info.key.endswith(".json")
    ]
    rollups = {one["id"] for view in views for one in load_view(lake, pipeline, view).get("rollups", {}).values()}
    return (
        *(tables.rollup(pipeline, one) for one in sorted(rollups)),
        *(tables.features(pipeline, view) for view in views),
        tables.predictions(pipeline),
        *(tables.predictions(line_of(pipeline, backtest)) for backtest in lake.backtests(pipeline)),
    )


def kept_versions(pipeline: str, lake: Lake) -> dict[str, set[int]]:
    """Features tables -> the versions that the pipeline's latest champions were trained and judged on.

    A present champion, and one that it may be rolled back to, can be trained again and compared. Of the sources no
    version need be named: clean revisions are never replaced.

    Raises:
        DigestError: the ledger can't be read, or a descriptor is another model's.
        NotFoundError: there is no descriptor.
    """
    found: dict[str, set[int]] = {}
    events = [LedgerEvent.from_dict(event) for event in lake.ledger(pipeline).events()]
    for model in latest_champions(events, CHAMPIONS):
        inputs = load_version(lake, pipeline, model.version, digest=model.digest).get("inputs", {})
        for name, version in inputs.items():
            if name.startswith(tables.features(pipeline, "")):
                found.setdefault(name, set()).add(version)
    return found


def maintain(
    *,
    names: Iterable[str],
    lake: Lake,
    history: timedelta,
    file_bytes: int,
    run: RunRef,
    now: datetime,
    keep: Mapping[str, Collection[int]] = MappingProxyType({}),
    whole: bool = False,
    pipelines: Iterable[str] = (),
    dry_run: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> MaintainResult:
    """Maintain tables, each whatever becomes of the others.

    Args:
        names: of tables; one that was never written is passed over.
        history: how long earlier versions stay readable; longer than the longest run takes.
        file_bytes: a data file that has so many bytes takes no further rows.
        keep: table -> versions whose rows stay readable beyond that, see `kept_versions`.
        whole: also remove what killed writers left of single objects anywhere in the lake, and what trainings of the
            pipelines left that ended badly: rows, checkpoints, trials.
        pipelines: of all lines of these.
        dry_run: only say what would be done.
    """
    names, done = list(names), []
    for number, name in enumerate(names):
        if lake.table(name).version() >= 0:
            done.append(_maintained(lake, name, now - history, file_bytes, run, keep.get(name, ()), dry_run))
        progress(number + 1, len(names))
    unfinished = lake.objects.sweep(now - history, dry_run=dry_run) if whole else 0
    left = sum(_clear_trainings(lake, name, now - history, dry_run) for name in pipelines) if whole else 0
    return MaintainResult(tuple(done), dry_run, unfinished, left)


def _clear_trainings(lake: Lake, pipeline: str, before: datetime, dry_run: bool) -> int:
    lines = pipeline, *(line_of(pipeline, backtest) for backtest in lake.backtests(pipeline))
    old = [
        info.key
        for line in lines
        for info in lake.objects.list(f"{line}/trainings/")
        # directly below lie the notes of what was trained, which stay
        if info.modified < before and "/" in info.key.removeprefix(f"{line}/trainings/")
    ]
    for key in () if dry_run else old:
        lake.objects.delete(key)
    return len(old)


def _maintained(
    lake: Lake, name: str, before: datetime, file_bytes: int, run: RunRef, keep: Collection[int], dry_run: bool
) -> MaintainedTable:
    from tasks.lake.checkpoints import tend
    from tasks.lake.compact import compact
    from tasks.lake.vacuum import vacuum

    table = lake.table(name)
    try:
        compacted = compact(table, file_bytes=file_bytes, run=run, dry_run=dry_run)
        vacuumed = vacuum(table, before=before, keep=keep, dry_run=dry_run)
        checkpoints = tend(table, before=before, dry_run=dry_run)
        version = table.version()
        files = table.snapshot(version).files(None)
    except (MillraceError, OSError) as error:
        return MaintainedTable(name, problem=str(error))
    return MaintainedTable(
        name,
        version=version,
        files=len(files),
        size=sum(file.size for file in files),
        compacted=compacted.partitions,
        saved=compacted.files,
        left=compacted.left,
        deleted=len(vacuumed.paths),
        freed=vacuumed.size,
        checkpoint=checkpoints.newest,
        thinned=checkpoints.deleted,
    )
