"""Look at the platform: which part runs, where it answers, what it takes of the memory."""

from __future__ import annotations

import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tasks.services import airflow_server, mlflow_server, ports, postgres, process
from tasks.services.home import Home, Secrets, read_json
from tasks.settings import Settings

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Addresses:
    """Where the platform answers.

    Attributes:
        airflow: URL of the web UI and of the REST interface.
        mlflow: URL of the tracking server.
        database: host and port of Airflow's PostgreSQL.
        user: Airflow's administrator.
        password: the generated password.
    """

    airflow: str
    mlflow: str
    database: str
    user: str
    password: str


@dataclass(frozen=True)
class ServiceStatus:
    """One part of the platform.

    Attributes:
        name: postgres, mlflow, airflow-api-server ...
        state: running, starting (the process lives and does not answer yet), stopped, outside or
            unreachable (outside, and does not answer).
        address: where it answers, or an empty string.
        pid: its first process, or None.
        memory: bytes of all of its processes (proportional share), or None.
    """

    name: str
    state: str
    address: str = ""
    pid: int | None = None
    memory: int | None = None


def status(settings: Settings) -> list[ServiceStatus]:
    """Each part of the platform, as it is now."""
    home = Home(settings.home)
    known = read_json(home.run / "ports.json", {})
    found = []
    port = known.get("postgres")
    if settings.database is None or (settings.mlflow is None and settings.mlflow_database is None):
        found.append(_status(home, "postgres", postgres.record_file(home), port, f"127.0.0.1:{port}"))
    if settings.database is not None:
        found.append(_outside("database", host(settings.database), database_answers(settings.database)))
    if settings.mlflow is not None:
        found.append(_outside("mlflow", settings.mlflow, answers(settings.mlflow + "/health")))
    else:
        port = known.get("mlflow")
        found.append(_status(home, "mlflow", mlflow_server.record_file(home), port, f"http://127.0.0.1:{port}"))
    for component in reversed(airflow_server.COMPONENTS):
        api = component == "api-server"
        port = known.get("airflow") if api else None
        record = airflow_server.record_file(home, component)
        found.append(_status(home, f"airflow-{component}", record, port, f"http://127.0.0.1:{port}" if api else ""))
    return found


def addresses(settings: Settings) -> Addresses | None:
    """Where the platform answers (or did, when it last ran); None where it was never started."""
    home = Home(settings.home)
    known = read_json(home.run / "ports.json", {})
    if "airflow" not in known:
        return None
    database = host(settings.database) if settings.database else f"127.0.0.1:{known.get('postgres')}"
    return Addresses(
        airflow=f"http://127.0.0.1:{known['airflow']}",
        mlflow=settings.mlflow or f"http://127.0.0.1:{known.get('mlflow')}",
        database=database,
        user=airflow_server.ADMIN,
        password=Secrets.of(home).admin_password,
    )


def answers(url: str, patience: float = 5) -> bool:
    """Whether something answers at a URL, asked without a proxy."""
    try:
        with _OPENER.open(url, timeout=patience) as answer:
            return answer.status < 400
    except (OSError, ValueError, urllib.error.URLError):
        return False


def database_answers(url: str) -> bool:
    """Whether the database of a URL lets us in."""
    import psycopg2

    try:
        with postgres.connect(sqlalchemy(url)) as session:
            session.execute("select 1")
        return True
    except psycopg2.Error:
        return False


def sqlalchemy(url: str) -> str:
    """The URL with its driver named: SQLAlchemy's own choice differs between releases."""
    scheme, _, rest = url.partition("://")
    return f"postgresql+psycopg2://{rest}" if scheme in ("postgres", "postgresql") else url


def host(url: str) -> str:
    """Host and port of a database's URL, without its password."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or 5432}"


def _status(home: Home, name: str, path: Path, port: int | None, address: str) -> ServiceStatus:
    record = process.load(path)
    if record is None or not process.alive(record):
        return ServiceStatus(name, "stopped")
    memory = process.memory(process.members([record], mark=""))
    state = "running" if port is None or ports.answers(port) else "starting"
    return ServiceStatus(name, state, address, record.pid, memory)


def _outside(name: str, address: str, answers: bool) -> ServiceStatus:
    return ServiceStatus(name, "outside" if answers else "unreachable", address)
