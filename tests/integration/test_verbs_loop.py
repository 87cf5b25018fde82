"""The whole loop, on a folder and on S3: ingest, validate, train, promote, score; and all of it a second time."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime

import pytest

from tasks.domain.promotion import LedgerEvent
from tests.support.pipelines import deliver, write_config
from tests.support.project import Project, make_project

LOADS = {"orders": "2024-01-01..2024-02-05", "arrivals": "2024-01-01..2024-02-04", "shops": "all"}
SCORED = "2024-02-01..2024-02-05"


@pytest.fixture(scope="module", params=["folder", "s3"])
def looped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, mlflow_uri: str) -> Project:
    """A project through which everything ran once."""
    folder = tmp_path_factory.mktemp(request.param)
    s3 = {}
    if request.param == "s3":
        s3 = {"bucket": request.getfixturevalue("new_bucket")(), "endpoint": request.getfixturevalue("s3_endpoint")}
    name = f"loop_{request.param}"
    write_config(folder / "config", name)
    project = make_project(folder, mlflow=mlflow_uri, **s3)
    deliver(project.incoming, date(2024, 1, 1), date(2024, 2, 5))
    project.load(LOADS)
    project.run("promote", name, "2024-02")
    project.run("score", name, SCORED)
    return project


def name_of(project: Project) -> str:
    return next((project.settings.config / "pipelines").iterdir()).name


def test_the_loop_ends_in_one_prediction_for_each_order(looped: Project):
    predictions = looped.rows(f"{name_of(looped)}/predictions")
    orders = [row["order_id"] for row in looped.rows("sources/orders/clean") if row["partition_key"] >= "2024-02-02"]
    assert sorted(row["order_id"] for row in predictions) == sorted(orders)
    assert all(0 < row["score"] < 1 for row in predictions)
    assert set(predictions[0]) == {"order_id", "partition_key", "score", "model_version"}
    large = [row for row in looped.rows("sources/orders/clean") if row["amount"] > 700]
    score = {row["order_id"]: row["score"] for row in predictions}
    scores = [score[row["order_id"]] for row in large if row["order_id"] in score]
    assert sum(scores) / len(scores) > 0.6  # the larger, the later


def test_the_ledger_says_from_when_the_first_champion_scores(looped: Project):
    event = LedgerEvent.from_dict(looped.lake.ledger(name_of(looped)).events()[0])
    assert (event.verdict, event.from_model, event.training, event.actor) == ("promote", None, "2024-02", "tester")
    assert event.effective_from == datetime(
        2024, 2, 1, 10, tzinfo=UTC
    )  # as_of at 04:00 in New York, and an hour of lead
    evidence = json.loads(looped.lake.objects.get(f"evidence/{event.evidence}.json"))
    assert evidence["evidence"]["baseline_version"] is None and evidence["evidence"]["rows"] == 120


def test_a_published_partition_names_its_model_and_all_that_it_read(looped: Project):
    name = name_of(looped)
    event = LedgerEvent.from_dict(looped.lake.ledger(name).events()[0])
    meta = looped.entry(f"{name}/predictions", "2024-02-03").meta
    model = event.to_model
    assert (meta["model_version"], meta["model_digest"], meta["view"]) == (model.version, model.digest, model.view)
    features = f"{name}/features/{model.view}"
    clean = ["sources/orders/clean", "sources/arrivals/clean", "sources/shops/clean"]
    assert meta["inputs"] == {table: looped.version(table) for table in [*clean, features]}
    assert (meta["driving"], meta["quarantined"], meta["filtered"]) == (40, 0, {})
    assert (meta["late"], meta["thin"]) == ([], False)
    reads = looped.entry(features, "2024-02-03").meta["reads"]
    day = {"first": "2024-02-03", "last": "2024-02-03", "partitions": 1, "restated": []}
    assert set(reads) == {"orders", "shops"} and reads["orders"] == day  # its SQL looks back on neither
    assert looped.lake.get_model(model.digest)


def test_everything_a_second_time_changes_nothing(looped: Project):
    name = name_of(looped)
    before = looped.objects()
    assert {one.status for one in looped.run("ingest", "orders", LOADS["orders"]).partitions} == {"duplicate"}
    assert {one.status for one in looped.run("validate", "orders", LOADS["orders"]).partitions} == {"unchanged"}
    again = looped.run("promote", name, "2024-02")
    assert (again.number, again.alias, again.promoted) == (1, "in step", True)
    skipped = {one.key: one.reason for one in looped.run("score", name, SCORED).skipped}
    assert skipped.pop("2024-02-01") == "no champion"
    assert set(skipped.values()) == {f"published, by version {again.champion}"}
    assert looped.objects() == before


def test_scored_again_by_force_the_rows_are_the_same(looped: Project):
    name = name_of(looped)
    rows, version = looped.rows(f"{name}/predictions"), looped.version(f"{name}/predictions")
    features = {one.key: one.version for one in looped.table(f"{name}/predictions").entries().values()}
    forced = looped.run("score", name, "2024-02-02..2024-02-05", force=True)
    assert {one.status for one in forced.partitions} == {"published"} and features
    assert looped.rows(f"{name}/predictions") == rows
    assert looped.version(f"{name}/predictions") == version + 1


def test_any_delta_reader_finds_the_predictions_and_their_inputs(looped: Project):
    import deltalake

    name = name_of(looped)
    for table in (f"{name}/predictions", "sources/orders/clean"):
        ours = looped.table(table)
        theirs = deltalake.DeltaTable(ours.uri, storage_options=ours.storage_options())
        assert theirs.version() == ours.version()
        assert theirs.to_pyarrow_table().num_rows == len(looped.rows(table))


def test_nothing_but_the_lake_is_written_outside_of_the_home(looped: Project):
    beside = {path.name for path in looped.folder.iterdir()}
    assert beside == {"config", "incoming", "home"}
    inside = {path.name for path in looped.settings.home.iterdir()}
    assert inside == ({"lake", "cache"} if looped.settings.lake == "" else {"cache"})
    assert not list((looped.settings.home / "cache" / "train").iterdir())
