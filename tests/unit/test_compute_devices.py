"""The GPUs of a host: which are there, and that no two processes hold one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tasks.compute.devices import find_gpus, hold_gpus
from tasks.errors import ClusterError

NAMES = ("GPU-a", "GPU-b")
HOLD = (
    "import sys, time; from pathlib import Path; from tasks.compute.devices import hold_gpus\n"
    "with hold_gpus(('GPU-a', 'GPU-b'), 1, patience=0, folder=Path(sys.argv[1])) as held:\n"
    "    print(*held.keep(1), flush=True); time.sleep(60)"
)


@pytest.mark.parametrize("hidden", ["", "-1", "-1,0"])
def test_hidden_gpus_are_not_counted(monkeypatch, hidden):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert find_gpus() == ([], "CUDA_VISIBLE_DEVICES hides every GPU")


def test_two_holders_never_have_the_same_gpu_and_several_are_taken_at_once_or_not_at_all(tmp_path):
    with hold_gpus(NAMES, 1, patience=0, folder=tmp_path) as first:
        assert first.names == NAMES and first.keep(1) == ("GPU-a",)
        with hold_gpus(NAMES, 1, patience=0, folder=tmp_path) as second:
            assert second.names == ("GPU-b",)
            refused = pytest.raises(ClusterError, match="1 of the GPUs GPU-a, GPU-b were not free")
            with refused, hold_gpus(NAMES, 1, patience=0, folder=tmp_path):
                pass
        with pytest.raises(ClusterError), hold_gpus(NAMES, 2, patience=0, folder=tmp_path):
            pass
        with hold_gpus(NAMES[1:], 1, patience=0, folder=tmp_path) as third:
            assert third.names == ("GPU-b",)


def test_a_killed_process_leaves_no_lock(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "GPU-a\n"
    with hold_gpus(NAMES, 1, patience=0, folder=tmp_path) as held:
        assert held.names == ("GPU-b",)
    holder.kill()
    holder.communicate()
    with hold_gpus(NAMES, 2, patience=0, folder=tmp_path) as held:
        assert held.names == NAMES


def test_how_xgboost_was_built_is_known_without_importing_it():
    import xgboost

    code = "import sys; from tasks.compute.devices import built_with_cuda; print(built_with_cuda(), 'xgboost' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == [str(xgboost.build_info()["USE_CUDA"]), "False"]
