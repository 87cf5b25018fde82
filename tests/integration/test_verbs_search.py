"""A training with a search: the best trial's parameters, its trials in MLflow, and nothing lost to a kill."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest

from tasks.errors import ClusterError
from tests.support.kills import words_of
from tests.support.pipelines import write_config
from tests.support.project import Project, with_settings

SEARCH = "search: {trials: 4, validation: 5d, space: {max_depth: [1, 4], eta: [0.01, 0.5, log]}}"


def pipeline(project: Project, name: str, *, search: str = SEARCH, rounds: int = 5) -> None:
    """A further pipeline on the same sources whose parameters are searched for."""
    write_config(project.settings.config, name)
    spec = project.settings.config / "pipelines" / name / "pipeline.yaml"
    spec.write_text(spec.read_text().replace("rounds: 5", f"rounds: {rounds}, {search}"))


def mlflow(project: Project):
    from mlflow import MlflowClient

    return MlflowClient(project.settings.mlflow, registry_uri=project.settings.mlflow)


def runs(project: Project, name: str) -> tuple[list, list]:
    """(runs of trainings, runs nested in them by trial)."""
    client = mlflow(project)
    found = client.search_runs([client.get_experiment_by_name(name).experiment_id])
    nested = [run for run in found if "mlflow.parentRunId" in run.data.tags]
    nested.sort(key=lambda run: int(run.data.tags["millrace.trial"]))
    return [run for run in found if run not in nested], nested


@pytest.fixture(scope="module")
def searched(first_champion: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = first_champion.copy(tmp_path_factory.mktemp("searched") / "project")
    pipeline(project, "searched")
    assert project.run("promote", "searched", "2024-02").promoted
    return project


def test_the_best_trial_gives_the_models_parameters_and_the_descriptor_says_how(searched: Project):
    version = json.loads(searched.lake.objects.get("searched/versions/1.json"))
    search = version["search"]
    values = [trial["value"] for trial in search["trials"]]
    assert len(values) == 4 and min(values) < max(values) == search["value"]
    best = search["trials"][search["best"] - 1]
    assert best["value"] == search["value"]
    # the spec's own max_depth is tried first
    assert search["trials"][0]["params"]["max_depth"] == 2
    assert search["params"] == best["params"] and version["rounds"] == 5
    # the gate's holdout is 2024-01-29 to 31, the five days before it judged the trials
    assert search["validation"] == ["2024-01-24", "2024-01-28"] and version["holdout"][0] == "2024-01-29"
    assert "highest auc" in search["chosen"] and "200 rows of 2024-01-24 to 2024-01-28" in search["chosen"]
    assert "history" not in best


def test_the_model_is_the_one_that_these_parameters_give_on_the_whole_window(searched: Project):
    version = json.loads(searched.lake.objects.get("searched/versions/1.json"))
    write_config(searched.settings.config, "by_hand")
    spec = searched.settings.config / "pipelines" / "by_hand" / "pipeline.yaml"
    spec.write_text(
        spec.read_text().replace("params: {max_depth: 2}", f"params: {json.dumps(version['search']['params'])}")
    )
    trained = searched.run("train", "by_hand", "2024-02")
    assert (trained.model.digest, trained.rows) == (version["digest"], version["rows"])


def test_mlflow_shows_each_trial_below_the_training(searched: Project):
    version = json.loads(searched.lake.objects.get("searched/versions/1.json"))
    (training,), nested = runs(searched, "searched")
    assert training.info.run_id == version["run"]
    assert training.data.params["eta"] == str(version["search"]["params"]["eta"])
    assert training.data.metrics["search-auc"] == version["search"]["value"]
    assert training.data.tags["search"] == version["search"]["chosen"]
    assert len(nested) == 4
    for run, trial in zip(nested, version["search"]["trials"], strict=True):
        assert run.data.tags["mlflow.parentRunId"] == version["run"] and run.info.status == "FINISHED"
        assert run.data.params == {name: str(value) for name, value in trial["params"].items()}
        assert run.data.metrics["auc"] == trial["value"] and run.data.metrics["memory"] > 0
        history = mlflow(searched).get_metric_history(run.info.run_id, "validation-auc")
        assert [metric.step for metric in history] == list(range(5))


def test_a_search_is_made_once_for_the_same_inputs(searched: Project):
    before, recorded = searched.objects(), [[run.info.run_id for run in part] for part in runs(searched, "searched")]
    assert not [key for key in before if "/trials/" in key]
    assert searched.run("promote", "searched", "2024-02").alias == "in step"
    # without its descriptor a training is recorded once more, from its note: the same runs
    searched.lake.objects.delete("searched/versions/1.json")
    for info in searched.lake.objects.list("ledger/searched/"):
        searched.lake.objects.delete(info.key)
    assert searched.run("train", "searched", "2024-02").model.version == 1
    assert [[run.info.run_id for run in part] for part in runs(searched, "searched")] == recorded


def test_a_search_killed_in_the_middle_goes_on_with_what_was_done(first_champion: Project, tmp_path: Path):
    project = with_settings(first_champion.copy(tmp_path / "project"), train_attempts=1)
    pipeline(project, "broken_off", search=SEARCH.replace("trials: 4", "trials: 30"), rounds=100)
    kept = Path(project.lake.uri) / "broken_off" / "trainings"

    def kill_after_two_trials() -> None:
        while len(list(kept.glob("*/trials/*.json"))) < 2:
            time.sleep(0.02)
        children = psutil.Process().children()
        os.kill(next(child.pid for child in children if "spawn_main" in " ".join(words_of(child))), signal.SIGKILL)

    threading.Thread(target=kill_after_two_trials, daemon=True).start()
    with pytest.raises(ClusterError, match="ended by itself .exit status -9."):
        project.run("train", "broken_off", "2024-02")
    done = [json.loads(file.read_text()) for file in sorted(kept.glob("*/trials/*.json"))]
    assert 2 <= len(done) < 30
    trained = project.run("train", "broken_off", "2024-02")
    version = json.loads(project.lake.objects.get(f"broken_off/versions/{trained.model.version}.json"))
    for trial in done:
        del trial["history"]
    # their moments too: none was made again
    assert version["search"]["trials"][: len(done)] == done and len(version["search"]["trials"]) == 30
    _, nested = runs(project, "broken_off")
    assert len(nested) == 30
