"""Airflow's REST interface: runs, backfills, DAGs and pools, with errors that say what was asked."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from tasks.errors import ServiceError
from tasks.services.airflow_server import ADMIN
from tasks.services.home import Home, Secrets, read_json
from tasks.settings import Settings

_FINISHED = ("success", "failed")
# The interface itself, without the proxies of the environment: it is on this machine.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Run:
    """One DAG run.

    Attributes:
        dag_id: the DAG.
        run_id: the run.
        state: queued, running, success or failed.
        partition_key: the partition, or None.
        kind: scheduled, manual, backfill, asset_triggered ...
        started: ISO time, or None.
        ended: ISO time, or None.
    """

    dag_id: str
    run_id: str
    state: str
    partition_key: str | None
    kind: str
    started: str | None
    ended: str | None
    conf: Mapping[str, Any]

    @property
    def finished(self) -> bool:
        return self.state in _FINISHED

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Run:
        return cls(
            dag_id=value["dag_id"],
            run_id=value["dag_run_id"],
            state=value["state"],
            partition_key=value.get("partition_key"),
            kind=value["run_type"],
            started=value["start_date"],
            ended=value["end_date"],
            conf=value.get("conf") or {},
        )


@dataclass(frozen=True)
class TaskInstance:
    """One task of one run, in its last attempt."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    state: str | None
    attempt: int
    started: str | None
    ended: str | None
    duration: float | None

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> TaskInstance:
        return cls(
            dag_id=value["dag_id"],
            run_id=value["dag_run_id"],
            task_id=value["task_id"],
            map_index=value["map_index"],
            state=value["state"],
            attempt=value["try_number"],
            started=value["start_date"],
            ended=value["end_date"],
            duration=value["duration"],
        )


class AirflowApi:
    """A client with the generated administrator's password.

    Args:
        settings: names the home.
        patience: seconds that one request may take; a busy machine is slow.

    Raises:
        ServiceError: the platform was never started here.
    """

    def __init__(self, settings: Settings, *, patience: float = 60) -> None:
        home = Home(settings.home)
        port = read_json(home.run / "ports.json", {}).get("airflow")
        if port is None:
            raise ServiceError(f"Airflow was not started in {home.root}", hint="run `millrace up`")
        self.address = f"http://127.0.0.1:{port}"
        self._secrets = Secrets.of(home)
        self._patience = patience
        self._token: str | None = None

    # -- DAGs --

    def dags(self) -> dict[str, dict]:
        """Every DAG that Airflow knows, by its id."""
        return {value["dag_id"]: value for value in self._all("/dags", "dags")}

    def import_errors(self) -> dict[str, str]:
        """The trace of each DAG file that can't be read, by its name."""
        return {value["filename"]: value["stack_trace"] for value in self._all("/importErrors", "import_errors")}

    def wait_for_dags(self, dag_ids: Sequence[str], *, patience: float = 120) -> None:
        """Return once these DAGs are known.

        Raises:
            ServiceError: some are missing after `patience` seconds; names import errors.
        """
        until = time.monotonic() + patience
        while missing := set(dag_ids) - set(self.dags()):
            if time.monotonic() > until:
                errors = "; ".join(f"{name}: {text.strip()[-300:]}" for name, text in self.import_errors().items())
                raise ServiceError(
                    f"Airflow does not know {', '.join(sorted(missing))} after {patience:.0f} s",
                    hint=errors or "see the log of the DAG processor in <home>/logs",
                )
            time.sleep(0.5)

    def pause(self, dag_id: str, *, paused: bool = True) -> None:
        """Stop a DAG's schedule."""
        self.request("PATCH", f"/dags/{quote(dag_id, safe='')}", {"is_paused": paused})

    # -- runs --

    def trigger_run(
        self,
        dag_id: str,
        *,
        conf: Mapping[str, Any] | None = None,
        partition_key: str | None = None,
        run_id: str | None = None,
    ) -> Run:
        """Start a run of a DAG, for a partition or with a conf."""
        body: dict[str, Any] = {"logical_date": None, "conf": dict(conf or {})}
        if partition_key is not None:
            body["partition_key"] = partition_key
        if run_id is not None:
            body["dag_run_id"] = run_id
        return Run.of(self.request("POST", f"/dags/{quote(dag_id, safe='')}/dagRuns", body))

    def run(self, dag_id: str, run_id: str) -> Run:
        """A run as it is now."""
        return Run.of(self.request("GET", _run_path(dag_id, run_id)))

    def runs(self, dag_id: str = "~", **filters: Any) -> list[Run]:
        """Runs of one DAG, or of all (`~`), oldest first; filters as the interface names them."""
        path = f"/dags/{quote(dag_id, safe='~')}/dagRuns"
        return [Run.of(value) for value in self._all(path, "dag_runs", order_by="id", **filters)]

    def wait(
        self, run: Run, *, patience: float = 3600, poll: float = 0.5, watch: Callable[[Run], None] | None = None
    ) -> Run:
        """Return a run once it has ended, well or not: look at `state`.

        Args:
            run: what to wait for.
            patience: seconds.
            poll: seconds between two looks at most; a twentieth of the time so far, at least a fifth of a second.
            watch: called with the run after each look.

        Raises:
            ServiceError: it still goes on after `patience` seconds.
        """
        began = time.monotonic()
        until = began + patience
        while True:
            run = self.run(run.dag_id, run.run_id)
            if watch is not None:
                watch(run)
            if run.finished:
                return run
            if time.monotonic() > until:
                raise ServiceError(
                    f"run {run.run_id} of {run.dag_id} is still {run.state} after {patience:.0f} s",
                    hint=f"{self.address}/dags/{run.dag_id}/runs/{run.run_id}",
                )
            time.sleep(min(poll, max(0.2, (time.monotonic() - began) / 20)))

    def task_instances(self, dag_id: str = "~", run_id: str = "~", **filters: Any) -> list[TaskInstance]:
        """Task instances of a run, of all runs of a DAG, or of all (`~`)."""
        path = f"/dags/{quote(dag_id, safe='~')}/dagRuns/{quote(run_id, safe='~')}/taskInstances"
        return [TaskInstance.of(value) for value in self._all(path, "task_instances", **filters)]

    def log(self, task: TaskInstance, *, attempt: int | None = None) -> str:
        """The log of a task's attempt, as text."""
        path = f"{_run_path(task.dag_id, task.run_id)}/taskInstances/{quote(task.task_id, safe='')}"
        answer = self.request(
            "GET", f"{path}/logs/{attempt or task.attempt}?map_index={task.map_index}&full_content=true"
        )
        content = answer["content"]
        if isinstance(content, str):
            return content
        return "\n".join(text for line in content for text in _lines(line))

    def result(self, dag_id: str, run_id: str, task_id: str, *, key: str = "return_value", map_index: int = -1) -> Any:
        """What a task handed on (its XCom)."""
        path = f"{_run_path(dag_id, run_id)}/taskInstances/{quote(task_id, safe='')}/xcomEntries/{quote(key, safe='')}"
        return self.request("GET", f"{path}?map_index={map_index}")["value"]

    # -- backfills --

    def create_backfill(
        self,
        dag_id: str,
        *,
        first: str,
        last: str,
        max_active_runs: int = 4,
        reprocess: str = "none",
        conf: Mapping[str, Any] | None = None,
    ) -> int:
        """Start a backfill; returns its number.

        Args:
            dag_id: a DAG with a periodic schedule.
            first: ISO date or time of the first partition.
            last: of the last one.
            max_active_runs: runs at a time.
            reprocess: none, failed or completed: which existing runs are run again.
            conf: given to each run.
        """
        body = {
            "dag_id": dag_id,
            "from_date": first,
            "to_date": last,
            "max_active_runs": max_active_runs,
            "reprocess_behavior": reprocess,
            "dag_run_conf": dict(conf or {}),
        }
        return int(self.request("POST", "/backfills", body)["id"])

    def wait_for_backfill(
        self,
        number: int,
        *,
        patience: float = 3600,
        poll: float = 1.0,
        watch: Callable[[list[Run]], None] | None = None,
    ) -> list[Run]:
        """The runs of a backfill, once all of them have ended.

        Raises:
            ServiceError: it still goes on after `patience` seconds.
        """
        until = time.monotonic() + patience
        while True:
            backfill = self.request("GET", f"/backfills/{number}")
            runs = self._backfill_runs(backfill)
            if watch is not None:
                watch(runs)
            if backfill["completed_at"]:
                return runs
            if runs and all(run.finished for run in runs):
                self._close(number)
                return runs
            if time.monotonic() > until:
                raise ServiceError(
                    f"backfill {number} of {backfill['dag_id']} is not done after {patience:.0f} s",
                    hint=f"{self.address}/dags/{backfill['dag_id']}/backfills",
                )
            time.sleep(poll)

    def backfill_runs(self, number: int) -> list[Run]:
        """The runs that a backfill made or took over so far."""
        return self._backfill_runs(self.request("GET", f"/backfills/{number}"))

    def _backfill_runs(self, backfill: Mapping[str, Any]) -> list[Run]:
        # The interface does not tell a run's backfill. A DAG has one at a time, so the runs that
        # were made or changed during it are its own.
        path = f"/dags/{quote(backfill['dag_id'], safe='')}/dagRuns"
        since = backfill["created_at"]
        values = self._all(path, "dag_runs", order_by="id", run_type="backfill", updated_at_gte=since)
        end = backfill["completed_at"]
        return [Run.of(value) for value in values if not (end and value["queued_at"] and value["queued_at"] > end)]

    def _close(self, number: int) -> None:
        # The scheduler notices the end of a backfill every 30 s, and the DAG's next one is refused
        # until then. Ending one whose runs have all ended only sets its end.
        try:
            self.request("PUT", f"/backfills/{number}/cancel")
        except ServiceError:
            if not self.request("GET", f"/backfills/{number}")["completed_at"]:
                raise

    # -- platform --

    def health(self) -> dict[str, Any]:
        """State of each part, as Airflow sees it."""
        return self.request("GET", "/monitor/health", signed=False)

    def set_pools(self, sizes: Mapping[str, int]) -> None:
        """Make these pools, or change their sizes."""
        entities = [
            {"name": name, "slots": slots, "description": f"Millrace: {name}", "include_deferred": False}
            for name, slots in sizes.items()
        ]
        answer = self.request(
            "PATCH",
            "/pools",
            {"actions": [{"action": "create", "entities": entities, "action_on_existence": "overwrite"}]},
        )
        if errors := (answer.get("create") or {}).get("errors"):
            raise ServiceError(f"Airflow's pools can't be set: {errors}", hint="see the API server's log")

    def pools(self) -> dict[str, int]:
        """Sizes of the pools."""
        return {value["name"]: value["slots"] for value in self._all("/pools", "pools")}

    # -- transport --

    def request(
        self, method: str, path: str, body: Any = None, *, signed: bool = True, prefix: str = "/api/v2"
    ) -> dict[str, Any]:
        """One request; the answer's JSON.

        Raises:
            ServiceError: no answer, or a refusal, with Airflow's reason.
        """
        headers = {"Accept": "application/json"}
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        for attempt in (1, 2):
            if signed:
                headers["Authorization"] = f"Bearer {self._sign_in()}"
            request = urllib.request.Request(self.address + prefix + path, data, headers, method=method)
            try:
                with _OPENER.open(request, timeout=self._patience) as answer:
                    text = answer.read()
                return json.loads(text) if text else {}
            except urllib.error.HTTPError as error:
                reason = error.read().decode("utf-8", "replace")
                if error.code in (401, 403) and signed and attempt == 1:
                    self._token = None  # it was signed by an earlier start, or is too old: told as either
                    continue
                raise ServiceError(
                    f"Airflow answered {error.code} to {method} {path}: {_reason(reason)}",
                    hint="" if error.code < 500 else f"see the API server's log; {self.address}",
                ) from error
            except (OSError, ValueError) as error:
                raise ServiceError(
                    f"Airflow does not answer at {self.address}: {error}", hint="run `millrace status`, `millrace up`"
                ) from error
        raise AssertionError("unreachable")

    def _sign_in(self) -> str:
        if self._token is None:
            body = {"username": ADMIN, "password": self._secrets.admin_password}
            self._token = self.request("POST", "/auth/token", body, signed=False, prefix="")["access_token"]
        return self._token

    def _all(self, path: str, field: str, **query: Any) -> list[dict]:
        found: list[dict] = []
        while True:
            page = {key: value for key, value in query.items() if value is not None}
            text = urlencode(page | {"limit": 100, "offset": len(found)}, doseq=True)
            answer = self.request("GET", f"{path}?{text}")
            found += answer[field]
            if not answer[field] or len(found) >= answer["total_entries"]:
                return found


def _run_path(dag_id: str, run_id: str) -> str:
    return f"/dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}"


def _lines(line: str | Mapping[str, Any]) -> list[str]:
    """A log line as text; an exception's class and words follow the line that tells of it."""
    if isinstance(line, str):
        return [line]
    errors = line.get("error_detail") or ()
    return [str(line.get("event", "")), *(f"{error['exc_type']}: {error['exc_value']}" for error in errors)]


def _reason(text: str) -> str:
    try:
        detail = json.loads(text)["detail"]
    except (ValueError, KeyError, TypeError):
        return text.strip()[:500]
    if isinstance(detail, list):
        return "; ".join(str(part.get("msg", part)) if isinstance(part, dict) else str(part) for part in detail)
    return str(detail)
