"""A year of hours: `python -m benchmarks.hourly [--hours N]`.

On the lake of `benchmarks.hours`, 8,760 partitions:

- plan: what is due over the whole year, with which model and why, or why not: `millrace plan --force`, under which every
  partition is looked at as if nothing were published, the whole process; and `pin` of the same inside a process that
  has imported all, from the read of the state on, with the state index and with none;
- maintain: `millrace maintain` on a copy, and again when the retention of what it superseded is over: data files,
  bytes and log before and after, seconds to open the predictions and to read their state;
- open: a table of a commit for each hour, its log written by hand, with no checkpoint and with that one which is the
  newest where each hundredth commit has one.

Rows and entries must be the same before and after, and a third `maintain` must find nothing to do, or it ends with
an error.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.hours import CHAMPIONS, NAME, PREDICTIONS, SOURCES, age, digest, environment, make, opened, write_log
from benchmarks.measure import Figure, Part, Ran, answer, of, ratios, rounds, run
from tasks.domain import tables
from tasks.domain.partition import Partition
from tasks.settings import REPOSITORY, load_settings

SIDES = ("process", "indexed", "unindexed", "open", "state", "maintain", "prepare")


def measure(folder: Path, *, hours: int = 8_760, times: int = 5) -> Part:
    """Make the lake where it is not, plan on it, maintain a copy of it."""
    home, copy = folder / f"hourly-{hours}", folder / "hourly-maintained"
    if not (home / "ready").exists():
        shutil.rmtree(home, ignore_errors=True)
        _side("prepare", home, hours)
        (home / "ready").touch()
    plans = rounds(times, SIDES[:3], lambda side: _side(side, home, hours))
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(home, copy)
    before = [_side("state", copy, hours) for _ in range(times)]
    runs = []
    for _ in range(3):  # what the first leaves for earlier versions goes when their time is over; then there is nothing
        runs.append(_side("maintain", copy, hours))
        age(copy)
    after = [_side("state", copy, hours) for _ in range(times)]
    opening = [_side("open", copy, hours) for _ in range(times)]
    shutil.rmtree(copy)
    old, new = before[0].result, after[0].result
    if runs[-1].result["changed"]:
        raise SystemExit("a third `maintain` found something to do")
    if any(old[name] != new[name] for name in ("digest", "rows", "partitions")):
        raise SystemExit("`maintain` changed rows or entries")
    figures = (
        Figure(f"hourly grain, {hours:,} partitions: `millrace plan --force`, the whole process", "", "≤ 2 s",
               of(plans["process"], "seconds"), " s", most=2),
        Figure("data files after `maintain`", "partitions that have rows", "bounded: 1 ×",
               (new["files"] / new["partitions"],), " ×", most=1),
        Figure("bytes of the log after `maintain`", "before it", "",
               ((new["commit_bytes"] + new["checkpoint_bytes"]) / (old["commit_bytes"] + old["checkpoint_bytes"]),), " ×"),
        Figure(f"opening a table of {hours:,} commits", "the same with no checkpoint", "bounded: ≤ 0.1 ×",
               ratios(of(opening, "checked"), of(opening, "bare")), " ×", most=0.1),
    )  # fmt: skip
    sides = {
        "`millrace plan --force`, the whole process": {"s": of(plans["process"], "seconds")},
        "pin, inside the process": {"s": of(plans["indexed"], "seconds")},
        "pin, inside the process, the state index made anew": {"s": of(plans["unindexed"], "seconds")},
        "maintain": {"s": of(runs[:1], "seconds")},
        "maintain, the retention later": {"s": of(runs[1:2], "seconds")},
        "maintain, nothing to do": {"s": of(runs[2:], "seconds")},
        f"{hours:,} commits, no checkpoint": {"s to open": of(opening, "bare")},
        f"{hours:,} commits, the newest checkpoint": {"s to open": of(opening, "checked")},
        "before maintain": _lying(before),
        "after maintain": _lying(after),
    }
    said = (
        f"{old['partitions']:,} partitions with rows in three tables; a commit of one of the predictions' has"
        f" {opening[0].result['bytes']:,} bytes",
        "what stands once was measured once: counts are the same each time, `maintain` changes what it works on",
    )
    return Part(figures, sides, said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=int, default=8_760, help="partitions, from the year's first on")
    parser.add_argument("--side", choices=SIDES)
    parser.add_argument("--home", type=Path)
    words = parser.parse_args()
    if words.side is None:
        from benchmarks.report import show

        folder = load_settings().home / "benchmarks"
        folder.mkdir(parents=True, exist_ok=True)
        show(measure(folder, hours=words.hours))
    elif words.side == "prepare":
        make(words.home, words.hours)
        answer(hours=words.hours)
    elif words.side == "process":
        answer(**planned(words.home, words.hours))
    elif words.side in ("indexed", "unindexed"):
        answer(**pinned(words.home, words.hours, index=words.side == "indexed"))
    elif words.side == "open":
        answer(**opening_a_log(words.home, words.hours))
    else:
        answer(**(maintained(words.home) if words.side == "maintain" else state(words.home, words.hours)))


def planned(home: Path, hours: int) -> dict[str, float]:
    """The command, from its start to its end."""
    _, _, every = opened(home, hours)
    days = "--from", every[0].key[:10], "--to", every[-1].key[:10]
    seconds, result = _command(home, "plan", NAME, *days, "--force", "--json")
    due = sum(one["due"] for one in result["partitions"])
    if due < len(every):
        raise SystemExit(f"{due} of {len(every)} partitions are due")
    return {"seconds": seconds, "due": due}


def pinned(home: Path, hours: int, *, index: bool) -> dict[str, float]:
    """The verb, in a process that has imported it."""
    from tasks.pin import pin

    spec, lake, every = opened(home, hours)
    if not index:
        lake.drop_state()
    began = time.perf_counter()
    result = pin(spec=spec, partitions=every, lake=lake, force=True)
    seconds = time.perf_counter() - began
    _check(result.to_dict(), every)
    return {"seconds": seconds, "pinned": len(result.partitions)}


def opening_a_log(home: Path, hours: int) -> dict[str, float]:
    """Seconds to open a table of a commit for each hour, without a checkpoint and with one; bytes of a commit."""
    from tasks.lake.checkpoints import EVERY
    from tasks.lake.delta import Snapshot

    _, lake, every = opened(home, hours)
    table = home / "grown"
    version = write_log(lake, every, table / "_delta_log")
    found: dict[str, float] = {"bytes": (table / "_delta_log" / f"{version:020d}.json").stat().st_size}
    for name in ("bare", "checked"):
        began = time.perf_counter()
        Snapshot(str(table), version, {}).files(None)
        found[name] = time.perf_counter() - began
        Snapshot(str(table), version - version % EVERY, {}).checkpoint()
    shutil.rmtree(table)
    return found


def state(home: Path, hours: int) -> dict[str, float | str]:
    """What lies there, and seconds to open the predictions and to read their state."""
    lake = opened(home, hours)[1]
    predictions = lake.table(PREDICTIONS)
    began = time.perf_counter()
    predictions.snapshot(predictions.version()).files(None)
    opening = time.perf_counter() - began
    began = time.perf_counter()
    predictions.entries()
    reading = time.perf_counter() - began
    entries, contents, rows = [], [], 0
    for name in (*map(tables.clean, SOURCES), PREDICTIONS):
        table = lake.table(name)
        entries += [(name, one.key, one.rows, one.version, one.meta) for one in table.entries().values()]
        found = table.read(version=table.version())
        contents.append(found.to_pydict())
        rows += found.num_rows
    objects = lake.objects.list("")
    data = [info.size for info in objects if "/partition_key=" in info.key]
    log = {info.key: info.size for info in objects if "/_delta_log/" in info.key}
    commits = {key: size for key, size in log.items() if key.endswith(".json")}
    return {
        "open": opening,
        "state": reading,
        "files": len(data),
        "data": sum(data),
        "commit_bytes": sum(commits.values()),
        "checkpoint_bytes": sum(log.values()) - sum(commits.values()),
        "partitions": sum(one[2] > 0 for one in entries),
        "rows": rows,
        "digest": digest(entries, contents),
    }


def maintained(home: Path) -> dict[str, float]:
    """The command, from its start to its end."""
    seconds, result = _command(home, "maintain", "--json")
    done = result["tables"]
    return {
        "seconds": seconds,
        "changed": sum(one["compacted"] + one["deleted"] + one["thinned"] for one in done),
        "compacted": sum(one["compacted"] for one in done),
        "deleted": sum(one["deleted"] for one in done),
    }


def _side(side: str, home: Path, hours: int) -> Ran:
    changes = side in ("prepare", "maintain")
    return run("benchmarks.hourly", "--side", side, "--home", home, "--hours", hours, again=0 if changes else 1)


def _lying(runs: Sequence[Ran]) -> dict[str, Sequence[float]]:
    told = {"files": "data files", "data": "bytes of data", "commit_bytes": "of commits", "checkpoint_bytes": "of checkpoints"}  # fmt: skip
    counts = {unit: of(runs[:1], name) for name, unit in told.items()}
    return {"s to open": of(runs, "open"), "s to read state": of(runs, "state"), **counts}


def _command(home: Path, *words: str) -> tuple[float, dict]:
    """`millrace` in a process of its own: seconds from its start to its end, and its result."""
    own = {**os.environ, **environment(home), "PYTHONPATH": str(REPOSITORY)}
    began = time.perf_counter()
    ran = subprocess.run([sys.executable, "-P", "-m", "tasks", *words], env=own, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if ran.returncode:
        raise SystemExit(f"millrace {' '.join(words)} failed: {ran.stdout[-500:]}{ran.stderr[-1000:]}")
    return seconds, json.loads(ran.stdout.splitlines()[-1])


def _check(result: dict, every: Sequence[Partition]) -> None:
    """Each hour is due with the champion of its as_of, all of them in turn."""
    models = [one["model"]["version"] for one in result["partitions"]]
    if len(models) != len(every) or sorted(models) != models or set(models) != set(range(1, CHAMPIONS + 1)):
        raise SystemExit(f"{len(models)} of {len(every)} hours are due, with versions {sorted(set(models))}")


if __name__ == "__main__":
    main()
