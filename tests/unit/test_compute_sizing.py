"""The right size of machine, decided from numbers."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from tasks.compute.machine import free_memory
from tasks.compute.pace import READING_GRACE, Pace
from tasks.compute.sizing import Machine, Shape, choose_outside, choose_way, estimate
from tasks.errors import ClusterError
from tasks.settings import REPOSITORY, Settings
from tasks.train import cost

GB = 10**9
SMALL, LARGE = Shape(1_000_000, 30, 256), Shape(100_000_000, 30, 256)


def test_what_fits_is_trained_in_one_process_and_what_does_not_in_external_memory():
    machine = Machine(8 * GB, why_no_gpu="no NVIDIA driver")
    small, large = (choose_way(shape, machine) for shape in (SMALL, LARGE))
    assert (small.way, small.device, large.way) == ("single", "cpu", "external")
    assert "1000000 rows x 30 features need about" in small.reason and "8" not in small.way
    assert "no NVIDIA driver" in small.reason
    assert large.reason.endswith(" GB of it with the data outside")
    assert choose_way(LARGE, Machine(4 * GB)).reason.endswith("with the data outside; that is more than is free")


def test_what_was_killed_for_memory_is_followed_by_external_memory_unless_the_spec_insists():
    choice = choose_way(SMALL, Machine(64 * GB), short=True)
    assert (choice.way, choice.device) == ("external", "cpu") and "for want of memory as it seems" in choice.reason
    assert choose_way(SMALL, Machine(64 * GB, gpus=[8 * GB]), short=True).device == "cuda"
    assert choose_way(SMALL, Machine(64 * GB), wish="single", short=True).way == "single"
    assert choose_way(SMALL, Machine(64 * GB, workers=2), short=True).way == "external"
    assert choose_way(LARGE, Machine(64 * GB, gpus=[8 * GB, 8 * GB]), short=True).way == "external"
    assert choose_way(SMALL, Machine(64 * GB, workers=2), wish="cluster", short=True).way == "cluster"
    assert choose_way(SMALL, Machine(64 * GB, scheduler="tcp://there:8786"), short=True).way == "cluster"
    poor = choose_way(Shape(10**9, 100, 256), Machine(4 * GB, gpus=[20 * GB]))
    assert poor.way == "external" and "100.0 GB of the host's memory, 4.0 GB are free" in poor.reason


def test_gpus_are_taken_where_they_are_and_several_only_where_one_is_too_small():
    machine = Machine(64 * GB, gpus=[8 * GB, 8 * GB])
    assert (choose_way(SMALL, machine).way, choose_way(SMALL, machine).gpus) == ("single", 1)
    both = choose_way(LARGE, machine)
    assert (both.way, both.device, both.gpus) == ("cluster", "cuda", 2)
    huge = choose_way(Shape(10**9, 30, 256), machine)
    assert (huge.way, huge.device, huge.gpus) == ("external", "cuda", 1)
    assert choose_way(SMALL, machine, gpus=0).device == "cpu"
    with pytest.raises(ClusterError, match="insists on 3 GPUs, 2 are usable here"):
        choose_way(SMALL, machine, gpus=3)


def test_the_spec_and_the_settings_can_say_otherwise():
    machine = Machine(64 * GB)
    assert choose_way(SMALL, machine, wish="external").reason.startswith(
        "one process on the CPU, data in external memory: train.way says so"
    )
    assert choose_way(SMALL, machine, wish="cluster").way == "cluster"
    assert choose_way(SMALL, Machine(64 * GB, workers=2)).way == "cluster"
    assert choose_way(LARGE, Machine(8 * GB, workers=2)).way == "external"  # its workers share the machine's memory
    crowded = choose_way(SMALL, Machine(2 * GB, workers=8))  # and each is a process
    assert crowded.way == "single" and "3.4 GB more for the 8 workers of the settings" in crowded.reason
    assert "tcp://there:8786" in choose_way(SMALL, Machine(64 * GB, scheduler="tcp://there:8786")).reason


def test_outside_workers_keep_their_data_outside_where_it_is_more_than_theirs_or_one_was_lost_for_it():
    def choice(each, *, workers=2, short=False, device="cpu"):
        return choose_outside(LARGE, device, workers=workers, each=each, short=short)

    assert choice(8 * GB)[0] and not choice(64 * GB)[0] and not choice(None)[0]
    assert choice(64 * GB, short=True)[0] and "for want of memory" in choice(64 * GB, short=True)[1]
    assert not choice(8 * GB, workers=8)[0]  # each has a share of the rows
    assert not choice(12 * GB, device="cuda")[0] and choice(2 * GB, device="cuda")[0]
    assert " of 8.0 GB" in choice(8 * GB)[1]


def test_more_rows_classes_or_bins_need_more_and_external_memory_less():
    need = estimate(SMALL, "cpu")
    assert estimate(Shape(2_000_000, 30, 256), "cpu") > need
    assert estimate(Shape(1_000_000, 30, 256, outputs=5), "cpu") > need
    assert estimate(Shape(1_000_000, 30, 512), "cpu") > need
    assert estimate(LARGE, "cpu", external=True) < estimate(LARGE, "cuda") < estimate(LARGE, "cpu")


def test_a_built_matrix_takes_no_more_than_was_estimated():
    """Built in a process of its own, with gaps, as the training builds it: in batches."""
    rows, features = 300_000, 40
    program = f"""
import numpy, xgboost
from tasks.compute.rows import batch_rows
rows, features = {rows}, {features}
class Batches(xgboost.DataIter):
    def __init__(self): super().__init__(); self.at = 0
    def reset(self): self.at = 0
    def next(self, give):
        if self.at >= rows: return False
        size = min(batch_rows(features), rows - self.at)
        x = numpy.random.default_rng(self.at).normal(size=(size, features)).astype("float32")
        x[::7, ::3] = numpy.nan
        give(data=x, label=(x[:, 1] > 0).astype("float32"))
        self.at += size
        return True
def most():  # getrusage's figure begins with that of the process that started this one
    (line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1])
xgboost.DMatrix(numpy.ones((2, 2)))
before = most()
matrix = xgboost.QuantileDMatrix(Batches(), max_bin=256, nthread=2)
xgboost.train({{"objective": "binary:logistic", "nthread": 2, "max_depth": 4}}, matrix, 3)
print((most() - before) * 1024)
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    taken, said = int(ran.stdout), estimate(Shape(rows, features, 256), "cpu")
    grown = 64 << 20  # of the process itself, in its first training: XGBoost's threads and buffers
    assert said / 2 < taken <= said + grown, (taken, said)


def test_free_memory_respects_the_containers_limit(tmp_path):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 100 kB\nMemAvailable:   80 kB\n")
    assert free_memory(meminfo=meminfo, cgroup=tmp_path) == 80 * 1024
    (tmp_path / "memory.max").write_text("50000\n")
    (tmp_path / "memory.current").write_text("20000\n")
    assert free_memory(meminfo=meminfo, cgroup=tmp_path) == 30_000
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(meminfo=meminfo, cgroup=tmp_path) == 80 * 1024


def test_a_silence_is_measured_against_the_trainings_own_pace():
    pace = Pace(limit=60, now=0)
    assert not pace.hung(60 + READING_GRACE) and pace.hung(61 + READING_GRACE)
    for moment in (100, 110, 120, 130):
        pace.beat("round", moment)
    assert not pace.hung(130 + 60 + 30) and pace.hung(130 + 60 + 31)
    pace.beat("reading", 140)  # a search's next trial: its first round may take longer than the last one's
    assert not pace.hung(140 + 60 + READING_GRACE) and pace.hung(141 + 60 + READING_GRACE)


def test_a_training_of_slow_rounds_is_not_hung_in_its_second():
    pace = Pace(limit=60, now=0)
    pace.beat("reading", 10)
    pace.beat("round", 130)  # the matrix, and a round of nearly two minutes
    assert not pace.hung(130 + 60 + 3 * 120) and pace.hung(131 + 60 + 3 * 120)
    pace.beat("round", 240)
    assert not pace.hung(240 + 60 + 3 * 110) and pace.hung(241 + 60 + 3 * 110)
    pace.beat("reading", 250)  # a search's next trial
    pace.beat("round", 350)
    assert not pace.hung(350 + 60 + 3 * 100) and pace.hung(351 + 60 + 3 * 100)


def test_a_cost_is_told_where_all_that_was_used_has_a_price():
    used = SimpleNamespace(gpu_seconds=0.0, cpu_seconds=7200.0)
    both = SimpleNamespace(gpu_seconds=1800.0, cpu_seconds=0.0)
    prices = Settings(gpu_hour_price=4.0, cpu_hour_price=0.05)
    assert cost(prices, used, both) == {"gpu_seconds": 1800.0, "cpu_seconds": 7200.0, "cost": 2.1}
    assert cost(Settings(gpu_hour_price=4.0), both)["cost"] == 2.0  # no processor was used, whatever it costs
    assert "cost" not in cost(Settings(gpu_hour_price=4.0), used, both)
    assert "cost" not in cost(Settings(), used) and cost(Settings(cpu_hour_price=0.05), used)["cost"] == 0.1
