"""The platform's own servers die in the middle of a backfill: one command brings it to its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import date

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
    assert first.returncode in (0, 1, 75), err
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
