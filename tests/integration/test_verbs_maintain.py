"""`millrace maintain` beside the other verbs, killed, and by names: rows and entries are as before."""

from __future__ import annotations

import os
import signal
import time
from datetime import date

import pytest

from tasks.command.maintain import maintain_named
from tasks.domain.results import MaintainResult
from tasks.domain.run import RunRef
from tests.support.pipelines import deliver
from tests.support.project import Project, ended
from tests.support.rows import later, scatter

RANGE = "2024-01-01..2024-01-03"
RAW, CLEAN = "sources/orders/raw", "sources/orders/clean"


@pytest.fixture
def orders(project: Project) -> Project:
    """Three days whose rows lie in a file each, all older than the retention."""
    deliver(project.incoming, date(2024, 1, 1), date(2024, 1, 3), orders=3)
    project.load({"orders": RANGE})
    for name in (RAW, CLEAN):
        scatter(project.table(name))
    age(project)
    return project


def age(project: Project) -> None:
    moment = time.time() - 30 * 86_400
    for file in (project.settings.home / "lake").rglob("*"):
        if file.is_file():
            os.utime(file, (moment, moment))


def maintain(project: Project, *names: str, dry_run: bool = False) -> MaintainResult:
    request = {"run": RunRef("maintain"), "now": later(0), "dry_run": dry_run, "progress": lambda done, total: None}
    return maintain_named(project.settings, list(names), **request)


def held(project: Project) -> dict[str, tuple]:
    return {name: (project.rows(name), project.table(name).entries()) for name in (RAW, CLEAN)}


def data_files(project: Project, name: str = RAW) -> int:
    return len(list((project.settings.home / "lake" / name).glob("partition_key=*/*/*.parquet")))


@pytest.mark.parametrize(
    ("target", "moment"),
    [
        ("tasks.lake.staging:Staged.keep", "after 2"),
        ("tasks.lake.delta:Snapshot.commit", "before 1"),
        ("tasks.lake.delta:Snapshot.commit", "after 1"),
        ("tasks.lake.objects:FolderStore.put_if_absent@_vacuumed", "after 1"),
        ("tasks.lake.objects:FolderStore.delete@partition_key", "after 2"),
    ],
)
def test_a_killed_maintenance_loses_nothing_and_run_again_ends_where_another_ends(
    orders: Project, target: str, moment: str
):
    before = held(orders)
    program = ["-m", "tests.support.killed_step", target, *moment.split()]
    killed = ended(orders.start("maintain", "orders", program=program))
    assert killed.code == -signal.SIGKILL, killed
    assert held(orders) == before
    for _ in range(2):  # what the first supersedes goes when the retention of that is over
        assert not any(one.problem for one in maintain(orders).tables)
        age(orders)
    maintain(orders)
    assert held(orders) == before
    assert data_files(orders, RAW) == data_files(orders, CLEAN) == 3
    assert all(one.compacted == one.deleted == 0 for one in maintain(orders).tables)


def test_a_run_that_was_pinned_before_a_maintenance_lands_on_what_it_pinned(champion: Project):
    deliver(champion.incoming, date(2024, 2, 1), date(2024, 2, 4))
    champion.load({"orders": "2024-02-01..2024-02-04", "arrivals": "2024-02-01..2024-02-03"})
    twin = champion.copy(champion.folder.parent / "twin")
    twin.run("score", "late_orders", "2024-02-02..2024-02-03")
    champion.run("score", "late_orders", "2024-02-02")
    pin = champion.run("pin", "late_orders", "2024-02-03")
    features = champion.run("featurize", "late_orders", "2024-02-03", given={"pin": pin})
    names = [one.table for one in maintain(champion, dry_run=True).tables]
    assert {"late_orders/predictions", *features.versions, "sources/shops/clean"} <= set(names)
    for name in names:
        scatter(champion.table(name), 15)
    age(champion)
    assert sum(one.saved for one in maintain(champion).tables) > 100
    age(champion)
    assert sum(one.deleted for one in maintain(champion).tables) > 100
    done = champion.run("score", "late_orders", "2024-02-03", given={"pin": pin, "featurize": features})
    assert [one.status for one in done.partitions] == ["published"]
    assert champion.rows("late_orders/predictions") == twin.rows("late_orders/predictions")


def test_what_a_training_left_that_ended_badly_goes_after_the_retention_and_its_note_stays(orders: Project):
    folder = "late_orders/trainings"
    old, new = f"{folder}/a/rows/0.parquet", f"{folder}/b/checkpoints/20.json"
    of_a_backtest = "late_orders/backtests/q/trainings/c/rows/0.parquet"
    orders.lake.objects.put("ledger/late_orders/backtests/q/begun.json", b"{}")
    for key in (old, of_a_backtest, f"{folder}/a.json", new):
        orders.lake.objects.put(key, b"{}")
    age(orders)
    orders.lake.objects.put(new, b"{} ")
    assert maintain(orders, "orders").trainings == 0
    assert (maintain(orders, dry_run=True).trainings, maintain(orders).trainings, maintain(orders).trainings) == (
        2,
        2,
        0,
    )
    left = {info.key for info in orders.lake.objects.list("late_orders/")}
    assert {new, f"{folder}/a.json"} <= left and not {old, of_a_backtest} & left


def test_a_dry_run_says_what_would_be_done_and_does_nothing(orders: Project):
    objects = orders.objects()
    done = orders.command("maintain", "--dry-run")
    assert done.code == 0 and orders.objects() == objects
    (line,) = [line for line in done.out.splitlines() if line.startswith(RAW)]
    assert line.split()[:2] == [RAW, "9"] and line.split()[3:7] == ["3", "6", "0", "3"]
    assert done.out.splitlines()[-1] == "(a dry run: nothing was done)"
    value = orders.command("maintain", "orders", "--json").json
    assert [(one["table"], one["compacted"], one["saved"], one["deleted"]) for one in value["tables"]] == [
        (RAW, 3, 6, 3),
        (CLEAN, 3, 6, 3),
        ("sources/orders/quarantine", 0, 0, 0),
    ]


def test_an_unknown_name_is_wrong_usage_and_a_broken_pipeline_holds_up_nobody(orders: Project):
    wrong = orders.command("maintain", "order")
    assert wrong.code == 2 and "did you mean 'orders'?" in wrong.err
    file = orders.settings.config / "pipelines" / "late_orders" / "pipeline.yaml"
    file.write_text("pipeline: [\n")
    done = orders.command("maintain", "--json")
    assert done.code == 0 and "pipeline.yaml" in done.err
    assert data_files(orders) == 3 + 9


def test_a_table_that_cannot_be_maintained_is_named_and_the_command_fails(orders: Project):
    next((orders.settings.home / "lake" / RAW).glob("partition_key=*/*/part-1-*.parquet")).unlink()
    done = orders.command("maintain", "--json")
    problems = {one["table"]: one["problem"] for one in done.json["tables"]}
    assert done.code == 1 and "lacks a data file" in problems.pop(RAW) and set(problems.values()) == {""}
    assert data_files(orders, CLEAN) == 3 + 9
