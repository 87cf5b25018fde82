"""The registry on a real MLflow server."""

from __future__ import annotations

import hashlib
import pickletools
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xgboost

from tasks.errors import RegistryError
from tasks.registry import Registry, TrainingRecord, open_registry


@pytest.fixture(scope="module")
def registry(mlflow_uri: str) -> Registry:
    return open_registry(mlflow_uri)


@pytest.fixture(scope="module")
def model() -> bytes:
    random = np.random.default_rng(0)
    matrix = np.column_stack([random.normal(size=300), random.integers(0, 3, 300)]).astype(np.float32)
    data = xgboost.QuantileDMatrix(
        matrix,
        (matrix[:, 1] > 0).astype(float),
        feature_names=["x", "carrier"],
        feature_types=["q", "c"],
        enable_categorical=True,
    )
    return bytes(xgboost.train({"objective": "binary:logistic", "nthread": 1}, data, 5).save_raw("ubj"))


@pytest.fixture
def record(model: bytes, request: pytest.FixtureRequest) -> TrainingRecord:
    """A training of a pipeline that no other test uses."""
    return TrainingRecord(
        pipeline=request.node.originalname[:60],
        training_key="2013-05/abc",
        run_name="train 2013-05",
        params={f"p{place}": place for place in range(120)},
        metrics={"holdout-auc": 0.65},
        history={
            "train": {"logloss": [0.6 - n / 10_000 for n in range(1200)], "auc": [None, 0.6, None, 0.7]},
            "holdout": {"auc": [0.6, 0.65]},
        },
        inputs={"sources/weather/clean": 3, "flight_delays/features/v1": 9},
        features=(("x", "q"), ("carrier", "c")),
        model=model,
        digest=hashlib.sha256(model).hexdigest(),
        tags={"millrace.actor": "test"},
        suite_results=[{"source": "weather", "success": True}],
        artifacts={"encoding.json": b"{}", "docs/weather.html": b"<p>fine</p>"},
    )


def _client(registry: Registry):
    return registry._client


def _runs(registry: Registry, pipeline: str) -> list:
    experiment = _client(registry).get_experiment_by_name(pipeline)
    return list(_client(registry).search_runs([experiment.experiment_id]))


def _versions(registry: Registry, pipeline: str) -> list[int]:
    return sorted(int(found.version) for found in _client(registry).search_model_versions(f"name = '{pipeline}'"))


def test_a_run_keeps_parameters_metrics_inputs_and_artifacts(registry, record):
    registered = registry.record_training(record)
    assert (registered.version, registered.reused) == (1, False)
    client = _client(registry)
    run = client.get_run(registered.run_id)
    assert run.info.status == "FINISHED" and run.info.run_name == "train 2013-05"
    assert len(run.data.params) == 120 and run.data.metrics["holdout-auc"] == 0.65
    assert [metric.step for metric in client.get_metric_history(registered.run_id, "train-logloss")] == list(
        range(1200)
    )
    assert [metric.step for metric in client.get_metric_history(registered.run_id, "train-auc")] == [1, 3]
    assert run.data.tags["millrace.snapshot.sources/weather/clean"] == "3"
    assert run.data.tags["millrace.actor"] == "test"
    assert {(put.dataset.name, put.dataset.digest) for put in run.inputs.dataset_inputs} == {
        ("sources/weather/clean", "3"),
        ("flight_delays/features/v1", "9"),
    }
    names = {put.path for put in client.list_artifacts(registered.run_id)}
    assert names == {"docs", "encoding.json", "inputs.json", "suite_results.json"}
    version = client.get_model_version(record.pipeline, "1")
    assert version.status == "READY" and version.tags["millrace.digest"] == record.digest


def test_recording_twice_gives_one_run_and_one_version(registry, record):
    first = registry.record_training(record)
    assert registry.record_training(record) == replace(first, reused=True)
    assert registry.find_training(record.pipeline, record.training_key) == replace(first, reused=True)
    other = registry.record_training(replace(record, training_key="2013-06/abc"))
    assert (first.version, other.version) == (1, 2)
    assert len(_runs(registry, record.pipeline)) == 2


class _Killed(BaseException):
    """Stands for SIGKILL: no handler of the registry may catch it."""


def test_a_recording_killed_at_any_call_is_finished_by_the_next(registry, record):
    """The process dies before its n-th request to MLflow, for every n; then the step runs again."""
    from mlflow.utils import rest_utils

    original = rest_utils.http_request
    kills = 0
    for place in range(1, 60):
        one = replace(record, training_key=f"kill-{place}", params={"a": 1}, history={"train": {"logloss": [0.5]}})
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
                registry.record_training(one)
            except _Killed:
                kills += 1
            else:
                break
        done = registry.record_training(one)
        assert registry.record_training(one) == replace(done, reused=True)
    assert kills >= 10
    runs = _runs(registry, record.pipeline)
    assert len(runs) == len(_versions(registry, record.pipeline)) == kills + 1
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        assert len(_client(registry).get_metric_history(run.info.run_id, "train-logloss")) == 1


def test_recorders_at_once_end_with_one_version(registry, record):
    def attempt(_: int) -> int | None:
        try:
            return registry.record_training(record).version
        except RegistryError as error:
            assert error.retry
            return None

    with ThreadPoolExecutor(4) as pool:
        versions = set(pool.map(attempt, range(4)))
    last = registry.record_training(record)
    assert versions <= {last.version, None}
    assert _versions(registry, record.pipeline) == [last.version]
    assert [run.info.run_id for run in _runs(registry, record.pipeline)] == [last.run_id]


def test_the_alias_follows_the_ledger_back_and_forth(registry, record):
    assert registry.alias(record.pipeline) is None and registry.shown(record.pipeline) is None
    for key in ("a", "b"):
        registry.record_training(replace(record, training_key=key))
    for version in (1, 2, 1, 1):
        registry.project_alias(record.pipeline, version)
        assert registry.alias(record.pipeline) == registry.shown(record.pipeline) == version


def test_an_alias_to_a_version_that_is_not_there_is_an_error(registry, record):
    registry.record_training(record)
    with pytest.raises(RegistryError, match="setting alias champion of .* to 9"):
        registry.project_alias(record.pipeline, 9)


def test_mlflow_loads_the_lakes_own_bytes_and_no_artifact_is_a_pickle(registry, record, tmp_path):
    import mlflow

    registry.record_training(record)
    registry.project_alias(record.pipeline, 1)
    client = _client(registry)
    model_id = client.get_model_version(record.pipeline, "1").source.removeprefix("models:/")
    location = client.get_logged_model(model_id).artifact_location
    folder = Path(mlflow.artifacts.download_artifacts(location, dst_path=str(tmp_path), tracking_uri=registry.uri))
    assert (folder / "model.ubj").read_bytes() == record.model
    for file in folder.rglob("*"):
        with pytest.raises(ValueError):
            list(pickletools.genops(file.read_bytes()))
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(registry.uri)
    try:
        uri = f"models:/{record.pipeline}@champion"
        assert bytes(mlflow.xgboost.load_model(uri).save_raw("ubj")) == record.model
        scores = mlflow.pyfunc.load_model(uri).predict(pd.DataFrame({"x": [0.0, 0.0], "carrier": [2.0, 0.0]}))
        assert scores[0] > 0.5 > scores[1]
    finally:
        mlflow.set_tracking_uri(before)


def test_recording_writes_nothing_to_standard_output(registry, record, capfd):
    registry.record_training(record)
    assert capfd.readouterr().out == ""


def test_a_server_that_is_down_is_told_within_seconds(record):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{probe.getsockname()[1]}"
    started = time.monotonic()
    down = open_registry(uri)
    for call in (
        down.ping,
        lambda: down.record_training(record),
        lambda: down.project_alias("flight_delays", 1),
        lambda: down.alias("flight_delays"),
    ):
        with pytest.raises(RegistryError, match="MLflow does not answer at") as told:
            call()
        assert told.value.retry
    assert time.monotonic() - started < 10


def test_a_server_that_takes_the_connection_and_never_answers_is_told_within_seconds():
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        there = open_registry(f"http://127.0.0.1:{mute.getsockname()[1]}")
        for call, told in ((there.alias, "does not answer"), (there.shown, "did not say where alias champion points")):
            started = time.monotonic()
            with pytest.raises(RegistryError, match=told):
                call("flight_delays")
            assert time.monotonic() - started < 10


def test_a_training_that_was_never_recorded_is_not_found(registry):
    assert registry.find_training("no_such_pipeline", "2013-05") is None
