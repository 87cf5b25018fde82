"""The platform's own servers die in the middle of a backfill: one command brings it to its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import date
from urllib.parse import quote

import psutil

from tasks import services
from tests.e2e.conftest import Platform
from tests.support.pipelines import deliver

FIRST, LAST = date(2024, 2, 19), date(2024, 2, 29)


def test_a_database_and_an_mlflow_that_die_in_a_backfill_lose_nothing(platform: Platform) -> None:
    deliver(platform.landing, date(2024, 2, 15), LAST)
    for verb in ("ingest", "validate"):  # what is there already stays
        platform.command("run", verb, "returns", "2024-01-01..2024-02-18")
    platform.command("run", "promote", "returns", "2024-02")
    keys = {f"2024-02-{day}" for day in range(FIRST.day, LAST.day + 1)}
    words = ("backfill", "returns", "--from", str(FIRST), "--to", str(LAST))
    command = [sys.executable, "-P", "-m", "tasks", *words, "--json"]
    first = subprocess.Popen(
        command, env=platform.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    _until(lambda: set(_commits(platform, "sources/orders/clean")) & keys, first)
    for service in ("mlflow", "postgres"):
        os.kill(_pid(platform, service), signal.SIGKILL)
    time.sleep(5)  # what runs goes on, and what asks is refused
    services.up(platform.settings)
    out, err = first.communicate(timeout=600)
    assert first.returncode in (0, 1), err
    platform.command(*words)  # what it says when it was cut off: the same command again
    assert platform.command(*words)["published"] == 0
    for table in ("sources/orders/clean", "sources/arrivals/clean", "returns/predictions"):
        commits = _commits(platform, table)
        assert {key: commits[key] for key in keys} == dict.fromkeys(keys, 1), table
    ledger = [event["number"] for event in platform.lake.ledger("returns").events()]
    assert ledger == list(range(1, len(ledger) + 1))
    print(first.returncode, out, err)


def _pid(platform: Platform, service: str) -> int:
    (one,) = [one for one in services.status(platform.settings) if one.name == service]
    return one.pid


def _commits(platform: Platform, table: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for commit in platform.lake.table(table).commits():
        for entry in commit.entries:
            found[entry.key[0]] = found.get(entry.key[0], 0) + 1
    return found


def _until(what, command: subprocess.Popen, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end and command.poll() is None, "it ended before anything was killed"
        time.sleep(0.2)


def test_a_backfill_can_be_held_and_ended_in_airflow_and_the_next_one_goes_on(platform: Platform) -> None:
    first, last = date(2024, 3, 1), date(2024, 3, 8)
    deliver(platform.landing, first, last)
    words = ("backfill", "returns", "--from", str(first), "--to", str(last), "--stages", "ingest")
    keys = {f"2024-03-{day:02d}" for day in range(first.day, last.day + 1)}

    def landed() -> set[str]:
        return keys & set(_commits(platform, "sources/orders/raw"))

    platform.api.pause("returns__backfill")
    command = subprocess.Popen(
        [sys.executable, "-P", "-m", "tasks", *words, "--json"],
        env=platform.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def running() -> list[services.Run]:
        return [one for one in platform.api.runs("returns__backfill") if one.state in ("queued", "running")]

    _until(running, command)
    time.sleep(5)
    assert not landed(), "a paused backfill went on"
    platform.api.pause("returns__backfill", paused=False)
    _until(lambda: _steps(platform), command)
    (run,) = running()
    platform.api.request("PATCH", f"/dags/returns__backfill/dagRuns/{quote(run.run_id, safe='')}", {"state": "failed"})
    _out, err = command.communicate(timeout=120)
    assert command.returncode == 1, err
    end = time.monotonic() + 60
    while steps := _steps(platform):
        assert time.monotonic() < end, f"still at work: {steps}"
        time.sleep(0.2)
    platform.command(*words)
    assert landed() == keys
    commits = _commits(platform, "sources/orders/clean")
    assert {key: commits[key] for key in keys} == dict.fromkeys(keys, 1)


def _steps(platform: Platform) -> list[list[str]]:
    """The processes of steps at work."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "run" in words and "--input" in words:
            with suppress(psutil.Error):
                if process.environ().get("MILLRACE_HOME") == platform.environment["MILLRACE_HOME"]:
                    found.append(words)
    return found
