"""`millrace` as processes: verbs handed from one to the next as Airflow does it, light where it must be, and tidy."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from tests.support.pipelines import deliver, write_config
from tests.support.project import Project, ended

DAY = "2024-02-02"
HEAVY = {
    "deltalake",
    "pyarrow",
    "duckdb",
    "xgboost",
    "mlflow",
    "great_expectations",
    "dask",
    "pandas",
    "numpy",
    "boto3",
}
LOOK = """
import json, sys
from tasks.__main__ import main
code = main(sys.argv[1:])
print(json.dumps([code, sorted(name for name in sys.modules if "." not in name)]))
"""


@pytest.fixture
def february(champion: Project) -> Project:
    deliver(champion.incoming, date(2024, 2, 1), date(2024, 2, 2))
    champion.load({"orders": "2024-02-01..2024-02-02", "arrivals": "2024-02-01"})
    return champion


def test_results_handed_from_step_to_step_end_in_a_published_partition(february: Project):
    given: dict[str, dict] = {}
    for verb in ("pin", "featurize", "score"):
        end = february.command("run", verb, "late_orders", DAY, "--json", "--input", "-", stdin=json.dumps(given))
        assert end.code == 0, end.err
        given[verb] = end.json
    assert given["score"]["partitions"][0]["rows"] == len(february.rows("late_orders/predictions")) == 40
    entry = february.entry("late_orders/predictions", DAY)
    assert entry.run_id.startswith("cli-")


def test_a_range_of_which_some_partitions_wait_publishes_the_others_and_ends_with_1(february: Project):
    end = february.command("run", "score", "late_orders", "2024-01-31..2024-02-04", "--json")
    assert end.code == 1, end.err
    assert [one["key"] for one in end.json["partitions"]] == ["2024-02-02"]
    left = {one["key"]: one["reason"] for one in end.json["skipped"]}
    assert (left["2024-01-31"], left["2024-02-01"]) == ("no champion", "no champion")
    assert left["2024-02-04"].startswith("waits for orders/2024-02-03")
    for key, reason in left.items():
        assert f"{key}: {reason}" in end.err
    nothing_waits = february.command("run", "score", "late_orders", "2024-01-31..2024-02-02", "--json")
    assert nothing_waits.code == 0, nothing_waits.err


def test_a_training_without_mlflow_is_refused_before_the_work_with_a_way_out(february: Project):
    spec = february.settings.config / "pipelines" / "late_orders" / "pipeline.yaml"
    spec.write_text(spec.read_text().replace("rounds: 5", "rounds: 6"))  # due again
    end = february.command("run", "train", "late_orders", "2024-02", "--json", MILLRACE_MLFLOW="")
    assert (end.code, end.json["error"]["type"]) == (1, "ServiceError")
    assert "MLflow" in end.err and "millrace up" in end.err and "MILLRACE_MLFLOW" in end.err


@pytest.mark.parametrize(
    ("words", "code", "allowed"),
    [
        (["run", "pin", "late_orders", DAY, "--json"], 0, set()),
        (["run", "pin", "late_orders", "2024-02-20", "--json"], 1, set()),
        (["due", "--json"], 0, set()),
        (["check", "orders", "arrivals", "shops"], 0, set()),
        (["run", "ingest", "orders", DAY], 0, set()),  # a duplicate is told by its digest
    ],
)
def test_what_only_looks_at_state_imports_nothing_heavy(february: Project, words: list[str], code: int, allowed: set):
    end = ended(february.start(*words, program=["-c", LOOK]))
    assert end.json[0] == code, end.err
    assert HEAVY & set(end.json[1]) == allowed


def test_a_step_imports_only_its_own_gateways(february: Project):
    end = ended(february.start("run", "score", "late_orders", DAY, program=["-c", LOOK]))
    assert end.json[0] == 0, end.err
    assert not {"mlflow", "great_expectations", "dask", "distributed", "airflow"} & set(end.json[1])


def test_a_training_by_command_writes_nothing_outside_of_home_and_lake(champion: Project, tmp_path: Path):
    write_config(champion.settings.config, "by_command")
    places = {"HOME": tmp_path / "user", "TMPDIR": tmp_path / "temporary", "XDG_CACHE_HOME": tmp_path / "cache"}
    for place in places.values():
        place.mkdir()
    before = {path for path in champion.folder.rglob("*") if champion.settings.home not in path.parents}
    deliver(champion.incoming, date(2024, 2, 1), date(2024, 2, 1))
    words = {name: str(place) for name, place in places.items()}
    for step in (["validate", "orders", "2024-01-31"], ["promote", "by_command", "2024-02"]):
        end = champion.command("run", *step, "--json", **words)
        assert end.code == 0, end.err
    assert end.json["promoted"] and end.json["alias"] == "moved"
    assert "by_command" in str(champion.lake.objects.list("by_command/versions/")[0].key)
    left = {str(path) for place in places.values() for path in place.rglob("*")}
    assert left == set()
    after = {path for path in champion.folder.rglob("*") if champion.settings.home not in path.parents}
    incoming = {champion.incoming / source / "2024-02-01.csv" for source in ("orders", "arrivals")}
    assert after - before <= incoming | {champion.folder / "work"}


def test_status_tells_champion_and_newest_predictions_while_nothing_runs(february: Project):
    february.run("score", "late_orders", DAY)
    end = february.command("status", "--json")
    assert end.code == 0, end.err
    (line,) = end.json["pipelines"]
    assert (line["pipeline"], line["partitions"], line["newest"], line["problem"]) == ("late_orders", 1, DAY, None)
    assert line["champion"] == february.entry("late_orders/predictions", DAY).meta["model_version"]
    assert line["since"] == "2024-02-01T10:00+00:00"
    assert {part["state"] for part in end.json["services"]} == {"stopped", "outside"}
    readable = february.command("status")
    assert readable.code == 0 and "late_orders" in readable.out


def test_a_broken_pipeline_shows_in_status_and_breaks_no_other(february: Project):
    write_config(february.settings.config, "other")
    file = february.settings.config / "pipelines" / "other" / "pipeline.yaml"
    file.write_text(file.read_text().replace("lookback", "lookbak"))
    end = february.command("status", "--json")
    problems = {line["pipeline"]: line["problem"] for line in end.json["pipelines"]}
    assert problems["late_orders"] is None and "did you mean 'lookback'?" in problems["other"]


def test_feed_deals_the_demos_flights_and_is_the_same_each_time(project: Project):
    words = ["feed", "--from", "2013-03-10", "--to", "2013-03-11", "--sources", "schedule", "outcomes", "--json"]
    first = project.command(*words)
    assert first.code == 0, first.err
    files = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in project.incoming.rglob("*.*")}
    assert len(files) == first.json["files"] == 4
    assert project.command(*words).code == 0
    # Equal files are not written again: an arrival is an arrival of something.
    assert {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in project.incoming.rglob("*.*")} == files
    wrong = project.command("feed", "--sources", "schedules")
    assert wrong.code in (1, 2) and "schedule" in wrong.err and "Traceback" not in wrong.err
