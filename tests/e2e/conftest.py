"""One real platform for all end-to-end tests: PostgreSQL, MLflow, Airflow's own scheduler."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tasks import services
from tasks.lake import open_lake
from tasks.settings import REPOSITORY, Settings, load_settings
from tests.support.pipelines import deliver, write_config


@dataclass(frozen=True)
class Platform:
    """A running platform of a home of its own."""

    settings: Settings
    api: services.AirflowApi
    environment: dict[str, str]

    @property
    def landing(self) -> Path:
        return Path(self.settings.landing_uri)

    @property
    def lake(self):
        return open_lake(self.settings)

    def command(self, *words: str, code: int = 0) -> Any:
        """Run `millrace … --json`; its result."""
        ran = subprocess.run(
            [sys.executable, "-P", "-m", "tasks", *words, "--json"],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert ran.returncode == code, ran.stdout + ran.stderr
        return json.loads(ran.stdout.strip().splitlines()[-1])

    def airflow(self, *words: str) -> str:
        """Run Airflow's own command line on this platform."""
        ran = subprocess.run(
            [sys.executable, "-P", "-m", "tasks", "airflow", *words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout


@pytest.fixture(scope="package")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """The pipeline `returns` on history of January 2024, delivered and not ingested; nothing live yet."""
    folder = tmp_path_factory.mktemp("e2e")
    write_config(folder / "config", "returns")
    environment = {
        **os.environ,
        "MILLRACE_HOME": str(folder / "home"),
        "MILLRACE_CONFIG": str(folder / "config"),
        "MILLRACE_POLL": "1",
        "PYTHONPATH": str(REPOSITORY),
    }
    environment.pop("AIRFLOW_HOME", None)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    settings = load_settings(environment)
    deliver(Path(settings.landing_uri), date(2024, 1, 1), date(2024, 2, 14))
    services.up(settings)
    try:
        yield Platform(settings, services.AirflowApi(settings), environment)
    finally:
        services.clean(settings)
