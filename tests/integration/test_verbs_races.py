"""Two runs for the same partitions, and runs that are killed: one published partition, nothing lost or doubled."""

from __future__ import annotations

import signal
from datetime import date

import pytest

from tasks.errors import SupersededError
from tests.support.pipelines import deliver
from tests.support.project import Project, ended, with_settings

RANGE = "2024-01-01..2024-01-03"
PREDICTIONS = "late_orders/predictions"
COMMIT = "tasks.lake.delta:Snapshot.commit"


@pytest.fixture
def orders(project: Project) -> Project:
    deliver(project.incoming, date(2024, 1, 1), date(2024, 1, 3), orders=5)
    return project


@pytest.fixture
def february(champion: Project) -> Project:
    deliver(champion.incoming, date(2024, 2, 1), date(2024, 2, 4))
    champion.load({"orders": "2024-02-01..2024-02-04", "arrivals": "2024-02-01..2024-02-03"})
    return champion


def statuses(result) -> list[str]:
    return [one.status for one in result.partitions]


def test_a_range_lands_although_another_run_landed_one_of_its_partitions_meanwhile(orders: Project):
    result = orders.run("ingest", "orders", RANGE, meanwhile=lambda: orders.run("ingest", "orders", "2024-01-02"))
    assert statuses(result) == ["landed", "duplicate", "landed"]
    assert len(orders.rows("sources/orders/raw")) == 15


def test_an_ingest_that_was_overtaken_reads_the_file_again_and_never_lands_old_bytes(orders: Project):
    def newer() -> None:
        orders.write("orders/2024-01-01.csv", "order_id,shop,amount\nnew,s1,1\n")
        orders.run("ingest", "orders", "2024-01-01")

    assert statuses(orders.run("ingest", "orders", RANGE, meanwhile=newer)) == ["duplicate", "landed", "landed"]
    assert [row["order_id"] for row in orders.rows("sources/orders/raw", ("2024-01-01", 1))] == ["new"]
    assert orders.entry("sources/orders/raw", "2024-01-01", 2) is None


def test_a_range_is_validated_although_another_run_judged_one_of_its_partitions_meanwhile(orders: Project):
    orders.run("ingest", "orders", RANGE)
    result = orders.run("validate", "orders", RANGE, meanwhile=lambda: orders.run("validate", "orders", "2024-01-02"))
    assert statuses(result) == ["published", "superseded", "published"]
    assert len(orders.rows("sources/orders/clean")) == 15
    assert statuses(orders.run("validate", "orders", RANGE)) == ["unchanged"] * 3


def test_a_validation_that_was_overtaken_altogether_is_superseded(orders: Project):
    orders.run("ingest", "orders", RANGE)
    with pytest.raises(SupersededError):
        orders.run("validate", "orders", RANGE, meanwhile=lambda: orders.run("validate", "orders", RANGE))
    assert len(orders.rows("sources/orders/clean")) == 15


def test_features_that_another_run_computed_meanwhile_are_taken(february: Project):
    days = "2024-02-02..2024-02-04"
    pin = february.run("pin", "late_orders", days)

    def other() -> None:
        february.run("featurize", "late_orders", "2024-02-03")

    features = february.run("featurize", "late_orders", days, given={"pin": pin}, meanwhile=other)
    assert (features.computed, len(features.partitions)) == (2, 3)
    assert len(february.run("score", "late_orders", days, given={"pin": pin, "featurize": features}).partitions) == 3


def test_a_stale_pin_publishes_only_what_nobody_else_has(february: Project):
    days = "2024-02-02..2024-02-04"
    pin = february.run("pin", "late_orders", days)
    february.run("score", "late_orders", "2024-02-03", run_id="first")
    result = february.run("score", "late_orders", days, given={"pin": pin}, run_id="second")
    assert statuses(result) == ["published", "superseded", "published"]
    wrote = {key: entry.run_id for (key,), entry in february.table(PREDICTIONS).entries().items()}
    assert wrote == {"2024-02-02": "second", "2024-02-03": "first", "2024-02-04": "second"}
    with pytest.raises(SupersededError):
        february.run("score", "late_orders", days, given={"pin": pin}, run_id="third")
    assert len(february.rows(PREDICTIONS)) == 120


def test_a_pin_from_before_a_promotion_does_not_publish_with_the_former_champion(february: Project):
    days = "2024-02-02..2024-02-03"
    pin = february.run("pin", "late_orders", days)
    (event,) = february.lake.ledger("late_orders").events()
    own = ("number", "previous", "digest")
    changed = {name: value for name, value in event.items() if name not in own}
    changed["to_model"] = changed["candidate"] | {"version": 99}
    february.lake.ledger("late_orders").append(changed | {"effective_from": "2024-02-03T00:00:00+00:00"}, expected=1)
    result = february.run("score", "late_orders", days, given={"pin": pin})
    assert statuses(result) == ["published", "superseded"]
    assert {key for (key,) in february.table(PREDICTIONS).entries()} == {"2024-02-02"}


def test_two_processes_ingest_and_validate_the_same_range_once(orders: Project):
    for verb in ("ingest", "validate"):
        both = [orders.start("run", verb, "orders", RANGE, "--json") for _ in range(2)]
        ends = [ended(process) for process in both]
        assert 0 in {one.code for one in ends}
        lost = [one.json["error"]["type"] for one in ends if one.code]
        assert set(lost) <= {"SupersededError"}, ends
    entries = orders.table("sources/orders/clean").entries()
    assert set(entries) == {(f"2024-01-0{day}", 1) for day in (1, 2, 3)}
    assert len(orders.rows("sources/orders/clean")) == len(orders.rows("sources/orders/raw")) == 15


def test_two_processes_score_the_same_partition_once(february: Project):
    both = [february.start("run", "score", "late_orders", "2024-02-03", "--json") for _ in range(2)]
    ends = [ended(process) for process in both]
    results = [one.json for one in ends]
    published = [one for one in results if "partitions" in one and one["partitions"]]
    others = [one for one in results if one not in published]
    assert len(published) == 1, ends
    assert all(one.get("skipped") or one["error"]["type"] == "SupersededError" for one in others)
    assert len(february.rows(PREDICTIONS, ("2024-02-03",))) == 40


def test_a_backfill_and_a_schedule_that_meet_on_a_day_publish_each_day_once(february: Project):
    """As Airflow runs them: the backfill's chunk is one command, the schedule hands on what it pinned before."""
    pin = february.run("pin", "late_orders", "2024-02-03", run_id="scheduled")
    features = february.run("featurize", "late_orders", "2024-02-03", given={"pin": pin}, run_id="scheduled")
    chunk = february.start(
        "run", "score", "late_orders", "2024-02-02..2024-02-04", "--json", MILLRACE_RUN_ID="backfill"
    )
    try:
        given = {"pin": pin, "featurize": features}
        done = statuses(february.run("score", "late_orders", "2024-02-03", given=given, run_id="scheduled"))
    except SupersededError:
        done = ["superseded"]
    end = ended(chunk)
    assert end.code == 0, end.err
    wrote = {key: entry.run_id for (key,), entry in february.table(PREDICTIONS).entries().items()}
    assert wrote == dict.fromkeys(("2024-02-02", "2024-02-03", "2024-02-04"), "backfill") | (
        {"2024-02-03": "scheduled"} if done == ["published"] else {}
    )
    assert len(february.rows(PREDICTIONS)) == 120
    assert february.run("score", "late_orders", "2024-02-02..2024-02-04").partitions == ()


@pytest.mark.parametrize(
    ("verb", "commit", "moment"),
    [("ingest", 1, "before"), ("ingest", 1, "after"), ("validate", 2, "before"), ("validate", 2, "after")],
)
def test_a_killed_ingest_or_validation_run_again_leaves_the_same_tables(
    orders: Project, verb: str, commit: int, moment: str
):
    twin = with_settings(orders, home=orders.folder / "twin")
    twin.load({"orders": RANGE})
    if verb == "validate":
        orders.run("ingest", "orders", RANGE)
    program = ["-m", "tests.support.killed_step", COMMIT, moment, str(commit)]
    attempts = {"MILLRACE_RUN_ID": "the-run", "MILLRACE_ATTEMPT": "1"}
    assert ended(orders.start("run", verb, "orders", RANGE, program=program, **attempts)).code == -signal.SIGKILL
    orders.run("ingest", "orders", RANGE, run_id="the-run")
    orders.run("validate", "orders", RANGE, run_id="the-run")
    tables = ["sources/orders/raw", "sources/orders/quarantine", "sources/orders/clean"]
    for name in tables:
        assert orders.rows(name) == twin.rows(name)
        ours, theirs = orders.table(name).entries(), twin.table(name).entries()
        assert {key: entry.rows for key, entry in ours.items()} == {key: entry.rows for key, entry in theirs.items()}


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_killed_score_run_again_leaves_one_published_partition(february: Project, moment: str):
    twin = february.copy(february.folder.parent / "twin")
    twin.run("score", "late_orders", "2024-02-03")
    # The first commit is the features', the second the predictions'.
    program = ["-m", "tests.support.killed_step", COMMIT, moment, "2"]
    killed = february.start("run", "score", "late_orders", "2024-02-03", program=program, MILLRACE_RUN_ID="the-run")
    assert ended(killed).code == -signal.SIGKILL
    result = february.run("score", "late_orders", "2024-02-03", run_id="the-run")
    assert [one.key for one in result.partitions] == (["2024-02-03"] if moment == "before" else [])
    assert february.rows(PREDICTIONS) == twin.rows(PREDICTIONS)
    assert february.version(PREDICTIONS) == twin.version(PREDICTIONS)


def test_a_score_whose_commit_was_made_before_the_kill_finds_it_with_its_own_pin(february: Project):
    """As Airflow retries: the same pin and features, the next attempt of the same run."""
    pin = february.run("pin", "late_orders", "2024-02-03")
    features = february.run("featurize", "late_orders", "2024-02-03", given={"pin": pin})
    given = {"pin": pin, "featurize": features}
    first = february.run("score", "late_orders", "2024-02-03", given=given, run_id="the-run")
    again = february.run("score", "late_orders", "2024-02-03", given=given, run_id="the-run")
    assert again == first
