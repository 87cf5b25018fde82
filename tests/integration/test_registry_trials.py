"""The trials of a search on a real MLflow server: runs nested in the training's, each once."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from tasks.registry import Registry, TrialRecord, open_registry
from tasks.registry.nested import record_trials


@pytest.fixture(scope="module")
def registry(mlflow_uri: str) -> Registry:
    return open_registry(mlflow_uri)


def trial(number: int, **changes) -> TrialRecord:
    values = {
        "number": number,
        "run_name": f"demo 2013-05 trial {number}",
        "params": {"eta": 0.1 * number},
        "metrics": {"auc": 0.6 + number / 100, "seconds": 2.5},
        "history": {"validation": {"auc": [0.55, 0.6 + number / 100]}},
        "tags": {"device": "cpu"},
        "started": 1_700_000_000.25 + number,
        "seconds": 2.5,
    }
    return TrialRecord(**values | changes)


def parent(registry: Registry, name: str) -> tuple[str, str]:
    """(experiment, run) of a training that is being recorded."""
    client = registry._client
    experiment = client.get_experiment_by_name(name)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(name)
    return experiment_id, client.create_run(experiment_id).info.run_id


def nested(registry: Registry, experiment: str, run: str) -> list:
    found = registry._client.search_runs([experiment], filter_string=f"tags.`mlflow.parentRunId` = '{run}'")
    return sorted(found, key=lambda one: int(one.data.tags["millrace.trial"]))


def test_a_trial_is_a_run_of_its_own_below_its_training(registry):
    experiment, run = parent(registry, "trials_kept")
    refused = trial(2, metrics={"seconds": 2.5}, history={"validation": {}}, tags={"error": "refused"}, failed=True)
    for _ in range(2):
        record_trials(registry._client, experiment, run, [trial(1), refused])
        first, second = nested(registry, experiment, run)
        assert (first.info.status, second.info.status) == ("FINISHED", "FAILED")
        assert first.info.run_name == "demo 2013-05 trial 1" and first.data.params == {"eta": "0.1"}
        assert (first.info.start_time, first.info.end_time) == (1_700_000_001_250, 1_700_000_003_750)
        assert first.data.metrics == {"auc": 0.61, "seconds": 2.5, "validation-auc": 0.61}
        history = registry._client.get_metric_history(first.info.run_id, "validation-auc")
        assert [(metric.step, metric.value) for metric in history] == [(0, 0.55), (1, 0.61)]
        assert second.data.tags["error"] == "refused"


class _Killed(BaseException):
    """Stands for SIGKILL: no handler of the registry may catch it."""


def test_a_recording_of_trials_that_is_killed_at_any_call_is_finished_by_the_next(registry):
    from mlflow.utils import rest_utils

    original = rest_utils.http_request
    trials, kills = [trial(1), trial(2)], 0
    for place in range(1, 40):
        experiment, run = parent(registry, "trials_killed")
        calls = 0

        def counting(*args, _place=place, **kwargs):
            nonlocal calls
            calls += 1
            if calls == _place:
                raise _Killed
            return original(*args, **kwargs)

        with pytest.MonkeyPatch.context() as patch:
            for module in [module for name, module in list(sys.modules.items()) if name.startswith("mlflow.")]:
                if getattr(module, "http_request", None) is original:
                    patch.setattr(module, "http_request", counting)
            try:
                record_trials(registry._client, experiment, run, trials)
            except _Killed:
                kills += 1
            else:
                break
        record_trials(registry._client, experiment, run, trials)
        found = nested(registry, experiment, run)
        assert [one.info.status for one in found] == ["FINISHED", "FINISHED"]
        for one in found:
            assert len(registry._client.get_metric_history(one.info.run_id, "validation-auc")) == 2
    assert kills >= 8


def test_recorders_of_the_same_trials_at_once_end_with_one_run_for_each(registry):
    from mlflow.exceptions import MlflowException

    experiment, run = parent(registry, "trials_raced")
    trials = [trial(number) for number in range(1, 6)]

    def attempt(_: int) -> None:
        with suppress(MlflowException):  # its run went to the other recorder; the step is run again
            record_trials(registry._client, experiment, run, trials)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(attempt, range(3)))
    record_trials(registry._client, experiment, run, trials)
    found = nested(registry, experiment, run)
    assert [one.data.tags["millrace.trial"] for one in found] == ["1", "2", "3", "4", "5"]
    assert {one.info.status for one in found} == {"FINISHED"}
