"""A delivery that does not come: waited for, left out, or done without, as its source says; and said wherever it shows."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from millrace_airflow.readiness import patience_ends

from tasks.domain.run import RunRef
from tasks.errors import ContractError, NotReadyError
from tasks.ingest import ingest, waiting
from tasks.lake import open_landing
from tasks.pin import pin
from tasks.plan import due_ingests, due_scores
from tasks.settings import load_pipeline, load_source
from tests.support.pipelines import deliver
from tests.support.project import Project

NAME = "late_orders"
GONE = "2024-02-03"
RANGE = "2024-02-02..2024-02-08"
LOOKS_BACK = ["2024-02-04", "2024-02-05", "2024-02-06"]
"""The days whose three days of lookback hold what was known of GONE's arrivals; the first waited for them."""
UNTIL = datetime(2024, 2, 4, 11, tzinfo=UTC)
"""Six in the morning in New York, six hours after GONE's end."""


def live(project: Project, policy: str = "", of: str = "arrivals") -> Project:
    """February as days that come one after the other, with a policy for one of the sources."""
    for name in ("orders", "arrivals"):
        file = project.settings.config / "sources" / name / "source.yaml"
        more = f"late: {policy}\n" if policy and name == of else ""
        file.write_text(file.read_text().replace("history: 2025-01-01", "history: 2024-02-01") + more)
    deliver(project.incoming, date(2024, 2, 1), date(2024, 2, 8))
    return project


def lose(project: Project, of: str = "arrivals") -> bytes:
    file = project.incoming / of / f"{GONE}.csv"
    content = file.read_bytes()
    file.unlink()
    return content


def loaded(project: Project) -> None:
    project.load({"orders": "2024-02-01..2024-02-08", "arrivals": "2024-02-01..2024-02-07"})


def published(project: Project) -> dict[str, list[str]]:
    """Partition -> what it went without."""
    entries = project.table(f"{NAME}/predictions").entries()
    return {key: entry.meta.get("degraded", []) for (key,), entry in entries.items() if key >= "2024-02-02"}


def test_what_is_given_up_is_landed_as_a_revision_without_rows_once(champion: Project):
    project = live(champion, "{policy: degrade, until: end+6h}")
    lose(project)
    landed = project.run("ingest", "arrivals", "2024-02-01..2024-02-07")
    assert {one.key: (one.status, one.rows) for one in landed.partitions}[GONE] == ("absent", 0)
    assert {one.status for one in landed.partitions if one.key != GONE} == {"landed"}
    again = project.run("ingest", "arrivals", GONE)
    assert again.version == landed.version and again.partitions[0].status == "absent"
    judged = project.run("validate", "arrivals", "2024-02-01..2024-02-07")
    assert {one.status for one in judged.partitions} == {"published"}
    assert project.entry("sources/arrivals/clean", GONE, 1).meta["absent"] is True


def test_days_are_scored_without_it_and_say_so(champion: Project):
    project = live(champion, "{policy: degrade, until: end+6h}")
    lose(project)
    loaded(project)
    scored = project.run("score", NAME, RANGE)
    assert len(scored.partitions) == 7 and not scored.skipped
    assert published(project) == {
        f"2024-02-{day:02d}": [f"arrivals/{GONE}"] if f"2024-02-{day:02d}" in LOOKS_BACK else [] for day in range(2, 9)
    }
    told = project.command("why", NAME, "20240204-000", "2024-02-04")
    assert told.code == 0, told.err
    assert f"went without  arrivals/{GONE}, given up since it did not come in time" in told.out
    assert "went without" not in project.command("why", NAME, "20240207-000", "2024-02-07").out


def test_a_file_that_comes_after_all_changes_nothing_published_and_corrects_what_is_asked_for(champion: Project):
    project = live(champion, "{policy: degrade, until: end+6h}")
    content = lose(project)
    loaded(project)
    project.run("score", NAME, RANGE)
    before = project.rows(f"{NAME}/predictions")
    project.write(f"arrivals/{GONE}.csv", content)
    project.load({"arrivals": GONE})
    assert project.entry("sources/arrivals/clean", GONE, 2).rows == 40
    assert "absent" not in project.entry("sources/arrivals/clean", GONE, 2).meta
    assert project.run("score", NAME, RANGE).partitions == ()
    project.run("score", NAME, RANGE, force=True)
    assert project.rows(f"{NAME}/predictions") == before and set(published(project)["2024-02-04"]) == {
        f"arrivals/{GONE}"
    }
    spec = load_pipeline(project.settings.config, NAME)
    wanted = [spec.partition(key) for key in LOOKS_BACK]
    pinned = pin(spec=spec, partitions=wanted, lake=project.lake, force=True, data="corrected")
    assert [one.degraded for one in pinned.partitions] == [()] * 3


def test_the_day_that_waited_for_it_is_left_out_and_the_plan_says_so(champion: Project):
    project = live(champion, "{policy: skip, until: end+6h}")
    lose(project)
    loaded(project)
    said = f"left out: arrivals/{GONE} did not come in time"
    planned = project.command("plan", NAME, "--from", "2024-02-02", "--to", "2024-02-08")
    assert said in planned.out and "6 of 7 partitions are due" in planned.out, planned.out
    scored = project.run("score", NAME, RANGE)
    assert [(one.key, one.reason) for one in scored.skipped] == [("2024-02-04", said)]
    assert published(project) == {
        "2024-02-02": [], "2024-02-03": [], "2024-02-05": [f"arrivals/{GONE}"], "2024-02-06": [f"arrivals/{GONE}"],
        "2024-02-07": [], "2024-02-08": [],
    }  # fmt: skip
    spec = load_pipeline(project.settings.config, NAME)
    now = datetime(2024, 2, 8, 12, tzinfo=UTC)
    assert list(due_scores(spec=spec, lake=project.lake, now=now)) == []


def test_a_day_without_its_own_rows_is_left_out(champion: Project):
    project = live(champion, "{policy: skip, until: end+6h}", of="orders")
    lose(project, of="orders")
    (project.settings.config / "sources" / "orders" / "contract.json").write_text(
        '{"name": "orders", "expectations": [{"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1}}]}'
    )
    loaded(project)
    scored = project.run("score", NAME, RANGE)
    assert [(one.key, one.reason) for one in scored.skipped] == [
        (GONE, f"left out: orders/{GONE} did not come in time")
    ]
    project.write(f"orders/{GONE}.csv", "order_id,shop,amount\n")
    project.run("ingest", "orders", GONE)
    with pytest.raises(ContractError, match="row_count"):  # an empty file is no absence
        project.run("validate", "orders", GONE)


def test_without_a_policy_it_is_waited_for_whatever_the_hour(champion: Project):
    project = live(champion)
    lose(project)
    with pytest.raises(NotReadyError, match=f"arrivals: no file yet for arrivals/{GONE}"):
        project.run("ingest", "arrivals", "2024-02-01..2024-02-07")
    project.load({"orders": "2024-02-01..2024-02-08"})
    with pytest.raises(NotReadyError, match="late_orders waits for arrivals/"):
        project.run("pin", NAME, RANGE)


def test_nothing_is_given_up_before_its_moment(champion: Project):
    project = live(champion, "{policy: degrade, until: end+6h}")
    lose(project)
    source, landing = load_source(project.settings.config, "arrivals"), open_landing(project.settings)
    where = {"landing": landing, "root": project.settings.landing_uri}
    wanted = [source.partition(GONE)]

    def asked(now: datetime) -> tuple[list[str], tuple[str, ...]]:
        due = due_ingests(source=source, lake=project.lake, now=now, **where)
        return [one.key for one in due if one.key == GONE], waiting(source=source, partitions=wanted, now=now, **where)

    early = UNTIL - timedelta(seconds=1)
    assert asked(early) == ([], (f"arrivals/{GONE}",)) and asked(UNTIL) == ([GONE], ())
    run = {"source": source, "partitions": wanted, "lake": project.lake, "run": RunRef("r", 1, "tester"), **where}
    with pytest.raises(NotReadyError) as refused:
        ingest(**run, clock=lambda: early)
    assert "it is given up at 2024-02-04T11:00:00.000000Z" in refused.value.hint
    (landed,) = ingest(**run, clock=lambda: UNTIL).partitions
    assert (landed.status, landed.known_at) == ("absent", "2024-02-04T11:00:00.000000Z")
    project.run("validate", "arrivals", GONE)
    assert asked(UNTIL + timedelta(hours=1)) == ([], ())


def test_a_late_file_that_came_before_anybody_looked_is_no_absence(champion: Project):
    project = live(champion, "{policy: degrade, until: end+6h}")
    (landed,) = project.run("ingest", "arrivals", GONE).partitions
    assert (landed.status, landed.rows, landed.revision) == ("landed", 40, 1)


def test_neither_history_nor_what_is_declared_missing_is_given_up(champion: Project):
    project = live(champion, "{policy: degrade, until: end+6h}")
    source = load_source(project.settings.config, "arrivals")
    assert source.given_up(source.partition("2024-01-31")) is None
    assert source.given_up(source.partition(GONE)) == UNTIL
    missing = source.model_copy(update={"missing": (GONE,)})
    assert missing.given_up(missing.partition(GONE)) is None


def test_airflows_step_waits_as_long_as_the_source_does(champion: Project):
    project = live(champion, "{policy: degrade, until: end+2000d}")
    source = load_source(project.settings.config, "arrivals")
    until = patience_ends(project.settings, "ingest", "arrivals", GONE)
    assert until == source.given_up(source.partition(GONE)) + timedelta(minutes=1) > datetime.now(UTC)
    assert patience_ends(project.settings, "ingest", "orders", GONE) < datetime.now(UTC) + timedelta(days=30)
