"""The whole loop of a small pipeline whose lake and landing zone lie in a bucket: each step until it ends right."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from tests.support import reader
from tests.support.forked_steps import ForkedSteps
from tests.support.pipelines import deliver, write_config
from tests.support.project import Ended, Project, make_project, with_settings

ATTEMPTS = 12
"""Within so many a step must have ended right."""
TIMEOUT = 1.0  # seconds
STALL = 1.5  # seconds
_FIRST, _LAST = date(2024, 1, 22), date(2024, 2, 4)
_BEFORE, _AFTER = "2024-01-22..2024-01-31", "2024-02-01..2024-02-04"


@dataclass
class Loop:
    """One project going through the loop.

    Attributes:
        failures: what the failed attempts said, by step.
    """

    project: Project
    steps: ForkedSteps
    name: str
    failures: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def run(self) -> None:
        """Ingest, validate, train, promote, score, promote by hand, score, roll back with repair, maintain."""
        name, training = self.name, "2024-02"
        for source, days in {"orders": _BEFORE, "arrivals": _BEFORE, "shops": "all"}.items():
            self._step("run", "ingest", source, days)
            self._step("run", "validate", source, days)
        for verb in ("train", "evaluate", "promote"):
            self._step("run", verb, name, training)
        spec = self.project.settings.config / "pipelines" / name / "pipeline.yaml"
        text = spec.read_text()
        spec.write_text(text.replace("rounds: 5", "rounds: 6"))
        other = str(self._step("run", "train", name, training)["model"]["version"])
        spec.write_text(text)
        for source in ("orders", "arrivals"):
            self._step("run", "ingest", source, _AFTER)
            self._step("run", "validate", source, _AFTER)
        self._step("run", "featurize", name, "2024-02-02")
        self._step("run", "score", name, "2024-02-02")
        self._step("promote", name, other, "--why", "it looks better")
        self._step("run", "score", name, "2024-02-03..2024-02-04")
        self._step("rollback", name, "--from", other, "--why", "it is bad", "--repair")
        self._step("maintain")

    def _step(self, *words: str) -> Any:
        """Run a command until it ends right; each time before, it must have failed clean."""
        told = " ".join(words)
        for attempt in range(1, ATTEMPTS + 1):
            environment = {"MILLRACE_RUN_ID": told.replace(" ", "-"), "MILLRACE_ATTEMPT": str(attempt)}
            ended = self.steps.run(self.project, *words, "--json", environment=environment)
            if ended.code == 0:
                return ended.json
            self.failures.setdefault(told, []).append(clean_failure(ended))
        raise AssertionError(f"{told} failed {ATTEMPTS} times: {self.failures[told][-1]}")


def clean_failure(ended: Ended) -> dict[str, Any]:
    """The error of a command that failed as documented: an error of ours, told as JSON and in one line.

    Maintenance goes on with the other tables, and tells the problem of each in its result.
    """
    assert ended.code == 1, (ended.code, ended.err)
    if "tables" in ended.json:
        problems = [one["problem"] for one in ended.json["tables"] if one["problem"]]
        assert problems and all(map(str.isprintable, problems)) and "Traceback" not in ended.err, ended
        return {"type": "a table's problem", "message": problems[0]}
    error = ended.json["error"]
    assert error["type"] not in ("MillraceError", "Exception"), error
    assert error["message"].isprintable(), error
    assert "Traceback" not in ended.err, ended.err
    assert ended.err.splitlines()[-1].startswith("millrace: "), ended.err
    return error


def begin(folder: Path, name: str, *, mlflow: str, bucket: str, upstream: str, endpoint: str, steps: ForkedSteps):
    """A loop at its beginning: all is delivered to the bucket, nothing is ingested.

    Args:
        name: of the pipeline.
        upstream: the S3 server's own endpoint.
        endpoint: which the commands use.
    """
    config = write_config(folder / "config", name)
    for file in config.rglob("*.yaml"):
        file.write_text(file.read_text().replace("start: 2024-01-01", f"start: {_FIRST}"))
    project = with_settings(make_project(folder, mlflow=mlflow, bucket=bucket, endpoint=upstream), threads=1)
    deliver(project.incoming, _FIRST, _LAST)
    project.deliver()
    return Loop(with_settings(project, s3_endpoint=endpoint, s3_timeout=TIMEOUT), steps, name)


def seen(loop: Loop, upstream: str) -> dict[str, Any]:
    """What a reader sees in a loop's lake, checked; the pipeline's name and the bucket's are taken out."""
    objects = with_settings(loop.project, s3_endpoint=upstream, s3_timeout=60.0).lake.objects
    copy = loop.project.folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    for info in objects.list(""):
        file = copy / info.key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(objects.get(info.key))
    reader.check(copy)
    bucket = loop.project.settings.lake.removeprefix("s3://").partition("/")[0]
    return {
        _plain(name, loop.name, bucket): (
            {"/".join(key): [_plain(row, loop.name, bucket) for row in rows] for key, rows in there.items()}
            if isinstance(there, dict)
            else _plain(json.dumps(there), loop.name, bucket)
        )
        for name, there in reader.state(copy).items()
    }


def _plain(text: str, name: str, bucket: str) -> str:
    return text.replace(name, "NAME").replace(bucket, "BUCKET")
