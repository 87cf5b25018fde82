"""Airflow's command line, its UI's import errors, and what crosses task boundaries, on the real platform."""

from __future__ import annotations

import json
import time

from tests.e2e.conftest import Platform

READY = "2024-01-20"


def test_a_run_from_airflows_command_line_ingests_its_partition(platform: Platform) -> None:
    platform.api.wait_for_dags(["orders__ingest"])
    platform.airflow(
        "dags", "trigger", "orders__ingest", "--conf", json.dumps({"partition": READY}), "--run-id", "by-hand"
    )
    run = platform.api.wait(platform.api.run("orders__ingest", "by-hand"), patience=300)
    assert run.state == "success"
    result = platform.api.result("orders__ingest", "by-hand", "validate")
    assert [one["key"] for one in result["partitions"]] == [READY]


def test_a_second_run_of_the_same_partition_changes_nothing(platform: Platform) -> None:
    before = platform.lake.table("sources/orders/clean").version()
    run = platform.api.wait(platform.api.trigger_run("orders__ingest", conf={"partition": READY}), patience=300)
    assert run.state == "success"
    assert platform.lake.table("sources/orders/clean").version() == before


def test_a_run_without_a_partition_is_refused_in_one_sentence(platform: Platform) -> None:
    run = platform.api.wait(platform.api.trigger_run("orders__ingest"), patience=300)
    assert run.state == "failed"
    (task,) = [one for one in platform.api.task_instances("orders__ingest", run.run_id) if one.task_id == "ingest"]
    assert "the run names no partition" in platform.api.log(task)


def test_nothing_but_small_json_crosses_a_task_boundary(platform: Platform) -> None:
    own = platform.api.wait(platform.api.trigger_run("orders__ingest", conf={"partition": READY}), patience=300)
    succeeded = [run for run in platform.api.runs("orders__ingest") if run.state == "success"]
    assert own.run_id in {run.run_id for run in succeeded}
    for run in succeeded:
        for task in ("ingest", "validate"):
            value = platform.api.result(run.dag_id, run.run_id, task)
            assert isinstance(value, dict) and len(json.dumps(value)) < 20_000


def test_a_broken_pipeline_shows_as_an_import_error_and_breaks_only_itself(platform: Platform) -> None:
    folder = platform.settings.config / "pipelines" / "broken"
    folder.mkdir()
    (folder / "features.sql").write_text("select 1")
    (folder / "pipeline.yaml").write_text("pipeline: broken\ngrain: dya\n")
    try:
        text = _until(lambda: " ".join(platform.api.import_errors().values()))
        assert "pipelines/broken/pipeline.yaml" in text and "did you mean 'day'?" in text
        assert "returns__score" in platform.api.dags()
    finally:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    assert _until(lambda: not platform.api.import_errors()) is True


def _until(what, seconds: float = 120):
    end = time.monotonic() + seconds
    while not (value := what()) and time.monotonic() < end:
        time.sleep(1)
    return value
