"""An outside Dask scheduler with its workers, as operators start them: processes of their own, started anew when they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from distributed import Client, Security

from tests.support.s3 import free_port

ROOT = Path(__file__).resolve().parents[2]
_PATIENCE = 90  # seconds until all must be there


@dataclass
class DaskProcesses:
    """A scheduler and its workers.

    Attributes:
        folder: where they run, and put their scratch files.
        workers: how many, with one thread each; with `gpus` it is one for each of those.
        hosts: addresses, of the scheduler first; each process listens on its own.
        prefixes: words before each command, such as `ip netns exec NAME`; none for this host.
        environment: more variables for all of them.
        tls: options `--tls-…` for all of them.
        security: for clients of theirs.
        gpus: UUIDs; the workers are `dask cuda worker` processes then.
    """

    folder: Path
    workers: int
    hosts: Sequence[str] = ("127.0.0.1",) * 3
    prefixes: Sequence[Sequence[str]] = ((),) * 3
    environment: Mapping[str, str] = field(default_factory=dict)
    tls: Sequence[str] = ()
    security: Security | None = None
    gpus: Sequence[str] = ()
    port: int = field(default_factory=free_port)
    _running: list[subprocess.Popen | None] = field(default_factory=list)
    _closed: threading.Event = field(default_factory=threading.Event)

    @property
    def address(self) -> str:
        return f"{'tls' if self.tls else 'tcp'}://{self.hosts[0]}:{self.port}"

    def client(self) -> Client:
        """To be closed by the caller."""
        return Client(self.address, set_as_default=False, timeout="30s", security=self.security)

    def kill_scheduler(self) -> None:
        os.killpg(self._running[0].pid, signal.SIGKILL)

    def kill_worker(self, place: int) -> None:
        """The process that works, not its nanny, as the system does when memory runs out."""
        nanny = psutil.Process(self._running[1 + place % self.workers].pid)
        for child in nanny.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if "resource_tracker" not in " ".join(child.cmdline()):
                    child.kill()

    def start(self) -> None:
        self._running = [self._start(place) for place in range(1 + self.workers)]

    def watch(self) -> None:
        """Start anew what has ended, until closed: a restart policy, as containers have one."""
        while not self._closed.wait(0.2):
            for place, process in enumerate(self._running):
                if process.poll() is not None and not self._closed.is_set():
                    _end(process)
                    self._running[place] = self._start(place)

    def wait(self) -> None:
        """Until all the workers are there, where they can be seen from here."""
        if self.hosts[0] != "127.0.0.1":
            return
        with self.client() as client:
            client.wait_for_workers(self.workers, timeout=_PATIENCE)

    def held(self) -> tuple[str | None, int]:
        """What the scheduler holds: "a turn" or None, and the number of tasks."""
        with self.client() as client:
            return client.run_on_scheduler(_held)

    def check_idle(self) -> None:
        """All workers are there and wait for the next training: no turn, no task, no thread at work, no scratch file."""
        idle = (None, 0, [(0, [])] * self.workers)
        until = time.monotonic() + _PATIENCE
        with self.client() as client:
            found = None
            while found != idle:
                assert time.monotonic() < until, found
                time.sleep(0.1)
                with suppress(OSError):  # a worker that is just being started anew
                    found = (*client.run_on_scheduler(_held), list(client.run(_at_work).values()))

    def end(self) -> None:
        self._closed.set()
        for process in reversed(self._running):
            _end(process)

    def _start(self, place: int) -> subprocess.Popen:
        host, words = self.hosts[place], ["--host", self.hosts[place], "--no-dashboard", *self.tls]
        if place == 0:
            words = [*words, "--port", str(self.port), "--dashboard-address", f"{host}:0"]
            program = ["distributed.cli.dask_scheduler"]
        else:
            words = [self.address, *words, "--nthreads", "1", "--memory-limit", "2GiB"]
            words += ["--local-directory", str(self.folder)]
            program = ["distributed.cli.dask_worker"]
        # Workers import `tasks` to read chunks: on another host it would be installed.
        own = {"PYTHONPATH": str(ROOT), "DASK_LOGGING__DISTRIBUTED": "warning"}
        if self.gpus and place:
            program, own["CUDA_VISIBLE_DEVICES"] = ["dask", "cuda", "worker"], self.gpus[place - 1]
        with open(self.folder / f"{place}-dask.log", "ab") as log:
            return subprocess.Popen(
                [*self.prefixes[place], sys.executable, "-P", "-m", *program, *words],
                cwd=self.folder,
                env={**os.environ, **own, **self.environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


@contextmanager
def dask_processes(folder: Path, *, workers: int, restart: bool = False, **more: Any) -> Iterator[DaskProcesses]:
    """Run them for the length of a block; with `restart`, what ends is started anew."""
    processes = DaskProcesses(folder, workers, **more)
    watcher = threading.Thread(target=processes.watch, name="restart policy", daemon=True)
    processes.start()
    try:
        processes.wait()
        if restart:
            watcher.start()
        yield processes
    finally:
        processes._closed.set()
        if restart and watcher.is_alive():
            watcher.join()
        processes.end()


def _end(process: subprocess.Popen) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _held(dask_scheduler: Any) -> tuple[str | None, int]:
    return getattr(dask_scheduler, "_millrace_turn", None) and "a turn", len(dask_scheduler.tasks)


def _at_work(dask_worker: Any) -> tuple[int, list[str]]:
    return dask_worker.state.executing_count, [path.name for path in Path(dask_worker.local_directory).glob("tmp*")]
