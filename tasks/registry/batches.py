"""Parameters, tags and metrics of a run, in batches that MLflow takes; logging them twice changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_BATCH = 90
"""Entries of one batch call; MLflow takes 100 parameters or tags and 1000 metrics."""


def log(
    client: MlflowClient,
    run: Run,
    *,
    params: Mapping[str, Any],
    tags: Mapping[str, str],
    metrics: Mapping[str, float],
    history: Mapping[str, Mapping[str, Sequence[float | None]]],
) -> None:
    """Log what a run has.

    Args:
        history: data set -> metric -> value per round; None where it was not taken.
    """
    from mlflow.entities import Metric, Param, RunTag

    run_id, moment = run.info.run_id, run.info.start_time
    # With the run's own time stamp, metrics logged twice are the same rows.
    rows = [Metric(name, float(value), moment, 0) for name, value in metrics.items()]
    rows += [
        Metric(f"{data}-{name}", float(value), moment, step)
        for data, by_name in history.items()
        for name, values in by_name.items()
        for step, value in enumerate(values)
        if value is not None
    ]
    for part in _parts([Param(name, str(value)) for name, value in params.items()], _BATCH):
        client.log_batch(run_id, params=part)
    for part in _parts([RunTag(name, value) for name, value in tags.items()], _BATCH):
        client.log_batch(run_id, tags=part)
    for part in _parts(rows, 10 * _BATCH):
        client.log_batch(run_id, metrics=part)


def _parts(entries: list, size: int) -> list[list]:
    return [entries[start : start + size] for start in range(0, len(entries), size)]
