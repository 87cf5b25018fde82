"""Hosts that are cut off in the middle of a training: it goes on without them, or fails with the reason."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.dask_processes import ROOT, dask_processes
from tests.support.hosts import Hosts, make_hosts, why_no_hosts
from tests.support.proofs import write_section
from tests.support.train_outside import ROUNDS

SCHEDULER, WORKERS, CLIENT = 0, (1, 2), 3


@pytest.fixture(scope="module", autouse=True)
def network() -> None:
    if why := why_no_hosts():
        pytest.skip(why)


@contextmanager
def training(folder: Path, hosts: Hosts, *, attempts: int) -> Iterator[subprocess.Popen]:
    """A step on a host of its own, at a scheduler on another, with two workers on two more."""
    places = (SCHEDULER, *WORKERS)
    given = {"hosts": [hosts.address(host) for host in places], "prefixes": [hosts.prefix(host) for host in places]}
    with dask_processes(folder, workers=len(WORKERS), **given) as outside:
        words = ["-m", "tests.support.train_outside", str(folder), outside.address, str(len(WORKERS)), str(attempts)]
        with subprocess.Popen(
            [*hosts.prefix(CLIENT), sys.executable, "-P", *words],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        ) as step:
            try:
                yield step
            finally:
                step.kill()


def wait_for_round(folder: Path, at: int, step: subprocess.Popen) -> None:
    until = time.monotonic() + 180
    while not any(int(file.stem) >= at for file in (folder / "store" / "t").glob("*.checkpoint")):
        assert step.poll() is None and time.monotonic() < until, f"round {at} did not come"
        time.sleep(0.02)


def after_cutting(folder: Path, cut: Sequence[int], *, attempts: int = 6) -> tuple[dict[str, Any], float]:
    """(what the step says, seconds from the cut to its end)."""
    folder.mkdir(exist_ok=True)
    with make_hosts(4) as hosts, training(folder, hosts, attempts=attempts) as step:
        wait_for_round(folder, 30, step)
        for host in cut:
            hosts.cut(host)
        began = time.monotonic()
        output, _ = step.communicate(timeout=400)
        return json.loads(output), time.monotonic() - began


def check_goes_on_with_one_worker(folder: Path) -> float:
    result, seconds = after_cutting(folder, WORKERS[:1])
    assert "error" not in result, result
    assert result["rounds"] == ROUNDS and 30 <= result["resumed_from"] < ROUNDS
    assert result["places"][0] == 2 and result["places"][-1] == 1
    assert "was lost: " in result["said"][0]
    assert result["auc"] > 0.8
    return seconds


def test_a_worker_that_is_cut_off_is_left_behind_and_the_training_goes_on(tmp_path: Path):
    check_goes_on_with_one_worker(tmp_path)


@pytest.mark.proof
def test_whatever_is_cut_off_no_training_waits_for_ever(tmp_path: Path):
    ended = {"a worker": ("went on with the other", check_goes_on_with_one_worker(tmp_path / "worker"))}
    for name, cut in {"both workers": WORKERS, "the scheduler": (SCHEDULER,), "the step": (CLIENT,)}.items():
        result, seconds = after_cutting(tmp_path / name, cut, attempts=2)
        assert result["error"].startswith("2 attempts at the training were lost, the last: "), result
        ended[name] = ("failed with the reason after 2 attempts", seconds)
    write_section(
        "cuts",
        ["cut off in mid-training", "the step", "seconds from the cut to its end"],
        [[name, how, f"{seconds:.0f}"] for name, (how, seconds) in ended.items()],
    )
