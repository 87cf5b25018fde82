"""A step's process: its own process group, a lifeline, its output line by line.

The child holds the reading end of a pipe whose writing end only this process has. When this process
dies, however it dies, the child reads the end of file and ends its group.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tasks

LIFELINE = "MILLRACE_LIFELINE"


def tasks_command(*arguments: str) -> list[str]:
    """`millrace` with this interpreter; -P keeps the working folder off the module path."""
    return [sys.executable, "-P", "-m", "tasks", *arguments]


@dataclass(frozen=True)
class Outcome:
    """How a step's process ended.

    Attributes:
        code: exit status; negative, the signal that ended it.
        result: the JSON of its last line on standard output; None when there is none.
    """

    code: int
    result: Any


@dataclass
class StepProcess:
    """Runs a command once.

    Attributes:
        command: the program and its arguments; `tasks_command` makes that of a step.
        environment: added to this process's.
        log: receives each line of the child's standard error.
        grace: seconds between a polite end and a forced one.
        nice: how far the group stands back when the processors are wanted by others, 0 to 19.
    """

    command: Sequence[str]
    environment: Mapping[str, str]
    log: Callable[[str], None]
    grace: float = 15.0
    nice: int = 0
    _child: subprocess.Popen | None = field(default=None, init=False)

    def run(self, stdin: Any = None) -> Outcome:
        """Run to the end; nothing of the group is left afterwards, whatever happens here.

        Args:
            stdin: given to the child as JSON.
        """
        reading, writing = os.pipe()
        with _closing(reading, writing), tempfile.TemporaryFile() as given:
            # A file, not a pipe: a child that does not read it can't block us.
            given.write(json.dumps(stdin).encode())
            given.seek(0)
            with subprocess.Popen(
                list(self.command),
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                env=self._environment(reading),
                pass_fds=(reading,),
                process_group=0,
            ) as child:
                self._child = child
                try:
                    self._stand_back(child)
                    return self._follow(child)
                finally:
                    self._finish(child)

    def end(self) -> None:
        """Ask the group to end, and force it after `grace`; returns at once, so a signal handler may call it."""
        child = self._child
        if child is not None and child.returncode is None:
            _signal(child.pid, signal.SIGTERM)
            timer = threading.Timer(self.grace, self._force)
            timer.daemon = True
            timer.start()

    def _force(self) -> None:
        if self._child.returncode is None:
            _signal(self._child.pid, signal.SIGKILL)

    def _follow(self, child: subprocess.Popen) -> Outcome:
        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.extend(child.stdout), name="stdout", daemon=True)
        sweeper = threading.Thread(target=_sweep, args=(child.pid,), name="sweeper", daemon=True)
        reader.start()
        sweeper.start()
        for line in child.stderr:
            self.log(line.rstrip("\n"))
        reader.join()
        sweeper.join()
        return Outcome(child.wait(), _last_json(lines))

    def _stand_back(self, child: subprocess.Popen) -> None:
        # From here, for Popen can't say it: by now it is one thread, and what it starts inherits it.
        if self.nice:
            with contextlib.suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PGRP, child.pid, os.getpriority(os.PRIO_PROCESS, 0) + self.nice)

    def _finish(self, child: subprocess.Popen) -> None:
        if child.returncode is None:
            _signal(child.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(self.grace)
            self._force()

    def _environment(self, lifeline: int) -> dict[str, str]:
        # -P keeps the working folder off the path; the child is to use this very package.
        here = str(Path(tasks.__file__).resolve().parent.parent)
        path = [here, *(part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part and part != here)]
        own = {"PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1", LIFELINE: str(lifeline)}
        return {**os.environ, **self.environment, **own}


@contextlib.contextmanager
def _closing(*descriptors: int) -> Iterator[None]:
    try:
        yield
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _sweep(child: int) -> None:
    """End what a step left behind in its group, which would hold its output open."""
    with contextlib.suppress(ChildProcessError):
        # Not reaped here: until it is, the group's number can't be somebody else's.
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        _signal(child, signal.SIGKILL)


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _last_json(lines: list[str]) -> Any:
    for line in reversed(lines):
        if line.strip():
            try:
                return json.loads(line)
            except ValueError:
                return None
    return None
