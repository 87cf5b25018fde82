"""The live pipeline of the end-to-end tests, which may start at any time of the day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tasks.domain.partition import Partition
from tasks.settings import load_pipeline
from tests.support.clock import DAYS, write_clock

NEAR = timedelta(hours=1)


@pytest.mark.parametrize("time", ["00:00:00", "00:00:50", "05:59:59", "12:00:00", "18:30:00", "22:10:00", "23:59:59"])
def test_its_moments_lie_in_its_day_and_yesterdays_labels_are_known_whenever_it_starts(tmp_path: Path, time: str):
    now = datetime.fromisoformat(f"2026-03-01T{time}").replace(tzinfo=UTC)
    clock = write_clock(tmp_path / "config", tmp_path / "landing", seconds=120, now=now)
    spec = load_pipeline(tmp_path / "config", "clock")
    today = Partition.on(spec.grain, spec.timezone, clock.today)
    assert today.start + NEAR < now < today.end - NEAR
    assert spec.as_of.at(today) == clock.as_of
    assert timedelta(seconds=119) < clock.as_of - now <= timedelta(seconds=120)
    sources = {name: use.source for name, use in spec.sources.items()}
    assert {one.timezone for one in sources.values()} == {spec.timezone}
    assert {sources[name].declared(today) for name in ("arrivals_today", "prices_today")} == {clock.available}
    assert sources["truth"].declared(today.previous()) < now - NEAR
    assert not sources["truth"].is_history(today) and sources["truth"].is_history(today.previous())
    delivered = {file.stem for file in (tmp_path / "landing" / "truth").iterdir()}
    assert len(delivered) == DAYS and max(delivered) == today.previous().key
