"""A project of its own for a test: configuration, home, lake and landing zone; verbs run as the command runs them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

from tasks.command.steps import SOURCE_VERBS, Steps
from tasks.domain.results import Result
from tasks.domain.run import RunRef
from tasks.lake import Lake, open_lake, open_landing
from tasks.lake.table import Table
from tasks.settings import REPOSITORY, Settings
from tests.support.pipelines import deliver, write_config
from tests.support.s3 import CREDENTIALS


@dataclass(frozen=True)
class Project:
    """One project.

    Attributes:
        folder: holds config/, home/ and incoming/, where tests write the files that are delivered.
        settings: of this project.
    """

    folder: Path
    settings: Settings

    @property
    def incoming(self) -> Path:
        return self.folder / "incoming"

    @property
    def lake(self) -> Lake:
        return open_lake(self.settings)

    def write(self, name: str, content: str | bytes, *, arrived: datetime | None = None) -> Path:
        """Write one delivery, such as `orders/2024-02-02.csv`; `arrived` is when its file was last written."""
        file = self.incoming / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        if arrived is not None:
            os.utime(file, (arrived.timestamp(), arrived.timestamp()))
        return file

    def deliver(self) -> None:
        """Bring what was written to `incoming` into the landing zone: the same folder, or S3."""
        if not self.settings.landing_uri.startswith("s3://"):
            return
        landing = open_landing(self.settings)
        for file in sorted(self.incoming.rglob("*")):
            if file.is_file():
                uri = f"{self.settings.landing_uri}/{file.relative_to(self.incoming)}"
                if landing.head(uri) is None or landing.get(uri) != file.read_bytes():
                    landing.put(uri, file.read_bytes())

    def run(
        self,
        verb: str,
        name: str,
        partition: str,
        *,
        force: bool = False,
        run_id: str | None = None,
        given: Mapping[str, Result] | None = None,
        meanwhile: Callable[[], Any] | None = None,
        model: str | int = "as-of",
        allow_in_sample: bool = False,
        data: str = "as-known",
    ) -> Any:
        """A verb with all that it needs before it, in this process; its result.

        Args:
            model, allow_in_sample, data: which model scores, from what, see `tasks.pin.pin`.
            meanwhile: called once, when the verb has worked on its first partition and published nothing.
        """
        run = RunRef(run_id or f"test-{uuid.uuid4().hex[:8]}", 1, "tester")
        others = [meanwhile] if meanwhile else []

        def progress(done: int, total: int) -> None:
            if others:
                others.pop()()

        how = {"force": force, "given": dict(given or {}), "model": model, "allow_in_sample": allow_in_sample}
        how["data"] = data
        steps = Steps(self.settings, run, lambda text: None, progress, **how)
        return (steps.source if verb in SOURCE_VERBS else steps.pipeline)(verb, name, partition)

    def load(self, partitions: Mapping[str, str]) -> None:
        """Ingest and validate partitions (a key or a range) by source."""
        self.deliver()
        for name, text in partitions.items():
            self.run("ingest", name, text)
            self.run("validate", name, text)

    def command(self, *words: str, stdin: str = "", **environment: str) -> Ended:
        """`millrace` in a process of its own, in another working folder."""
        return ended(self.start(*words, **environment), stdin)

    def start(self, *words: str, program: list[str] | None = None, **environment: str) -> subprocess.Popen:
        """The same, running; `program` stands for `-m tasks`."""
        work = self.folder / "work"
        work.mkdir(exist_ok=True)
        return subprocess.Popen(
            [sys.executable, "-P", *(program or ["-m", "tasks"]), *words],
            cwd=work,
            env=self.environment() | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def environment(self) -> dict[str, str]:
        settings = self.settings
        names = {name: value for name, value in os.environ.items() if not name.startswith(("MILLRACE_", "AWS_"))}
        values = {
            "MILLRACE_HOME": str(settings.home),
            "MILLRACE_CONFIG": str(settings.config),
            "MILLRACE_LAKE": settings.lake,
            "MILLRACE_LANDING": settings.landing,
            "MILLRACE_MLFLOW": settings.mlflow,
            "MILLRACE_S3_ENDPOINT": settings.s3_endpoint,
            "MILLRACE_S3_TIMEOUT": str(settings.s3_timeout),
            "MILLRACE_THREADS": str(settings.threads),
            "MILLRACE_MEMORY_LIMIT": settings.memory_limit,
        }
        return (
            names
            | {key: value for key, value in values.items() if value}
            | CREDENTIALS
            | {"PYTHONPATH": str(REPOSITORY)}
        )

    def table(self, name: str) -> Table:
        return self.lake.table(name)

    def version(self, name: str) -> int:
        return self.table(name).version()

    def rows(self, name: str, *keys: tuple) -> list[dict[str, Any]]:
        """A table's newest rows, of some partitions or of all, in a fixed order."""
        table = self.table(name)
        version = table.version()
        if version < 0:
            return []
        found = table.read(version=version, keys=keys or None).to_pylist()
        return sorted(found, key=lambda row: json.dumps(row, default=str, sort_keys=True))

    def entry(self, name: str, *key: str | int) -> Any:
        """What the newest commit of a partition says, or None."""
        return self.table(name).entries().get(key)

    def objects(self) -> dict[str, tuple[int, datetime]]:
        """Every object of the lake with its size and the moment of its last write."""
        return {info.key: (info.size, info.modified) for info in self.lake.objects.list("")}

    def copy(self, folder: Path) -> Project:
        """The project as it is, at another place; folder lakes only."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        return Project(folder, _moved(self.settings, folder))


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The value of the last line on standard output."""
        return json.loads(self.out.splitlines()[-1])


def ended(process: subprocess.Popen, stdin: str = "", patience: float = 240) -> Ended:
    """Wait for a command."""
    out, err = process.communicate(stdin, timeout=patience)
    return Ended(process.returncode, out, err)


def make_project(
    folder: Path, *, mlflow: str | None = None, bucket: str | None = None, endpoint: str | None = None
) -> Project:
    """A project in a folder, or with lake and landing zone in an S3 bucket. Its config/ is still to be written."""
    where = {"landing": str(folder / "incoming")}
    if bucket is not None:
        where = {"lake": f"s3://{bucket}/lake", "landing": f"s3://{bucket}/landing", "s3_endpoint": endpoint}
    settings = Settings(
        home=folder / "home", config=folder / "config", mlflow=mlflow, threads=2, memory_limit="2GiB", **where
    )
    return Project(folder, settings)


def historical_january(folder: Path, mlflow: str, *, first: int = 1) -> Project:
    """January of `late_orders` from one of its days on, clean."""
    config, start = write_config(folder / "config", "late_orders"), date(2024, 1, first)
    for file in config.rglob("*.yaml"):
        file.write_text(file.read_text().replace("start: 2024-01-01", f"start: {start}"))
    made = make_project(folder, mlflow=mlflow)
    deliver(made.incoming, start, date(2024, 1, 31))
    days = f"{start}..2024-01-31"
    made.load({"orders": days, "arrivals": days, "shops": "all"})
    return made


def first_champion(folder: Path, mlflow: str) -> Project:
    """The whole January and the champion that was trained from it."""
    made = historical_january(folder, mlflow)
    promoted = made.run("promote", "late_orders", "2024-02")
    assert promoted.promoted, promoted
    return made


def _moved(settings: Settings, folder: Path) -> Settings:
    places = {"home": folder / "home", "config": folder / "config", "landing": str(folder / "incoming")}
    return settings.model_copy(update=places)


def with_settings(project: Project, **changes: Any) -> Project:
    """The same project with other settings."""
    return replace(project, settings=project.settings.model_copy(update=changes))
