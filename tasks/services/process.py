"""Processes that outlive their starter: started in a session of their own, found again, ended whole.

A process is known by its number, its start time and the machine's boot: a number alone may by now
belong to somebody else. Ending one ends its whole session and every process that it left behind,
which carry the home's mark in their environment. Zombies count as gone: where nobody reaps them
(a container without an init), they stay for good.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from tasks.errors import ServiceError
from tasks.services.home import read_json, write_json

MARK = "MILLRACE_SERVICE_OF"
_LOG_BYTES = 20_000_000


@dataclass(frozen=True)
class Record:
    """One started process, as kept in `run/<name>.json`.

    Attributes:
        pid: the process; it leads a session and a process group of the same number.
        started: start time in clock ticks since boot.
        boot: the machine's boot.
        command: digest of the command and its settings, to notice that they changed.
    """

    pid: int
    started: int
    boot: str
    command: str


@dataclass(frozen=True)
class _Seen:
    pid: int
    parent: int
    group: int
    session: int
    started: int


def start(
    record: Path,
    command: Sequence[str],
    *,
    log: Path,
    environment: Mapping[str, str],
    mark: str,
    folder: Path,
    digest: str = "",
    user: int | None = None,
    group: int | None = None,
) -> Record:
    """Start a process in a session of its own and write its record.

    Args:
        record: file of the record.
        command: program and arguments.
        log: file that takes both outputs, moved to `.1` when large.
        environment: the whole environment.
        mark: put into the environment, so that strays are found.
        folder: working folder.
        digest: see `Record.command`.
        user: run as this user, when started as root.
        group: run as this group.
    """
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        os.replace(log, log.with_suffix(log.suffix + ".1"))
    with open(log, "ab", buffering=0) as output:
        try:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**environment, MARK: mark},
                cwd=folder,
                start_new_session=True,
                user=user,
                group=group,
                extra_groups=None if user is None else [],
            )
        except OSError as error:
            raise ServiceError(f"{command[0]} can't be started: {error}") from error
    # It outlives us on purpose: without this, Python warns of a process that was never waited for.
    process.returncode = 0
    seen = _look(process.pid)
    value = Record(process.pid, seen.started if seen else 0, boot(), digest)
    write_json(record, asdict(value))
    return value


def load(record: Path) -> Record | None:
    """The record in a file, or None."""
    value = read_json(record)
    try:
        return Record(**value) if value else None
    except TypeError:
        return None


def alive(record: Record | None) -> bool:
    """Whether this very process runs (a zombie doesn't)."""
    if record is None or record.boot != boot():
        return False
    with contextlib.suppress(ChildProcessError):
        os.waitpid(record.pid, os.WNOHANG)  # reap it, where it is our own child
    seen = _look(record.pid)
    return seen is not None and seen.started == record.started


def members(records: Iterable[Record], *, mark: str) -> set[int]:
    """Numbers of all living processes of these records: sessions, groups, descendants, and by mark."""
    table = {seen.pid: seen for seen in _all()}
    leaders = set()
    for record in records:
        leader = table.get(record.pid)
        # While a group has members its number is not given to a new process: with the leader gone
        # the members are ours, with another process of that number they can't be.
        if record.boot == boot() and (leader is None or leader.started == record.started):
            leaders.add(record.pid)
    own = os.getpid()
    found = {s.pid for s in table.values() if s.group in leaders or s.session in leaders or _marked(s.pid, mark)}
    grown = True
    while grown:
        more = {s.pid for s in table.values() if s.parent in found} - found
        found |= more
        grown = bool(more)
    # a command inside the platform (a task that runs `millrace down`) must not end itself half-way
    return found - _ancestors(own, table)


def end(records: Sequence[Record], *, mark: str, patience: float, first: int = signal.SIGTERM) -> None:
    """End processes and all that belongs to them: a polite signal, then SIGKILL.

    Args:
        records: what to end.
        mark: the home's mark; an empty one finds no strays.
        patience: seconds between the polite signal and SIGKILL.
        first: the polite signal.

    Raises:
        ServiceError: something is still alive after SIGKILL.
    """
    targets = members(records, mark=mark)
    _signal(targets, first)
    until = time.monotonic() + patience
    while time.monotonic() < until:
        if not (targets := _living(targets) | members(records, mark=mark)):
            return
        time.sleep(0.05)
    for _ in range(100):
        _signal(targets, signal.SIGKILL)
        time.sleep(0.05)
        if not (targets := _living(targets) | members(records, mark=mark)):
            return
    raise ServiceError(
        f"processes {sorted(targets)} can't be ended", hint="they hang in the kernel, or belong to another user"
    )


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log that hold something, for an error message."""
    try:
        with open(log, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 20_000))
            kept = [line.rstrip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
            return "\n".join(kept[-lines:])
    except FileNotFoundError:
        return ""


def digest_of(command: Sequence[str], environment: Mapping[str, str], *extra: str) -> str:
    """Digest of what a process is started with."""
    text = "\0".join([*command, *(f"{key}={environment[key]}" for key in sorted(environment)), *extra])
    return hashlib.sha256(text.encode()).hexdigest()


def memory(pids: Iterable[int]) -> int:
    """Proportional share of memory of processes, in bytes: what would be free without them."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


@lru_cache(maxsize=1)
def boot() -> str:
    """Names the machine's boot."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"


def _look(pid: int) -> _Seen | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (OSError, ValueError):
        return None
    # the second field is the name in brackets and may hold blanks and brackets itself
    fields = text[text.rindex(")") + 2 :].split()
    if fields[0] in "ZX":
        return None
    return _Seen(pid, int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]))


def _all() -> list[_Seen]:
    seen = (_look(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return [one for one in seen if one is not None]


def _marked(pid: int, mark: str) -> bool:
    if not mark:
        return False
    try:
        return f"{MARK}={mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _ancestors(pid: int, table: Mapping[int, _Seen]) -> set[int]:
    found = set()
    while pid in table and pid not in found:
        found.add(pid)
        pid = table[pid].parent
    return found


def _living(pids: Iterable[int]) -> set[int]:
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return {pid for pid in pids if _look(pid) is not None}


def _signal(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
