"""`millrace maintain`: which tables, and what was done to them as text."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from tasks.command.names import known_source
from tasks.command.output import say, table
from tasks.domain.results import MaintainResult
from tasks.domain.run import RunRef
from tasks.errors import MillraceError
from tasks.lake import Lake, open_lake
from tasks.maintain import kept_versions, maintain, pipeline_tables, source_tables
from tasks.settings import Settings, load_pipeline, pipeline_names, source_names


def maintain_named(
    settings: Settings,
    names: list[str],
    *,
    run: RunRef,
    now: datetime,
    dry_run: bool,
    progress: Callable[[int, int], None],
) -> MaintainResult:
    """Maintain the tables of sources and pipelines; of all of them when no names are given."""
    for name in names:
        known_source(settings, name)
    lake = open_lake(settings)
    keep = table_names(settings, names, lake)
    return maintain(
        names=keep,
        lake=lake,
        history=timedelta(days=settings.history_days),
        file_bytes=settings.file_bytes,
        run=run,
        now=now,
        keep=keep,
        whole=not names,
        pipelines=pipeline_names(settings.config),
        dry_run=dry_run,
        progress=progress,
    )


def table_names(settings: Settings, names: list[str], lake: Lake) -> dict[str, set[int]]:
    """The tables behind names, each with the earlier versions that stay; a pipeline's sources are named by themselves."""
    found: dict[str, set[int]] = {}
    pipelines = pipeline_names(settings.config)
    for name in names or pipelines:
        if name in pipelines:
            try:
                kept = kept_versions(name, lake)  # none of its tables is vacuumed where this can't be told
                found |= {table: kept.get(table, set()) for table in pipeline_tables(name, lake)}
            except MillraceError as error:  # the others' tables are maintained all the same
                say(f"millrace: {error}")
    for name in names or _every_source(settings):
        if name not in pipelines:
            found |= {table: set() for table in source_tables(name)}
    return found


def report(result: MaintainResult) -> str:
    """One line for each table."""
    header = ("table", "files", "MB", "compacted", "fewer files", "left", "deleted", "MB freed", "problem")
    rows = [
        (
            one.table,
            one.files,
            f"{one.size / 1e6:.1f}",
            one.compacted,
            one.saved,
            one.left,
            one.deleted,
            f"{one.freed / 1e6:.1f}",
            one.problem,
        )
        for one in result.tables
    ]
    swept = f"\n{result.unfinished} unfinished writes of killed runs removed" if result.unfinished else ""
    swept += f"\n{result.trainings} files of trainings that ended badly removed" if result.trainings else ""
    return table(header, rows) + swept + ("\n(a dry run: nothing was done)" if result.dry_run else "")


def _every_source(settings: Settings) -> list[str]:
    found = dict.fromkeys(source_names(settings.config))
    for name in pipeline_names(settings.config):
        try:
            found |= dict.fromkeys(load_pipeline(settings.config, name).sources)
        except MillraceError as error:  # only the tables of sources that are written inside it are passed over
            say(f"millrace: {error}")
    return list(found)
