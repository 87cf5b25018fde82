"""`millrace status`: per pipeline its champion and its newest predictions, from the lake; and MLflow's alias, if it answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.domain import tables
from tasks.domain.promotion import LedgerEvent
from tasks.domain.reigns import reigns
from tasks.domain.spec import PipelineSpec
from tasks.errors import MillraceError, RegistryError
from tasks.lake import Lake, open_lake
from tasks.line import look, read_events
from tasks.registry import Registry, open_registry
from tasks.settings import Settings, load_pipeline, pipeline_names


def pipelines_status(settings: Settings, mlflow: str | None = None) -> list[dict[str, Any]]:
    """One line for each pipeline: champion, since when (data time), partitions, the newest one, a problem, the alias.

    Args:
        mlflow: its address if it answers; else where the alias points is left out.
    """
    lake, asked = open_lake(settings), []
    if mlflow is not None:
        asked.append(open_registry(mlflow))
    return [_one(settings, lake, name, asked) for name in pipeline_names(settings.config)]


def _one(settings: Settings, lake: Lake, name: str, asked: list[Registry]) -> dict[str, Any]:
    line: dict[str, Any] = dict.fromkeys(("pipeline", "champion", "since", "partitions", "newest", "problem", "alias"))
    line["pipeline"] = name
    try:
        spec = load_pipeline(settings.config, name)
        events = read_events(spec, lake)
        reigned = reigns(events)
        if reigned and reigned[-1].model is not None:
            line["champion"] = reigned[-1].model.version
            line["since"] = reigned[-1].start.isoformat(timespec="minutes")
        entries = lake.table(tables.predictions(name)).entries()
        line["partitions"] = len(entries)
        line["newest"] = max((entry.key[0] for entry in entries.values()), default=None)
        line["alias"] = _alias(spec, events, asked)
    except MillraceError as error:
        line["problem"] = str(error)
    return line


def _alias(spec: PipelineSpec, events: Sequence[LedgerEvent], asked: list[Registry]) -> str | None:
    """What MLflow's alias shows; a server that failed once is not asked for the next pipeline."""
    try:
        return look(spec, events, asked[0]) if asked else None
    except RegistryError:
        asked.clear()
        return None
