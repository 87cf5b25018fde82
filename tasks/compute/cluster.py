"""Dask clusters: local processes, local GPUs, or an outside scheduler; gone when the block ends."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tasks.compute.cuda import GpuShares, cuda_options, installed, xgboost_has_rmm
from tasks.compute.devices import find_gpus
from tasks.compute.spread import Spread
from tasks.compute.turn import alive
from tasks.errors import ClusterError, NoPlaceError

if TYPE_CHECKING:
    from distributed import Client

_log = logging.getLogger(__name__)
SAME = "install the same release for the scheduler and its workers, and start them anew"
"""What helps where outside processes run another Millrace."""
_PATIENCE = 30.0
"""Seconds to wait for the first worker of an outside scheduler."""

_CONFIG = {
    # A training fills workers with data that it needs to the end: spilling it would thrash.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.98,
    # Chunks are placed by row counts: stealing would only move data away from where it is needed.
    "distributed.scheduler.work-stealing": False,
    "distributed.comm.timeouts.connect": "20s",
    "distributed.comm.timeouts.tcp": "30s",
    # Its HTTP servers would need a free port each, and nobody looks at them.
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.nanny.pre-spawn-environ.DASK_LOGGING__DISTRIBUTED": "warning",
}


@dataclass(frozen=True)
class Tls:
    """What this process shows to an outside scheduler at tls://, and whom it trusts: files in PEM format.

    It covers Dask's own connections, on which models and errors travel. The sums of gradients that XGBoost's
    workers exchange go over plain TCP (XGBoost 3.2 has no other): keep the workers in a network of their own.
    """

    ca: Path
    cert: Path
    key: Path


@contextmanager
def open_cluster(
    *,
    scheduler: str | None,
    workers: int,
    threads: int,
    memory_limit: str,
    gpus: Sequence[str] | Literal["auto"] | int,
    workdir: Path,
    stall: float = 60.0,
    tls: Tls | None = None,
    shares: GpuShares | None = None,
) -> Iterator[Spread]:
    """A cluster for the length of a `with` block; no process of it outlives the block or this process.

    Args:
        scheduler: address of an outside Dask scheduler; None starts local processes.
        workers: number of local worker processes; with GPUs it is one per GPU instead.
        threads: threads of all local workers together.
        memory_limit: of one worker, in Dask's spelling.
        gpus: of a local cluster the UUIDs of the GPUs that are held for it, none for the CPU; of an outside
            one "auto", or how many workers with a GPU to insist on.
        workdir: where local workers put their scratch files.
        stall: see `Spread`.
        tls: for an outside scheduler at tls://.
        shares: of the memory of a local cluster's GPUs; None for the defaults.

    Raises:
        ClusterError: no cluster came up, or too few GPUs are there.
    """
    import dask
    import distributed  # noqa: F401  Its defaults must be in Dask's configuration before ours go over them.

    _calm("distributed")
    # the scheduler keeps its scratch files where this says, whatever the workers are told
    with dask.config.set({**_CONFIG, "temporary-directory": str(workdir)}), ExitStack() as stack:
        try:
            if scheduler is not None:
                place = _outside(stack, scheduler, gpus, stall, tls)
            else:
                place = _local(stack, workers, threads, memory_limit, gpus or (), workdir, stall, shares)
        except (OSError, RuntimeError, TimeoutError) as error:
            where = f"at {scheduler}" if scheduler else "of local processes"
            raise ClusterError(
                f"no Dask cluster {where}: {error}",
                hint="is the scheduler there, and reached from here? of a local cluster the log tells more",
            ) from error
        except (ImportError, AttributeError) as error:
            if scheduler is None:
                raise
            raise NoPlaceError(
                f"the scheduler at {scheduler} or a worker of its has no Millrace, or another one: {error}", hint=SAME
            ) from error
        _log.info("Dask: %d worker(s) of %d thread(s) on %s", place.workers, place.threads, place.device)
        yield place


def _local(
    stack: ExitStack,
    workers: int,
    threads: int,
    memory_limit: str,
    gpus: Sequence[str],
    workdir: Path,
    stall: float,
    shares: GpuShares | None,
) -> Spread:
    from distributed import LocalCluster

    workdir.mkdir(parents=True, exist_ok=True)
    count = len(gpus) or workers
    each = max(1, threads // count)
    kind = _cuda_cluster(gpus, shares or GpuShares()) if gpus else LocalCluster
    common = {
        "n_workers": count,
        "threads_per_worker": each,
        "memory_limit": memory_limit,
        "host": "127.0.0.1",
        # Any free port, and nothing served on it: Dask would take 8787, which somebody else may need.
        "dashboard_address": "127.0.0.1:0",
        "scheduler_kwargs": {"dashboard": False},
        "local_directory": str(workdir),
        "silence_logs": logging.ERROR,
    }
    cluster = kind(**common)
    cluster.__enter__()
    stack.push(partial(_close, cluster))
    client = stack.enter_context(_connected(cluster, timeout="30s"))
    client.wait_for_workers(count, timeout=60)
    client.register_plugin(_quiet_plugin())
    return Spread(client, "cuda" if gpus else "cpu", count, each, stall=stall)


def _close(cluster: Any, *error: Any) -> None:
    """End a local cluster. One that does not end in time, on a busy machine, ends with this process, and takes no model with it."""
    try:
        cluster.__exit__(*error)
    except (OSError, TimeoutError) as late:
        _log.warning("the local Dask cluster did not close in time: %r", late)


def _cuda_cluster(gpus: Sequence[str], shares: GpuShares):
    from dask_cuda import LocalCUDACluster

    options, why = cuda_options(gpus, shares, there=installed, xgboost_rmm=xgboost_has_rmm())
    _log.info("Dask-CUDA: %s", why)
    return partial(LocalCUDACluster, **options)


def _outside(stack: ExitStack, scheduler: str, gpus: Literal["auto"] | int, stall: float, tls: Tls | None) -> Spread:
    client = stack.enter_context(_connected(scheduler, timeout="10s", **_security(tls)))
    place = Spread(client, "cpu", workers=0, threads=1, outside=True, stall=stall)
    there, until = alive(client, quiet=place.quiet), time.monotonic() + _PATIENCE
    while not there and time.monotonic() < until:
        time.sleep(0.2)
        there = alive(client, quiet=place.quiet)
    if not there:
        raise ClusterError(f"no worker came to the Dask scheduler at {scheduler} in {_PATIENCE:.0f} s")
    counted = client.run(_free_gpus, workers=list(there), callback_timeout=_PATIENCE) if gpus != 0 else {}
    found = sum(1 for count in counted.values() if count)
    if 0 < found < len(counted):
        raise ClusterError(
            f"of {len(counted)} workers at {scheduler} only {found} have a GPU", hint="use workers of one kind"
        )
    if gpus not in ("auto", 0) and found < gpus:
        raise NoPlaceError(
            f"train.gpus insists on {gpus} GPUs, {found} of the workers at {scheduler} have one",
            hint="start `dask cuda worker` processes, or set train.gpus to auto",
        )
    if found:
        limits = [free[0] for free in counted.values()]  # a worker takes its first
    else:
        known = client.scheduler_info(n_workers=-1)["workers"]
        limits = [known[worker]["memory_limit"] for worker in there if worker in known]
    memory = min((limit for limit in limits if limit), default=None)
    threads = min(there.values())
    return replace(place, device="cuda" if found else "cpu", workers=len(there), threads=threads, memory=memory)


@contextmanager
def _connected(address: Any, **more: Any) -> Iterator[Client]:
    """Dask's client; one whose scheduler no longer answers is left all the same."""
    from distributed import Client

    client = Client(address, **more)
    try:
        yield client
    finally:
        with suppress(OSError, TimeoutError):
            client.close()


def _security(tls: Tls | None) -> dict[str, Any]:
    if tls is None:
        return {}
    from distributed import Security

    return {
        "security": Security(
            require_encryption=True,
            tls_ca_file=str(tls.ca),
            tls_client_cert=str(tls.cert),
            tls_client_key=str(tls.key),
        )
    }


def _free_gpus() -> list[int]:
    """Bytes free on each GPU of a worker."""
    return [gpu.free for gpu in find_gpus()[0]]


def _calm(logger: str) -> None:
    """Dask tells each connection at level INFO: of no use beside a step's own lines."""
    log = logging.getLogger(logger)
    if log.getEffectiveLevel() == logging.INFO:
        log.setLevel(logging.WARNING)


def _quiet_plugin():
    from distributed import WorkerPlugin

    class StandardOutputToError(WorkerPlugin):
        """XGBoost's library prints its warnings to standard output, which belongs to the step's result."""

        name = "standard-output-to-error"

        def setup(self, worker) -> None:
            sys.stdout.flush()
            os.dup2(2, 1)

    return StandardOutputToError()
