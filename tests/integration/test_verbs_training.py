"""Trainings: once for the same inputs, judged against the champion, and never lost to a kill or to MLflow."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from datetime import date

import pytest

from tasks.errors import ClusterError, DigestError, TrainingError
from tests.support.pipelines import deliver, write_config
from tests.support.project import Project, ended, with_settings

KILLS = {
    "when the model lies in the lake and MLflow knows nothing": (
        "tasks.registry.registry:Registry.record_training",
        "before",
    ),
    "between MLflow and the version's descriptor": ("tasks.registry.registry:Registry.record_training", "after"),
    "between the ledger and MLflow's alias": ("tasks.lake.ledger:Ledger.append", "after"),
}


def without(project: Project, *prefixes: str) -> None:
    """Take objects out of a lake."""
    for prefix in prefixes:
        for info in project.lake.objects.list(prefix):
            project.lake.objects.delete(info.key)


def mlflow(project: Project):
    from mlflow import MlflowClient

    return MlflowClient(project.settings.mlflow, registry_uri=project.settings.mlflow)


@pytest.fixture(scope="module")
def challenged(first_champion: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy in which features.sql lost its best column, and the challenger of that was judged."""
    project = first_champion.copy(tmp_path_factory.mktemp("challenged") / "project")
    sql = project.settings.config / "pipelines" / "late_orders" / "features.sql"
    sql.write_text("select o.order_id, s.size from entities o left join shops s using (shop)")
    project.run("promote", "late_orders", "2024-02")
    return project


def test_the_same_inputs_are_trained_once(champion: Project):
    pin = champion.run("pin_training", "late_orders", "2024-02")
    assert pin.done == 1
    before = champion.objects()
    again = champion.run("train", "late_orders", "2024-02", given={"pin_training": replace(pin, done=None)})
    assert again.reused and again.model == pin.champion
    assert champion.objects() == before
    # what an attempt left that was killed before it cleared up goes with the next one
    (key,) = {name.removesuffix(".json") for name in before if name.startswith("late_orders/trainings/")}
    champion.lake.objects.put(f"{key}/rows/0.parquet", b"rows")
    champion.run("train", "late_orders", "2024-02", given={"pin_training": replace(pin, done=None)})
    assert champion.objects() == before


def test_a_run_whose_rows_a_twin_has_cleared_goes_on_with_the_twins_model(champion: Project, monkeypatch):
    spec = champion.settings.config / "pipelines" / "late_orders" / "pipeline.yaml"
    spec.write_text(spec.read_text().replace("rounds: 5", "rounds: 8"))
    twins = []

    def late(**arguments):
        monkeypatch.undo()
        twins.append(champion.run("train", "late_orders", "2024-02"))
        raise ClusterError("a process that trains failed: [Errno 2] No such file or directory")

    monkeypatch.setattr("tasks.train.fit", late)
    mine = champion.run("train", "late_orders", "2024-02")
    assert mine.model == twins[0].model and not twins[0].reused


def test_changed_parameters_make_a_training_due_again(champion: Project):
    assert champion.run("pin_training", "late_orders", "2024-02").done == 1
    spec = champion.settings.config / "pipelines" / "late_orders" / "pipeline.yaml"
    spec.write_text(spec.read_text().replace("rounds: 5", "rounds: 6"))
    assert champion.run("pin_training", "late_orders", "2024-02").done is None


def test_new_features_make_training_due_and_a_worse_challenger_is_kept_out(challenged: Project):
    first, second = challenged.lake.ledger("late_orders").events()
    assert second["verdict"] == "keep" and second["to_model"] == second["from_model"] == first["to_model"]
    assert second["candidate"]["view"] != first["candidate"]["view"]
    assert "no better than champion" in second["reason"]
    evidence = json.loads(challenged.lake.objects.get(f"evidence/{second['evidence']}.json"))["evidence"]
    assert (
        evidence["baseline_version"] == first["to_model"]["version"] and evidence["challenger"] < evidence["baseline"]
    )
    alias = mlflow(challenged).get_model_version_by_alias("late_orders", "champion")
    assert int(alias.version) == first["to_model"]["version"]


def test_the_old_champion_is_scored_with_the_view_that_it_was_trained_with(challenged: Project):
    deliver(challenged.incoming, date(2024, 2, 1), date(2024, 2, 2))
    challenged.load({"orders": "2024-02-01..2024-02-02", "arrivals": "2024-02-01"})
    challenged.run("score", "late_orders", "2024-02-02")
    champion = challenged.lake.ledger("late_orders").events()[0]["to_model"]
    meta = challenged.entry("late_orders/predictions", "2024-02-02").meta
    assert (meta["view"], meta["model_version"]) == (champion["view"], champion["version"])
    assert "amount" in challenged.rows(f"late_orders/features/{champion['view']}", ("2024-02-02",))[0]


def test_an_alias_that_was_moved_by_hand_is_put_back_and_reported(challenged: Project):
    champion, challenger = (event["candidate"]["version"] for event in challenged.lake.ledger("late_orders").events())
    client = mlflow(challenged)
    client.set_registered_model_alias("late_orders", "champion", str(challenger))
    assert challenged.run("promote", "late_orders", "2024-02").alias == f"put back from {challenger}"
    assert int(client.get_model_version_by_alias("late_orders", "champion").version) == champion
    assert challenged.run("promote", "late_orders", "2024-02").alias == "in step"
    assert len(challenged.lake.ledger("late_orders").events()) == 2


def test_an_attempt_after_its_own_event_finds_it(champion: Project):
    pin = replace(champion.run("pin_training", "late_orders", "2024-02"), done=None, events=0, champion=None)
    trained = champion.run("train", "late_orders", "2024-02", given={"pin_training": pin})
    given = {"pin_training": pin, "train": trained}
    evaluated = champion.run("evaluate", "late_orders", "2024-02", given=given)
    assert champion.run("promote", "late_orders", "2024-02", given=given | {"evaluate": evaluated}).number == 1
    assert len(champion.lake.ledger("late_orders").events()) == 1


def test_too_little_history_is_refused_in_words(champion: Project):
    with pytest.raises(TrainingError, match="no label has matured"):
        champion.run("train", "late_orders", "2024-01")


def test_a_number_that_mlflow_gives_out_twice_is_refused(champion: Project):
    """MLflow's database was reset while the lake was kept: version 1 would describe two models."""
    (version,) = [info.key for info in champion.lake.objects.list("late_orders/versions/")]
    kept = champion.lake.objects.get(version)
    champion.lake.objects.put(version, json.dumps(json.loads(kept) | {"key": "of another training"}).encode())
    without(champion, "ledger/")
    with pytest.raises(TrainingError, match="which the lake has for another training"):
        champion.run("train", "late_orders", "2024-02")


def test_a_model_whose_bytes_changed_is_not_scored_with(champion: Project):
    deliver(champion.incoming, date(2024, 2, 1), date(2024, 2, 2))
    champion.load({"orders": "2024-02-01..2024-02-02", "arrivals": "2024-02-01"})
    (model,) = [info.key for info in champion.lake.objects.list("models/")]
    champion.lake.objects.put(model, champion.lake.objects.get(model)[:-1] + b"x")
    with pytest.raises(DigestError, match="holds other bytes"):
        champion.run("score", "late_orders", "2024-02-02")
    assert champion.version("late_orders/predictions") == -1


def test_a_training_killed_three_times_ends_as_one_version_with_the_same_bytes_as_elsewhere(
    first_champion: Project, champion: Project
):
    write_config(champion.settings.config, "killed")
    for target, moment in KILLS.values():
        program = ["-m", "tests.support.killed_step", target, moment, "1"]
        process = champion.start("run", "promote", "killed", "2024-02", "--json", program=program)
        assert ended(process).code == -signal.SIGKILL
    done = champion.run("promote", "killed", "2024-02")
    assert (done.number, done.promoted, done.alias) == (1, True, "moved")
    assert [int(one.version) for one in mlflow(champion).search_model_versions("name = 'killed'")] == [1]
    (event,) = champion.lake.ledger("killed").events()
    (first,) = first_champion.lake.ledger("late_orders").events()
    # Another home, another process, another time: the same inputs on one worker are the same model.
    assert event["to_model"]["digest"] == first["to_model"]["digest"]
    assert len(list(champion.lake.objects.list("killed/trainings/"))) == 1
    assert champion.run("promote", "killed", "2024-02").alias == "in step"


def test_mlflow_being_down_stops_a_promotion_before_it_is_written(challenged: Project):
    from tasks.errors import RegistryError

    down = with_settings(challenged, mlflow="http://127.0.0.1:9")
    with pytest.raises(RegistryError):
        down.run("promote", "late_orders", "2024-02")
