"""Work in chunks on the workers of a Dask cluster: each worker does one chunk at a time, with all of its threads.

Dask would give a worker as many chunks as it has threads, which together take that many times the memory, and
a chunk of a worker that the network cut off would wait for Dask's own patience. So this side deals the chunks
out, looks after the workers, and gives the chunk of a lost one to another. A chunk may therefore be done twice, also by
a worker that was thought lost: what it does must be the same once and twice.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.compute.cluster import SAME
from tasks.compute.same import code_digest
from tasks.compute.turn import alive, given_up
from tasks.errors import ClusterError, NoPlaceError

if TYPE_CHECKING:
    from distributed import Future

    from tasks.compute.spread import Spread

_log = logging.getLogger(__name__)
_WATCH_SECONDS = 0.25
_PATIENCE = 60.0
"""Seconds without any worker, after all of them were lost, until the call gives up."""
_LONGEST = 3600.0
"""Seconds that a chunk may take, or ten times the longest so far: beyond that its worker is stuck, whatever its heartbeat says."""
_TRIES = 3
"""How many workers a chunk may cost."""


@dataclass(frozen=True)
class Desk:
    """What a worker has for the chunk that it works on.

    Attributes:
        folder: for its scratch files; gone when the worker is.
        threads: for this chunk alone.
        memory: bytes that the worker may take; None where it has no limit.
        check: raises ClusterError when nobody waits for the chunk any more; asked between two steps of the work.
    """

    folder: Path
    threads: int
    memory: int | None
    check: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Chunk:
    """One worker's task.

    Attributes:
        name: as the operator reads it in Dask.
        work: picklable, idempotent; what it returns is small.
    """

    name: str
    work: Callable[[Desk], Any]


@dataclass(frozen=True)
class Ended:
    """How a chunk ended: a value, or the error."""

    value: Any = None
    error: BaseException | None = None


def do_chunks(
    place: Spread, chunks: Sequence[Chunk], *, ended: Callable[[int], None] = lambda place: None
) -> list[Ended]:
    """Do all chunks, whatever becomes of some of them; to be called within `turn.alone`.

    When this process dies or is interrupted, chunks that wait are forgotten, and those at work end when they next
    ask `Desk.check`.

    Args:
        ended: called with the place of each chunk that has ended.

    Returns:
        How each ended, in the order of the chunks.

    Raises:
        ClusterError: the scheduler or all workers were lost. What was done is not undone.
    """
    return _Run(place, chunks, ended).results()


@dataclass
class _Run:
    place: Spread
    chunks: Sequence[Chunk]
    ended: Callable[[int], None]
    # A task of the same key that a killed call left at work would be taken up again in place of this one.
    name: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    running: dict[str, tuple[int, Future, float]] = field(default_factory=dict)
    """Worker's address -> place of its chunk, its task, and when it was given."""
    longest: float = 0.0
    """Seconds of the slowest chunk that has ended."""
    tries: dict[int, int] = field(default_factory=dict)

    def results(self) -> list[Ended]:
        found: dict[int, Ended] = {}
        waiting = deque(range(len(self.chunks)))
        seen = time.monotonic()
        try:
            while waiting or self.running:
                there = alive(self.place.client, quiet=self.place.quiet)
                seen = time.monotonic() if there else seen
                if time.monotonic() - seen > _PATIENCE:
                    raise ClusterError("all Dask workers were lost", hint="start workers and run the step again")
                for number, outcome in self._collect(there):
                    if outcome is None:
                        waiting.appendleft(number)
                    else:
                        found[number] = outcome
                        self.ended(number)
                for address in sorted(set(there) - set(self.running))[: len(waiting)]:
                    self._give(address, waiting.popleft())
                time.sleep(_WATCH_SECONDS)
        finally:
            self._leave()
        return [found[number] for number in range(len(self.chunks))]

    def _give(self, address: str, number: int) -> None:
        tries = self.tries[number] = self.tries.get(number, 0) + 1
        again = f"-{tries}" if tries > 1 else ""
        future = self.place.client.submit(
            _on_worker, self.chunks[number].work, code_digest(),
            key=f"{self.chunks[number].name}-{self.name}{again}", workers=[address], allow_other_workers=False, pure=False,
        )  # fmt: skip
        self.running[address] = number, future, time.monotonic()

    def _collect(self, there: dict[str, int]) -> list[tuple[int, Ended | None]]:
        """Chunks that are no longer at work: how they ended, or None for one that is to be done again."""
        found = []
        for address, (number, future, since) in list(self.running.items()):
            seconds = time.monotonic() - since
            stuck = seconds > max(_LONGEST, 10 * self.longest)
            if not future.done() and address in there and not stuck:
                continue
            del self.running[address]
            outcome = self._outcome(future) if future.done() or address not in there else None
            if outcome is None:
                self.place.client.cancel([future], force=True)
                if stuck and address in there:
                    _log.warning("worker %s worked for %.0f s at one chunk and is started anew", address, seconds)
                    self.place.client.restart_workers([address], timeout=30, raise_for_error=False)
                if self.tries[number] >= _TRIES:
                    outcome = Ended(
                        error=ClusterError(
                            f"{_TRIES} Dask workers were lost one after the other at {self.chunks[number].name}",
                            hint="memory is the usual cause: give the workers more, or run fewer partitions",
                        )
                    )
                else:
                    _log.warning("worker %s was lost: %s is done again", address, self.chunks[number].name)
            else:
                self.longest = max(self.longest, seconds)
            found.append((number, outcome))
        return found

    def _outcome(self, future: Future) -> Ended | None:
        """How a task ended, or None when its worker was lost."""
        from concurrent.futures import CancelledError

        from distributed.scheduler import KilledWorker

        try:
            if future.status == "finished":
                return Ended(future.result(timeout=60))
            error = future.exception(timeout=5) if future.status == "error" else None
        except (CancelledError, TimeoutError, OSError):
            return None  # the result was on the worker and went with it
        return None if error is None or isinstance(error, KilledWorker) else Ended(error=error)

    def _leave(self) -> None:
        left = [future for _, future, _ in self.running.values()]
        if left and self.place.client.status == "running":
            self.place.client.cancel(left, force=True)


def check_workers(place: Spread, *, sees: Callable[[Path], bool], what: str) -> int | None:
    """Refuse workers that would compute something else, or elsewhere.

    Args:
        sees: whether a worker reaches what it must; called there with a folder for scratch files.
        what: what `sees` looks for.

    Returns:
        Bytes that the smallest worker may take; None where none has a limit.

    Raises:
        NoPlaceError: a worker runs other code, or does not reach what it must.
    """
    there = list(alive(place.client, quiet=place.quiet))
    try:
        told = place.client.run(_tell, sees, workers=there, on_error="return", callback_timeout=_PATIENCE)
    except (OSError, TimeoutError) as error:
        raise ClusterError(f"the Dask scheduler was lost: {error}", hint="run the step again") from error
    answers = {address: answer for address, answer in told.items() if not isinstance(answer, OSError)}  # lost just now
    for address, answer in answers.items():
        if isinstance(answer, ImportError | AttributeError):
            raise NoPlaceError(f"Dask worker {address} has no Millrace, or another one: {answer}", hint=SAME)
        if isinstance(answer, BaseException):
            raise NoPlaceError(f"Dask worker {address} can't do it: {answer}") from answer
        _check_code(address, answer[0])
        if not answer[1]:
            raise NoPlaceError(
                f"Dask worker {address} does not see {what}",
                hint="its lake must be on S3, or in a folder that all hosts share",
            )
    limits = [memory for _, _, memory in answers.values() if memory]
    return min(limits, default=None)


def _check_code(address: str, digest: str) -> None:
    if digest != code_digest():
        raise NoPlaceError(f"Dask worker {address} runs another Millrace than this process", hint=SAME)


def _tell(sees: Callable[[Path], bool], dask_worker: Any) -> tuple[str, bool, int | None]:
    return code_digest(), sees(_folder(dask_worker)), dask_worker.memory_manager.memory_limit


def _folder(worker: Any) -> Path:
    return Path(worker.local_directory) / "millrace"


def _on_worker(work: Callable[[Desk], Any], code: str) -> Any:
    from distributed import get_worker

    worker = get_worker()
    _check_code(worker.address, code)  # one that came after the others were asked
    key = worker.get_current_task()

    def check() -> None:
        if given_up(worker, key):
            raise ClusterError("the chunk was given up: nobody waits for it any more")

    return work(Desk(_folder(worker), worker.state.nthreads, worker.memory_manager.memory_limit or None, check))
