"""The trials of a training in MLflow: runs nested in the training's own. Every call can be made again after a kill."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasks.registry.batches import log
from tasks.registry.records import TrialRecord

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PARENT_TAG = "mlflow.parentRunId"
TRIAL_TAG = "millrace.trial"
_MOST = 5000
"""More runs than a search has trials."""


def record_trials(client: MlflowClient, experiment: str, parent: str, trials: Sequence[TrialRecord]) -> None:
    """Have one finished run for each trial under the run `parent`."""
    if not trials:
        return
    runs = _runs(client, experiment, parent)
    missing = [trial for trial in trials if trial.number not in runs]
    for trial in missing:
        tags = {PARENT_TAG: parent, TRIAL_TAG: str(trial.number)}
        client.create_run(experiment, start_time=int(trial.started * 1000), tags=tags, run_name=trial.run_name)
    if missing:
        # Two recorders at once: both keep the same run of a trial.
        runs = _runs(client, experiment, parent)
        for found in runs.values():
            for double in found[1:]:
                client.delete_run(double.info.run_id)
    for trial in trials:
        run = runs[trial.number][0]
        if run.info.end_time:
            continue
        log(client, run, params=trial.params, tags=trial.tags, metrics=trial.metrics, history=trial.history)
        ended = int((trial.started + trial.seconds) * 1000)
        client.set_terminated(run.info.run_id, "FAILED" if trial.failed else "FINISHED", end_time=ended)


def _runs(client: MlflowClient, experiment: str, parent: str) -> dict[int, list[Run]]:
    """The runs of each trial, in an order that is the same for everybody who asks."""
    found = client.search_runs([experiment], filter_string=f"tags.`{PARENT_TAG}` = '{parent}'", max_results=_MOST)
    runs: dict[int, list[Run]] = {}
    for run in sorted(found, key=lambda run: run.info.run_id):
        if TRIAL_TAG in run.data.tags:
            runs.setdefault(int(run.data.tags[TRIAL_TAG]), []).append(run)
    return runs
