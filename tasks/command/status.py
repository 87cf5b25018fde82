"""`millrace status`: per pipeline its champion and its newest predictions, from the lake alone."""

from __future__ import annotations

from typing import Any

from tasks.domain import tables
from tasks.domain.promotion import LedgerEvent
from tasks.errors import MillraceError
from tasks.lake import Lake, open_lake
from tasks.settings import Settings, load_pipeline, pipeline_names


def pipelines_status(settings: Settings) -> list[dict[str, Any]]:
    """One line for each pipeline: champion, since when (data time), partitions, the newest one, and a problem."""
    lake = open_lake(settings)
    return [_one(settings, lake, name) for name in pipeline_names(settings.config)]


def _one(settings: Settings, lake: Lake, name: str) -> dict[str, Any]:
    line: dict[str, Any] = dict.fromkeys(("pipeline", "champion", "since", "partitions", "newest", "problem"))
    line["pipeline"] = name
    try:
        load_pipeline(settings.config, name)
        events = [LedgerEvent.from_dict(event) for event in lake.ledger(name).events()]
        promoted = [event for event in events if event.to_model == event.candidate]
        if promoted:
            line["champion"] = promoted[-1].candidate.version
            line["since"] = promoted[-1].effective_from.isoformat(timespec="minutes")
        entries = lake.table(tables.predictions(name)).entries()
        line["partitions"] = len(entries)
        line["newest"] = max((entry.key[0] for entry in entries.values()), default=None)
    except MillraceError as error:
        line["problem"] = str(error)
    return line
