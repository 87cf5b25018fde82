"""Waiting without a slot: the trigger looks at the real landing zone and lake."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from millrace_airflow.readiness import missing_inputs, patience_ends
from millrace_airflow.triggers import ReadyTrigger

from tasks.domain.partition import iso
from tasks.settings import Settings, load_settings
from tests.support.pipelines import deliver, write_config


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A tiny pipeline whose deliveries are not there yet."""
    monkeypatch.setenv("MILLRACE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MILLRACE_CONFIG", str(write_config(tmp_path / "config", "tiny")))
    monkeypatch.setenv("MILLRACE_POLL", "0.05")
    return load_settings()


def trigger(partition: str, *, seconds: float, verb: str = "ingest", name: str = "orders") -> ReadyTrigger:
    until = iso(datetime.now(UTC) + timedelta(seconds=seconds))
    return ReadyTrigger(verb=verb, name=name, partition=partition, until=until)


def event(waiting: ReadyTrigger, *, meanwhile=None) -> dict:
    """The trigger's event; `meanwhile` is called while it waits."""

    async def run() -> dict:
        task = asyncio.ensure_future(anext(waiting.run()))
        if meanwhile is not None:
            await asyncio.sleep(0.3)
            assert not task.done()
            meanwhile()
        return (await task).payload

    return asyncio.run(run())


def test_it_fires_as_soon_as_the_file_has_arrived(settings):
    landing = Path(settings.landing_uri)
    got = event(
        trigger("2024-01-05", seconds=30), meanwhile=lambda: deliver(landing, date(2024, 1, 5), date(2024, 1, 5))
    )
    assert (got["missing"], got["error"]) == ([], None)


def test_it_waits_for_each_file_of_a_range(settings):
    deliver(Path(settings.landing_uri), date(2024, 1, 5), date(2024, 1, 6))
    got = event(trigger("2024-01-05..2024-01-08", seconds=0.2))
    assert got["missing"] == ["orders/2024-01-07", "orders/2024-01-08"]


def test_when_patience_is_over_it_says_what_is_missing(settings):
    waiting = trigger("2024-01-05", seconds=0)
    assert event(waiting) == {"until": waiting.until, "missing": ["orders/2024-01-05"], "error": None}


def test_a_broken_spec_ends_the_waiting_with_its_error(settings):
    file = settings.config / "sources" / "orders" / "source.yaml"
    file.write_text(file.read_text().replace("available", "availble"))
    got = event(trigger("2024-01-05", seconds=30))
    assert "did you mean 'available'?" in got["error"]


def test_a_trigger_survives_its_way_through_the_database(settings):
    waiting = trigger("2024-01-05", seconds=5)
    path, values = waiting.serialize()
    assert path == "millrace_airflow.triggers.ReadyTrigger"
    assert ReadyTrigger(**values).serialize() == waiting.serialize()


def test_an_empty_lake_lacks_what_a_training_and_its_labels_need(settings):
    missing = missing_inputs(settings, "pin_training", "tiny", "2024-02")
    assert {name.split("/")[0] for name in missing} >= {"orders", "arrivals"}


def test_scoring_waits_until_its_deadline_and_not_less_than_patience(settings):
    now = datetime.now(UTC)
    old = patience_ends(settings, "pin", "tiny", "2024-01-05")
    assert timedelta(seconds=settings.patience - 5) < old - now < timedelta(seconds=settings.patience + 60)
    pipeline = settings.config / "pipelines" / "tiny" / "pipeline.yaml"
    ahead = (now + timedelta(days=3)).date()
    pipeline.write_text(pipeline.read_text().replace("2024-12-31", str(ahead + timedelta(days=9))))
    assert patience_ends(settings, "pin", "tiny", str(ahead)) > now + timedelta(days=2)
