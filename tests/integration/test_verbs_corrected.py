"""A restated or late file makes exactly its dependants due for corrected data; as-known data stays what it was."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from tasks.command.plan import plan
from tasks.domain.results import FeaturizeResult, PinResult, Result
from tests.support.pipelines import LOOKING_BACK, deliver
from tests.support.project import Project, historical_january

NAME = "late_orders"
FIRST, LAST = date(2024, 2, 2), date(2024, 2, 12)
RANGE = f"{FIRST}..{LAST}"
PREDICTIONS = f"{NAME}/predictions"


@pytest.fixture(scope="module")
def published(first_champion: Project, tmp_path_factory: pytest.TempPathFactory, mlflow_uri: str) -> Project:
    """Eleven days that are published, whose features read both sources over three days; made after the first
    champion, which others know as version 1."""
    made = historical_january(tmp_path_factory.mktemp("corrected") / "project", mlflow_uri)
    (made.settings.config / "pipelines" / NAME / "features.sql").write_text(LOOKING_BACK)
    assert made.run("promote", NAME, "2024-02").promoted
    deliver(made.incoming, date(2024, 2, 1), LAST)
    made.load({"orders": f"2024-02-01..{LAST}", "arrivals": f"2024-02-01..{LAST}"})
    made.run("score", NAME, RANGE)
    return made


@pytest.fixture
def project(published: Project, tmp_path: Path) -> Project:
    return published.copy(tmp_path / "project")


def restate(project: Project, key: str, *, amount: str = "899.5") -> None:
    """Another file of a day of orders: the first order has another amount, the last one is not in it."""
    file = project.incoming / "orders" / f"{key}.csv"
    header, first, *others, _ = file.read_text().splitlines()
    file.write_text("\n".join([header, f"{first.rpartition(',')[0]},{amount}", *others]) + "\n")
    project.load({"orders": key})


def due(project: Project, data: str = "corrected") -> dict[str, str]:
    return {one.key: one.why for one in plan(project.settings, NAME, FIRST, LAST, model="as-of", data=data).due}


def rows(project: Project, key: str) -> list[dict]:
    return [{k: v for k, v in row.items() if k != "restated"} for row in project.rows(PREDICTIONS, (key,))]


def dependants(first: int, last: int) -> list[str]:
    return [f"2024-02-{day:02}" for day in range(first, last + 1)]


def test_nothing_is_due_for_corrected_data_where_nothing_was_restated(project: Project):
    assert due(project) == {}


def test_a_restated_file_makes_its_day_due_and_those_that_looked_back_on_it_and_the_plan_says_so(project: Project):
    restate(project, "2024-02-05")
    before = project.objects()
    found = due(project)
    assert list(found) == dependants(5, 8)  # itself, and a lookback of three days
    assert set(found.values()) == {"restated input: orders/2024-02-05"}
    assert due(project, "as-known") == {}
    assert project.objects() == before


def test_what_is_due_is_what_a_run_publishes_from_the_new_rows_marked_and_then_nothing_is(project: Project):
    old = {key: rows(project, key) for key in dependants(2, 12)}
    restate(project, "2024-02-05")
    ran = project.run("score", NAME, RANGE, data="corrected")
    assert [one.key for one in ran.partitions] == dependants(5, 8)
    assert {one.driving for one in ran.partitions} == {39, 40}
    assert len(rows(project, "2024-02-05")) == 39 and rows(project, "2024-02-05") != old["2024-02-05"][:39]
    assert all(row["restated"] for key in dependants(5, 8) for row in project.rows(PREDICTIONS, (key,)))
    assert not any(row["restated"] for key in dependants(9, 12) for row in project.rows(PREDICTIONS, (key,)))
    entry = project.entry(PREDICTIONS, "2024-02-05").meta
    assert (entry["data"], entry["restated"]) == ("corrected", ["orders/2024-02-05@2"])
    assert due(project) == {} and due(project, "as-known") == {}
    restate(project, "2024-02-05", amount="1.5")
    assert list(due(project)) == dependants(5, 8)


def test_as_known_data_gives_back_what_was_published_before_and_after_a_corrected_run(project: Project):
    old = {key: rows(project, key) for key in dependants(2, 12)}
    restate(project, "2024-02-05")
    project.run("score", NAME, RANGE, force=True)
    assert {key: rows(project, key) for key in old} == old
    project.run("score", NAME, RANGE, data="corrected")
    assert rows(project, "2024-02-05") != old["2024-02-05"]
    project.run("score", NAME, RANGE, force=True)
    assert {key: rows(project, key) for key in old} == old
    assert "restated" not in project.entry(PREDICTIONS, "2024-02-05").meta


def test_of_sources_that_the_sql_does_not_look_back_on_only_a_days_own_rows_make_it_due(
    first_champion: Project, tmp_path: Path
):
    own = first_champion.copy(tmp_path / "own")
    deliver(own.incoming, date(2024, 2, 1), LAST)
    own.load({"orders": f"2024-02-01..{LAST}", "arrivals": f"2024-02-01..{LAST}"})
    own.run("score", NAME, RANGE)
    restate(own, "2024-02-05")  # its SQL reads the day's own orders and the shops
    own.write("arrivals/2024-02-06.csv", (own.incoming / "arrivals" / "2024-02-07.csv").read_bytes())
    own.load({"arrivals": "2024-02-06"})
    assert due(own) == {"2024-02-05": "restated input: orders/2024-02-05"}
    ran = own.run("score", NAME, RANGE, data="corrected")
    assert [one.key for one in ran.partitions] == ["2024-02-05"] and due(own) == {}


def test_a_file_that_was_declared_missing_and_came_late_is_seen_by_corrected_data_alone(
    first_champion: Project, tmp_path: Path, mlflow_uri: str
):
    late = historical_january(tmp_path / "late", mlflow_uri)
    (late.settings.config / "pipelines" / NAME / "features.sql").write_text(LOOKING_BACK)
    assert late.run("promote", NAME, "2024-02").promoted
    source = late.settings.config / "sources" / "arrivals" / "source.yaml"
    source.write_text(source.read_text() + "missing: [2024-02-05]\n")
    deliver(late.incoming, date(2024, 2, 1), LAST)
    file = late.incoming / "arrivals" / "2024-02-05.csv"
    content = file.read_bytes()
    file.unlink()
    late.load({"orders": f"2024-02-01..{LAST}", "arrivals": f"2024-02-01..{LAST}"})
    late.run("score", NAME, RANGE)
    late.write("arrivals/2024-02-05.csv", content)
    late.load({"arrivals": "2024-02-05"})
    found = due(late)
    assert list(found) == dependants(6, 8)  # it would have been known after its day
    assert set(found.values()) == {"restated input: arrivals/2024-02-05"}
    assert due(late, "as-known") == {}


def test_plan_run_backfill_and_why_spell_it_alike(project: Project):
    restate(project, "2024-02-05")
    range_ = ["--from", str(FIRST), "--to", str(LAST), "--data", "corrected"]
    planned = project.command("plan", NAME, *range_)
    assert "4 of 11 partitions are due: 4 restated input: orders/2024-02-05" in planned.out, planned.err
    assert project.command("backfill", NAME, *range_, "--dry-run", "--stages", "score").out == planned.out
    ran = project.command("run", "score", NAME, RANGE, "--data", "corrected", "--json")
    assert [one["key"] for one in ran.json["partitions"]] == dependants(5, 8), ran.err
    told = project.command("why", NAME, "20240205-000", "2024-02-05")
    assert told.code == 0 and "other deliveries were visible" not in told.out, told.err
    assert "published from corrected data; restated since: orders/2024-02-05@2" in told.out
    refused = project.command("run", "ingest", "orders", "2024-02-05", "--data", "corrected")
    assert refused.code != 0 and "--data" in refused.err


def test_separate_steps_hand_on_which_data_it_is_and_what_the_features_took(project: Project):
    restate(project, "2024-02-05")
    pin = project.run("pin", NAME, RANGE, data="corrected")
    given: dict[str, Result] = {"pin": PinResult.from_dict(json.loads(json.dumps(pin.to_dict())))}
    features = project.run("featurize", NAME, RANGE, given=given)
    given["featurize"] = FeaturizeResult.from_dict(json.loads(json.dumps(features.to_dict())))
    ran = project.run("score", NAME, RANGE, given=given)
    assert [one.key for one in ran.partitions] == dependants(5, 8)
    took = project.table(PREDICTIONS).commits()[-1].took
    assert took["featurize"] == pytest.approx(features.seconds) and features.seconds > 0
    assert (took["computed"], took["threads"], took["device"]) == (4, project.settings.threads, "cpu")


def test_a_view_that_is_gone_is_named_with_what_to_do(project: Project):
    view = project.entry(PREDICTIONS, "2024-02-05").meta["view"]
    (project.settings.home / "lake" / NAME / "views" / f"{view}.json").unlink()
    told = project.command("plan", NAME, "--from", str(FIRST), "--to", str(LAST), "--data", "corrected")
    assert told.code == 1 and f"{NAME}/views/{view}.json is not there" in told.err and "backup" in told.err
