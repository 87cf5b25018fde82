"""The ingest and score DAGs run for real with `dag.test()`: real verbs in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowException
from millrace_airflow.approve import ApproveOperator
from millrace_airflow.maintain_dag import MaintainOperator

from tasks.domain.partition import iso
from tasks.domain.results import ApproveResult
from tasks.lake import open_lake
from tasks.settings import REPOSITORY, Settings
from tests.support.pipelines import deliver, write_config

DAYS = {"from": "2024-01-04", "to": "2024-01-05"}
SAMPLE = {"model": "champion", "allow_in_sample": True}
RUNS = {
    "range": ("orders__ingest", {"from": "2024-01-01", "to": "2024-01-05"}),
    "again": ("orders__ingest", {"partition": "2024-01-05"}),
    "blocked": ("orders__ingest", {"partition": "2024-01-06"}),
    "late": ("orders__ingest", {"partition": "2024-02-05"}),
    "reference": ("shops__ingest", None),
    "maintenance": ("millrace__maintain", None),
    "no version": ("tiny__score", {"partition": "2024-01-05", "model": "7"}),
    "no champion": ("tiny__score", {"partition": "2024-01-05"}),
    "corrected": ("tiny__score", {"partition": "2024-01-05", "data": "corrected"}),
    "no partition": ("orders__ingest", {}),
    "no day": ("orders__ingest", {"partition": "2024-01"}),
    "labels": ("arrivals__ingest", {"from": "2024-01-01", "to": "2024-01-05"}),
    "asked": ("asked__train", {"partition": "2024-01-06"}),
    "trained": ("often__backfill", {"from": "2024-01-01", "to": "2024-01-06", "stages": "train"}),
    "backfill": ("often__backfill", {**DAYS, **SAMPLE}),
    "backfilled": ("often__backfill", {**DAYS, **SAMPLE}),
    "forced": ("often__backfill", {**DAYS, **SAMPLE, "stages": "score", "force": True}),
    "stuck": ("often__backfill", {"from": "2024-01-05", "to": "2024-01-06"}),
    "no days": ("often__backfill", {"from": "2024-01-05"}),
    "no stage": ("often__backfill", {**DAYS, "stages": "scores"}),
}
ANSWERS = {"asked": {"chosen_options": ["Approve"], "params_input": {"reason": "looked at the slices"}}}
CHANGES = (
    ("every: month, min_window: 5d, holdout: 3d", "every: day, min_window: 2d, holdout: 2d"),
    ("{metric: auc}", "{metric: auc, approve: manual, guards: [{slice: shop, max_drop: 0.9, min_rows: 10}]}"),
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Deliveries of six days, the last of which breaks its contract."""
    folder = tmp_path_factory.mktemp("airflow")
    write_config(folder / "config", "tiny", "asked", "often")
    for name, changes in (("asked", CHANGES), ("often", CHANGES[:1])):
        spec = folder / "config/pipelines" / name / "pipeline.yaml"
        for old, new in changes:
            assert old in spec.read_text()
            spec.write_text(spec.read_text().replace(old, new))
    deliver(folder / "home" / "landing", date(2024, 1, 1), date(2024, 1, 6))
    bad = folder / "home" / "landing" / "orders" / "2024-01-06.csv"
    header, *lines = bad.read_text().splitlines()
    bad.write_text("\n".join([header, *(f"{line.rpartition(',')[0]},-1" for line in lines)]) + "\n")
    return folder


@pytest.fixture(scope="module")
def environment(home: Path, mlflow_uri: str) -> dict[str, str]:
    return {
        **os.environ,
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPOSITORY / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "MILLRACE_HOME": str(home / "home"),
        "MILLRACE_CONFIG": str(home / "config"),
        "MILLRACE_PATIENCE": "0",
        "MILLRACE_MLFLOW": mlflow_uri,
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "plugins")]),
    }


@pytest.fixture(scope="module")
def ran(environment: dict[str, str]) -> dict[str, dict]:
    """Each of RUNS, run once, one after the other, in one process."""
    _python(environment, "-m", "airflow", "db", "migrate")
    wanted = [{"dag_id": dag, "conf": conf, "answer": ANSWERS.get(name)} for name, (dag, conf) in RUNS.items()]
    output = _python(environment, "-m", "tests.support.run_dags", json.dumps(wanted))
    return dict(zip(RUNS, json.loads(output.splitlines()[-1]), strict=True)) | {
        "output": {"text": output, "results": {}}
    }


def test_a_range_is_ingested_in_one_run_and_each_partition_told(ran):
    run = ran["range"]
    assert run["tasks"] == {"ingest": "success", "validate": "success"}
    keys = [f"2024-01-0{day}" for day in range(1, 6)]
    assert run["events"] == [["orders/clean", key] for key in keys]
    published = run["results"]["validate"]["partitions"]
    assert [(one["key"], one["clean"], one["status"]) for one in published] == [(key, 40, "published") for key in keys]


def test_ingesting_twice_leaves_one_revision_of_each_partition(ran, home):
    assert ran["again"]["tasks"] == {"ingest": "success", "validate": "success"}
    assert ran["again"]["results"]["ingest"]["partitions"][0]["status"] == "duplicate"
    entries = open_lake(Settings(home=home / "home")).table("sources/orders/clean").entries()
    assert sorted(key for key, entry in entries.items() if entry.rows) == [
        (f"2024-01-0{day}", 1) for day in range(1, 6)
    ]


def test_a_commit_names_the_dag_run_and_task_that_made_it(ran, home):
    commits = open_lake(Settings(home=home / "home")).table("sources/orders/clean").commits()
    assert (commits[-1].run_id, commits[-1].attempt) == (f"orders__ingest/{ran['range']['run_id']}/validate", 1)


def test_a_contract_that_fails_blocks_the_partition_and_links_its_page(ran, home):
    run = ran["blocked"]
    assert (run["state"], run["tasks"]) == ("failed", {"ingest": "success", "validate": "failed"})
    assert run["events"] == []
    assert run["links"] == {"validate": "/millrace/docs/orders/2024-01-06/1"}
    assert (home / "home/lake/sources/orders/docs/2024-01-06.1.html").is_file()


def test_a_file_that_never_comes_fails_after_patience_naming_it(ran):
    assert ran["late"]["tasks"] == {"ingest": "failed", "validate": "upstream_failed"}
    assert "these did not arrive: orders/2024-02-05" in ran["output"]["text"]


def test_reference_data_needs_no_partition(ran):
    assert ran["reference"]["state"] == "success"
    assert ran["reference"]["events"] == [["shops/clean", "all"]]


def test_maintenance_passes_over_every_table_and_leaves_what_is_well(ran):
    assert ran["maintenance"]["tasks"] == {"maintain": "success"}
    assert ran["maintenance"]["results"]["maintain"] == []


def test_maintenance_passes_over_a_torn_table_and_fails_naming_it(tmp_path, monkeypatch):
    write_config(tmp_path / "config", "tiny")
    torn = tmp_path / "home/lake/sources/orders/clean/_delta_log"
    torn.mkdir(parents=True)
    (torn / "00000000000000000000.json").write_text("{torn")
    monkeypatch.setenv("MILLRACE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MILLRACE_CONFIG", str(tmp_path / "config"))
    task = SimpleNamespace(dag_id="millrace__maintain", run_id="one", task_id="maintain", map_index=-1, try_number=1)
    with pytest.raises(AirflowException, match="^sources/orders/clean: ") as caught:
        MaintainOperator(task_id="maintain").execute({"ti": task, "dag_run": SimpleNamespace()})
    assert "; " not in str(caught.value)  # the others were maintained


def test_a_partition_without_a_champion_skips_the_run_and_keeps_the_reason(ran):
    run = ran["no champion"]
    assert (run["state"], set(run["tasks"].values())) == ("success", {"skipped"})
    assert run["results"]["pin"]["skipped"] == [{"key": "2024-01-05", "reason": "no champion"}]


def test_a_run_for_corrected_data_pins_that(ran):
    assert [ran[name]["results"]["pin"]["data"] for name in ("no champion", "corrected")] == ["as-known", "corrected"]


def test_a_run_with_a_named_version_asks_for_that_one(ran):
    assert ran["no version"]["tasks"] == {"pin": "failed", "featurize": "upstream_failed", "score": "upstream_failed"}
    assert "NotFoundError: tiny has no version 7 (its versions: none)" in ran["output"]["text"]


def test_a_run_without_a_valid_partition_fails_at_once(ran):
    assert ran["no partition"]["tasks"]["ingest"] == "failed"
    assert ran["no day"]["tasks"]["ingest"] == "failed"


def test_a_person_who_approves_through_rest_is_the_actor_of_the_promotion(ran, home):
    run = ran["asked"]
    assert set(run["tasks"].values()) == {"success"} and "approve" in run["tasks"]
    answer, evaluated = run["results"]["approve"], run["results"]["evaluate"]
    assert (answer["approved"], answer["by"], answer["evidence"]) == (True, "ada", evaluated["digest"])
    assert run["asked"]["status"] == 200 and run["asked"]["subject"] == "asked 2024-01-06: promote the challenger?"
    assert run["asked"]["body"].startswith(evaluated["decision"]["reason"])
    (event,) = open_lake(Settings(home=home / "home")).ledger("asked").events()
    assert (event["verdict"], event["actor"], event["to_model"]) == ("promote", "ada", event["candidate"])
    why = f"approved by ada at {answer['at']} (looked at the slices): better than the best constant: auc"
    assert event["reason"].startswith(why)


@pytest.mark.parametrize(("chosen", "approved"), [("Approve", True), ("Refuse", False)])
def test_an_answer_carries_who_when_why_and_about_which_evidence(ran, chosen, approved):
    evaluated, at = ran["asked"]["results"]["evaluate"], datetime(2024, 1, 6, 12, tzinfo=UTC)
    context = {"ti": SimpleNamespace(xcom_pull=lambda task_ids: evaluated if task_ids == "evaluate" else None)}
    event = {
        "chosen_options": [chosen],
        "params_input": {"reason": " because "},
        "responded_at": at,
        "responded_by_user": {"id": "7", "name": "ada"},
    }
    answer = ApproveResult.from_dict(ApproveOperator(pipeline="asked").execute_complete(context, event))
    told = ("asked", "2024-01-06", evaluated["digest"], approved, "ada", iso(at), "because")
    assert answer == ApproveResult(*told)


def test_nobody_is_asked_about_a_challenger_that_the_gate_keeps(ran):
    kept = ran["asked"]["results"]["evaluate"]
    kept = {**kept, "decision": {**kept["decision"], "promoted": False}}
    context = {"ti": SimpleNamespace(xcom_pull=lambda task_ids: kept)}
    assert ApproveOperator(pipeline="asked").execute(context) is None  # it would park the task by an exception


def test_a_backfill_trains_what_has_data_enough_and_only_the_stages_that_were_asked_for(ran):
    run = ran["trained"]
    assert run["state"] == "success"
    assert run["tasks"] == {
        "deliveries": "success", "ingest": "skipped", "validate": "skipped", "train": "success", "due": "skipped",
        "score": "skipped",
    }  # fmt: skip
    judged = [{"training": day, "verdict": "promote"} for day in ("2024-01-05", "2024-01-06")]
    assert run["results"]["train"] == judged


def test_a_backfill_ingests_and_scores_in_chunks_and_tells_of_what_it_published(ran):
    run = ran["backfill"]
    assert run["state"] == "success" and run["tasks"].pop("train") == "skipped"
    of = {name: len([task for task in run["tasks"] if task.startswith(f"{name}[")]) for name in ("ingest", "validate")}
    assert of == {"ingest": 3, "validate": 3} and set(run["tasks"].values()) == {"success"}
    days = "2024-01-04..2024-01-05"
    assert run["results"]["deliveries"] == [
        {"name": name, "partition": text, "partitions": count}
        for name, text, count in (("orders", days, 2), ("arrivals", days, 2), ("shops", "all", 1))
    ]
    assert run["results"]["due"] == [{"name": "often", "partition": days, "partitions": 2}]
    scored = run["results"]["score[0]"]["partitions"]
    assert [(one["key"], one["status"]) for one in scored] == [(day, "published") for day in DAYS.values()]
    assert run["events"] == [["often/predictions", day] for day in DAYS.values()]


def test_a_second_backfill_finds_nothing_to_do_and_a_forced_one_does_it_again(ran):
    again, forced = ran["backfilled"], ran["forced"]
    assert (again["state"], again["tasks"]["due"], again["tasks"]["score"]) == ("success", "skipped", "skipped")
    assert {one["status"] for n in range(3) for one in again["results"][f"ingest[{n}]"]["partitions"]} == {"duplicate"}
    assert (forced["tasks"]["ingest"], forced["tasks"]["score[0]"]) == ("skipped", "success")
    assert [one["status"] for one in forced["results"]["score[0]"]["partitions"]] == ["published"] * 2


def test_a_delivery_that_breaks_its_contract_fails_its_chunk_and_nothing_behind_it_runs(ran):
    run = ran["stuck"]
    assert run["state"] == "failed"
    states = {task: state for task, state in run["tasks"].items() if task.startswith("validate[")}
    assert sorted(states.values()) == ["failed", "success", "success"]
    assert {run["tasks"][task] for task in ("train", "due", "score")} == {"upstream_failed"}


def test_a_backfill_without_days_or_of_an_unknown_stage_fails_at_once(ran):
    assert ran["no days"]["tasks"]["deliveries"] == ran["no stage"]["tasks"]["deliveries"] == "failed"
    assert "the run names no days" in ran["output"]["text"] and "'scores' is none of" in ran["output"]["text"]


def test_no_frame_ever_crosses_a_task_boundary(ran):
    for run in ran.values():
        for result in run["results"].values():
            assert len(json.dumps(result)) < 3000


def test_data_docs_are_for_signed_in_people_only(environment):
    """Through Airflow's own server application, with its own users and tokens."""
    output = _python(
        environment, "-m", "tests.support.ask_docs", "orders/2024-01-01/1", "orders/2024-01-01/99", "orders/x/0"
    )
    answers = json.loads(output.splitlines()[-1])
    assert answers["nobody"] == [401, 401, 401]
    assert answers["forged"] == [403, 403, 403]
    assert answers["header"] == answers["cookie"] == [200, 404, 422]
    assert answers["policy"].startswith("sandbox ")


def _python(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-P", *arguments], env=environment, capture_output=True, text=True, check=False, timeout=400
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout
