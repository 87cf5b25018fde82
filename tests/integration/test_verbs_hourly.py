"""The project's own hourly pipeline, on real flights: hourly and daily sources, the hour that comes twice, one model."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path

import pytest

from tasks.errors import NotFoundError
from tasks.explain import why
from tasks.feed import feed, into_folder
from tasks.settings import REPOSITORY, load_pipeline
from tests.support.project import Project, make_project

PIPELINE = "departure_delays"
FIRST, LAST = date(2013, 10, 21), date(2013, 11, 3)  # the clocks go back on the last day
NEXT = date(2013, 11, 4)
TWICE = ("2013-11-03T01-0400", "2013-11-03T01-0500")


def test_each_hour_of_a_day_of_twenty_five_is_scored_once_by_a_model_trained_from_hours(
    tmp_path: Path, mlflow_uri: str
):
    project = _project(tmp_path, mlflow_uri)
    sources = ("schedule", "outcomes", "movements", "observations")
    # the next day's schedule is known by the evening, so the last hours wait for it
    feed(put=into_folder(project.incoming), sources=sources, first=FIRST, last=NEXT)
    hours = f"{FIRST}T00-0400..{LAST}T23-0500"
    project.load({"schedule": f"{FIRST}..{NEXT}", "outcomes": f"{FIRST}..{date(2013, 11, 2)}"})
    project.load({"movements": hours, "observations": hours})
    verdict = project.run("promote", PIPELINE, str(LAST))
    assert (verdict.verdict, verdict.promoted) == ("promote", True), verdict.reason
    scored = project.run("score", PIPELINE, f"{LAST}T05-0500..{LAST}T23-0500")
    assert len(scored.partitions) == 19 and not scored.skipped
    assert sum(one.rows for one in scored.partitions) == sum(one.driving for one in scored.partitions) > 600
    (flight, *_) = project.rows(f"{PIPELINE}/predictions", (f"{LAST}T10-0500",))
    spec = load_pipeline(project.settings.config, PIPELINE)
    ask = {"spec": spec, "entity": {"flight_id": flight["flight_id"]}, "lake": project.lake, "threads": 1}
    with pytest.raises(NotFoundError, match=f"lies in partition {LAST}T10-0500"):
        why(partition=spec.partition(f"{LAST}T11-0500"), **ask)
    assert why(partition=spec.partition(f"{LAST}T10-0500"), **ask).prediction["score"] == flight["score"]
    early = project.run("pin", PIPELINE, f"{LAST}T00-0400..{LAST}T04-0500")
    keys = [one.key for one in early.skipped]
    assert len(keys) == 6 and set(TWICE) < set(keys)  # before the first champion's lead is over
    assert {one.reason for one in early.skipped} == {"no champion"}


def _project(folder: Path, mlflow_uri: str) -> Project:
    """The project's own configuration with a shorter past, so that two weeks are enough."""
    shutil.copytree(REPOSITORY / "config", folder / "config")
    shutil.rmtree(folder / "config" / "pipelines" / "flight_delays")
    file = folder / "config" / "pipelines" / PIPELINE / "pipeline.yaml"
    text = file.read_text()
    for old, new in (
        ("start: 2013-01-01", f"start: {date(2013, 10, 24)}"),
        ("lookback: 7d", "lookback: 2d"),
        ("every: month", "every: day"),
        ("min_window: 30d", "min_window: 4d"),
        ("holdout: 28d", "holdout: 3d"),
        ("rounds: 150", "rounds: 20"),
    ):
        assert old in text, old
        text = text.replace(old, new)
    file.write_text(text)
    return make_project(folder, mlflow=mlflow_uri)
