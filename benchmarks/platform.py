"""The whole platform: `python -m benchmarks.platform [--days N] [--arrivals N]`.

A platform of its own (PostgreSQL, MLflow, Airflow) in a folder of its own, with the demo's `flight_delays` on
the real flights of 2013; gone at the end. January and February are ingested and a champion is trained from them;
then, on days that nobody has worked on before:

- daily: single score runs, one after the other, from the request to Airflow until the run has ended, against the
  same three steps in one process that has imported everything and has done a day already;
- backfill: one window by `airflow backfill create`, a run for each day, four at a time as the DAG allows;
  then as many days at a time by `millrace backfill`, window after window;
- arrival: ingest and score wait for a day's schedule, without a slot; its file is put into the landing zone, and
  the clock runs until a reader sees the day's predictions. The landing zone is looked at every two seconds, the
  setting's default;
- waiting: while the rest of the year is backfilled, how long what the schedule starts waits for its first task.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

from benchmarks import waiting
from benchmarks.measure import Figure, Part, answer, await_calm, run, say
from tasks import services
from tasks.command.airflow import create_backfill
from tasks.domain import tables
from tasks.lake import open_lake
from tasks.settings import REPOSITORY, Settings, load_settings

PIPELINE, TRAINING = "flight_delays", "2013-03"
FIRST = date(2013, 3, 2)  # the champion of March works from the first at ten
LATE = ("weather", "outcomes")


@dataclass(frozen=True)
class Bench:
    """The running platform and the environment of its commands."""

    settings: Settings
    api: services.AirflowApi
    environment: dict[str, str]

    def command(self, *words: str) -> None:
        """Run `millrace …`.

        Raises:
            SystemExit: it failed.
        """
        command = [sys.executable, "-P", "-m", "tasks", *words]
        ran = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=1800)
        if ran.returncode:
            raise SystemExit(f"millrace {' '.join(words)} failed: {ran.stdout[-1000:]}{ran.stderr[-2000:]}")

    def published(self) -> set[str]:
        """Days with predictions, as a reader sees them now."""
        return {key for (key,) in open_lake(self.settings).table(tables.predictions(PIPELINE)).entries()}


def measure(folder: Path, *, days: int = 28, arrivals: int = 20, times: int = 5, due: int = 20, every: int = 4) -> Part:
    """Start the platform, take the figures, and leave nothing behind."""
    home, config = folder / "platform", folder / "platform-config"
    for made in (home, config):
        shutil.rmtree(made, ignore_errors=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MILLRACE_", "AIRFLOW"))}
    shutil.copytree(REPOSITORY / "config", config)
    environment |= {"MILLRACE_HOME": str(home), "MILLRACE_CONFIG": str(config), "PYTHONPATH": str(REPOSITORY)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    settings = load_settings(environment)
    say("starting the platform")
    services.up(settings)
    try:
        bench = Bench(settings, services.AirflowApi(settings), environment)
        return _measured(bench, days, arrivals, times, due, every)
    finally:
        services.clean(settings)
        for made in (home, config):
            shutil.rmtree(made, ignore_errors=True)


def _measured(bench: Bench, days: int, arrivals: int, times: int, due: int, every: int) -> Part:
    windows = [_days(FIRST, days, skip=number * days) for number in range(times + 1)]
    after = windows[-1][-1] + timedelta(days=1)
    singles, alone = _days(after, times), _days(after, times + 1, skip=times)
    coming = _days(alone[-1] + timedelta(days=1), arrivals)
    say(f"ingesting to {alone[-1]}, training {TRAINING}")
    _feed(bench, ("schedule", *LATE, "planes"), date(2013, 1, 1), alone[-1])
    _feed(bench, LATE, coming[0], coming[-1])
    for verb in ("ingest", "validate"):
        bench.command("run", verb, PIPELINE, f"2013-01-01..{alone[-1]}")
        for name in LATE:
            bench.command("run", verb, name, f"{coming[0]}..{coming[-1]}")
    bench.command("run", "promote", PIPELINE, TRAINING)
    bench.api.wait_for_dags([f"{PIPELINE}__score", "schedule__ingest"])

    daily = [_single(bench, day) for day in singles]
    words = ("--side", "alone", "--first", alone[0], "--last", alone[-1])
    work = run("benchmarks.platform", *words, environment=bench.environment, again=0).result["seconds"]
    share = tuple(one - statistics.median(work) for one in daily)
    by_day = _backfill(bench, windows[0]) / days
    chunked = [_chunk(bench, window) / days for window in windows[1:]]
    waits = _arrivals(bench, coming)
    rest = coming[-1] + timedelta(days=1), date(2013, 12, 31)
    _feed(bench, ("schedule", *LATE), *rest)
    began = waiting.waits(bench.settings, bench.environment, PIPELINE, *rest, count=due, every=every)
    figures = (
        Figure("one daily score run through Airflow: the share of Airflow and of imports", "the work alone", "≤ 15 s",
               share, " s", most=15),
        Figure(f"`millrace backfill` of {days} days, a partition", f"one run per day through Airflow, {days} days",
               "≥ 10 × faster", tuple(by_day / one for one in chunked), " ×", least=10),
        Figure(f"arrival of a file to published predictions, p95 of {len(waits)}", "", "≤ 60 s", (_p95(waits),), " s", most=60),
        Figure(f"due to first task running while a year is backfilled, p95 of {len(began)} scheduled runs", "", "≤ 15 s",
               (_p95(began),), " s", most=15),
    )  # fmt: skip
    sides = {
        "score run of a day through Airflow": {"s": daily},
        "the work alone": {"s": work},
        "a day of the backfill, a run for each": {"s": [by_day]},
        f"a day of `millrace backfill`, {days} at a time": {"s": chunked},
        "arrival to predictions": {"s": waits},
        "due to first task, beside a backfill": {"s": began},
    }
    said = (f"`{PIPELINE}`, about 900 flights a day; champion of {TRAINING}; landing zone looked at every {bench.settings.poll:g} s",)  # fmt: skip
    return Part(figures, sides, said)


def _p95(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=20, method="inclusive")[-1] if len(values) > 1 else values[0]


def _single(bench: Bench, day: date) -> float:
    """Seconds of one score run, from the request to its end."""
    await_calm(30)
    began = time.time()
    started = bench.api.trigger_run(f"{PIPELINE}__score", conf={"partition": str(day)})
    ended = bench.api.wait(started, patience=300, poll=0.2)
    assert ended.state == "success" and ended.ended, ended
    seconds = datetime.fromisoformat(ended.ended).timestamp() - began
    say(f"  {day} through Airflow: {seconds:.1f} s")
    return seconds


def _backfill(bench: Bench, window: Sequence[date]) -> float:
    """Seconds of Airflow's own backfill, a run for each day."""
    await_calm(30)
    began = time.monotonic()
    number = create_backfill(bench.settings, f"{PIPELINE}__score", window[0], window[-1], 4)
    runs = bench.api.wait_for_backfill(number, patience=1800)
    seconds = time.monotonic() - began
    assert len(runs) == len(window) and all(one.state == "success" for one in runs), runs
    assert set(map(str, window)) <= bench.published()
    say(f"  {len(window)} runs: {seconds:.1f} s")
    return seconds


def _chunk(bench: Bench, window: Sequence[date]) -> float:
    """Seconds of `millrace backfill` over the window, the command's own start included."""
    await_calm(30)
    began = time.monotonic()
    bench.command("backfill", PIPELINE, "--from", str(window[0]), "--to", str(window[-1]), "--stages", "score")
    seconds = time.monotonic() - began
    assert set(map(str, window)) <= bench.published()
    say(f"  `millrace backfill` of {len(window)}: {seconds:.1f} s")
    return seconds


def _arrivals(bench: Bench, coming: Sequence[date]) -> list[float]:
    """Seconds from a schedule's arrival to the day's predictions, day after day."""
    found = []
    for first in range(0, len(coming), 4):  # as many runs as a DAG may have at a time
        group = coming[first : first + 4]
        for day in group:
            for dag in ("schedule__ingest", f"{PIPELINE}__score"):
                bench.api.trigger_run(dag, conf={"partition": str(day)}, run_id=f"arrival-{day}")
        for day in group:
            _until(lambda day=day: _waits(bench, day), 180)
        for day in group:
            await_calm(30)
            _feed(bench, ("schedule",), day, day)
            began = time.time()
            _until(lambda day=day: str(day) in bench.published(), 300)
            found.append(time.time() - began)
            say(f"  {day} arrived and was published: {found[-1]:.1f} s")
    return found


def _waits(bench: Bench, day: date) -> bool:
    """Whether both runs wait for their input, without a slot."""
    dags = {"schedule__ingest": "ingest", f"{PIPELINE}__score": "pin"}
    states = [
        task.state
        for dag, first in dags.items()
        for task in bench.api.task_instances(dag, f"arrival-{day}")
        if task.task_id == first
    ]
    return states == ["deferred"] * len(dags)


def _until(what, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            raise SystemExit(f"waited {seconds:.0f} s in vain")
        time.sleep(0.2)


def _feed(bench: Bench, sources: Sequence[str], first: date, last: date) -> None:
    from tasks.feed import feed, into_folder

    feed(put=into_folder(bench.settings.landing_uri), sources=sources, first=first, last=last)


def _days(first: date, count: int, *, skip: int = 0) -> list[date]:
    return [first + timedelta(days=skip + number) for number in range(count)]


def _alone(first: date, last: date) -> None:
    """Days scored one after the other in this process; the first only warms it up."""
    from tasks.command.steps import Steps
    from tasks.domain.run import RunRef

    settings, seconds = load_settings(), []
    for day in _days(first, (last - first).days + 1):
        began = time.monotonic()
        steps = Steps(settings, RunRef(f"alone-{day}"), lambda text: None, lambda done, total: None)
        result = steps.pipeline("score", PIPELINE, str(day))
        assert [one.status for one in result.partitions] == ["published"], result
        seconds.append(time.monotonic() - began)
    answer(seconds=seconds[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=int, default=28, help="of a backfill's window")
    parser.add_argument("--arrivals", type=int, default=20)
    parser.add_argument("--folder", type=Path, help="a folder for the platform's own")
    parser.add_argument("--side", choices=("alone",), help=argparse.SUPPRESS)
    for name in ("--first", "--last"):
        parser.add_argument(name, type=date.fromisoformat, help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.side:
        _alone(words.first, words.last)
        return
    from benchmarks.report import show

    show(measure(words.folder, days=words.days, arrivals=words.arrivals))


if __name__ == "__main__":
    main()
