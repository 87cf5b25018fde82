"""One behaviour suite over every place of work: one process, two Dask workers, an outside scheduler, GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.compute.cluster import open_cluster
from tasks.compute.devices import find_gpus
from tasks.compute.single import Single
from tasks.compute.train import Place
from tests.support.cluster_checks import CHECKS, CLUSTER_CHECKS, SINGLE_CHECKS
from tests.support.dask_processes import dask_processes


@pytest.fixture(
    scope="module", params=["one process", "two Dask workers", "outside scheduler", "one GPU", "Dask-CUDA workers"]
)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    workdir = tmp_path_factory.mktemp("dask")
    arguments = {"threads": 2, "memory_limit": "2GiB", "gpus": (), "workdir": workdir, "scheduler": None}
    gpus: list[str] = []
    if "GPU" in request.param or "CUDA" in request.param:
        found, why = find_gpus()
        if not found:
            pytest.skip(f"no GPU: {why}")
        gpus = [gpu.uuid for gpu in found]
    if request.param in ("one process", "one GPU"):
        device = "cuda" if gpus else "cpu"
        yield Single(device=device, threads=2, folder=workdir, gpu=gpus[0] if gpus else None)
    elif request.param == "outside scheduler":
        with (
            dask_processes(workdir, workers=2) as outside,
            open_cluster(**{**arguments, "scheduler": outside.address, "gpus": 0}, workers=1) as running,
        ):
            assert running.workers == 2 and running.outside
            yield running
    else:
        with open_cluster(**{**arguments, "gpus": gpus}, workers=2) as running:
            assert running.device == ("cuda" if gpus else "cpu")
            yield running


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_a_place_of_training(check, place: Place, tmp_path: Path) -> None:
    check(place, tmp_path)


@pytest.mark.parametrize("check", CLUSTER_CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_a_cluster(check, place: Place, tmp_path: Path) -> None:
    if isinstance(place, Single):
        pytest.skip("one process is no cluster")
    check(place, tmp_path)


@pytest.mark.parametrize("check", SINGLE_CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_one_process(check, place: Place, tmp_path: Path) -> None:
    if not isinstance(place, Single):
        pytest.skip("a search takes no cluster")
    check(place, tmp_path)
