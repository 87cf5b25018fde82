"""The place that trains: GPUs held, a way chosen, processes started, all gone when the block ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tasks.compute.cluster import Tls
from tasks.compute.cuda import GpuShares
from tasks.compute.devices import hold_gpus
from tasks.compute.machine import free_memory, usable_gpus
from tasks.compute.single import Single
from tasks.compute.sizing import Machine, Shape, Wish, choose_outside, choose_way
from tasks.compute.train import Place


@dataclass(frozen=True)
class Means:
    """What the settings allow a training.

    Attributes:
        folder: for scratch files.
        threads: of all processes on this machine together.
        scheduler: address of an outside Dask scheduler; None for this machine.
        tls: for one at tls://.
        workers: Dask workers of a local CPU cluster; 1 for none.
        memory_limit: of one of them, in Dask's spelling.
        stall: seconds of silence beyond its own pace after which a training counts as hung.
        patience: seconds to wait for a GPU that another training holds.
        shares: of the memory of a local cluster's GPUs.
    """

    folder: Path
    threads: int
    scheduler: str | None = None
    tls: Tls | None = None
    workers: int = 1
    memory_limit: str = "auto"
    stall: float = 60.0
    patience: float = 3600.0
    shares: GpuShares = GpuShares()


@contextmanager
def open_place(
    shape: Shape,
    means: Means,
    *,
    wish: Wish,
    gpus: Literal["auto"] | int,
    say: Callable[[str], None],
    alone: bool = False,
    short: bool = False,
) -> Iterator[Place]:
    """The place for a training on what is really there and free, for the length of a `with` block.

    GPUs are held before they are measured: what another training takes up of them is not their size.

    Args:
        alone: whether it must be one process on this machine, with one GPU at most, whatever the means and
            the wish say of clusters: a `single.Single`.
        short: see `choose_way`.

    Raises:
        NoPlaceError: fewer GPUs than insisted on, or they did not become free.
        ClusterError: no cluster came up.
    """
    if alone:
        means, wish = replace(means, scheduler=None, workers=1), "auto" if wish == "cluster" else wish
        gpus = gpus if gpus == "auto" else min(gpus, 1)
    outside = means.scheduler is not None and wish in ("auto", "cluster")
    found, why = ([], "") if outside else usable_gpus(gpus)
    with ExitStack() as stack:
        held, free = None, []
        if found:
            least = 1 if gpus == "auto" else gpus
            held = stack.enter_context(hold_gpus([gpu.uuid for gpu in found], least, patience=means.patience, say=say))
            now = {gpu.uuid: gpu.free for gpu in usable_gpus(gpus)[0]}
            free = [now[name] for name in held.names if name in now][: 1 if alone else None]
        machine = Machine(free_memory(), free, why, means.workers, means.scheduler)
        choice = choose_way(shape, machine, wish=wish, gpus=gpus, short=short)
        say(choice.reason)
        names = held.keep(choice.gpus) if held else ()
        if choice.way == "cluster":
            place = stack.enter_context(_cluster(means, gpus if outside else names))
            if outside:
                count, each = place.workers, place.memory
                external, why = choose_outside(shape, place.device, workers=count, each=each, short=short)
                say(why)
                place = replace(place, external=external)
                choice = replace(choice, reason=f"{choice.reason}; {why}")
        else:
            place = Single(
                choice.device,
                means.threads,
                means.folder,
                gpu=names[0] if names else None,
                stall=means.stall,
                external=choice.way == "external",
            )
        yield replace(place, reason=choice.reason)


def _cluster(means: Means, gpus):
    from tasks.compute.cluster import open_cluster

    return open_cluster(
        scheduler=means.scheduler,
        workers=means.workers,
        threads=means.threads,
        memory_limit=means.memory_limit,
        gpus=gpus,
        workdir=means.folder,
        stall=means.stall,
        tls=means.tls,
        shares=means.shares,
    )
