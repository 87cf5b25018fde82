"""Trainings by command of which something is killed at some round, and what must be true of them afterwards."""

from __future__ import annotations

import fcntl
import json
import random
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from millrace_airflow.process import StepProcess, tasks_command

from tests.support.dask_processes import ROOT, DaskProcesses
from tests.support.project import Ended, Project, ended

NAME, TRAINING = "late_orders", "2024-02"
ROUNDS, EVERY = 900, 5
LATEST = 200
"""The last round at which something is killed: far from the end, for where the tests' own process gets no processor."""
COMBINATIONS = (
    ("scheduler", "outside scheduler"),
    ("task", "one process"),
    ("worker", "one process"),
    ("client", "two local workers"),
    ("worker", "outside scheduler"),
    ("worker", "two local workers"),
    ("client", "outside scheduler"),
    ("client", "one process"),
    ("task", "outside scheduler"),
    ("task", "two local workers"),
)
"""Of local places the scheduler is part of the client."""
_PATIENCE = 180  # seconds for a step


@dataclass(frozen=True)
class Kill:
    """What is killed.

    Attributes:
        what: the worker, a process that trains; the scheduler; the client, the step's own process; or the task,
            ended as Airflow ends it.
        place: where the training runs.
        at: the round at which, or soon after which, it is killed.
        seed: of the training, so that no two are the same.
    """

    what: str
    place: str
    at: int
    seed: int

    def __str__(self) -> str:
        return f"{self.what}, {self.place}, round {self.at}"


@dataclass(frozen=True)
class Survived:
    """A training that was killed and ended well.

    Attributes:
        kill: what happened to it.
        resumed_from: the round of the checkpoint that it went on from.
        auc: of its model on the holdout.
        seconds: from the kill to the registered model.
    """

    kill: Kill
    resumed_from: int
    auc: float
    seconds: float


def draw_kills(count: int, seed: str) -> list[Kill]:
    """Kills of every combination in turn, in an order and at rounds that follow from the seed."""
    draw = random.Random(seed)
    order = draw.sample(COMBINATIONS, len(COMBINATIONS))
    return [
        Kill(*order[number % len(order)], at=draw.randrange(2 * EVERY, LATEST), seed=number) for number in range(count)
    ]


def commit() -> str:
    """The commit that is tested, the seed of all draws; empty outside of a repository."""
    try:
        return subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def slow_down(project: Project, seed: int) -> None:
    """Give a project's training the rounds, the checkpoints and the sampling of these tests, and a seed of its own."""
    file = project.settings.config / "pipelines" / NAME / "pipeline.yaml"
    text = file.read_text().replace("rounds: 5", f"rounds: {ROUNDS}, checkpoint: {EVERY}, seed: {seed}")
    file.write_text(text.replace("{max_depth: 2}", "{max_depth: 4, eta: 0.02, subsample: 0.8}"))


def check_goes_on(kill: Kill, project: Project, outside: DaskProcesses) -> Survived:
    """Train by command, kill, run the step again where it died: a whole model of a resumed run, and nothing left.

    Args:
        project: a copy for this training alone.
        outside: a scheduler with workers that are started anew when they end.
    """
    slow_down(project, kill.seed)
    step = (_Task if kill.what == "task" else _Command)(project, _environment(kill, outside))
    try:
        _wait_for_round(project, EVERY, step)
        before = _living(project)  # looking for them takes some rounds
        while kill.what == "worker" and kill.place != "outside scheduler" and not _trainers(before):
            seen = [" ".join(words_of(one)) for one in before]
            assert step.running(), f"no trainer among {seen}, until it ended: {step.end().err}"
            before |= _living(project) | set(_below(step.pid))  # psutil does not see all of them each time
        _wait_for_round(project, kill.at, step)
        time.sleep(random.Random(kill.seed).random() / 50)  # between two checkpoints, too
        killed = time.monotonic()
        _strike(kill, before, step, outside)
        first = step.end()
    finally:
        step.give_up()
    check_no_process(project, before)
    if kill.what in ("client", "task"):
        assert first.code < 0, first.err
        again = project.command("run", "train", NAME, TRAINING, "--json", **_environment(kill, outside))
        assert again.code == 0, again.err
    else:
        assert first.code == 0 and "was lost: " in first.err, first.err
    seconds = time.monotonic() - killed
    survived = _judged(kill, project, seconds)
    check_nothing_left(project, outside)
    return survived


def _judged(kill: Kill, project: Project, seconds: float) -> Survived:
    from mlflow import MlflowClient

    trained = project.run("train", NAME, TRAINING)
    assert trained.reused  # registered, and once
    version = json.loads(project.lake.objects.get(f"{NAME}/versions/{trained.model.version}.json"))
    assert version["rounds"] == _rounds_of(project, version["digest"]) == ROUNDS
    # a process of its own that is killed as for memory is followed by one that takes less
    alone = "external" if kill.what == "worker" else "single"
    assert version["way"] == (alone if kill.place == "one process" else "cluster")
    assert EVERY <= version["resumed_from"] < ROUNDS
    assert version["cpu_seconds"] > 0 and "cost" not in version
    client = MlflowClient(project.settings.mlflow, registry_uri=project.settings.mlflow)
    assert client.get_run(trained.run).data.params["resumed_from"] == str(version["resumed_from"])
    return Survived(kill, version["resumed_from"], holdout_auc(project), seconds)


def holdout_auc(project: Project) -> float:
    """Of the project's training, on the days that it did not see; trains where that was not done."""
    return project.run("evaluate", NAME, TRAINING).evidence.challenger


def _rounds_of(project: Project, digest: str) -> int:
    import xgboost

    return xgboost.Booster(model_file=bytearray(project.lake.get_model(digest))).num_boosted_rounds()


class _Command:
    """The step by command: its children must notice its end by themselves."""

    def __init__(self, project: Project, environment: dict[str, str]) -> None:
        self._process = project.start("run", "train", NAME, TRAINING, "--json", **environment)

    @property
    def pid(self) -> int:
        return self._process.pid

    def running(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> Ended:
        return ended(self._process, patience=_PATIENCE)

    def give_up(self) -> None:
        self._process.kill()


class _Task:
    """The step as Airflow's operator runs and ends it: in a process group of its own."""

    def __init__(self, project: Project, environment: dict[str, str]) -> None:
        self._said: list[str] = []
        self._outcome: Any = None
        command = tasks_command("run", "train", NAME, TRAINING, "--json")
        self._process = StepProcess(command, project.environment() | environment, self._said.append)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._outcome = self._process.run()

    def running(self) -> bool:
        return self._thread.is_alive()

    def kill(self) -> None:
        self._process.end()

    def end(self) -> Ended:
        self._thread.join(_PATIENCE)
        assert not self._thread.is_alive(), "the task did not end"
        return Ended(self._outcome.code, "", "\n".join(self._said))

    def give_up(self) -> None:
        self._process.end()


def _environment(kill: Kill, outside: DaskProcesses) -> dict[str, str]:
    places = {
        "one process": {},
        "two local workers": {"MILLRACE_WORKERS": "2"},
        "outside scheduler": {"MILLRACE_DASK_SCHEDULER": outside.address},
    }
    # a scheduler takes its time to come back: each attempt waits ten seconds for it
    return places[kill.place] | {"MILLRACE_TRAIN_ATTEMPTS": "10"}


def _wait_for_round(project: Project, at: int, step: _Command | _Task) -> None:
    held = Path(project.lake.uri) / NAME / "trainings"
    until = time.monotonic() + _PATIENCE
    while max((int(file.name.split(".")[0]) for file in held.glob("*/checkpoints/*.checkpoint")), default=0) < at:
        assert step.running(), f"it ended before round {at}: {step.end().err}"
        assert time.monotonic() < until, f"round {at} did not come"
        time.sleep(0.005)


def _strike(kill: Kill, living: set[psutil.Process], step: _Command | _Task, outside: DaskProcesses) -> None:
    if kill.what in ("client", "task"):
        step.kill()
    elif kill.what == "scheduler":
        outside.kill_scheduler()
    elif kill.place == "outside scheduler":
        outside.kill_worker(kill.seed)
    else:
        trainers = _trainers(living)
        psutil.Process(trainers[kill.seed % len(trainers)]).kill()


def _trainers(living: set[psutil.Process]) -> list[int]:
    """The pids of those that train, without Python's own helper and the step itself."""
    others = {"resource_tracker", NAME}
    return sorted(one.pid for one in living if not any(word in " ".join(words_of(one)) for word in others))


def check_no_process(project: Project, before: set[psutil.Process]) -> None:
    """No process of a project's steps lives, and so no file lock of theirs: locks end with their process.

    Args:
        before: those that lived when something was killed.
    """
    until = time.monotonic() + 30
    while (left := {one for one in before if _lives(one)} | _living(project)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not left


def check_nothing_left(project: Project, outside: DaskProcesses) -> None:
    """No process, lock, scratch folder, checkpoint or row; and an outside cluster that waits for the next training."""
    check_no_process(project, set())
    home = project.settings.home / "cache"
    assert not list((home / "train").iterdir())
    with open(home / "train.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    left = [info.key for info in project.lake.objects.list(f"{NAME}/trainings/") if info.key.count("/") > 2]
    assert not left
    outside.check_idle()


def _living(project: Project) -> set[psutil.Process]:
    """The processes of a project's steps: all that have its home in their environment, and their children.

    A Dask worker writes its title over its environment: it is found as a child only.
    """
    found: set[psutil.Process] = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("MILLRACE_HOME") == str(project.settings.home):
                found |= {process, *_below(process.pid)}
    return {process for process in found if _lives(process)}


def _below(pid: int) -> list[psutil.Process]:
    """All that a process started; asked again where one of them ended meanwhile."""
    for _ in range(10):
        with suppress(psutil.Error):
            return psutil.Process(pid).children(recursive=True)
    return []


def _lives(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def words_of(process: psutil.Process) -> list[str]:
    """A process's command line; nothing where it is gone, or dead and not yet waited for."""
    with suppress(psutil.Error):
        return process.cmdline()
    return []
