"""A training in one process of its own: it can be ended when it hangs, and takes its memory with it when it goes."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tasks.compute.boosting import Boosted, Job, boost
from tasks.compute.pace import Pace
from tasks.compute.rows import RowGroup
from tasks.errors import ClusterError, MemoryShortError, MillraceError, PeerLostError, TrainingError

_WATCH_SECONDS = 1.0
_MACHINE = re.compile(r"cuda|nccl|bad_alloc|out of memory|insufficient memory|no space left", re.IGNORECASE)
"""What XGBoost says when the machine fails, not the data."""
_PEER = "/collective/"
"""Where in XGBoost's sources its collective's errors come from, the only ones that tell of another process."""
_MEMORY = re.compile(r"bad_alloc|out of memory|insufficient memory", re.IGNORECASE)


@dataclass(frozen=True)
class Single:
    """One process on this machine.

    Attributes:
        device: cpu or cuda.
        threads: of the process.
        gpu: the GPU's name for CUDA_VISIBLE_DEVICES, or None.
        folder: for scratch files.
        stall: seconds of silence beyond the training's own pace after which it counts as hung.
        external: whether the matrix stays out of memory.
        reason: why this place was chosen.
    """

    device: str
    threads: int
    folder: Path
    gpu: str | None = None
    stall: float = 60.0
    external: bool = False
    reason: str = ""
    workers: int = 1
    waited: float = 0.0

    @property
    def way(self) -> str:
        return "external" if self.external else "single"

    @property
    def gpus(self) -> int:
        return 0 if self.gpu is None else 1

    def run(self, job: Job, hands: Sequence[Sequence[RowGroup]]) -> Boosted:
        """Train on the one hand.

        Raises:
            TrainingError: what XGBoost said of the data or the parameters.
            ClusterError: the process was killed or hung; it can go on from its last checkpoint.
            MemoryShortError, where memory is the likely cause.
        """
        (hand,) = hands
        return self.apart(partial(_boost, job, hand))

    def apart(self, work: Callable[..., Any], *, say: Callable[[str], None] = lambda text: None) -> Any:
        """What `work(threads=…, folder=…, report=…, say=…)` returns, called in the process; it travels there by pickle.

        Raises:
            TrainingError, ClusterError: as `run`.
        """
        with (
            tempfile.TemporaryDirectory(dir=self.folder, ignore_cleanup_errors=True) as scratch,
            self._child(work, Path(scratch)) as (child, pipe),
        ):
            pace = Pace(limit=self.stall, now=time.monotonic())
            while True:
                try:
                    while not pipe.poll(_WATCH_SECONDS):
                        if pace.hung(time.monotonic()):
                            raise ClusterError(
                                f"the training process gave no sign of life for {pace.silence(time.monotonic()):.0f} s, {pace.allowed():.0f} s are allowed",
                                hint="it was ended, and goes on from its last checkpoint",
                            )
                    kind, value = pipe.recv()
                except (EOFError, ConnectionResetError):
                    child.join(10)
                    lost = MemoryShortError if child.exitcode == -signal.SIGKILL else ClusterError
                    raise lost(
                        f"the training process ended by itself (exit status {child.exitcode})",
                        hint="out of memory is the usual cause of -9; it goes on from its last checkpoint",
                    ) from None
                if kind == "done":
                    return value
                if kind == "failed":
                    raise value
                if kind == "said":
                    say(value)
                    continue
                pace.beat(value, time.monotonic())

    @contextmanager
    def _child(self, work: Callable[..., Any], scratch: Path) -> Iterator[tuple]:
        # spawned, not forked: no thread of Arrow's or CUDA's context comes along
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        child = context.Process(
            target=_work,
            name="millrace-training",
            args=(theirs, work, self.threads, scratch, self.gpu),
            daemon=True,
        )
        child.start()
        theirs.close()
        try:
            yield child, ours
        finally:
            ours.close()
            child.kill()
            child.join()


def _boost(job: Job, hand: Sequence[RowGroup], *, say: Callable[[str], None], **more: Any) -> Boosted | None:
    return boost(job, hand, **more)


def _work(pipe: Connection, work: Callable[..., Any], threads: int, scratch: Path, gpu: str | None) -> None:
    """The child: it ends when its parent does, whatever it is at."""
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    sys.stdout.flush()
    os.dup2(2, 1)  # XGBoost prints warnings to standard output, which belongs to the step's result
    sys.modules["sklearn"] = (
        None  # XGBoost's import would import it, which takes five times as long, for classes unused here
    )
    threading.Thread(target=_end_with_parent, args=(pipe,), daemon=True).start()
    try:
        result = work(
            threads=threads,
            folder=scratch,
            report=lambda phase: pipe.send(("beat", phase)),
            say=lambda text: pipe.send(("said", text)),
        )
        answer = "done", result
    except BaseException as error:
        answer = "failed", portable(error)
    pipe.send(answer)


def portable(error: BaseException) -> BaseException:
    """An error that survives a pipe: XGBoost's, cupy's and the system's become ours, and so does what can't be pickled."""
    from xgboost.core import XGBoostError

    if isinstance(error, XGBoostError) and _PEER in str(error):
        return PeerLostError(
            f"another process of the training was lost: {first_line(error)}",
            hint="the training goes on from its last checkpoint",
        )
    foreign = isinstance(error, (XGBoostError, RuntimeError))  # cupy's CUDA errors are the latter
    if isinstance(error, MemoryError) or (foreign and _MACHINE.search(str(error))):
        short = isinstance(error, MemoryError) or _MEMORY.search(str(error))
        return (MemoryShortError if short else ClusterError)(
            f"the machine or its GPU failed: {first_line(error)}",
            hint="out of memory is the usual cause; the training goes on from its last checkpoint",
        )
    if isinstance(error, XGBoostError):
        return TrainingError(f"XGBoost: {first_line(error)}", hint="check train.params and the features")
    if isinstance(error, OSError) and not isinstance(error, MillraceError):
        return ClusterError(
            f"a process that trains failed: {error}",
            hint="a full disk or a file that is gone is the usual cause; the training goes on from its last checkpoint",
        )
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return TrainingError(f"{type(error).__name__}: {error}")
    return error


def first_line(error: BaseException) -> str:
    """What an error says, in a line. XGBoost's begin with '[12:00:00] /path/to/source.cc:123: ', its collective's go on with
    lines '- [allreduce.cc:135|12:00:00]: what failed', from the outermost to the cause; a stack trace follows."""
    told = re.findall(r"^- \[[^\]]*\]: *(.+)$", str(error), re.MULTILINE)
    if told:
        return " ".join(dict.fromkeys((told[0].strip(), told[-1].strip())))
    line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return re.sub(r"^\[[\d:]+\] \S+:\d+: ", "", line)


def _end_with_parent(pipe: Connection) -> None:
    try:
        pipe.recv()
    except (EOFError, OSError):
        os._exit(1)
