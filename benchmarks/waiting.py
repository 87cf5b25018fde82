"""How long a scheduled score run waits while a long backfill is under way: from due to its first task running.

Daily pipelines of nothing but a clock, each due a few seconds after the one before; the schedule starts them, on a platform
that is busy with a backfill of another pipeline (ingest, train and score) all the while.
"""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from benchmarks.measure import say
from tasks.services import AirflowApi
from tasks.settings import Settings
from tests.support.clock import noon_zone

_AHEAD = 90
"""Seconds from writing the pipelines to the first moment: Airflow has read them by then."""
_BEFORE = 5
"""Seconds from the backfill's start to the first moment: it does not end before there was one."""
_SOURCE = """
grain: day
timezone: {timezone}
uri: "{{landing}}/{name}/{{partition}}.csv"
available: {available}
history: {today}
columns: {{id: string, x: float}}
"""
_PIPELINE = """
pipeline: {name}
grain: day
timezone: {timezone}
start: {start}
entity: [id]
as_of: start+{as_of}s
deadline: start+{deadline}s
lookback: 2d
sources: {{clock_rows: {{drives: true}}, clock_truth: }}
label: {{sql: x > 0, source: clock_truth}}
train: {{every: month, min_window: 5d, holdout: 4d, objective: binary:logistic, gpus: 0}}
gate: {{metric: auc}}
"""


def waits(
    settings: Settings, environment: dict[str, str], backfilled: str, first: date, last: date, *, count: int, every: int
) -> list[float]:
    """Seconds from due to the first task, of those scheduled runs that became due while the backfill ran.

    Args:
        settings: of a running platform whose config may be written to.
        environment: of its commands.
        backfilled: the pipeline of the backfill, which `first` and `last` are days of.
        count: pipelines that become due.
        every: seconds between two of them.
    """
    due = _write(settings.config, count, every)
    api = AirflowApi(settings)
    api.wait_for_dags([f"{name}__score" for name in due])
    days = "--from", str(first), "--to", str(last)
    command = [sys.executable, "-P", "-m", "tasks", "backfill", backfilled, *days, "--stages", "ingest,train,score"]
    time.sleep(max(0.0, (min(due.values()) - datetime.now(UTC)).total_seconds() - _BEFORE))
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as backfill:
        began = datetime.now(UTC)
        while datetime.now(UTC) < max(due.values()) + timedelta(seconds=60) and backfill.poll() is None:
            time.sleep(1)
        ended = datetime.now(UTC)
        backfill.terminate()  # its run is Airflow's by now, and is ended with the platform
    found = [_first(api, name, at) - at for name, at in due.items() if began <= at <= ended - timedelta(seconds=60)]
    if not found:
        raise SystemExit("no scheduled run became due while the backfill ran")
    say(f"  {len(found)} scheduled runs became due in {(ended - began).total_seconds():.0f} s of a backfill")
    return [one.total_seconds() for one in found]


def _first(api: AirflowApi, name: str, due: datetime) -> datetime:
    """When the first task of the run that became due then began."""
    for run in api.runs(f"{name}__score"):
        starts = [one.started for one in api.task_instances(run.dag_id, run.run_id) if one.started]
        if run.kind == "scheduled" and starts and datetime.fromisoformat(min(starts)) >= due:
            return datetime.fromisoformat(min(starts))
    raise SystemExit(f"{name}: no scheduled run began after {due}: {api.runs(f'{name}__score')}")


def _write(config: Path, count: int, every: int) -> dict[str, datetime]:
    """Write the pipelines; when each is due."""
    now = datetime.now(UTC)
    timezone, midnight = noon_zone(now)
    today = midnight.astimezone(ZoneInfo(timezone)).date()
    for name, available in (("clock_rows", "start-6h"), ("clock_truth", "end+1m")):
        folder = config / "sources" / name
        folder.mkdir(parents=True)
        text = _SOURCE.format(name=name, timezone=timezone, today=today, available=available)
        (folder / "source.yaml").write_text(text)
    found = {}
    for number in range(count):
        as_of = int((now - midnight).total_seconds()) + _AHEAD + number * every
        name = f"clock_{number}"
        folder = config / "pipelines" / name
        folder.mkdir(parents=True)
        values = {"name": name, "timezone": timezone, "start": today - timedelta(days=30), "as_of": as_of}
        (folder / "pipeline.yaml").write_text(_PIPELINE.format(**values, deadline=as_of + 600))
        (folder / "features.sql").write_text("select id, x from entities\n")
        found[name] = midnight + timedelta(seconds=as_of)
    return found
