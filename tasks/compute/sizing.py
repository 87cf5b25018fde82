"""The right size of machine: a training's memory is estimated, and the smallest way that holds it is taken.

Pure: what is there is measured in `tasks.compute.machine` and given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tasks.compute.rows import batch_rows
from tasks.errors import NoPlaceError

Way = Literal["single", "external", "cluster"]
Wish = Literal["auto", "single", "external", "cluster"]

MARGIN = 0.8
"""Share of the free memory that a training may be estimated to need."""
SHORT = "an attempt before was lost, for want of memory as it seems"
_PROCESS = 400 << 20
"""Bytes of a training process before its data: Python, Arrow, XGBoost."""
_CPU_VALUE = 5.6
"""Bytes that the quantised matrix takes on the CPU for each value where some are missing, up to 256 bins: measured with
XGBoost 3.2, 5.59 for 600,000 x 100 and 5.37 for 10,000,000 x 24; without a gap it is less than half."""


@dataclass(frozen=True)
class Shape:
    """What a training is about.

    Attributes:
        rows, features: of the data.
        bins: XGBoost's max_bin.
        outputs: values per row: classes for multi:softprob, else 1.
    """

    rows: int
    features: int
    bins: int
    outputs: int = 1


@dataclass(frozen=True)
class Machine:
    """What is there.

    Attributes:
        memory: bytes free for this process, within its container's limit.
        gpus: free bytes of each GPU that this process holds.
        why_no_gpu: why there is none, for the log.
        workers: local CPU workers that the settings ask for.
        scheduler: address of an outside Dask scheduler, or None.
    """

    memory: int
    gpus: Sequence[int] = ()
    why_no_gpu: str = ""
    workers: int = 1
    scheduler: str | None = None


@dataclass(frozen=True)
class Choice:
    """A way to train, and why.

    Attributes:
        way: single (one process), external (one process, the matrix on disk or in the host's memory), cluster.
        device: cpu or cuda.
        gpus: GPUs to use; 0 on the CPU.
        reason: one sentence for the log.
    """

    way: Way
    device: Literal["cpu", "cuda"]
    gpus: int
    reason: str


def estimate(shape: Shape, device: str, *, external: bool = False) -> int:
    """Bytes that a training needs at its peak beyond its process.

    On a GPU the quantised matrix takes one byte a value up to 256 bins and two above, and a byte more where values
    are missing, which is assumed. On the CPU it is more, and there is a second copy by columns. Gradients
    (8 bytes), margins, labels and the rows' places in the tree come on top per row and output.
    """
    value = 2 if shape.bins <= 256 else 3
    matrix = shape.rows * shape.features * value
    if device == "cpu" and not external:
        matrix = int(matrix * _CPU_VALUE / 2)
    if external:
        matrix = matrix // 8  # the pages under way; the rest lies outside
    per_row = shape.rows * (8 * shape.outputs + 4 * shape.outputs + 4 + 16)
    batches = 3 * min(shape.rows, batch_rows(shape.features)) * shape.features * 4
    return matrix + per_row + batches


def choose_way(
    shape: Shape,
    machine: Machine,
    *,
    wish: Wish = "auto",
    gpus: Literal["auto"] | int = "auto",
    short: bool = False,
) -> Choice:
    """The way for a training.

    Args:
        wish: the spec's train.way; what it names is taken.
        gpus: the spec's train.gpus: "auto" takes those that are there and goes on without; a number insists.
        short: whether an attempt was lost as if for want of memory, whatever the estimate said.

    Raises:
        NoPlaceError: fewer GPUs than insisted on (an outside scheduler's are counted when it is reached).
    """
    if wish == "cluster" or (wish == "auto" and machine.scheduler is not None):
        where = f"the scheduler at {machine.scheduler}" if machine.scheduler else "local processes"
        device, count = _device(machine, gpus) if machine.scheduler is None else ("cpu", 0)
        said = "train.way says so" if wish == "cluster" else "the settings name a scheduler"
        about = (
            f"{shape.rows} rows x {shape.features} features need about {_size(estimate(shape, device))} of its workers"
        )
        return Choice("cluster", device, count, f"Dask cluster of {where}: {said}; {about}")
    device, count = _device(machine, gpus)
    free = machine.gpus[0] if device == "cuda" else machine.memory - _PROCESS
    need = estimate(shape, device)
    about = f"{shape.rows} rows x {shape.features} features need about {_size(need)}, {_size(free)} are free on the {'GPU' if device == 'cuda' else 'machine'}"
    if device == "cpu" and gpus != 0:
        about += f" ({machine.why_no_gpu or 'no GPU'})"
    if wish != "auto":
        return Choice(wish, device, min(count, 1), f"{_words(wish, device)}: train.way says so; {about}")
    if short:
        about = f"{SHORT}; {about}"
    elif need <= MARGIN * free:
        if device == "cpu" and machine.workers > 1:  # they share this machine's memory, each a process of its own
            if need + machine.workers * _PROCESS <= MARGIN * free:
                said = f"Dask cluster of {machine.workers} local processes: the settings say so"
                return Choice("cluster", device, 0, f"{said}; {about}")
            about += f", {_size(machine.workers * _PROCESS)} more for the {machine.workers} workers of the settings"
        return Choice("single", device, min(count, 1), f"{_words('single', device)}: {about}")
    if not short and count > 1 and need <= MARGIN * sum(machine.gpus[:count]):
        return Choice("cluster", device, count, f"Dask-CUDA cluster of {count} GPUs: {about}")
    outside = estimate(shape, device, external=True)
    about += f", {_size(outside)} of it with the data outside" + (
        "; that is more than is free" if outside > free else ""
    )
    pages = shape.rows * shape.features * (1 if shape.bins <= 256 else 2)
    if device == "cuda" and pages > MARGIN * machine.memory:  # XGBoost keeps them there
        about += f"; its pages need {_size(pages)} of the host's memory, {_size(machine.memory)} are free"
    return Choice("external", device, min(count, 1), f"{_words('external', device)}: {about}")


def choose_outside(shape: Shape, device: str, *, workers: int, each: int | None, short: bool) -> tuple[bool, str]:
    """Whether the workers of an outside scheduler keep their data in external memory, and why.

    Args:
        workers: how many there are; rows are dealt out evenly.
        each: bytes that the smallest may take, of its GPU's memory where it has one; None where nobody tells.
        short: as in `choose_way`.
    """
    need = estimate(replace(shape, rows=-(-shape.rows // workers)), device)
    if device == "cpu":
        need += _PROCESS
    about = f"each of {workers} needs about {_size(need)}" + ("" if each is None else f" of {_size(each)}")
    if short:
        return True, f"data in external memory: {SHORT}; {about}"
    if each is not None and need > MARGIN * each:
        return True, f"data in external memory: {about}"
    return False, about


def _device(machine: Machine, gpus: Literal["auto"] | int) -> tuple[Literal["cpu", "cuda"], int]:
    found = len(machine.gpus)
    if gpus == 0 or (gpus == "auto" and not found):
        return "cpu", 0
    if gpus != "auto" and found < gpus:
        raise NoPlaceError(
            f"train.gpus insists on {gpus} GPUs, {found} are usable here{': ' + machine.why_no_gpu if machine.why_no_gpu else ''}",
            hint="run on a machine that has them, or set train.gpus to auto",
        )
    return "cuda", found if gpus == "auto" else gpus


def _words(way: str, device: str) -> str:
    where = "one GPU" if device == "cuda" else "the CPU"
    return f"one process on {where}" + (", data in external memory" if way == "external" else "")


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
