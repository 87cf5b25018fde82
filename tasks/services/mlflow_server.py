"""The embedded MLflow tracking server: one worker, no background jobs, no telemetry."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from tasks.services import process
from tasks.services.home import Home


def record_file(home: Home) -> Path:
    """Where the process is recorded."""
    return home.run / "mlflow.json"


def log_file(home: Home) -> Path:
    """Output of the server."""
    return home.logs / "mlflow.log"


def command(home: Home, port: int) -> list[str]:
    """The server's command; the database's address, which holds a password, goes by environment."""
    return [
        sys.executable, "-P", "-m", "mlflow", "server",
        "--host", "127.0.0.1",
        "--port", str(port),
        "--workers", "1",
        "--serve-artifacts",
        "--artifacts-destination", str(home.mlflow / "artifacts"),
    ]  # fmt: skip


def environment(base: Mapping[str, str], database: str) -> dict[str, str]:
    """The server's environment.

    By default the server is 15 processes and 2.4 GB; with one worker and without job execution it
    is two processes and 0.4 GB.
    """
    return {
        **base,
        "MLFLOW_BACKEND_STORE_URI": database,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "GIT_PYTHON_REFRESH": "quiet",
        "MALLOC_ARENA_MAX": "2",
    }


def stable(base: Mapping[str, str], database: str) -> dict[str, str]:
    """The part of the environment whose change means another server."""
    kept = {key: value for key, value in base.items() if key.startswith("AWS_")}
    return kept | {"database": database}


def start(home: Home, base: Mapping[str, str], *, port: int, database: str) -> process.Record:
    """Start the server; it answers some seconds later."""
    artifacts = home.mlflow / "artifacts"
    artifacts.mkdir(parents=True, exist_ok=True)
    full = environment(base, database)
    words = command(home, port)
    return process.start(
        record_file(home),
        words,
        log=log_file(home),
        environment=full,
        mark=home.digest,
        folder=home.mlflow,
        digest=process.digest_of(words, stable(base, database)),
    )
