"""How a figure is taken: each side in a process of its own, in turn, on a machine that is otherwise idle.

What else ran on the machine meanwhile is measured too, and stands in the report: a timing beside other
work is no timing.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
BUSY = 0.15
"""Share of the machine that others may use during a run; a run beside more is made again, a few times."""
_SAMPLE_SECONDS = 0.05
_hurry = False


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes:
        what, against: what is compared with what.
        target: as the issue words it.
        values: one for each round.
        unit: of the values, written behind them.
        most, least: bounds that the median must keep; None for none.
    """

    what: str
    against: str
    target: str
    values: tuple[float, ...]
    unit: str = ""
    most: float | None = None
    least: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the median keeps the bounds; None where there are none."""
        if self.most is None and self.least is None:
            return None
        above = self.least is None or self.median >= self.least
        return above and (self.most is None or self.median <= self.most)


@dataclass(frozen=True)
class Part:
    """What one part of the benchmarks found.

    Attributes:
        figures: lines of the table.
        sides: what the figures were made of: name -> unit -> values, one for each round.
        said: sentences about this run: sizes, and what its clocks include.
    """

    figures: tuple[Figure, ...]
    sides: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    said: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Part:
        figures = tuple(Figure(**{**one, "values": tuple(one["values"])}) for one in values["figures"])
        return cls(figures, values["sides"], tuple(values["said"]))


@dataclass(frozen=True)
class Ran:
    """One side's run.

    Attributes:
        result: what it printed as JSON on its last line.
        peak: bytes of memory of its largest process at most (VmHWM: files that are mapped count).
        private: of that, bytes that belong to no file at most (RssAnon), as sampled.
        others: share of the machine's processors that other processes used meanwhile.
    """

    result: dict[str, Any]
    peak: int
    private: int
    others: float


def run(module: str, *words: object, environment: Mapping[str, str] | None = None, again: int = 1) -> Ran:
    """Run `python -m <module> <words>` and watch it; made again, `again` times at most, where others were busy.

    Of several tries the one beside which others used least counts.

    Raises:
        SystemExit: it failed.
    """
    tries: list[Ran] = []
    for _ in range(1 if _hurry else again + 1):
        await_calm()
        ran = _run(module, [str(word) for word in words], {**os.environ, **(environment or {})})
        note = f"others used {ran.others:.0%} of the machine"
        say(f"  {' '.join(map(str, words[:2]))}: {_short(ran.result)}, peak {ran.peak / 1e9:.2f} GB, {note}")
        tries.append(ran)
        if ran.others <= BUSY:
            break
    return min(tries, key=lambda ran: ran.others)


def rounds(count: int, sides: Sequence[str], take: Callable[[str], Ran]) -> dict[str, list[Ran]]:
    """Each side once in every round, in turn."""
    found: dict[str, list[Ran]] = {side: [] for side in sides}
    for number in range(count):
        say(f"round {number + 1} of {count}")
        for side in sides:
            found[side].append(take(side))
    return found


def of(runs: Sequence[Ran], name: str) -> tuple[float, ...]:
    """A value of the results of several runs."""
    return tuple(one.result[name] for one in runs)


def ratios(above: Sequence[float], below: Sequence[float]) -> tuple[float, ...]:
    """Ratios taken within each round."""
    return tuple(one / other for one, other in zip(above, below, strict=True))


def await_calm(patience: float = 120) -> None:
    """Wait until the processors are idle for two seconds, at most `patience` seconds."""
    until = time.monotonic() + (0 if _hurry else patience)
    while time.monotonic() < until:
        before, began = _busy(), time.monotonic()
        time.sleep(2)
        if (_busy() - before) / ((time.monotonic() - began) * cores()) < BUSY:
            return


def hurry() -> None:
    """From here on nothing waits for an idle machine: to see that scripts work, not for figures."""
    global _hurry
    _hurry = True


def cores() -> int:
    return len(os.sched_getaffinity(0))


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def answer(**values: object) -> None:
    """A side's result, for `run`."""
    print(json.dumps(values), flush=True)


def memory(pid: int | str = "self") -> dict[str, int]:
    """Bytes by the names of /proc/<pid>/status: VmRSS, VmHWM, RssAnon; empty for a process that is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return {name: int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM", "RssAnon") if name in fields}


class Watch:
    """Follows the memory of a process and of those that it starts, until `stop`."""

    def __init__(self, pid: int) -> None:
        self.peak = self.private = 0
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._ended.wait(_SAMPLE_SECONDS):
            for pid in family(self._pid):
                found = memory(pid)
                self.peak = max(self.peak, found.get("VmHWM", 0))
                self.private = max(self.private, found.get("RssAnon", 0))


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                found.extend(map(int, task.read_text().split()))
            except OSError:
                continue
    return found


def _run(module: str, words: list[str], environment: dict[str, str]) -> Ran:
    busy, began = _busy(), time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", module, *words],
        env=environment | {"PYTHONPATH": str(REPOSITORY)},
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    watch = Watch(process.pid)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    watch.stop()
    if process.returncode:
        raise SystemExit(f"{module} {' '.join(words)} ended with {process.returncode}")
    seconds = (time.monotonic() - began) * cores()
    others = max(0.0, _busy() - busy - used.ru_utime - used.ru_stime) / seconds
    return Ran(json.loads(output.splitlines()[-1]), watch.peak, watch.private, others)


def _busy() -> float:
    """Seconds that all processors together have been busy, or taken away, since the machine started."""
    user, nice, system, _idle, _wait, irq, soft, steal = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")


def _short(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items() if isinstance(value, int | float))
