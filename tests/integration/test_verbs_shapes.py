"""Pipelines of other shapes, from other formats, added with YAML and SQL only: each runs the full loop."""

from __future__ import annotations

import json
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from tasks.command.check import check
from tasks.command.report import report
from tasks.command.steps import Steps
from tasks.compute.rows import read_rows
from tasks.domain.partition import span
from tasks.domain.promotion import LedgerEvent
from tasks.domain.results import FeaturizeResult, TrainingPin
from tasks.domain.run import RunRef
from tasks.lake.versions import load_version
from tasks.maintain import maintain
from tasks.settings import load_pipeline
from tasks.spans import join_span, rows_of, window_of
from tests.support.project import Project, make_project
from tests.support.rows import later, scatter
from tests.support.shapes import BERLIN, TIPS, write_harvest, write_rides


@pytest.fixture(scope="module")
def harvest(tmp_path_factory: pytest.TempPathFactory, mlflow_uri: str) -> Project:
    """The weekly regression, trained for May and scored for three weeks."""
    folder: Path = tmp_path_factory.mktemp("harvest")
    project = make_project(folder, mlflow=mlflow_uri)
    write_harvest(folder / "config", project.incoming)
    weeks = "2024-01-01..2024-05-27"
    project.load({"plans": weeks, "yields": weeks, "rain": "2024-01-01..2024-06-02"})
    assert project.run("promote", "harvest", "2024-05").promoted
    project.run("score", "harvest", "2024-05-06..2024-05-27")
    return project


@pytest.fixture(scope="module")
def rides(tmp_path_factory: pytest.TempPathFactory, mlflow_uri: str) -> Project:
    """The hourly classes, trained for Sunday 27 October and scored over its 25 hours."""
    folder: Path = tmp_path_factory.mktemp("rides")
    project = make_project(folder, mlflow=mlflow_uri)
    write_rides(folder / "config", project.incoming)
    project.load({"bookings": "2024-10-24..2024-10-27", "receipts": "2024-10-24T00+0200..2024-10-27T23+0100"})
    assert project.run("promote", "rides", "2024-10-27").promoted
    project.run("score", "rides", "2024-10-27T00+0200..2024-10-27T23+0100")
    return project


def test_both_are_accepted_by_check(harvest: Project, rides: Project):
    assert [one[2] for project in (harvest, rides) for one in check(project.settings, [])] == ["", ""]


def test_a_weekly_regression_learns_from_decimal_commas_parquet_and_daily_json(harvest: Project):
    scores = {(row["farm"], row["field"]): row["score"] for row in harvest.rows("harvest/predictions", ("2024-05-13",))}
    truth = harvest.rows("sources/yields/clean", ("2024-05-13", 1))
    errors = [abs(scores[row["farm"], row["field"]] - row["tons"]) for row in truth if row["tons"] is not None]
    spread = [abs(row["tons"] - 20) for row in truth if row["tons"] is not None]
    assert sum(errors) < 0.4 * sum(spread)


def test_rows_that_the_features_leave_out_are_counted_as_filtered(harvest: Project):
    entry = harvest.entry("harvest/predictions", "2024-05-13")
    assert entry.rows == 36
    assert (entry.meta["driving"], entry.meta["quarantined"], entry.meta["filtered"]) == (
        40,
        0,
        {"not returned by features.sql": 4},
    )


def test_a_week_over_the_change_of_clocks_reads_its_days(harvest: Project):
    # The week of 1 April: daily rain of three weeks back, among it Sunday 31 March of 23 hours.
    view = harvest.entry("harvest/predictions", "2024-05-06").meta["view"]
    reads = harvest.entry(f"harvest/features/{view}", "2024-04-01").meta["reads"]["rain"]
    assert (reads["first"], reads["last"], reads["partitions"]) == ("2024-03-11", "2024-03-31", 21)


def evidence(project: Project, name: str) -> dict:
    """What the lake keeps of a pipeline's first judgement."""
    (event,) = project.lake.ledger(name).events()
    return json.loads(project.lake.objects.get(f"evidence/{event['evidence']}.json"))


def test_a_slice_holds_the_rows_whose_driving_row_has_its_value(harvest: Project):
    seen = evidence(harvest, "harvest")
    weeks = ("2024-04-08", "2024-04-15", "2024-04-22")
    assert seen["evidence"]["holdout"] == [weeks[0], weeks[-1]]
    crops = Counter(row["crop"] for week in weeks for row in harvest.rows("sources/plans/clean", (week, 1)))
    slices = seen["slices"]["crop"]
    assert {one["value"]: one["rows"] for one in slices["judged"]} == {c: n for c, n in crops.items() if c is not None}
    assert all(one["low"] <= one["gain"] <= one["high"] for one in slices["judged"])
    by_day = seen["slices"]["sown"]
    assert by_day["judged"] == [] and by_day["not_judged"][0]["why"] == "fewer than 200 rows"
    assert sum(one["rows"] for one in by_day["not_judged"]) + by_day["others"]["rows"] == 108
    told = LedgerEvent.from_dict(harvest.lake.ledger("harvest").events()[0]).reason
    assert "no slice by sown was large enough to judge" in told


def test_slices_of_hours_take_each_ride_from_its_own_hour_of_the_daily_file(rides: Project):
    seen = evidence(rides, "rides")
    first, last = seen["evidence"]["holdout"]
    zones = {row["ride"]: row["zone"] for row in rides.rows("sources/bookings/clean")}
    hours = [str(hour) for hour in span("hour", BERLIN, f"{first}..{last}")]
    expected = Counter(zones[row["ride"]] for h in hours for row in rides.rows("sources/receipts/clean", (h, 1)))
    assert {one["value"]: one["rows"] for one in seen["slices"]["zone"]["judged"]} == dict(expected)


def test_the_hours_of_a_day_are_one_block_of_the_evidence_and_of_the_report(rides: Project):
    seen = evidence(rides, "rides")
    hours = span("hour", BERLIN, "..".join(seen["evidence"]["holdout"]))
    assert seen["blocks"] == len({hour.local_start.date() for hour in hours}) < seen["evidence"]["partitions"]
    steps = Steps(rides.settings, RunRef("report"), lambda text: None, lambda done, total: None)
    found = report(steps, "rides", date(2024, 10, 27), date(2024, 10, 27)).total
    assert found.partitions > 20  # of a single day, which says nothing of another one
    assert [(one.gain_low, one.says) for one in found.policies] == [(None, "")] * 4


def test_the_evidence_holds_calibration_and_cost_of_regressions_and_of_classes(harvest: Project, rides: Project):
    for project, name, rows in ((harvest, "harvest", 108), (rides, "rides", 240)):
        seen = evidence(project, name)
        bins = seen["calibration"]["challenger"]["bins"]
        assert sum(one["rows"] for one in bins) == rows == seen["evidence"]["rows"]
        assert 8 <= len(bins) <= 10  # fewer where predictions are equal
        assert len(seen["calibration"]["baseline"]["bins"]) == 1  # of the constant
        assert [one["predicted"] for one in bins] == sorted(one["predicted"] for one in bins)
        cost = seen["evidence"]["cost"]
        assert 0 < cost["ms_per_1000_rows"] < 10_000 and 0 < cost["model_mb"] < 10 and cost["memory_mb"] >= 0
        assert seen["evidence"]["smallest_effect"] > 0 and seen["evidence"]["delong"] is None


def test_each_hour_of_a_day_of_25_hours_is_scored_once(rides: Project):
    entries = rides.table("rides/predictions").entries()
    # Effective at midnight's as_of, ten minutes before the day: all of its hours have a champion.
    assert len(entries) == 25 and {"2024-10-27T02+0200", "2024-10-27T02+0100"} < {key for (key,) in entries}
    assert {entry.rows for entry in entries.values()} == {10}
    rows = rides.rows("rides/predictions")
    assert len({row["ride"] for row in rows}) == len(rows) == 250
    twice = [rides.rows("rides/predictions", (key,)) for key in ("2024-10-27T02+0200", "2024-10-27T02+0100")]
    assert [{row["ride"][:10] for row in hour} for hour in twice] == [{"2024102700"}, {"2024102701"}]


def test_several_classes_are_published_with_their_probabilities(rides: Project):
    rows = rides.rows("rides/predictions")
    for row in rows:
        assert row["predicted"] in TIPS and len(row["scores"]) == 3
        assert row["score"] == max(row["scores"]) and abs(sum(row["scores"]) - 1) < 1e-5
    truth = {row["ride"]: row["tip"] for row in rides.rows("sources/receipts/clean")}
    assert sum(row["predicted"] == truth[row["ride"]] for row in rows) > 0.75 * len(rows)


def test_hours_read_what_was_known_ten_minutes_before(rides: Project):
    view = rides.entry("rides/predictions", "2024-10-27T03+0100").meta["view"]
    reads = rides.entry(f"rides/features/{view}", "2024-10-27T03+0100").meta["reads"]
    # The hour before, the second 02, is not over at ten to three; six elapsed hours reach back to 22 in summer time.
    assert (reads["receipts"]["first"], reads["receipts"]["last"]) == ("2024-10-26T22+0200", "2024-10-27T02+0200")
    # Of bookings, which it does not look back on, the day that holds its own rows.
    assert reads["bookings"] == {"first": "2024-10-27", "last": "2024-10-27", "partitions": 1, "restated": []}


def test_the_hourly_partitions_of_one_delivery_account_for_all_of_its_rows(rides: Project):
    entries = rides.table("rides/predictions").entries().values()
    assert sum(entry.meta["driving"] for entry in entries) == rides.entry("sources/bookings/raw", "2024-10-27", 1).rows


def test_hours_are_scored_again_from_the_versions_that_they_read_although_those_were_compacted_and_vacuumed(
    rides: Project, tmp_path: Path
):
    project = rides.copy(tmp_path / "rides")
    before = project.rows("rides/predictions")
    names = [f"sources/{source}/{table}" for source in ("bookings", "receipts") for table in ("raw", "clean")]
    for _ in range(2):  # the second vacuum deletes the files of before the first compaction
        for name in names:
            scatter(project.table(name), 10)
        done = maintain(
            names=names,
            lake=project.lake,
            history=timedelta(0),
            file_bytes=1 << 20,
            run=RunRef("maintain"),
            now=later(1),
        )
        assert [one.problem for one in done.tables] == [""] * 4 and sum(one.deleted for one in done.tables) > 50
    project.run("score", "rides", "2024-10-27T00+0200..2024-10-27T23+0100", force=True)
    assert project.rows("rides/predictions") == before


def trained_window(project: Project, name: str):
    """What version 1 of a pipeline was trained on, from its descriptor."""
    spec, version = load_pipeline(project.settings.config, name), load_version(project.lake, name, 1)
    pin = TrainingPin(
        pipeline=name,
        training=version["training"],
        as_of=version["as_of"],
        train=tuple(version["train"]),
        holdout=tuple(version["holdout"]),
        view=version["view"],
        champion=None,
        events=0,
        snapshots=version["inputs"],
    )
    return window_of(spec, pin, FeaturizeResult(name, version["inputs"], (), 0), project.lake)


@pytest.mark.parametrize("name", ["harvest", "rides"])
def test_a_window_joined_in_many_spans_gives_what_it_gives_as_one(name: str, request, tmp_path: Path):
    project = request.getfixturevalue(name)
    window = trained_window(project, name)
    found = []
    for most, partitions in ((10**6, len(window.rows)), (1, 1)):
        spans, folder = window.spans(most), tmp_path / str(most)
        assert {one.partitions for one in spans} == {partitions}
        folder.mkdir()
        rows = rows_of(window, spans, [join_span(window, one, project.lake, folder) for one in spans])
        matrix, label = read_rows(rows.seen.groups, rows.data, rows.encoding, whole=name == "rides")
        found.append((matrix, label, rows))
    (matrix, label, one), (other_matrix, other_label, many) = found
    np.testing.assert_array_equal(matrix, other_matrix)
    np.testing.assert_array_equal(label, other_label)
    assert (one.encoding, one.classes, one.dropped) == (many.encoding, many.classes, many.dropped)
    assert one.constant == pytest.approx(many.constant, rel=1e-12)
    assert (one.seen.low, one.seen.high, one.seen.empty) == (many.seen.low, many.seen.high, many.seen.empty)
    assert bool(many.data.codes) is (name == "rides")  # ten rides of an hour don't always have each class
