"""Runs, versions and the alias in MLflow; every call can be made again after a kill at any line."""

from __future__ import annotations

import json
import os
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import RegistryError
from tasks.registry.batches import log
from tasks.registry.model_files import write_model
from tasks.registry.nested import record_trials
from tasks.registry.records import Registered, TrainingRecord

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

ALIAS = "champion"
KEY_TAG = "millrace.training_key"
_RECORDED_TAG = "millrace.recorded"
_PING_SECONDS = 5
_MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")

_ENVIRONMENT: Mapping[str, str] = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
    # By default a server that is down is tried for minutes; here the step's own retry is the second try.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


def open_registry(tracking_uri: str) -> Registry:
    """The registry at a tracking server's URI; nothing is loaded and nothing is asked yet."""
    return Registry(tracking_uri)


class Registry:
    """MLflow at one tracking server."""

    def __init__(self, tracking_uri: str) -> None:
        self.uri = tracking_uri

    def ping(self) -> None:
        """Ask whether the server is there.

        Raises:
            RegistryError: it is not, after at most 5 seconds.
        """
        if not self.uri.startswith(("http://", "https://")):
            return
        address = self.uri.rstrip("/") + "/health"
        try:
            with urllib.request.urlopen(address, timeout=_PING_SECONDS) as answer:
                answer.read()
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise RegistryError(
                f"MLflow does not answer at {self.uri}: {reason}",
                hint="start it, or give its address as MILLRACE_MLFLOW; scheduled scoring goes on without it",
            ) from error

    def record_training(self, record: TrainingRecord) -> Registered:
        """Record a training as a run and register its model as a version; once for each training key.

        A call after one that was killed finishes what is missing, and gives the same version.

        Raises:
            RegistryError: MLflow failed or is not there, or another process is recording the same
                training right now; the next call gives its version.
        """
        self.ping()
        with self._translated(f"recording training {record.training_key}"):
            experiment = self._experiment(record.pipeline)
            version = self._version(record.pipeline, record.training_key)
            run = self._client.get_run(version.run_id) if version else self._run(experiment, record)
            done = version is not None and run.info.status == "FINISHED"
            if not done:
                if run.data.tags.get(_RECORDED_TAG) != "true":
                    self._log(run, record)
                if version is None:
                    version = self._register(experiment, run.info.run_id, record)
                record_trials(self._client, experiment, version.run_id, record.trials)
                self._client.set_terminated(version.run_id, "FINISHED")
            return Registered(version.run_id, int(version.version), reused=done)

    def find_training(self, pipeline: str, training_key: str) -> Registered | None:
        """Where a recorded training is, or None when it is not recorded or not complete."""
        self.ping()
        with self._translated(f"looking for training {training_key}"):
            version = self._version(pipeline, training_key)
            if version is None or self._client.get_run(version.run_id).info.status != "FINISHED":
                return None
            return Registered(version.run_id, int(version.version), reused=True)

    def project_alias(self, pipeline: str, version: int) -> None:
        """Let the alias champion show the ledger's champion."""
        self.ping()
        with self._translated(f"setting alias {ALIAS} of {pipeline} to {version}"):
            self._client.set_registered_model_alias(pipeline, ALIAS, str(version))

    def alias(self, pipeline: str) -> int | None:
        """The version that the alias champion shows, or None."""
        self.ping()
        with self._translated(f"reading alias {ALIAS} of {pipeline}"):
            # Not through a search: those may give versions without their aliases (mlflow #16734).
            found = _unless_missing(lambda: self._client.get_model_version_by_alias(pipeline, ALIAS))
            return None if found is None else int(found.version)

    def shown(self, pipeline: str) -> int | None:
        """The same as `alias`, for a look in passing: one short request, and MLflow's client, seconds to load, stays out.

        It bears no credentials: a server that asks for some counts as one that does not answer.

        Raises:
            RegistryError: MLflow did not say it within 5 seconds.
        """
        if not self.uri.startswith(("http://", "https://")):
            return self.alias(pipeline)
        named = urllib.parse.urlencode({"name": pipeline, "alias": ALIAS})
        address = f"{self.uri.rstrip('/')}/api/2.0/mlflow/registered-models/alias?{named}"
        try:
            with urllib.request.urlopen(address, timeout=_PING_SECONDS) as answer:
                return int(json.load(answer)["model_version"]["version"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, urllib.error.HTTPError) and _code(error) in _MISSING:
                return None
            reason = getattr(error, "reason", None) or error
            raise RegistryError(f"MLflow at {self.uri} did not say where alias {ALIAS} points: {reason}") from error

    @cached_property
    def _client(self) -> MlflowClient:
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        _settle_environment()
        from mlflow.exceptions import MlflowException

        try:
            yield
        except (MlflowException, OSError) as error:
            lines = str(error).splitlines() or [type(error).__name__]
            raise RegistryError(f"MLflow at {self.uri} failed in {doing}: {lines[0]}") from error

    def _experiment(self, pipeline: str) -> str:
        found = self._client.get_experiment_by_name(pipeline)
        if found is None:
            _unless_exists(lambda: self._client.create_experiment(pipeline))
            found = self._client.get_experiment_by_name(pipeline)
        elif found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        return found.experiment_id

    def _runs(self, experiment: str, training_key: str) -> list[Run]:
        found = self._client.search_runs([experiment], filter_string=f"tags.`{KEY_TAG}` = '{training_key}'")
        return sorted(found, key=lambda run: (run.info.start_time, run.info.run_id))

    def _run(self, experiment: str, record: TrainingRecord) -> Run:
        runs = self._runs(experiment, record.training_key)
        if not runs:
            tags = {**record.tags, KEY_TAG: record.training_key, "millrace.digest": record.digest}
            mine = self._client.create_run(experiment, tags=tags, run_name=record.run_name)
            runs = self._runs(experiment, record.training_key)
            # Two recorders at once: both take the older run, and the younger one goes.
            if runs and runs[0].info.run_id != mine.info.run_id:
                self._client.delete_run(mine.info.run_id)
        return runs[0]

    def _log(self, run: Run, record: TrainingRecord) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        run_id = run.info.run_id
        tags = {f"millrace.snapshot.{table}": str(version) for table, version in record.inputs.items()}
        log(self._client, run, params=record.params, tags=tags, metrics=record.metrics, history=record.history)
        datasets = [
            DatasetInput(
                Dataset(table, str(version), "delta", json.dumps({"table": table, "version": version})),
                [InputTag("mlflow.data.context", "training")],
            )
            for table, version in sorted(record.inputs.items())
        ]
        self._client.log_inputs(run_id, datasets)
        with tempfile.TemporaryDirectory() as folder:
            for name, content in _artifacts(record).items():
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            self._client.log_artifacts(run_id, folder)
        self._client.set_tag(run_id, _RECORDED_TAG, "true")

    def _register(self, experiment: str, run_id: str, record: TrainingRecord) -> ModelVersion:
        from mlflow.entities import LoggedModelOutput

        client = self._client
        begun = client.search_logged_models([experiment], filter_string=f"source_run_id = '{run_id}'")
        model = begun[0] if begun else client.create_logged_model(experiment, record.pipeline, source_run_id=run_id)
        with tempfile.TemporaryDirectory() as folder:
            write_model(Path(folder), record, run_id=run_id, model_id=model.model_id, location=model.artifact_location)
            client.log_model_artifacts(model.model_id, folder)
        if str(model.status) != "READY":
            client.finalize_logged_model(model.model_id, "READY")
        # Unlike the other calls this one fails when it is made twice.
        outputs = client.get_run(run_id).outputs
        if model.model_id not in [output.model_id for output in (outputs.model_outputs if outputs else ())]:
            client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
        _unless_exists(lambda: client.create_registered_model(record.pipeline))
        mine = client.create_model_version(
            record.pipeline,
            source=f"models:/{model.model_id}",
            run_id=run_id,
            tags={KEY_TAG: record.training_key, "millrace.digest": record.digest},
            model_id=model.model_id,
            await_creation_for=0,
        )
        first = self._version(record.pipeline, record.training_key) or mine
        # Two recorders at once: numbers are given out in turn, so both see the lower one, and the other goes.
        if first.version != mine.version:
            client.delete_model_version(record.pipeline, mine.version)
            if first.run_id != run_id:
                client.delete_run(run_id)
        return first

    def _version(self, pipeline: str, training_key: str) -> ModelVersion | None:
        wanted = f"name = '{pipeline}' and tags.`{KEY_TAG}` = '{training_key}'"
        found = self._client.search_model_versions(wanted)
        return min(found, key=lambda version: int(version.version), default=None)


def _settle_environment() -> None:
    """MLflow reads these when it is imported and at each request; what the operator has set stays."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def _artifacts(record: TrainingRecord) -> dict[str, bytes]:
    artifacts = dict(record.artifacts)
    artifacts["inputs.json"] = _json(record.inputs)
    if record.suite_results is not None:
        artifacts["suite_results.json"] = _json(record.suite_results)
    return artifacts


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=2, sort_keys=True, default=str).encode() + b"\n"


def _code(error: urllib.error.HTTPError) -> str:
    """MLflow's own name of an error, as it lies in the answer."""
    try:
        return str(json.load(error)["error_code"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _unless_missing(call):
    from mlflow.exceptions import MlflowException

    try:
        return call()
    except MlflowException as error:
        if error.error_code in _MISSING:
            return None
        raise


def _unless_exists(call) -> None:
    from mlflow.exceptions import MlflowException

    try:
        call()
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
