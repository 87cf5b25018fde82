"""A training on the workers of a Dask cluster: each reads its own row groups, XGBoost's collective joins them.

XGBoost's own Dask interface holds the data in full width in the workers' memory, has no way to get at a
model before the last round, and waits for ever when a worker dies (dmlc/xgboost #9419, #6649). So the
workers run our boosting inside `xgboost.dask.CommunicatorContext`, and this side looks after them.
"""

from __future__ import annotations

import logging
import queue
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tasks.compute.boosting import Boosted, Job, boost
from tasks.compute.pace import Pace
from tasks.compute.rows import RowGroup
from tasks.compute.same import code_digest
from tasks.compute.single import portable
from tasks.compute.turn import QUIET_SECONDS, alive, alone, given_up, start_tracker
from tasks.errors import ClusterError, MemoryShortError, PeerLostError, TrainingError

if TYPE_CHECKING:
    from distributed import Client, Future

_log = logging.getLogger(__name__)
_WATCH_SECONDS = 0.5
_SETTLE_SECONDS = 5.0
"""How long the others are waited for after one worker failed: their errors may say more."""
_LEAST_QUIET = 5.0
_SIGNS = "millrace-training"
"""Dask's topic for signs of life: one for all trainings, since a scheduler never forgets a topic."""


@dataclass(frozen=True)
class Spread:
    """A running cluster as a place to train.

    Attributes:
        client: Dask's client.
        device: what its workers train on.
        workers: number of workers, one per GPU on CUDA.
        threads: threads of one worker.
        outside: whether the workers are somebody else's and stay.
        stall: seconds of silence beyond the training's own pace after which it counts as hung.
        external: whether the workers' matrices stay out of memory.
        memory: bytes that the smallest worker may take, of its GPU where it has one; None where nobody tells.
        reason: why this place was chosen.
        waits: seconds of each wait for another run on the same workers.
    """

    client: Client
    device: str
    workers: int
    threads: int
    outside: bool = False
    stall: float = 60.0
    external: bool = False
    memory: int | None = None
    reason: str = ""
    waits: list[float] = field(default_factory=list, compare=False)

    @property
    def quiet(self) -> float:
        """Seconds that a worker's heartbeat may be missing before it counts as lost."""
        return min(max(self.stall, _LEAST_QUIET), QUIET_SECONDS)

    @property
    def way(self) -> str:
        return "cluster"

    @property
    def gpus(self) -> int:
        return self.workers if self.device == "cuda" else 0

    @property
    def waited(self) -> float:
        return sum(self.waits)

    def run(self, job: Job, hands: Sequence[Sequence[RowGroup]]) -> Boosted:
        """Train on one hand per worker.

        Raises:
            TrainingError: what XGBoost said of the data or the parameters.
            ClusterError: a worker or the scheduler was lost, or no round came; it can go on from the last checkpoint.
        """
        return _Run(self, job, hands).result()


@dataclass
class _Run:
    place: Spread
    job: Job
    hands: Sequence[Sequence[RowGroup]]
    name: str = field(default_factory=lambda: f"millrace-training-{uuid.uuid4().hex[:8]}")
    signs: queue.SimpleQueue = field(default_factory=queue.SimpleQueue)
    gone: bool = False
    """Whether the scheduler is: asking it again would only take time."""

    def result(self) -> Boosted:
        asked = time.monotonic()

        def waits() -> None:
            _log.info("waits for another run on the Dask workers")

        with alone(self.place.client, self.name, waits=waits, gone=lambda: self.gone):
            self.place.waits.append(time.monotonic() - asked)
            return self._run()

    def _run(self) -> Boosted:
        client = self.place.client
        workers = sorted(self._alive())[: len(self.hands)]
        if len(workers) < len(self.hands):
            raise ClusterError(f"{len(self.hands)} Dask workers are needed, {len(workers)} are there")
        futures: list[Future] = []
        try:
            client.subscribe_topic(_SIGNS, self._hear)
            host = urlsplit(client.scheduler.address).hostname
            tracker = start_tracker(client, self.name, workers=len(workers), host=host)
            futures = [
                client.submit(
                    _train_on_worker, self.job, tuple(hand), tracker, self.name, self.place.threads,
                    key=f"train-{place}-{self.name}", workers=[worker], allow_other_workers=False, pure=False,
                )
                for place, (worker, hand) in enumerate(zip(workers, self.hands, strict=True))
            ]  # fmt: skip
            return self._watch(futures, workers)
        except OSError as error:
            raise ClusterError(f"the Dask scheduler was lost: {error}", hint="run the step again") from error
        finally:
            self._leave(futures, workers)

    def _hear(self, event: tuple[float, tuple[str, str]]) -> None:
        name, phase = event[1]
        if name == self.name:
            self.signs.put(phase)

    def _alive(self) -> set[str]:
        try:
            return set(alive(self.place.client, quiet=self.place.quiet))
        except ClusterError:
            self.gone = True
            raise

    def _watch(self, futures: list[Future], workers: list[str]) -> Boosted:
        pace = Pace(limit=self.place.stall, now=time.monotonic())
        while not all(future.done() for future in futures):
            self._look(futures, workers, pace)
            time.sleep(_WATCH_SECONDS / 5 if not pace.silence(time.monotonic()) > 5 else _WATCH_SECONDS)
        results = [self._outcome(future) for future in futures]
        errors = [error for error, _ in results if error is not None]
        if errors:
            self._raise(errors, workers)
        return next(value for _, value in results if value is not None)

    def _look(self, futures: list[Future], workers: list[str], pace: Pace) -> None:
        while True:
            try:
                pace.beat(self.signs.get_nowait(), time.monotonic())
            except queue.Empty:
                break
        self._check_lost(workers)
        if any(future.status in ("error", "cancelled", "lost") for future in futures):
            until = time.monotonic() + _SETTLE_SECONDS
            while time.monotonic() < until and not all(future.done() for future in futures):
                time.sleep(_WATCH_SECONDS)
            self._raise(
                [error for future in futures if future.done() for error in [self._outcome(future)[0]] if error], workers
            )
        if pace.hung(time.monotonic()):
            raise ClusterError(
                f"the workers gave no sign of life for {pace.silence(time.monotonic()):.0f} s, {pace.allowed():.0f} s are allowed",
                hint="the cluster was ended, and the training goes on from its last checkpoint",
            )

    def _outcome(self, future: Future) -> tuple[BaseException | None, Boosted | None]:
        from concurrent.futures import CancelledError

        from distributed.scheduler import KilledWorker

        try:
            if future.status == "finished":
                return None, future.result(timeout=60)
            error = future.exception(timeout=5)
        except (CancelledError, TimeoutError) as lost:
            error = ClusterError(f"a worker's task was lost ({type(lost).__name__})")
        if isinstance(error, KilledWorker):
            error = ClusterError(f"a worker died again and again: {error}")
        # Dask knows no error of a task that was cancelled because its own connection broke
        return error or ClusterError(f"a worker's task was lost ({future.status})"), None

    def _raise(self, errors: list[BaseException], workers: list[str]) -> None:
        """What went wrong: of several workers' errors the first that is no mere echo of another's."""
        own = sorted((error for error in errors if not isinstance(error, PeerLostError)), key=_rank)
        if own and isinstance(own[0], TrainingError):
            raise own[0]
        # A survivor's error may come before the scheduler has noticed the loss that caused it.
        time.sleep(2 * _WATCH_SECONDS)
        cause = next(iter(own or errors), None)
        self._check_lost(workers, cause)
        if own:
            raise own[0]
        raise ClusterError(
            f"the workers lost each other: {cause}", hint="the training goes on from its last checkpoint"
        ) from cause

    def _check_lost(self, workers: list[str], cause: BaseException | None = None) -> None:
        lost = set(workers) - self._alive()
        if lost:
            raise ClusterError(
                f"{len(lost)} of {len(workers)} Dask workers were lost in training: {', '.join(sorted(lost))}",
                hint="memory or the network is the usual cause; the training goes on from its last checkpoint",
            ) from cause

    def _leave(self, futures: list[Future], workers: list[str]) -> None:
        """Nothing of this run stays on a cluster that goes on without us: no task, no stuck thread."""
        if self.gone:
            return
        client = self.place.client
        failed = any(future.status != "finished" for future in futures)
        try:
            there = self._alive() & set(workers)
            client.unsubscribe_topic(_SIGNS)
            client.cancel(futures, force=True)
            if failed and self.place.outside and there:
                # a thread inside XGBoost's collective can't be interrupted: its worker is started anew by its nanny
                client.restart_workers(sorted(there), timeout=30, raise_for_error=False)
        except Exception:  # the cluster is gone, or going: what is raised tells why
            if not failed:
                raise


def _rank(error: BaseException) -> int:
    """The data's own error goes first, then want of memory, which the next attempt must know of."""
    return 0 if isinstance(error, TrainingError) else 1 if isinstance(error, MemoryShortError) else 2


def _train_on_worker(job: Job, hand: Sequence[RowGroup], tracker: dict, name: str, threads: int) -> Boosted | None:
    import tempfile

    from distributed import get_worker
    from xgboost.dask import CommunicatorContext

    code_digest()  # from the files that are being loaded: they may be replaced under a worker that lives on
    worker = get_worker()
    key = worker.get_current_task()

    def report(phase: str) -> None:
        if given_up(worker, key):
            raise ClusterError("the training was given up: nobody waits for it any more")
        if phase != "peer":
            worker.log_event(_SIGNS, (name, phase))

    try:
        with (
            tempfile.TemporaryDirectory(dir=worker.local_directory, ignore_cleanup_errors=True) as folder,
            CommunicatorContext(**tracker),
        ):
            return boost(job, hand, threads=threads, folder=Path(folder), report=report)
    except Exception as error:
        raise portable(error) from None
