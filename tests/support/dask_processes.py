"""An outside Dask scheduler with its workers, as operators start them: processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distributed import Client

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def dask_processes(folder: Path, *, workers: int) -> Iterator[str]:
    """Run a scheduler and one-thread workers on loopback; gives the scheduler's address."""
    # Workers import `tasks` to read chunks: on another host it would be installed.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DASK_LOGGING__DISTRIBUTED": "warning"}
    record = folder / "scheduler.json"
    scheduler = [
        "dask_scheduler",
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--no-dashboard",
        "--dashboard-address",
        "127.0.0.1:0",
    ]
    worker = ["dask_worker", "--host", "127.0.0.1", "--nthreads", "1", "--memory-limit", "2GiB", "--no-dashboard"]
    worker += ["--scheduler-file", str(record), "--local-directory", str(folder)]
    commands = [[*scheduler, "--scheduler-file", str(record)], *[worker] * workers]
    started = [
        subprocess.Popen(
            [sys.executable, "-P", "-m", f"distributed.cli.{words[0]}", *words[1:]],
            env=environment, stdout=subprocess.DEVNULL, start_new_session=True,
        )
        for words in commands
    ]  # fmt: skip
    try:
        until = time.monotonic() + 60
        while not record.exists() and time.monotonic() < until:
            time.sleep(0.1)
        address = json.loads(record.read_text())["address"]
        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=60)
        yield address
    finally:
        for process in reversed(started):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
