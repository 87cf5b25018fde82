"""What dags/ makes of config/: which DAGs, in which time, importing what, and what a broken file does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.settings import REPOSITORY
from tests.support.pipelines import write_config

HEAVY = {"dask", "distributed", "xgboost", "mlflow", "great_expectations", "pandas", "numpy", "duckdb", "deltalake",
         "boto3", "pyarrow", "sklearn", "fastapi"}  # fmt: skip


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """dags/ read with four configurations: the project's, 50 pipelines, live sources, broken files."""
    folder = tmp_path_factory.mktemp("config")
    many = write_config(folder / "many", *(f"p{number}" for number in range(50)))
    asked = many / "pipelines" / "p7" / "pipeline.yaml"
    asked.write_text(asked.read_text().replace("{metric: auc}", "{metric: auc, approve: manual}"))
    live = write_config(folder / "live", "orders_late", live=True)
    broken = write_config(folder / "broken", "good", "bad", "worse", "params", "never")
    bad = broken / "pipelines" / "bad" / "pipeline.yaml"
    bad.write_text(bad.read_text().replace("lookback", "lookbak"))
    (broken / "pipelines" / "worse" / "pipeline.yaml").write_text("pipeline: [worse\n")
    for name, old, new in (("params", "max_depth", "max_dept"), ("never", "start: 2024-01-01", "start: 2024-13-01")):
        file = broken / "pipelines" / name / "pipeline.yaml"
        file.write_text(file.read_text().replace(old, new))
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPOSITORY / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "MILLRACE_HOME": str(folder / "home"),
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "plugins")]),
    }
    configs = [str(path) for path in (REPOSITORY / "config", many, live, broken)]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "tests.support.read_dags", *configs],
        env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    value = json.loads(done.stdout.splitlines()[-1])
    return dict(zip(("project", "many", "live", "broken"), value["parses"], strict=True)) | {
        "modules": value["modules"]
    }


def test_the_projects_dags_are_read_in_under_a_second(read):
    assert read["project"]["errors"] == {}
    assert read["project"]["seconds"] < 1


def test_fifty_pipelines_are_read_in_under_ten_seconds(read):
    assert len(read["many"]["dags"]) == 50 * 3 + 3 + 2
    assert read["many"]["seconds"] < 10


def test_nothing_heavy_is_imported_when_dags_are_read(read):
    assert not HEAVY & set(read["modules"])


def test_each_source_and_pipeline_has_its_dags(read):
    assert set(read["live"]["dags"]) == {
        "arrivals__ingest", "orders__ingest", "shops__ingest", "orders_late__score", "orders_late__train", "orders_late__backfill",
        "millrace__wake", "millrace__maintain",
    }  # fmt: skip


def test_steps_stand_in_the_order_in_which_data_flows(read):
    dags = read["live"]["dags"]
    assert _order(dags["orders__ingest"]) == ["ingest", "validate"]
    assert _order(dags["orders_late__score"]) == ["pin", "featurize", "score"]
    assert _order(dags["orders_late__train"]) == ["pin_training", "featurize", "train", "evaluate", "promote"]
    backfill = ["deliveries", "ingest", "validate", "train", "due", "score"]
    assert _order(dags["orders_late__backfill"]) == backfill
    mapped = [step for step in backfill if dags["orders_late__backfill"]["tasks"][step]["mapped"]]
    assert mapped == ["ingest", "validate", "score"]
    assert _order(dags["millrace__wake"]) == ["due", "start"]
    assert dags["millrace__wake"]["tasks"]["start"]["mapped"]


def test_a_person_is_asked_between_evaluate_and_promote_where_the_pipeline_says_so(read):
    dags = read["many"]["dags"]
    steps = ["pin_training", "featurize", "train", "evaluate", "approve", "promote"]
    assert _order(dags["p7__train"]) == steps
    assert {task["pool"] for task in dags["p7__train"]["tasks"].values()} == {"train", "gpu"}
    assert "**Approval.**" in dags["p7__train"]["page"]
    assert _order(dags["p8__train"]) == [step for step in steps if step != "approve"]
    assert "**Approval.**" not in dags["p8__train"]["page"]


def test_training_and_scoring_have_pools_of_their_own(read):
    for dag_id, dag in read["project"]["dags"].items():
        kind = dag_id.rpartition("__")[2]
        pools = {task["pool"] for task in dag["tasks"].values()}
        # the step that may take a GPU waits for it in the pool gpu
        expected = {"wake": {"default_pool"}, "maintain": {"default_pool"}, "train": {"train", "gpu"},
                    "backfill": {"backfill", "gpu"}}  # fmt: skip
        assert pools == expected.get(kind, {kind})


def test_ingest_runs_when_available_and_scoring_at_as_of(read):
    dags = read["live"]["dags"]
    assert dags["orders__ingest"]["schedule"] == "daily, start-6h"
    assert dags["arrivals__ingest"]["schedule"] == "daily, end+3h"
    assert dags["orders_late__score"]["schedule"] == "daily, start+4h"
    assert dags["orders_late__train"]["schedule"] == "monthly, start+4h"
    assert dags["shops__ingest"]["schedule"] == "None"
    for dag_id in ("orders__ingest", "orders_late__score", "orders_late__train"):
        assert dags[dag_id]["partitioned"] and dags[dag_id]["periodic"] and not dags[dag_id]["catchup"]


def test_published_partitions_are_told_as_assets_and_live_ones_wake(read):
    dags = read["live"]["dags"]
    assert dags["orders__ingest"]["tasks"]["validate"]["outlets"] == ["orders/clean"]
    assert dags["orders_late__score"]["tasks"]["score"]["outlets"] == ["orders_late/predictions"]
    assert dags["millrace__wake"]["assets"] == ["arrivals/clean", "orders/clean"]
    assert dags["millrace__wake"]["max_active_runs"] == 1


def test_history_alone_wakes_nobody(read):
    assert read["many"]["dags"]["millrace__wake"]["schedule"] == "None"


def test_maintenance_runs_each_night_one_at_a_time(read):
    dag = read["project"]["dags"]["millrace__maintain"]
    assert (dag["schedule"], dag["catchup"], dag["max_active_runs"]) == ("17 3 * * *", False, 1)
    assert _order(dag) == ["maintain"]


def test_the_contracts_page_is_linked_from_validate(read):
    tasks = read["live"]["dags"]["orders__ingest"]["tasks"]
    assert tasks["validate"]["links"] == ["Data Docs"]
    assert tasks["ingest"]["links"] == []


def test_each_dag_has_a_page_that_says_what_to_do_on_failure(read):
    for dag_id, dag in read["project"]["dags"].items():
        for heading in ("**What.**", "**Why.**", "**When.**", "**On failure.**", "`millrace "):
            assert heading in dag["page"], dag_id
        assert "{" not in dag["page"].replace('{"partition"', "").replace('{"from"', "").replace(
            "{landing}", ""
        ).replace("{partition}", "")
        assert "millrace" in dag["tags"]


def test_a_broken_pipeline_takes_only_its_own_dags_away_and_is_told(read):
    broken = read["broken"]
    assert {"good__score", "good__train", "orders__ingest", "millrace__wake"} <= set(broken["dags"])
    assert not {"bad__score", "bad__train", "worse__score", "params__train", "never__score"} & set(broken["dags"])
    assert set(broken["errors"]) == {"broken_config.py"}
    text = broken["errors"]["broken_config.py"]
    assert "bad/pipeline.yaml: lookbak: unknown key; did you mean 'lookback'?" in text
    assert "worse/pipeline.yaml: line" in text
    assert "params/pipeline.yaml: train.params: XGBoost's 'max_dept' is not known here" in text
    assert "never/pipeline.yaml: a value can't be read: month must be in 1..12" in text
    assert "millrace check" in text


def _order(dag: dict) -> list[str]:
    left, order = dict(dag["tasks"]), []
    while left:
        ready = [name for name, task in left.items() if set(task["after"]) <= set(order)]
        assert len(ready) == 1
        order.append(ready[0])
        del left[ready[0]]
    return order


def test_the_plugin_scanner_leaves_the_package_alone():
    ignored = (REPOSITORY / "plugins" / ".airflowignore").read_text().splitlines()
    assert "millrace_airflow/" in ignored
    assert [path.name for path in Path(REPOSITORY / "plugins").glob("*.py")] == ["millrace_plugin.py"]
