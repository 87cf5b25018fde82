"""The folder of one installation: what lies where, its lock, its secrets, who owns it."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.errors import ServiceError

LOCK_PATIENCE = 300.0  # seconds: longer than the slowest first start
OWN = ("lake", "landing", "airflow", "postgres", "mlflow", "logs", "cache", "run")
_MARKER = "run/home.json"


@dataclass(frozen=True)
class Home:
    """Paths below MILLRACE_HOME."""

    root: Path

    @property
    def run(self) -> Path:
        """Process records, ports, secrets."""
        return self.root / "run"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def airflow(self) -> Path:
        return self.root / "airflow"

    @property
    def mlflow(self) -> Path:
        return self.root / "mlflow"

    @property
    def postgres(self) -> Path:
        return self.root / "postgres"

    @property
    def digest(self) -> str:
        """Names this home outside of itself: 12 hex digits of its absolute path."""
        return hashlib.sha256(os.fsencode(self.root.resolve())).hexdigest()[:12]

    def prepare(self) -> None:
        """Make the folders; refuse a folder that is somebody else's.

        Raises:
            ServiceError: the folder holds other things, or can't be written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            foreign = sorted(entry.name for entry in self.root.iterdir() if entry.name not in OWN)
            if foreign and not (self.root / _MARKER).exists():
                raise ServiceError(
                    f"{self.root} is not a folder of Millrace: it holds {', '.join(foreign[:3])}",
                    hint="set MILLRACE_HOME to an empty folder",
                )
            self.run.mkdir(mode=0o700, exist_ok=True)
            self.logs.mkdir(exist_ok=True)
            if not (self.root / _MARKER).exists():
                write_json(self.root / _MARKER, {"home": str(self.root.resolve())})
        except PermissionError as error:
            raise ServiceError(
                f"{error.filename or self.root} can't be written by this user",
                hint="it was made by another user: set MILLRACE_HOME to a folder of your own",
            ) from error

    @contextlib.contextmanager
    def lock(self, patience: float = LOCK_PATIENCE) -> Iterator[None]:
        """Hold the home alone: starting and stopping are serialised between processes.

        Raises:
            ServiceError: another process held it for `patience` seconds.
        """
        self.prepare()
        path, until = self.run / "lock", time.monotonic() + patience
        while True:
            self.prepare()  # a `clean` may have removed the folder while we waited
            try:
                handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            except PermissionError as error:
                raise ServiceError(
                    f"{path} belongs to another user", hint="use the user that started the platform"
                ) from error
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # the file may have been removed between open and lock: then it locks nothing
                if path.exists() and os.fstat(handle).st_ino == path.stat().st_ino:
                    break
            except BlockingIOError:
                pass
            os.close(handle)
            if time.monotonic() > until:
                raise ServiceError(
                    f"another process has been starting or stopping {self.root} for {patience:.0f} s",
                    hint="wait for it, or end it",
                )
            time.sleep(0.1)
        try:
            yield
        finally:
            os.close(handle)


@dataclass(frozen=True)
class Secrets:
    """Generated once per home, kept in a file that only its user can read."""

    admin_password: str
    database_password: str
    fernet_key: str
    jwt_secret: str
    api_secret: str

    @classmethod
    def of(cls, home: Home) -> Secrets:
        """The secrets of a home, generated at first."""
        path = home.run / "secrets.json"
        if not path.exists():
            write_json(
                path,
                {
                    "admin_password": secrets.token_urlsafe(15),
                    "database_password": secrets.token_urlsafe(24),
                    "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
                    # 64 bytes: shorter keys make a warning with HS512
                    "jwt_secret": base64.b64encode(secrets.token_bytes(64)).decode(),
                    "api_secret": secrets.token_urlsafe(32),
                },
            )
        return cls(**read_json(path))


def read_json(path: Path, default: Any = None) -> Any:
    """The value in a file; `default` where there is none, or where it is broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return default
    except PermissionError as error:
        raise ServiceError(f"{path} belongs to another user", hint="use the user that started the platform") from error


def write_json(path: Path, value: Any) -> None:
    """Write a value whole or not at all; only this user can read it."""
    write_private(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


def write_private(path: Path, text: str) -> None:
    """Write a text whole or not at all; only this user can read it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(temporary, path)
