"""The demo's pipelines: each gives one row of sane features for each flight, from the first partition on."""

from __future__ import annotations

from datetime import date, timedelta
from functools import lru_cache

import pandas as pd
import pyarrow as pa
import pytest

from tasks.domain.cut import Delivery, driving_keys, visible
from tasks.domain.spec import PipelineSpec
from tasks.feed import feed
from tasks.formats import read_file
from tasks.settings import REPOSITORY, features_sql, load_pipeline
from tasks.sql.features import Computed, Cut, FeatureEngine, SourceRows

CONFIG = REPOSITORY / "config"


def compute(name: str, *keys: str, days: int) -> list[Computed]:
    """Features of partitions from feeds of their day and some days before it."""
    spec = load_pipeline(CONFIG, name)
    last = max(spec.partition(key).local_start.date() for key in keys)
    first = max(date(2013, 1, 1), last - timedelta(days=days))
    rows, deliveries = {}, {}
    for source in spec.sources:
        rows[source], deliveries[source] = delivered(spec, source, first, last)
    with FeatureEngine(rows, driver=spec.driver.name, time=spec.driver.time, entity=spec.entity) as engine:
        return list(engine.compute_all(features_sql(CONFIG, spec), [cut(spec, key, deliveries) for key in keys]))


@lru_cache
def dealt(source: str, first: date, last: date) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    feed(put=files.__setitem__, sources=(source,), first=first, last=last)
    return files


def delivered(spec: PipelineSpec, name: str, first: date, last: date):
    source, tables, known = spec.sources[name].source, [], {}
    for uri, content in dealt(name, first, last).items():
        key = "all" if source.grain == "none" else uri.rpartition("/")[2].partition(".")[0]
        known[key] = (Delivery(1, source.declared(source.partition(key))),)
        table = read_file(content, uri=uri, source=source).table
        fixed = {"partition_key": key, "revision": 1, "_known_at": known[key][0].known_at}
        for column, value in fixed.items():
            table = table.append_column(column, pa.array([value] * len(table), KINDS[column]))
        tables.append(table)
    return SourceRows(source.columns, pa.concat_tables(tables)), known


KINDS = {"partition_key": pa.string(), "revision": pa.int64(), "_known_at": pa.timestamp("us", tz="UTC")}


def cut(spec: PipelineSpec, key: str, deliveries: dict) -> Cut:
    partition = spec.partition(key)
    return Cut(
        key,
        spec.as_of.at(partition),
        partition.start,
        partition.end,
        {name: visible(spec, use.source, partition, deliveries[name]).revisions for name, use in spec.sources.items()},
        tuple((driving, 1) for driving in driving_keys(spec, partition)),
    )


def frame(computed: Computed) -> pd.DataFrame:
    assert computed.table.num_rows == computed.entities
    return computed.table.to_pandas().set_index("flight_id")


@pytest.fixture(scope="module")
def daily() -> list[Computed]:
    return compute("flight_delays", "2013-11-03", "2013-11-04", days=8)


@pytest.fixture(scope="module")
def hourly() -> list[Computed]:
    return compute("departure_delays", "2013-11-03T01-0400", "2013-11-03T09-0500", "2013-11-03T17-0500", days=3)


@pytest.mark.parametrize("name", ["flight_delays", "departure_delays"])
def test_a_pipeline_fits_in_forty_lines(name):
    assert len((CONFIG / "pipelines" / name / "pipeline.yaml").read_text().splitlines()) <= 40


def test_every_flight_of_a_day_has_its_features(daily):
    for computed, flights in zip(daily, (902, 978), strict=True):
        features = frame(computed)
        assert len(features) == flights
        rates = features.filter(like="_late_")
        assert rates.min().min() >= 0 and rates.max().max() <= 1
        assert rates.notna().mean().min() > 0.8


def test_features_tell_neither_a_flights_outcome_nor_its_aircrafts_other_flights(daily, hourly):
    for computed in (*daily, *hourly):
        names = set(computed.table.column_names)
        assert not names & {"dep_delay", "arr_delay", "air_time", "cancelled", "diverted", "tailnum"}


def test_a_broken_wind_gauge_does_not_reach_the_features():
    (computed,) = compute("flight_delays", "2013-02-13", days=2)
    assert frame(computed).wind.max() < 200


def test_the_first_day_has_features_though_nothing_went_before():
    (computed,) = compute("flight_delays", "2013-01-01", days=0)
    features = frame(computed)
    assert len(features) == 842
    assert features.number_late_28d.isna().all()
    assert features.departure_minute.notna().all()


def test_an_hour_holds_the_flights_scheduled_in_it(hourly):
    night, morning, evening = (frame(computed) for computed in hourly)
    assert len(night) == 0
    assert morning.departure_minute.between(9 * 60, 10 * 60 - 1).all()
    assert evening.departure_minute.between(17 * 60, 18 * 60 - 1).all()
    assert len(morning) > 30 and len(evening) > 30


def test_how_the_day_runs_is_known_in_the_evening_and_not_at_the_start_of_the_day(hourly):
    _, morning, evening = (frame(computed) for computed in hourly)
    assert evening.airport_delay_2h.notna().all()
    assert evening.airport_waiting_2h.between(0, 1).all()
    assert evening.pressure_change.notna().all()
    # at seven only the hour to six is known, and with it nobody's whole two hours
    assert morning.airport_delay_2h.equals(morning.airport_delay_6h)
