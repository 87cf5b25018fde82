"""What a local Dask-CUDA cluster is started with, decided without a GPU: `cuda_options`.

Our rows never lie in Dask's store: each worker reads its own row groups, and XGBoost holds its matrix itself. So the
device's limit guards what Dask holds on a GPU, and a pool of RMM's helps only an XGBoost that takes its memory from
RMM; in front of any other it would only take the memory away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any


@dataclass(frozen=True)
class GpuShares:
    """How much of a GPU a local cluster may give to whom, as shares of the GPU's memory; 0 for none.

    Attributes:
        pool: of RMM's pool at its start; it grows as XGBoost asks for more.
        limit: of what Dask holds on the GPU before it moves some to the host's memory.
    """

    pool: float = 0.5
    limit: float = 0.8


def cuda_options(
    gpus: Sequence[str], shares: GpuShares, *, there: Callable[[str], bool], xgboost_rmm: bool
) -> tuple[dict[str, Any], str]:
    """(arguments for `dask_cuda.LocalCUDACluster`, why these).

    Args:
        gpus: UUIDs of the GPUs, one worker for each.
        there: whether a module of that name can be imported, here and so on the workers.
        xgboost_rmm: whether this XGBoost was built to take its memory from RMM.
    """
    # a share must be a float: Dask-CUDA reads the integer 1 as one byte
    options: dict[str, Any] = {"CUDA_VISIBLE_DEVICES": list(gpus), "device_memory_limit": float(shares.limit)}
    said = [
        f"Dask holds {shares.limit:.0%} of a GPU's memory at most" if shares.limit else "Dask moves nothing off a GPU"
    ]
    if not shares.pool:
        said.append("no RMM pool: gpu_pool is 0")
    elif not there("rmm"):
        said.append("no RMM pool: rmm is not installed")
    elif not xgboost_rmm:
        said.append("no RMM pool: this XGBoost takes no memory from RMM")
    else:
        options["rmm_pool_size"] = float(shares.pool)
        said.append(f"an RMM pool that begins with {shares.pool:.0%} of a GPU's memory")
    # The transport stays UCX's own choice, NVLink where it is: Dask-CUDA's enable_… would narrow it.
    if there("distributed_ucxx"):
        options["protocol"] = "ucx"
        said.append("Dask talks over UCX")
    else:
        options["protocol"] = "tcp"
        said.append("Dask talks over TCP: distributed_ucxx is not installed")
    return options, "; ".join(said)


def installed(module: str) -> bool:
    """Whether a module is there. It is not imported: a CUDA context belongs to the workers, not to this process."""
    return find_spec(module) is not None


def xgboost_has_rmm() -> bool:
    """Whether this XGBoost takes its memory from RMM; the wheels on PyPI don't."""
    import xgboost

    return bool(xgboost.build_info().get("USE_RMM"))
