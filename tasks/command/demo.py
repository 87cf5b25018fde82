"""`millrace demo`: the main job on real flights, through Airflow, with figures at the end."""

from __future__ import annotations

import resource
import threading
import time
from contextlib import contextmanager
from datetime import date
from typing import Any

from tasks.command import airflow
from tasks.command.output import progress, say, table
from tasks.domain import tables
from tasks.domain.ranges import pipeline_partitions
from tasks.domain.spec import PipelineSpec
from tasks.errors import MillraceError
from tasks.lake import Lake, open_lake, open_landing
from tasks.settings import Settings, load_pipeline

PIPELINE = "flight_delays"
HISTORY = (date(2013, 1, 1), date(2013, 10, 31))
DAYS = (date(2013, 11, 1), date(2013, 11, 14))
CHUNKED, SINGLE = (DAYS[0], date(2013, 11, 12)), (date(2013, 11, 13), DAYS[1])
"""The days of one backfill, and those that get a run each, as the schedule would start them."""
TRAININGS = ("2013-10", "2013-11")
DAILY = ("schedule", "weather", "outcomes")


def demo(settings: Settings) -> dict[str, Any]:
    """Feed, start, ingest January to October, train twice, then two weeks of November.

    Returns:
        The summary: seconds of each phase, verdicts, rows, AUC of the scored days, peak memory, addresses.
    """
    with _Memory(settings) as memory:
        summary = _run(settings)
    summary["memory_gb"] = round(memory.peak / 1e9, 2)
    check(summary)
    return summary


def _run(settings: Settings) -> dict[str, Any]:
    from tasks.feed import feed
    from tasks.services import AirflowApi, addresses

    began = time.monotonic()
    seconds: dict[str, float] = {}
    spec = load_pipeline(settings.config, PIPELINE)
    lake = open_lake(settings)
    with _phase("feed the landing zone", seconds):
        landing, root = open_landing(settings), settings.landing_uri
        fed = feed(put=unless_equal(landing, root), sources=(*DAILY, "planes"), first=HISTORY[0], last=DAYS[1])
        say(f"  {fed.files} files, {fed.rows} rows, {fed.bytes / 1e6:.0f} MB in {root}")
    with _phase("start the platform", seconds):
        start(settings)
    api = AirflowApi(settings)
    with _phase("ingest January to October", seconds):
        airflow.ingest(api, "  runs ended", spec, *HISTORY)
    verdicts = []
    for training in TRAININGS:
        with _phase(f"train {training}", seconds):
            verdicts.append(airflow.train(api, spec, training))
            say(f"  {_verdict(lake, training)}")
    with _phase("1 to 12 November, one backfill", seconds):
        airflow.backfill(api, PIPELINE, *CHUNKED, stages=("ingest", "score"), options={})
    with _phase("13 and 14 November, a run a day", seconds):
        dags = [f"{name}__ingest" for name in DAILY] + [f"{PIPELINE}__score"]
        airflow.airflow_backfills(settings, api, "  runs ended", dags, *SINGLE, runs_at_a_time=4)
    where = addresses(settings)
    return {
        "seconds": {**seconds, "total": round(time.monotonic() - began, 1)},
        "verdicts": [_verdict(lake, training) for training in TRAININGS],
        **published(spec, lake),
        "airflow": where.airflow,
        "mlflow": where.mlflow,
        "user": where.user,
        "password": where.password,
    }


def start(settings: Settings) -> None:
    """Start the platform with a progress bar."""
    from tasks.services import up

    with progress("  services") as show:
        up(settings, lambda done, total, text: show(done, total))


def published(spec: PipelineSpec, lake: Lake) -> dict[str, Any]:
    """Rows and AUC of the scored days against the real outcomes, from the tables themselves."""
    from tasks.compute.metrics import metric

    predictions = lake.table(tables.predictions(spec.pipeline))
    days = [(p.key,) for p in pipeline_partitions(spec, *DAYS)]
    scores = predictions.read(version=predictions.version(), keys=days).to_pandas()
    schedule = _clean(lake, "schedule", days, ["flight_id"])
    outcomes = _clean(lake, "outcomes", days, ["flight_id", "arr_delay"])
    joined = scores.merge(outcomes.dropna(), on="flight_id")
    auc = metric("auc", (joined["arr_delay"] > 15).to_numpy(dtype=float), joined["score"].to_numpy())
    return {
        "days": int(scores["partition_key"].nunique()),
        "predictions": len(scores),
        "flights": int(scores["flight_id"].nunique()),
        "scheduled": len(schedule),
        "with_outcome": len(joined),
        "auc": round(float(auc), 4),
        "versions": sorted(int(version) for version in scores["model_version"].unique()),
    }


def check(summary: dict[str, Any]) -> None:
    """Refuse to call a demo green whose claims do not hold."""
    if not summary["predictions"] == summary["flights"] == summary["scheduled"]:
        raise MillraceError(
            f"demo: {summary['predictions']} predictions of {summary['flights']} flights, {summary['scheduled']} were scheduled"
        )
    if not 0.60 <= summary["auc"] <= 0.70:
        raise MillraceError(f"demo: AUC {summary['auc']} is not between 0.60 and 0.70")


def report(summary: dict[str, Any]) -> str:
    """The summary for a person."""
    rows = [(phase, f"{seconds:.0f} s") for phase, seconds in summary["seconds"].items()]
    lines = [
        "",
        table(("phase", "wall clock"), rows),
        "",
        *summary["verdicts"],
        f"published {summary['predictions']} predictions for {summary['scheduled']} scheduled flights of {summary['days']} days, "
        f"by version {' and '.join(map(str, summary['versions']))}",
        f"AUC {summary['auc']:.4f} against the {summary['with_outcome']} real outcomes (about 0.65 is what can be known at four in the morning)",
        f"memory of the platform and its steps at most {summary['memory_gb']:.1f} GB",
        "",
        f"Airflow  {summary['airflow']}   user {summary['user']}, password {summary['password']}",
        f"MLflow   {summary['mlflow']}",
        "They stay up until `make down`.",
    ]
    return "\n".join(lines)


@contextmanager
def _phase(title: str, seconds: dict[str, float]):
    say(title)
    began = time.monotonic()
    yield
    seconds[title] = round(time.monotonic() - began, 1)


def unless_equal(landing, root: str):
    """Deliver a file only where other bytes lie, so that a second demo is no new arrival."""

    def put(key: str, content: bytes) -> None:
        uri = f"{root}/{key}"
        info = landing.head(uri)
        if info is None or info.size != len(content) or landing.get(uri) != content:
            landing.put(uri, content)

    return put


def _verdict(lake: Lake, training: str) -> str:
    events = [event for event in lake.ledger(PIPELINE).events() if event["training"] == training]
    if not events:
        return f"training {training}: no verdict"
    event = events[-1]
    effect = f", champion from {event['effective_from'][:16]} UTC" if event["to_model"] == event["candidate"] else ""
    return f"training {training}: version {event['candidate']['version']} {event['verdict']}{effect}: {event['reason']}"


def _clean(lake: Lake, source: str, days: list[tuple[str]], columns: list[str]):
    """The newest clean revision of each day."""
    clean = lake.table(tables.clean(source))
    version = clean.version()
    newest: dict[str, int] = {}
    for key, revision in clean.entries(version=version):
        newest[key] = max(revision, newest.get(key, 0))
    keys = [(key, newest[key]) for (key,) in days]
    return clean.read(version=version, keys=keys, columns=columns).to_pandas()


class _Memory:
    """The most memory that the platform and its steps held together, sampled every three seconds."""

    def __init__(self, settings: Settings) -> None:
        self.peak = 0
        self._settings = settings
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="demo-memory", daemon=True)

    def __enter__(self) -> _Memory:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join(timeout=30)

    def _sample(self) -> None:
        from tasks.services import status

        own = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        while not self._ended.wait(3):
            held = sum(part.memory or 0 for part in status(self._settings))
            self.peak = max(self.peak, held + own)
