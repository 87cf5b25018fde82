"""Whatever of a training is killed, at whatever round, it ends as one whole model, and nothing is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.compute.turn import end_turn, take_turn
from tests.support.dask_processes import ROOT, DaskProcesses, dask_processes
from tests.support.kills import Kill, check_goes_on, commit, draw_kills, holdout_auc, slow_down
from tests.support.project import Project
from tests.support.proofs import Proof, code, kills_table

CLOSE = 0.02
"""XGBoost saves no generator state: with subsampling a resumed model is as good as an unbroken one, not equal."""
IN_TESTS = 3
FORTY = draw_kills(40, f"proof {code()}")


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskProcesses]:
    with dask_processes(tmp_path_factory.mktemp("dask"), workers=2, restart=True) as processes:
        yield processes


@pytest.fixture(scope="module")
def unbroken(first_champion: Project, tmp_path_factory: pytest.TempPathFactory) -> float:
    """The AUC of the same training without a kill."""
    project = first_champion.copy(tmp_path_factory.mktemp("unbroken") / "project")
    slow_down(project, seed=1_000)
    return holdout_auc(project)


@pytest.fixture(scope="module")
def proof() -> Proof:
    """What becomes of the forty."""
    return Proof("kills", map(str, FORTY), kills_table)


def test_a_turn_on_outside_workers_is_had_by_one_and_goes_with_its_client(outside: DaskProcesses):
    with outside.client() as first, outside.client() as second:
        assert take_turn(first, "a") and take_turn(first, "a")
        assert not take_turn(second, "b")
        first.close()
        until = time.monotonic() + 30
        while not take_turn(second, "b"):
            assert time.monotonic() < until
        end_turn(second, "a")  # of somebody who was late
        assert outside.held()[0] == "a turn"
        end_turn(second, "b")
    outside.check_idle()


def test_outside_workers_do_not_go_on_training_for_a_client_that_was_killed(outside: DaskProcesses, tmp_path: Path):
    command = [sys.executable, "-P", "-m", "tests.support.train_once", str(tmp_path), outside.address, "hang"]
    step = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True)
    assert step.stdout.readline() == "it trains\n"
    until = time.monotonic() + 60
    while outside.held() != ("a turn", 2):
        assert time.monotonic() < until and step.poll() is None
        time.sleep(0.1)
    time.sleep(1)
    step.kill()
    step.communicate()
    outside.check_idle()


@pytest.mark.parametrize("kill", draw_kills(IN_TESTS, commit()), ids=str)
def test_a_killed_training_goes_on_to_a_whole_model_and_leaves_nothing(
    champion: Project, outside: DaskProcesses, unbroken: float, kill: Kill
):
    assert check_goes_on(kill, champion, outside).auc == pytest.approx(unbroken, abs=CLOSE)


@pytest.mark.proof
@pytest.mark.parametrize("kill", FORTY, ids=str)
def test_forty_killed_trainings_go_on_to_whole_models_and_leave_nothing(
    champion: Project, outside: DaskProcesses, unbroken: float, proof: Proof, kill: Kill
):
    proof.skip_kept(str(kill))
    survived = check_goes_on(kill, champion, outside)
    assert survived.auc == pytest.approx(unbroken, abs=CLOSE)
    found = {"resumed_from": survived.resumed_from, "off": abs(survived.auc - unbroken), "seconds": survived.seconds}
    proof.add(str(kill), what=kill.what, place=kill.place, **found)
