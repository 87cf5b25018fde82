"""What is kept inside the Dask scheduler: whose turn it is on the workers, and the tracker that joins a training's.

A scheduler may serve several trainings and scorings, of several hosts. Two trainings that each held half of the
workers would wait for each other, and one whose workers score would count as hung, so they take turns. A turn belongs to a client: when the client's process dies or is cut off, the scheduler
drops the client, and with it goes the turn. The functions run in the scheduler's event loop, one at a time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tasks.errors import ClusterError, NoPlaceError

if TYPE_CHECKING:
    from distributed import Client, Worker

ANSWER_SECONDS = 30.0
"""How long the scheduler may take to answer."""
QUIET_SECONDS = 30.0
"""How long a worker's heartbeat, due each second or two, may be missing: Dask itself waits for minutes."""
_COLLECTIVE = {"dmlc_timeout": 120, "dmlc_retry": 2}
"""Seconds that a worker waits for another, and tries to reach one: with XGBoost's three, a worker whose scheduler
died waits twelve seconds for the tracker before it ends."""
_TURN_SECONDS = 3600
"""How long another's turn on the same workers is waited for."""
_HELD = "_millrace_turn"
_LEAVING = ("closing", "closing_gracefully", "closed", "failed")
"""A Dask worker's status when it ends."""


@dataclass
class _Turn:
    client: str
    name: str
    tracker: Any = None


def ask(client: Client, function: Callable, **arguments: Any) -> Any:
    """What a function says that runs on the scheduler.

    Raises:
        ClusterError: the connection to the scheduler broke, or it does not answer.
    """
    if client.status != "running":
        raise ClusterError("the connection to the Dask scheduler broke", hint="run the step again")
    try:
        return client.run_on_scheduler(function, callback_timeout=ANSWER_SECONDS, **arguments)
    except (OSError, TimeoutError) as error:
        raise ClusterError(f"the Dask scheduler was lost: {error}", hint="run the step again") from error


def alive(client: Client, *, quiet: float = QUIET_SECONDS) -> dict[str, int]:
    """Address -> threads of the workers that are there and were heard of in the last `quiet` seconds.

    A worker that the network has cut off stays on the scheduler's list for long; its heartbeat stops at once.

    Raises:
        ClusterError: the scheduler does not answer.
    """
    heard = ask(client, _heard)
    return {address: threads for address, (silence, threads) in heard.items() if silence <= quiet}


def given_up(worker: Worker, key: str) -> bool:
    """Whether nobody waits for a task of this worker any more: its client is gone, or the scheduler, or the worker ends.

    Dask forgets such a task, but lets its thread go on to the end: the task itself has to ask.
    """
    task = worker.state.tasks.get(key)
    return task is None or task.state == "cancelled" or worker.status.name in _LEAVING


@contextmanager
def alone(
    client: Client, name: str, *, waits: Callable[[], None] = lambda: None, gone: Callable[[], bool] = lambda: False
) -> Iterator[None]:
    """The workers for one training or scoring alone, for the length of a `with` block.

    Args:
        name: of the training or scoring.
        waits: called once when another has them.
        gone: whether the scheduler is, at the end of the block: asking it again would only take time.

    Raises:
        NoPlaceError: another had them for too long.
        ClusterError: the scheduler does not answer.
    """
    until, said = time.monotonic() + _TURN_SECONDS, False
    while not take_turn(client, name):
        if not said:
            waits()
            said = True
        if time.monotonic() > until:
            raise NoPlaceError(f"another run has held the Dask workers for {_TURN_SECONDS} s")
        time.sleep(1)
    try:
        yield
    finally:
        if not gone():
            with suppress(ClusterError):  # it went just now, and the turn with it
                end_turn(client, name)


def take_turn(client: Client, name: str) -> bool:
    """Whether the run `name` of this client has the workers for itself from now on."""
    return ask(client, _take, holder=client.id, name=name)


def start_tracker(client: Client, name: str, *, workers: int, host: str) -> dict[str, Any]:
    """Start what brings XGBoost's workers together, on the scheduler, which every worker reaches.

    Returns:
        The arguments of `xgboost.dask.CommunicatorContext`.
    """
    return ask(client, _track, name=name, workers=workers, host=host)


def end_turn(client: Client, name: str) -> None:
    """Give the workers back; nothing of the run stays on the scheduler."""
    ask(client, _end, name=name)


def _heard(dask_scheduler: Any) -> dict[str, tuple[float, int]]:
    now = time.time()
    return {worker.address: (now - worker.last_seen, worker.nthreads) for worker in dask_scheduler.workers.values()}


def _take(dask_scheduler: Any, *, holder: str, name: str) -> bool:
    held: _Turn | None = getattr(dask_scheduler, _HELD, None)
    if held is not None and held.name != name:
        if held.client in dask_scheduler.clients:
            return False
        _stop(held)  # its client was gone before it had the turn
    setattr(dask_scheduler, _HELD, _Turn(holder, name))
    dask_scheduler.add_plugin(_end_with_client(), name=_HELD, idempotent=True)
    return True


def _end_with_client():
    from distributed import SchedulerPlugin

    class EndWithClient(SchedulerPlugin):
        """A turn ends when the scheduler drops its client."""

        def remove_client(self, scheduler: Any, client: str) -> None:
            held: _Turn | None = getattr(scheduler, _HELD, None)
            if held is not None and held.client == client:
                _end(scheduler, name=held.name)

    return EndWithClient()


def _track(dask_scheduler: Any, *, name: str, workers: int, host: str) -> dict[str, Any]:
    from xgboost.core import XGBoostError
    from xgboost.tracker import RabitTracker

    from tasks.compute.single import first_line

    held: _Turn | None = getattr(dask_scheduler, _HELD, None)
    if held is None or held.name != name:
        raise ClusterError("the training lost its turn on the Dask workers: its connection broke for a while")
    # its own address first: behind a published port or a proxy it doesn't have the one that the client knows
    addresses, refused = dict.fromkeys((urlsplit(dask_scheduler.address).hostname, host)), []
    for address in addresses:
        try:
            held.tracker = RabitTracker(n_workers=workers, host_ip=address, sortby="task")
            held.tracker.start()
            return {**held.tracker.worker_args(), **_COLLECTIVE}
        except XGBoostError as error:
            held.tracker = None
            refused.append(f"{address}: {first_line(error)}")
    raise ClusterError(f"XGBoost's tracker can't listen on the Dask scheduler's host: {'; '.join(refused)}")


def _end(dask_scheduler: Any, *, name: str) -> None:
    held: _Turn | None = getattr(dask_scheduler, _HELD, None)
    if held is not None and held.name == name:
        _stop(held)
        delattr(dask_scheduler, _HELD)


def _stop(turn: _Turn) -> None:
    if turn.tracker is not None:
        # in a thread: it may wait for workers that are gone, and this is the scheduler's event loop
        threading.Thread(target=_free, args=(turn.tracker,), daemon=True).start()


def _free(tracker: Any) -> None:
    from xgboost.core import XGBoostError

    with suppress(XGBoostError):
        tracker.free()
