"""The GPU's suite: its requirements suffice, its table is whole, and it follows the GPU that its sides were shown."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import gpu, report
from benchmarks.measure import Ran
from tasks.compute.devices import Gpu
from tasks.settings import REPOSITORY
from tests.support.fence import fence, packages_of

REQUIREMENTS = REPOSITORY / "benchmarks" / "gpu-requirements.txt"
FOLLOWED = (
    "benchmarks.gpu",
    "benchmarks.gpu_sides",
    "benchmarks.report",
    "tests.support.cluster_checks",
    "tasks.compute.",
)
ANSWERS = {
    "checks": {"passed": 12, "failed": []},
    "ours": {"seconds": 2.0},
    "plain": {"seconds": 2.0},
    "files": {"seconds": 3.0},
    "external": {"seconds": 4.0},
    "cluster": {"seconds": 1.0},
    "score": {"rate": 2e6, "cpu": 1e6, "upload": 1e9},
    "shap": {"rate": 1e5},
    "resume": {"seconds": 3.0, "resumed": 4},
    "both": {"waited": 1.5},
}


def _import_all(path: Path | str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-P", "-m", "tests.support.import_all", "benchmarks.gpu", *FOLLOWED],
        cwd=REPOSITORY, env=os.environ | {"PYTHONPATH": f"{path}{os.pathsep}{REPOSITORY}"}, capture_output=True, text=True,
    )  # fmt: skip


def test_all_that_the_sides_import_is_among_the_requirements(tmp_path: Path):
    ran = _import_all(fence(tmp_path, REQUIREMENTS))
    assert ran.returncode == 0, ran.stderr
    through = set(ran.stdout.split())
    assert {
        "benchmarks.gpu",
        "tests.support.cluster_checks",
        "tasks.compute.cluster",
        "tasks.compute.single",
    } <= through


def test_what_is_not_among_the_requirements_is_not_there(tmp_path: Path):
    less = tmp_path / "less.txt"
    less.write_text(re.sub(r"^pydantic==.*\n", "", REQUIREMENTS.read_text(), flags=re.MULTILINE))
    assert "pydantic" in packages_of(REQUIREMENTS) - packages_of(less)
    ran = _import_all(fence(tmp_path / "fence", less))
    assert ran.returncode == 1 and "No module named 'pydantic'" in ran.stderr


def test_the_requirements_have_the_locks_versions():
    lock = (REPOSITORY / "requirements.lock").read_text()
    for line in re.findall(r"^[a-z].*$", REQUIREMENTS.read_text(), flags=re.MULTILINE):
        locked = re.sub(r"\[.*\]", "", line)
        assert f"\n{locked} " in lock, line


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str | None]]:
    """(side, place, the GPU that it was shown) of each side that `measure` starts."""
    said = []

    def run(module: str, *words: object, environment: dict[str, str] | None = None, again: int) -> Ran:
        given = dict(zip(words[::2], words[1::2], strict=True))
        said.append((given["--side"], given.get("--place"), (environment or {}).get("CUDA_VISIBLE_DEVICES")))
        return Ran(ANSWERS[given["--side"]], 1_000_000_000, 0, 0.0)

    monkeypatch.setattr(gpu, "run", run)
    monkeypatch.setattr(gpu, "flights", lambda *arguments, **more: [])
    return said


def test_the_table_is_made_of_every_side(shown, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    report.show(gpu.Suite(tmp_path, device="cpu", rows=(2000, 4000), boosts=2, times=2).measure())
    assert {side for side, _, _ in shown} == set(ANSWERS) - {"both"} and set(ANSWERS) == set(gpu.SIDES)
    assert {uuid for _, _, uuid in shown} == {None}
    out = capsys.readouterr().out
    assert "| training, wall clock (4,000 rows x 2 rounds, 24 features, cpu) |" in out
    assert (
        "12 checks of tests/support/cluster_checks.py passed on Dask workers (cpu)" in out and "no GPU was used" in out
    )


def test_a_side_is_shown_the_first_free_gpu_and_the_table_tells_of_that_one(shown, tmp_path: Path, monkeypatch):
    """The first GPU is another training's."""
    used = {"GPU-a": 70_000_000_000, "GPU-b": 5_000_000_000}
    held = SimpleNamespace(names=("GPU-b",))
    monkeypatch.setattr("tasks.compute.devices.find_gpus", lambda: ([Gpu("GPU-a", 0), Gpu("GPU-b", 0)], ""))
    monkeypatch.setattr("tasks.compute.devices.hold_gpus", lambda names, least, patience: nullcontext(held))
    for name, answer in {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
        "nvmlDeviceGetMemoryInfo": lambda uuid: SimpleNamespace(used=used[uuid]),
        "nvmlDeviceGetName": lambda uuid: f"card {uuid}",
        "nvmlSystemGetDriverVersion": lambda: "1",
    }.items():
        monkeypatch.setattr(f"pynvml.{name}", answer)
    part = gpu.Suite(tmp_path, device="cuda", rows=(2000,), boosts=2, times=1).measure()
    of_all = {(side, where) for side, where, uuid in shown if uuid is None}
    clusters = set(gpu.PLACES) - {"one process"}
    assert of_all == {(side, where) for side in ("checks", "resume") for where in clusters} | {("cluster", None)}
    assert set(ANSWERS) == {side for side, _, _ in shown}
    assert {uuid for _, _, uuid in shown} == {None, "GPU-b"}
    assert part.sides["train 2,000: ours"]["GB of GPU at most"] == (5.0,) and "card GPU-b" in part.said[-1]


def test_what_fails_is_told_and_the_other_parts_go_on(shown, tmp_path: Path, monkeypatch):
    monkeypatch.setitem(ANSWERS, "checks", {"passed": 11, "failed": ["check_learns"]})
    started = gpu.run

    def run(module: str, *words: object, **more) -> Ran:
        if "external" in words:
            raise SystemExit("benchmarks.gpu --side external ended with 1")
        return started(module, *words, **more)

    monkeypatch.setattr(gpu, "run", run)
    suite = gpu.Suite(tmp_path, device="cpu", rows=(2000,), boosts=2, times=1)
    part = suite.measure(("checks", "train", "shap"))
    assert suite.failed == ["checks", "train"] and set(part.sides) == {"SHAP values"}
    assert part.said[len(gpu.PLACES)] == (
        f"part checks **failed**: {', '.join(f'check_learns on {where}' for where in gpu.PLACES)}"
    )
    assert part.said[len(gpu.PLACES) + 1] == "part train **failed**: benchmarks.gpu --side external ended with 1"
