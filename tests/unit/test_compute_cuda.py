"""What a local Dask-CUDA cluster is started with follows from what is installed; no GPU is needed to decide it."""

from __future__ import annotations

import inspect

import pytest

from tasks.compute.cluster import open_cluster
from tasks.compute.cuda import GpuShares, cuda_options
from tasks.errors import ClusterError

GPUS = ("GPU-a", "GPU-b")
SHARES = GpuShares(pool=0.5, limit=0.8)


def _options(*modules: str, shares: GpuShares = SHARES, xgboost_rmm: bool = False):
    return cuda_options(GPUS, shares, there=modules.__contains__, xgboost_rmm=xgboost_rmm)


def test_without_rapids_dask_talks_over_tcp_and_no_memory_is_set_aside():
    options, why = _options()
    assert options == {"CUDA_VISIBLE_DEVICES": ["GPU-a", "GPU-b"], "device_memory_limit": 0.8, "protocol": "tcp"}
    assert "no RMM pool: rmm is not installed" in why and "over TCP: distributed_ucxx is not installed" in why


def test_a_pool_is_made_only_where_xgboost_takes_its_memory_from_it():
    options, why = _options("rmm", xgboost_rmm=False)
    assert "rmm_pool_size" not in options and "this XGBoost takes no memory from RMM" in why
    options, why = _options("rmm", xgboost_rmm=True)
    assert options["rmm_pool_size"] == 0.5 and "begins with 50% of a GPU's memory" in why
    options, why = _options("rmm", xgboost_rmm=True, shares=GpuShares(pool=0))
    assert "rmm_pool_size" not in options and "gpu_pool is 0" in why
    assert "rmm_pool_size" not in _options(xgboost_rmm=True)[0]


def test_ucx_is_taken_where_it_is_and_chooses_its_transport_itself():
    options, why = _options("distributed_ucxx")
    assert options["protocol"] == "ucx" and "over UCX" in why
    assert not [name for name in options if name.startswith("enable_")]


def test_a_whole_gpu_is_a_share_and_not_one_byte():
    limit = _options(shares=GpuShares(limit=1))[0]["device_memory_limit"]
    assert isinstance(limit, float) and limit == 1.0
    assert "Dask moves nothing off a GPU" in _options(shares=GpuShares(limit=0))[1]


def test_dask_cuda_knows_every_argument():
    from dask_cuda import LocalCUDACluster

    options, _ = _options("rmm", "distributed_ucxx", xgboost_rmm=True)
    assert set(options) <= set(inspect.signature(LocalCUDACluster).parameters)


def test_a_local_cluster_of_gpus_is_started_with_them(monkeypatch, tmp_path, caplog):
    given = {}

    def start(**arguments):
        given.update(arguments)
        raise RuntimeError("no GPU here")

    monkeypatch.setattr("dask_cuda.LocalCUDACluster", start)
    opened = open_cluster(
        scheduler=None, workers=1, threads=4, memory_limit="auto", gpus=GPUS, workdir=tmp_path,
        shares=GpuShares(limit=0.6),
    )  # fmt: skip
    with caplog.at_level("INFO"), pytest.raises(ClusterError, match="no GPU here"), opened:
        pass
    assert given["CUDA_VISIBLE_DEVICES"] == ["GPU-a", "GPU-b"] and given["n_workers"] == 2
    assert given["device_memory_limit"] == 0.6 and given["threads_per_worker"] == 2
    assert "Dask-CUDA: Dask holds 60% of a GPU's memory at most" in caplog.text
