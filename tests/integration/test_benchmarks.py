"""The benchmarks' scripts work, at sizes that say nothing about speed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.settings import REPOSITORY
from tests.support.fence import fence


def _run(module: str, *words: str, path: str = str(REPOSITORY)) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
    ran = subprocess.run(
        [sys.executable, "-P", "-m", module, *words],
        cwd=REPOSITORY,
        env=environment | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_the_cheap_parts_run_and_compare_what_is_equal(tmp_path: Path):
    """Equal AUC, equally many broken rows, equal answers and equal tables are asserted by the scripts themselves."""
    before = (REPOSITORY / "benchmarks" / "RESULTS.md").read_bytes()
    out = _run(
        "benchmarks", "training", "task", "validation", "point_in_time", "hourly", "--quick", "--folder", str(tmp_path)
    )
    assert "| its AUC | of both plain models and of external memory | within 0.001 |" in out
    assert "| training task from tables to a model, wall clock (20,000 rows x 3 rounds, 24 features) |" in out
    assert "Great Expectations on pandas" in out and "raw DuckDB SQL" in out and "equi-join" in out
    assert "`millrace plan --force`, the whole process" in out
    assert "| data files after `maintain` | partitions that have rows | bounded: 1 × | 1 × | 1 | yes |" in out
    assert (REPOSITORY / "benchmarks" / "RESULTS.md").read_bytes() == before


def test_scoring_by_hand_and_by_mlflow_gives_what_was_published(tmp_path: Path):
    import pyarrow.parquet as pq

    words = ("--project", str(tmp_path / "p"))
    more = ("--rows", "5000", "--size", "5000", "--trees", "5", "--files", str(tmp_path))
    _run("benchmarks.scoring", "--side", "prepare", *words, *more)
    found = []
    for side in ("ours", "bare", "pyfunc"):
        _run("benchmarks.scoring", "--side", side, *words)
        lake = tmp_path / "p" / "lake" / "flights" / "predictions"
        (file,) = lake.glob("partition_key=*/*.parquet") if side == "ours" else [tmp_path / "p" / "by-hand.parquet"]
        found.append(pq.ParquetFile(file).read(columns=["flight_id", "score"]))
    assert found[0].num_rows == 5000 and len(found[0]["score"].unique()) > 100
    assert found[0].equals(found[1]) and found[0].equals(found[2])


@pytest.mark.parametrize(
    ("side", "rounds", "said"),
    [("plain", 5, "seconds"), ("score", 5, "upload"), ("shap", 2, "rate"), ("resume", 300, "resumed")],
)
def test_the_gpu_suite_runs_on_the_cpu_with_its_requirements_alone(side: str, rounds: int, said: str, tmp_path: Path):
    fenced = fence(tmp_path / "fence", REPOSITORY / "benchmarks" / "gpu-requirements.txt")
    words = ("--device", "cpu", "--rows", "20000", "--rounds", str(rounds), "--folder", str(tmp_path))
    out = _run("benchmarks.gpu", "--side", side, *words, path=f"{fenced}{os.pathsep}{REPOSITORY}")
    result = json.loads(out.splitlines()[-1])
    assert result[said] > 0
