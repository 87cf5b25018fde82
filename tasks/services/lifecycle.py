"""Start, stop and remove the platform of a home: PostgreSQL, MLflow, Airflow.

`up` brings every part to the wanted state and leaves alone what is in it already, so that a second
call returns at once and a killed part is started again. A part that runs with other settings than
wanted (another port, another size) is started anew.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from tasks.errors import ServiceError
from tasks.services import airflow_server, mlflow_server, ports, postgres, process
from tasks.services.airflow_api import AirflowApi
from tasks.services.home import OWN, Home, Secrets, read_json, write_json
from tasks.services.observe import Addresses, addresses, answers, database_answers, host, sqlalchemy
from tasks.settings import REPOSITORY, Settings

Progress = Callable[[int, int, str], None]
"""Called with the steps done, the steps in all, and what is being done."""

_STEPS = 6
# Components that only their heartbeat in the database tells about, and their names in Airflow's health.
_HEALTH = {"scheduler": "scheduler", "triggerer": "triggerer", "dag-processor": "dag_processor"}
_PATIENCE = 480.0  # seconds until a living part must answer: twenty times what two idle cores need


def up(settings: Settings, progress: Progress | None = None, *, dags: Path | None = None) -> Addresses:
    """Start what is not running; returns once everything answers.

    Args:
        settings: names the home; what lies outside is checked, not started.
        progress: told what is being done.
        dags: folder of the DAG files, else the project's.

    Raises:
        ServiceError: a part did not start, or something outside does not answer.
    """
    home = Home(settings.home)
    tell = progress or (lambda done, total, text: None)
    with home.lock():
        for attempt in range(3):
            try:
                return _Platform(settings, home, dags or REPOSITORY / "dags", tell).up()
            except _PortTakenError as error:
                # somebody else was quicker: forget the port and choose another one
                known = read_json(home.run / "ports.json", {})
                known.pop(error.service, None)
                write_json(home.run / "ports.json", known)
                if attempt == 2:
                    raise ServiceError(f"no free port for {error.service} was found three times") from error
    raise AssertionError("unreachable")


def down(settings: Settings) -> None:
    """End every process of this home; fine where none runs."""
    home = Home(settings.home)
    if home.run.exists():
        with home.lock():
            _down(home)


def clean(settings: Settings) -> None:
    """End everything and remove what this home holds, inside and outside of it.

    Raises:
        ServiceError: the folder is not one of Millrace's.
    """
    home = Home(settings.home)
    if not home.root.exists():
        return
    with home.lock():  # refuses a folder with other things
        _down(home)
        postgres.remove_elsewhere(home)
        for name in OWN:
            path = home.root / name
            if path.is_symlink() or path.is_file():
                path.unlink()
            elif path.exists() and name != "run":
                shutil.rmtree(path)
        shutil.rmtree(home.run)  # last: it holds the lock and the mark that the folder is ours
    with contextlib.suppress(OSError):
        home.root.rmdir()  # stays where somebody put other things into it


def airflow_environment(settings: Settings) -> dict[str, str]:
    """The environment for `python -P -m airflow ...` against this home's Airflow."""
    home = Home(settings.home)
    if not airflow_server.config_file(home).exists():
        raise ServiceError(f"Airflow was not started in {home.root}", hint="run `millrace up`")
    return airflow_server.environment(settings, home)


class _PortTakenError(Exception):
    def __init__(self, service: str) -> None:
        super().__init__(service)
        self.service = service


class _Platform:
    """One pass of `up`, with the home's lock held."""

    def __init__(self, settings: Settings, home: Home, dags: Path, tell: Progress) -> None:
        self.settings, self.home, self.dags, self.tell = settings, home, dags, tell
        self.secrets = Secrets.of(home)
        self.ports: dict[str, int] = read_json(home.run / "ports.json", {})
        # Airflow's own view of a component stays healthy for a minute after its death: only a
        # heartbeat that is younger than this moment counts.
        self.since: dict[str, float] = {}

    def up(self) -> Addresses:
        self.tell(0, _STEPS, "database")
        airflow_database, mlflow_database = self._databases()
        self._choose("mlflow", [mlflow_server.record_file(self.home)])
        self._choose("airflow", [airflow_server.record_file(self.home, "api-server")])
        env = airflow_server.configure(
            self.settings,
            self.home,
            self.secrets,
            port=self.ports["airflow"],
            database=airflow_database,
            dags=self.dags,
        )
        self.tell(1, _STEPS, "MLflow")
        self._start_mlflow(mlflow_database)
        self.tell(2, _STEPS, "Airflow's tables")
        if airflow_server.migrate(self.home, env, airflow_database):
            (self.home.run / "pools.json").unlink(missing_ok=True)
        self.tell(3, _STEPS, "Airflow")
        started = {name for name in reversed(airflow_server.COMPONENTS) if self._start_airflow(env, name)}
        self._wait_for_airflow(env, started)
        self.tell(4, _STEPS, "MLflow answers")
        if self.settings.mlflow is None:
            self._wait("mlflow", self.ports["mlflow"], "/health", mlflow_server.record_file(self.home))
        self.tell(5, _STEPS, "pools")
        self._set_pools()
        self.tell(_STEPS, _STEPS, "ready")
        found = addresses(self.settings)
        assert found is not None
        return found

    def _databases(self) -> tuple[str, str]:
        """URLs of Airflow's and MLflow's databases; starts the embedded server if one needs it."""
        outside = self.settings.database
        if outside is not None and not database_answers(outside):
            raise ServiceError(f"the database at {host(outside)} does not answer", hint="see MILLRACE_DATABASE")
        outside_mlflow = self.settings.mlflow or self.settings.mlflow_database
        if outside is None or outside_mlflow is None:
            self._choose("postgres", [postgres.record_file(self.home)])
            port = self.ports["postgres"]
            if not (postgres.running(self.home, port) and postgres.ready(self.secrets, port)):
                postgres.stop(self.home)
                if not ports.is_free(port):
                    raise _PortTakenError("postgres")
                self.since = {component: time.time() for component in _HEALTH}
                try:
                    postgres.start(self.home, self.secrets, port)
                except ServiceError:
                    if ports.answers(port) and not postgres.running(self.home, port):
                        raise _PortTakenError("postgres") from None
                    raise
        embedded = {name: self._embedded(name) for name in postgres.DATABASES}
        airflow = sqlalchemy(outside) if outside is not None else embedded["airflow"]
        mlflow = self.settings.mlflow_database
        return airflow, sqlalchemy(mlflow) if mlflow is not None else embedded["mlflow"]

    def _embedded(self, name: str) -> str:
        return postgres.url(self.secrets, self.ports["postgres"], name) if "postgres" in self.ports else ""

    def _choose(self, service: str, records: list[Path]) -> None:
        """Keep the known port while it is free or our own, else take another one."""
        port = self.ports.get(service)
        ours = any(process.alive(process.load(record)) for record in records)
        if port is None or not (ours or ports.is_free(port)):
            self.ports[service] = ports.choose(avoid=self.ports.values())
            write_json(self.home.run / "ports.json", self.ports)

    def _start_mlflow(self, database: str) -> None:
        if self.settings.mlflow is not None:
            if not answers(self.settings.mlflow.rstrip("/") + "/health"):
                raise ServiceError(f"MLflow at {self.settings.mlflow} does not answer", hint="see MILLRACE_MLFLOW")
            return
        base = airflow_server.base_environment(self.settings)
        wanted = process.digest_of(
            mlflow_server.command(self.home, self.ports["mlflow"]), mlflow_server.stable(base, database)
        )
        record = mlflow_server.record_file(self.home)
        if not self._as_wanted(record, wanted):
            self._end([record])
            self._check_port("mlflow")
            mlflow_server.start(self.home, base, port=self.ports["mlflow"], database=database)

    def _start_airflow(self, env: dict[str, str], component: str) -> bool:
        record = airflow_server.record_file(self.home, component)
        if self._as_wanted(record, airflow_server.digest(self.home, env, component)):
            return False
        self._end([record])
        if component == "api-server":
            self._check_port("airflow")
        self.since[component] = time.time()
        airflow_server.start(self.home, env, component)
        return True

    def _as_wanted(self, path: Path, wanted: str) -> bool:
        record = process.load(path)
        return record is not None and process.alive(record) and record.command == wanted

    def _end(self, paths: list[Path]) -> None:
        records = [record for path in paths if (record := process.load(path)) is not None]
        if records:
            process.end(records, mark="", patience=10)

    def _check_port(self, service: str) -> None:
        if not ports.is_free(self.ports[service]):
            raise _PortTakenError(service)

    def _wait_for_airflow(self, env: dict[str, str], started: set[str]) -> None:
        port = self.ports["airflow"]
        record = airflow_server.record_file(self.home, "api-server")
        self._wait("airflow", port, "/api/v2/version", record)
        # The first request to the tasks' interface builds it, 5 CPU seconds: not in the first task.
        warm = threading.Thread(target=answers, args=(f"http://127.0.0.1:{port}/execution/health", 120))
        warm.start()
        api, until = AirflowApi(self.settings), time.monotonic() + _PATIENCE
        while waiting := self._unhealthy(api):
            for component in _HEALTH:
                path = airflow_server.record_file(self.home, component)
                if process.alive(process.load(path)):
                    continue
                if component in started:
                    self._failed(f"airflow-{component}", airflow_server.log_file(self.home, component))
                # it lived when we came and died since: of the database's absence, most likely
                started.add(component)
                self._start_airflow(env, component)
            if time.monotonic() > until:
                raise ServiceError(
                    f"Airflow's {', '.join(waiting)} did not get healthy in {_PATIENCE:.0f} s",
                    hint=f"the logs are in {self.home.logs}",
                )
            time.sleep(0.2)
        warm.join()

    def _unhealthy(self, api: AirflowApi) -> list[str]:
        state = api.health()
        return [component for component in _HEALTH if not self._healthy(component, state)]

    def _healthy(self, component: str, state: dict) -> bool:
        name = _HEALTH[component]
        part = state.get(name) or {}
        beat = part.get(f"latest_{name}_heartbeat")
        if part.get("status") != "healthy" or beat is None:
            return False
        alive = process.alive(process.load(airflow_server.record_file(self.home, component)))
        return alive and datetime.fromisoformat(beat).timestamp() > self.since.get(component, 0.0)

    def _wait(self, service: str, port: int, path: str, record_path: Path) -> None:
        """Return once our own process answers on the port."""
        log = mlflow_server.log_file(self.home)
        if service == "airflow":
            log = airflow_server.log_file(self.home, "api-server")
        until = time.monotonic() + _PATIENCE
        while True:
            record = process.load(record_path)
            if record is None or not process.alive(record):
                if ports.answers(port):
                    raise _PortTakenError(service)
                self._failed(service, log)
            if answers(f"http://127.0.0.1:{port}{path}") and _is_ours(record, port):
                return
            if time.monotonic() > until:
                raise ServiceError(f"{service} does not answer on port {port} after {_PATIENCE:.0f} s", hint=str(log))
            time.sleep(0.1)

    def _failed(self, name: str, log: Path) -> None:
        raise ServiceError(f"{name} ended by itself: {process.tail(log, 1)}", hint=f"its log is {log}")

    def _set_pools(self) -> None:
        wanted = {"default_pool": 128, **self.settings.pools}
        record = self.home.run / "pools.json"
        if read_json(record) != wanted:
            AirflowApi(self.settings).set_pools(wanted)
            write_json(record, wanted)


def _down(home: Home) -> None:
    paths = [airflow_server.record_file(home, component) for component in airflow_server.COMPONENTS]
    paths.append(mlflow_server.record_file(home))
    records = [record for path in paths if (record := process.load(path)) is not None]
    database = process.load(postgres.record_file(home))
    # The database goes last: what ends cleanly still writes to it. Strays are found by the mark,
    # which the database bears too, so they are looked for only once it has gone.
    if records:
        process.end(records, mark="", patience=15)
    postgres.stop(home)
    if records or database is not None or process.members([], mark=home.digest):
        process.end(records, mark=home.digest, patience=5)
    for path in paths:
        path.unlink(missing_ok=True)


def _is_ours(record: process.Record, port: int) -> bool:
    return bool(ports.listeners(port) & process.members([record], mark=""))
