"""Trainings in real processes: the same bytes, nothing left behind, and what is killed goes on from a checkpoint."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from tasks.compute.checkpoints import Checkpoints
from tasks.compute.cluster import open_cluster
from tasks.compute.encoding import encode
from tasks.compute.predict import predict
from tasks.compute.rows import fit_encoding_files, survey
from tasks.compute.single import Single
from tasks.compute.train import Recipe, train, train_at
from tasks.errors import ClusterError
from tasks.lake.objects import FolderStore
from tests.support.cluster_checks import FEATURES, binary, rows, write
from tests.support.dask_processes import ROOT
from tests.support.kills import words_of

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def _step(folder: Path, *words: str) -> subprocess.Popen:
    command = [sys.executable, "-P", "-m", "tests.support.train_once", str(folder), *words]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=30)
    return not alive


def _local(folder: Path, *, workers: int, **more):
    return open_cluster(
        scheduler=None, workers=workers, threads=2, memory_limit="2GiB", gpus=(), workdir=folder / "dask", **more
    )


def test_two_processes_train_the_same_bytes_and_print_only_their_result(tmp_path):
    digests = set()
    for place in range(2):
        step = _step(tmp_path / str(place), "single")
        output, errors = step.communicate(timeout=180)
        assert step.returncode == 0, errors
        result = json.loads(output)  # One line: neither Dask nor XGBoost wrote to standard output.
        assert result["auc"] > 0.8
        digests.add(result["digest"])
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("where", "how"), [("cluster", signal.SIGKILL), ("single", signal.SIGKILL), ("single", signal.SIGTERM)]
)
def test_a_killed_step_leaves_no_process_behind(tmp_path, where, how):
    step = _step(tmp_path, where, "hang")
    assert step.stdout.readline() == "it trains\n"
    time.sleep(2)
    children = psutil.Process(step.pid).children(recursive=True)
    assert children
    step.send_signal(how)
    step.communicate(timeout=30)
    assert _gone(children)


def test_a_block_that_fails_leaves_no_process_behind(tmp_path):
    me = psutil.Process()
    before = set(me.children(recursive=True))
    with pytest.raises(RuntimeError, match="on purpose"), _local(tmp_path, workers=2):
        started = [child for child in me.children(recursive=True) if child not in before]
        assert len(started) >= 2
        raise RuntimeError("on purpose")
    # Python's own resource tracker lives as long as the process that asked for it.
    assert _gone([child for child in started if "resource_tracker" not in " ".join(words_of(child))])
    assert not list((tmp_path / "dask").glob("dask-scratch-space/worker-*"))


def _spawned(process: psutil.Process) -> list[int]:
    return [child.pid for child in process.children() if "spawn_main" in " ".join(words_of(child))]


def _kill(pid: int, seen: Callable[[], bool]) -> None:
    """Kill a process as soon as `seen`."""

    def kill() -> None:
        until = time.monotonic() + 60
        while not seen() and time.monotonic() < until:
            time.sleep(0.02)
        os.kill(pid, signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()


def test_a_training_whose_worker_is_killed_goes_on_from_its_checkpoint_on_a_fresh_cluster_of_another_size(tmp_path):
    data = write(tmp_path / "train", [rows(500, seed) for seed in range(4)], binary)
    encoding = fit_encoding_files(data, FEATURES)
    recipe = Recipe("binary:logistic", {"max_depth": 3}, rounds=150, seed=1)
    said: list[str] = []
    (tmp_path / "dask").mkdir()
    kept = Checkpoints(FolderStore(tmp_path / "store"), "t", every=10)
    places = []

    @contextmanager
    def open_place():
        with _local(tmp_path, workers=2 - len(places)) as place:
            if not places:
                _kill(min(place.client.run(os.getpid).values()), lambda: kept.latest() is not None)
            places.append(place)
            yield place

    trained = train(
        open_place,
        data,
        seen=survey(data, encoding.columns),
        encoding=encoding,
        recipe=recipe,
        checkpoints=kept,
        attempts=3,
        say=said.append,
    )
    assert len(places) == 2 and "was lost" in said[0] and "resumed_from" in said[1]
    assert (trained.rounds, len(trained.history["logloss"])) == (150, 150) and trained.resumed_from >= 10
    unbroken = train_at(Single("cpu", 1, tmp_path), data, encoding=encoding, recipe=recipe)
    new = rows(800, 60)
    ours, theirs = (
        predict(one.model, encode(new, encoding), encoding=encoding, threads=1) for one in (trained, unbroken)
    )
    assert np.abs(ours - theirs).max() < 1e-3


def test_a_training_that_hangs_is_ended_and_fails_with_the_reason_after_its_attempts(tmp_path):
    data = write(tmp_path / "train", [rows(500, 1)], binary)
    encoding = fit_encoding_files(data, FEATURES)
    recipe = Recipe("binary:logistic", {}, rounds=10_000_000, seed=1)
    stopped: list[int] = []

    @contextmanager
    def open_place():
        def stop() -> None:
            child = None
            while child is None or not child.cpu_times().user > 2:
                time.sleep(0.1)
                child = next((psutil.Process(pid) for pid in _spawned(psutil.Process())), None)
            time.sleep(1)
            stopped.append(child.pid)
            child.suspend()

        threading.Thread(target=stop, daemon=True).start()
        yield Single("cpu", 1, tmp_path, stall=1.5)

    with pytest.raises(ClusterError, match=r"2 attempts at the training were lost, the last: .* no sign of life for"):
        train(open_place, data, seen=survey(data, encoding.columns), encoding=encoding, recipe=recipe, attempts=2)
    assert len(stopped) == 2 and not any(psutil.pid_exists(pid) for pid in stopped)


@pytest.mark.parametrize("where", ["one process", "two local workers"])
def test_a_training_that_hangs_goes_on_from_its_checkpoint_at_a_fresh_place(tmp_path, where: str):
    data = write(tmp_path / "train", [rows(500, seed) for seed in range(4)], binary)
    encoding = fit_encoding_files(data, FEATURES)
    kept, said = Checkpoints(FolderStore(tmp_path / "store"), "t", every=10), []
    (tmp_path / "dask").mkdir()
    stopped: list[psutil.Process] = []
    places = 0

    def stop(find: Callable[[], int]) -> None:
        """Stop a process as soon as there is a checkpoint: it lives, and gives no sign of it."""
        while kept.latest() is None:
            time.sleep(0.02)
        stopped.append(psutil.Process(find()))
        stopped[0].suspend()

    @contextmanager
    def open_place():
        nonlocal places
        places += 1
        alone = where == "one process"
        single = nullcontext(Single("cpu", 1, tmp_path, stall=2))
        with single if alone else _local(tmp_path, workers=2, stall=2) as place:
            pids = [] if alone else place.client.run(os.getpid).values()
            if places == 1:
                find = (lambda: _spawned(psutil.Process())[0]) if alone else partial(min, pids)
                threading.Thread(target=stop, args=(find,), daemon=True).start()
            yield place

    trained = train(
        open_place,
        data,
        seen=survey(data, encoding.columns),
        encoding=encoding,
        recipe=Recipe("binary:logistic", {"max_depth": 3}, rounds=400, seed=1),
        checkpoints=kept,
        attempts=3,
        say=said.append,
    )
    assert places == 2 and "no sign of life" in said[0] and "resumed_from" in said[1]
    assert trained.resumed_from >= 10 and (trained.rounds, len(trained.history["logloss"])) == (400, 400)
    assert _gone(stopped)


def test_metrics_of_many_rows_are_followed_every_tenth_round_and_after_the_last(tmp_path, monkeypatch):
    data = write(tmp_path / "train", [rows(500, 1)], binary)
    encoding, recipe = fit_encoding_files(data, FEATURES), Recipe("binary:logistic", {}, rounds=25, seed=1)
    every = train_at(Single("cpu", 1, tmp_path), data, encoding=encoding, recipe=recipe)
    monkeypatch.setattr("tasks.compute.train._FOLLOWED_ROWS", 499)
    some = train_at(Single("cpu", 1, tmp_path), data, encoding=encoding, recipe=recipe)
    taken = [value if place in (9, 19, 24) else None for place, value in enumerate(every.history["logloss"])]
    assert some.history == {"logloss": taken} and some.model == every.model


def test_a_training_that_ran_on_another_device_is_refused(tmp_path):
    data = write(tmp_path / "train", [rows(200, 1)], binary)
    recipe = Recipe("binary:logistic", {}, rounds=2, seed=1)
    with pytest.raises(ClusterError, match="was to run on cuda|cudaErrorInsufficientDriver"):
        train_at(Single("cuda", 1, tmp_path), data, encoding=fit_encoding_files(data, FEATURES), recipe=recipe)


def test_a_scheduler_that_is_not_there_is_a_cluster_error(tmp_path):
    arguments = {"workers": 1, "threads": 1, "memory_limit": "auto", "gpus": 0, "workdir": tmp_path}
    with (
        pytest.raises(ClusterError, match="no Dask cluster at tcp://127.0.0.1:9"),
        open_cluster(scheduler="tcp://127.0.0.1:9", **arguments),
    ):
        pass
