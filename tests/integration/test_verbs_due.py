"""What is due is computed from tables and landing zone: live partitions only, and only while there is work."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime

import pytest

from tasks.command.due import due
from tasks.errors import ContractError
from tasks.lake import open_landing
from tasks.plan import due_ingests, due_scores
from tasks.settings import load_pipeline, load_source
from tests.support.pipelines import deliver
from tests.support.project import Project

NOON = datetime(2024, 1, 3, 17, tzinfo=UTC)


def ingests(project: Project, source: str = "orders", now: datetime = NOON) -> list[str]:
    settings = project.settings
    found = due_ingests(
        source=load_source(settings.config, source),
        lake=project.lake,
        landing=open_landing(settings),
        root=settings.landing_uri,
        now=now,
    )
    return [f"{one.step} {one.name} {one.key}" for one in found]


def scores(project: Project, now: datetime) -> list[str]:
    spec = load_pipeline(project.settings.config, "late_orders")
    return [f"{one.step} {one.name} {one.key}" for one in due_scores(spec=spec, lake=project.lake, now=now)]


@pytest.fixture
def orders(project: Project) -> Project:
    deliver(project.incoming, date(2024, 1, 2), date(2024, 1, 3), orders=5)
    return project


def test_an_arrived_file_is_due_until_it_is_clean(orders: Project):
    assert ingests(orders) == ["ingest orders 2024-01-02", "ingest orders 2024-01-03"]
    orders.run("ingest", "orders", "2024-01-02..2024-01-03")
    # Landed is not enough: a run that was killed before it validated is taken up again.
    assert ingests(orders) == ["ingest orders 2024-01-02", "ingest orders 2024-01-03"]
    orders.run("validate", "orders", "2024-01-02..2024-01-03")
    assert ingests(orders) == []


def test_a_file_is_not_due_before_its_declared_moment_nor_after_a_week(orders: Project):
    declared = datetime(2024, 1, 2, 23, tzinfo=UTC)  # 18:00 in New York
    assert "ingest orders 2024-01-03" not in ingests(orders, now=datetime(2024, 1, 2, 22, 59, tzinfo=UTC))
    assert "ingest orders 2024-01-03" in ingests(orders, now=declared)
    assert ingests(orders, now=datetime(2024, 1, 20, tzinfo=UTC)) == []


def test_a_restated_file_is_due_also_when_it_came_before_its_declared_moment(orders: Project):
    file = orders.incoming / "orders" / "2024-01-03.csv"
    os.utime(file, (1704200000, 1704200000))
    orders.load({"orders": "2024-01-02..2024-01-03"})
    orders.write("orders/2024-01-03.csv", "order_id,shop,amount\nnew,s1,1\n")
    os.utime(file, (1704200060, 1704200060))
    assert ingests(orders) == ["ingest orders 2024-01-03"]
    orders.load({"orders": "2024-01-03"})
    assert ingests(orders) == [] and orders.entry("sources/orders/clean", "2024-01-03", 2).rows == 1


def test_the_same_bytes_delivered_again_are_not_due(orders: Project):
    orders.load({"orders": "2024-01-02..2024-01-03"})
    os.utime(orders.incoming / "orders" / "2024-01-03.csv", (1704300000, 1704300000))
    assert ingests(orders) == []


def test_a_blocked_partition_waits_for_a_person(orders: Project):
    orders.write("orders/2024-01-03.csv", "order_id,shop,amount\na,s1,5000\n")
    orders.run("ingest", "orders", "2024-01-02..2024-01-03")
    with pytest.raises(ContractError):
        orders.run("validate", "orders", "2024-01-02..2024-01-03")
    assert ingests(orders) == []


def test_history_and_reference_data_are_never_due(champion: Project):
    assert ingests(champion, now=datetime(2024, 1, 30, tzinfo=UTC)) == []
    assert ingests(champion, "shops", now=datetime(2024, 1, 30, tzinfo=UTC)) == []


def test_a_score_is_due_when_its_inputs_are_clean_and_until_it_is_published(champion: Project):
    after = datetime(2024, 2, 3, 9, 1, tzinfo=UTC)  # as_of is four in the morning in New York
    deliver(champion.incoming, date(2024, 2, 1), date(2024, 2, 3))
    champion.load({"orders": "2024-02-01..2024-02-03", "arrivals": "2024-02-01..2024-02-02"})
    assert scores(champion, after) == []  # a historical load is worked on when somebody asks
    for source in ("orders", "arrivals"):
        spec = champion.settings.config / "sources" / source / "source.yaml"
        spec.write_text(spec.read_text().replace("history: 2025-01-01", "history: 2024-02-01"))
    assert scores(champion, datetime(2024, 2, 3, 8, 59, tzinfo=UTC)) == ["score late_orders 2024-02-02"]
    assert scores(champion, after) == ["score late_orders 2024-02-02", "score late_orders 2024-02-03"]
    champion.run("score", "late_orders", "2024-02-02..2024-02-03")
    assert scores(champion, after) == []


def test_a_score_is_not_due_while_an_input_is_awaited(champion: Project):
    for source in ("orders", "arrivals"):
        spec = champion.settings.config / "sources" / source / "source.yaml"
        spec.write_text(spec.read_text().replace("history: 2025-01-01", "history: 2024-02-01"))
    deliver(champion.incoming, date(2024, 2, 1), date(2024, 2, 2))
    champion.load({"orders": "2024-02-01..2024-02-02"})
    now = datetime(2024, 2, 2, 12, tzinfo=UTC)
    assert scores(champion, now) == []
    champion.load({"arrivals": "2024-02-01"})
    assert scores(champion, now) == ["score late_orders 2024-02-02"]


@pytest.mark.parametrize(("available", "now"), [("end+10d", (2024, 1, 14, 6)), ("start-3d", (2023, 12, 31, 6))])
def test_a_file_is_due_however_far_its_declared_moment_is_from_its_partition(orders: Project, available, now):
    spec = orders.settings.config / "sources" / "orders" / "source.yaml"
    text = (
        spec.read_text().replace("history: 2025-01-01\n", "").replace("available: start-6h", f"available: {available}")
    )
    spec.write_text(text)
    assert "ingest orders 2024-01-03" in ingests(orders, now=datetime(*now, tzinfo=UTC))


def test_what_failed_is_started_again_an_hour_later(orders: Project):
    def tokens(minute: int) -> set[str]:
        settings = orders.settings
        found = due_ingests(
            source=load_source(settings.config, "orders"),
            lake=orders.lake,
            landing=open_landing(settings),
            root=settings.landing_uri,
            now=datetime(2024, 1, 3, 17 + minute // 60, minute % 60, tzinfo=UTC),
        )
        return {one.token for one in found}

    assert tokens(0) == tokens(59) != tokens(60)


def test_a_broken_ledger_holds_up_nobody_else(orders: Project, capsys: pytest.CaptureFixture):
    orders.lake.objects.put("ledger/late_orders/000001.json", b"{}")
    assert [one.name for one in due(orders.settings, NOON) if one.step == "ingest"].count("orders") == 2
    assert "ledger" in capsys.readouterr().err
