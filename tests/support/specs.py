"""Specs of pipelines for tests: small, valid, changed by keyword."""

from __future__ import annotations

from typing import Any

from tasks.domain.source import SourceSpec
from tasks.domain.spec import PipelineSpec, SourceUse


def source(name: str, **changes: Any) -> SourceSpec:
    """A daily source of ids and numbers, delivered with the end of its day."""
    values = {
        "name": name,
        "grain": "day",
        "timezone": "America/New_York",
        "uri": "{landing}/{partition}.csv",
        "available": "end",
        "columns": {"id": "string", "x": "float", "seen": "timestamp"},
        "start": "2013-01-01",
    }
    return SourceSpec(**{**values, **changes})


def pipeline(sources: dict[str, SourceSpec] | None = None, **changes: Any) -> PipelineSpec:
    """A daily pipeline: `rows` drives and is known the evening before, `truth` carries the label."""
    if sources is None:
        sources = {
            "rows": source("rows", available="start-6h", time="seen"),
            "truth": source("truth", available="end+3h"),
        }
    train = {"objective": "binary:logistic", "holdout": "7d", "min_window": "14d"} | changes.pop("train", {})
    gate = {"metric": "auc"} | changes.pop("gate", {})
    values = {
        "pipeline": "demo",
        "grain": "day",
        "timezone": "America/New_York",
        "start": "2013-01-01",
        "entity": ("id",),
        "as_of": "start+4h",
        "deadline": "start+5h",
        "lookback": "5d",
        "sources": {name: SourceUse(source=one, drives=name == "rows") for name, one in sources.items()},
        "label": {"sql": "x > 1", "source": "truth"},
        "train": train,
        "gate": gate,
    }
    return PipelineSpec(**{**values, **changes})
