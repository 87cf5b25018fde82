"""`millrace status`: per pipeline its champion and its newest predictions, from the lake alone."""

from __future__ import annotations

from typing import Any

from tasks.domain import tables
from tasks.domain.reigns import reigns
from tasks.errors import MillraceError
from tasks.lake import Lake, open_lake
from tasks.line import read_events
from tasks.settings import Settings, load_pipeline, pipeline_names


def pipelines_status(settings: Settings) -> list[dict[str, Any]]:
    """One line for each pipeline: champion, since when (data time), partitions, the newest one, and a problem."""
    lake = open_lake(settings)
    return [_one(settings, lake, name) for name in pipeline_names(settings.config)]


def _one(settings: Settings, lake: Lake, name: str) -> dict[str, Any]:
    line: dict[str, Any] = dict.fromkeys(("pipeline", "champion", "since", "partitions", "newest", "problem"))
    line["pipeline"] = name
    try:
        reigned = reigns(read_events(load_pipeline(settings.config, name), lake))
        if reigned and reigned[-1].model is not None:
            line["champion"] = reigned[-1].model.version
            line["since"] = reigned[-1].start.isoformat(timespec="minutes")
        entries = lake.table(tables.predictions(name)).entries()
        line["partitions"] = len(entries)
        line["newest"] = max((entry.key[0] for entry in entries.values()), default=None)
    except MillraceError as error:
        line["problem"] = str(error)
    return line
