"""What a contract set aside is listed with its reason, and comes back once after the fix of file or suite."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from tasks.command.plan import plan
from tasks.command.quarantine import quarantine
from tasks.command.quarantine import text as quarantine_text
from tasks.command.replay import replay
from tasks.command.replay import text as replay_text
from tasks.command.steps import Steps
from tasks.domain.replayed import Came, ReplayReport
from tasks.domain.run import RunRef
from tasks.errors import ContractError, NotReadyError
from tests.support.pipelines import CONTRACT, LOOKING_BACK, deliver
from tests.support.project import Project, historical_january

NAME, DAY, NEXT, LAST = "late_orders", "2024-02-02", "2024-02-03", "2024-02-04"
PREDICTIONS, QUARANTINE = f"{NAME}/predictions", "sources/orders/quarantine"


@pytest.fixture(scope="module")
def trained(first_champion: Project, tmp_path_factory: pytest.TempPathFactory, mlflow_uri: str) -> Project:
    """A champion whose features read both sources over three days, and three days of February that have arrived."""
    made = historical_january(tmp_path_factory.mktemp("replay") / "project", mlflow_uri)
    (made.settings.config / "pipelines" / NAME / "features.sql").write_text(LOOKING_BACK)
    assert made.run("promote", NAME, "2024-02").promoted
    deliver(made.incoming, date(2024, 2, 1), date(2024, 2, 4))
    made.load({"arrivals": f"2024-02-01..{NEXT}", "orders": "2024-02-01"})
    return made


@pytest.fixture
def project(trained: Project, tmp_path: Path) -> Project:
    return trained.copy(tmp_path / "project")


def contract(project: Project, most: int, *, rejects: float = 0.9) -> None:
    """Have orders' amounts be at most `most`, and a share of rows be set aside without blocking."""
    part = project.settings.config / "sources" / "orders"
    (part / "contract.json").write_text(CONTRACT.replace("1000", str(most)))
    lines = [line for line in (part / "source.yaml").read_text().splitlines() if not line.startswith("max_reject")]
    (part / "source.yaml").write_text("\n".join([*lines, f"max_reject_rate: {rejects}", ""]))


def again(project: Project, text: str, name: str = NAME):
    run = RunRef("replayed", 1, "tester")
    return replay(Steps(project.settings, run, lambda text: None, lambda done, total: None), name, text)


def scored_with_a_tight_contract(project: Project) -> int:
    """Publish three days with part of the orders; the number of rows set aside of the first."""
    contract(project, 600)
    project.load({"orders": f"{DAY}..{LAST}"})
    project.run("score", NAME, f"{DAY}..{LAST}")
    aside = len(project.rows(QUARANTINE, (DAY, 1)))
    assert 0 < aside < 40 and len(project.rows(PREDICTIONS, (DAY,))) == 40 - aside
    return aside


def test_what_is_set_aside_is_listed_with_what_it_failed_its_file_and_its_line(project: Project):
    aside = scored_with_a_tight_contract(project)
    found = quarantine(project.settings, NAME, None)
    assert [(one.source, one.key, one.blocked) for one in found.set_aside] == [
        ("orders", day, False) for day in (DAY, NEXT, LAST)
    ]
    (failing,) = found.set_aside[0].failing
    assert (failing.expectation, failing.column, failing.rows) == (
        "expect_column_values_to_be_between",
        "amount",
        aside,
    )
    assert "rows: `millrace quarantine orders 2024-02-02`" in quarantine_text(found)

    of_day = quarantine(project.settings, "orders", DAY, rows=3)
    lines = (project.incoming / "orders" / f"{DAY}.csv").read_text().splitlines()
    bad = [number for number, line in enumerate(lines[1:], start=2) if float(line.split(",")[2]) > 600]
    assert [one.line for one in of_day.rows] == bad[:3]
    assert all(one.value == lines[one.line - 1].split(",")[2] for one in of_day.rows)
    assert "`millrace replay orders PARTITION`" in quarantine_text(of_day)
    assert quarantine_text(quarantine(project.settings, "arrivals", None)) == "arrivals: nothing is set aside"


def test_rows_that_pass_a_mended_contract_come_back_once(project: Project):
    aside = scored_with_a_tight_contract(project)
    before = project.rows("sources/orders/clean", (DAY, 1))
    contract(project, 1000)
    done = again(project, DAY)
    assert done.came == (Came("orders", DAY, 2, rows=40, back=aside),)
    assert (done.published, done.restated, done.problems) == ((), (DAY,), ())
    # the two days after it look back on it
    assert (done.dependants, done.between) == ((NEXT, LAST), (NEXT, LAST))
    told = "2 more published partitions read it: `millrace plan late_orders --from 2024-02-03 --to 2024-02-04 --data corrected`"
    assert told in replay_text(done)
    rows = project.rows(PREDICTIONS, (DAY,))
    assert len({row["order_id"] for row in rows}) == len(rows) == 40
    # what was published from it stands: a clean revision is final
    assert project.rows("sources/orders/clean", (DAY, 1)) == before
    assert project.entry("sources/orders/raw", DAY, 2).meta["replays"] == 1
    assert DAY not in [one.key for one in quarantine(project.settings, NAME, None).set_aside]

    objects = project.objects()
    second = again(project, DAY)
    assert (second.came, second.published, second.restated) == ((), (), ())
    assert replay_text(second) == "late_orders: nothing to replay"
    assert project.objects() == objects


def test_a_contract_under_which_no_row_comes_back_changes_nothing(project: Project):
    scored_with_a_tight_contract(project)
    objects = project.objects()
    for most in (500, 600):
        contract(project, most, rejects=0.8)
        assert replay_text(again(project, DAY)) == "late_orders: nothing to replay"
        assert project.objects() == objects
    contract(project, 400, rejects=0.05)
    done = again(project, DAY)
    assert "the contract would block it now" in done.problems[0] and project.objects() == objects


def test_rows_that_a_mended_contract_newly_sets_aside_are_told_too(project: Project):
    aside = scored_with_a_tight_contract(project)
    file = project.settings.config / "sources" / "orders" / "contract.json"
    file.write_text(file.read_text().replace('"min_value": 0, "max_value": 600', '"min_value": 500, "max_value": 1000'))
    (came,) = again(project, DAY).came
    assert came.back == aside and came.rows == 40 - came.gone and came.gone > 0
    assert f"{aside} rows came back, {came.gone} that passed are set aside now" in replay_text(
        ReplayReport(NAME, (came,))
    )


def test_a_day_that_can_not_be_scored_with_what_came_back_is_told_and_stops_no_other(project: Project):
    with_duplicates = CONTRACT.replace(
        "]}", ', {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "order_id"}}]}'
    )
    file = project.settings.config / "sources" / "orders" / "contract.json"
    contract(project, 1000)
    file.write_text(with_duplicates.replace("1000", "600"))
    orders = project.incoming / "orders" / f"{NEXT}.csv"
    text = orders.read_text()
    orders.write_text(text + text.splitlines()[-1] + "\n")
    project.load({"orders": f"{DAY}..{LAST}"})
    project.run("score", NAME, f"{DAY}..{LAST}")
    contract(project, 1000)  # the same order twice passes now
    done = again(project, f"{DAY}..{LAST}")
    assert done.restated == (DAY, LAST)
    assert [problem for problem in done.problems if NEXT in problem and "more than once" in problem]


@pytest.mark.parametrize("mend", ["the suite", "the file"])
def test_a_blocked_day_is_published_by_a_replay_after_the_fix(project: Project, mend: str):
    contract(project, 600, rejects=0.05)
    with pytest.raises(ContractError, match="is blocked"):
        project.load({"orders": DAY})
    with pytest.raises(NotReadyError):
        project.run("score", NAME, DAY)
    (found,) = quarantine(project.settings, NAME, None).set_aside
    assert found.blocked and "more than max_reject_rate 5.0%" in found.reason
    refused = again(project, DAY)
    assert (refused.published, len(refused.problems)) == ((), 2)
    assert "is blocked" in refused.problems[0] and "waits for orders/2024-02-02" in refused.problems[1]

    if mend == "the suite":
        contract(project, 1000)
        came = Came("orders", DAY, 1, rows=40)
    else:
        file = project.incoming / "orders" / f"{DAY}.csv"
        header, *rows = file.read_text().splitlines()
        kept = [line for line in rows if float(line.split(",")[2]) <= 600]
        project.write(f"orders/{DAY}.csv", "\n".join([header, *kept]) + "\n")
        came = Came("orders", DAY, 2, rows=len(kept))
    # its own arrivals come after it: nobody waits for them
    done = again(project, DAY)
    assert (done.came, done.published, done.problems) == ((came,), (DAY,), ())
    rows = project.rows(PREDICTIONS, (DAY,))
    assert len({row["order_id"] for row in rows}) == len(rows) == came.rows


def test_a_replay_of_a_source_tells_what_is_clean_and_what_was_never_delivered(project: Project):
    contract(project, 600, rejects=0.05)
    with pytest.raises(ContractError, match="is blocked"):
        project.load({"orders": DAY})
    contract(project, 1000)
    assert replay_text(again(project, DAY, "orders")) == "orders 2024-02-02: revision 1 is clean, 40 rows"
    (problem,) = again(project, "2024-02-20", "orders").problems
    assert "1 partitions were not ingested" in problem


def test_a_delivery_that_another_one_followed_stays_blocked(project: Project):
    contract(project, 600, rejects=0.05)
    for text in (None, "order_id,shop,amount\n20240202-000,s1,999\n"):
        if text is not None:
            project.write(f"orders/{DAY}.csv", text)
        with pytest.raises(ContractError, match="is blocked"):
            project.load({"orders": DAY})
    contract(project, 950)
    with pytest.raises(ContractError, match="revision 2 is blocked"):  # the first one would pass
        project.run("validate", "orders", DAY)
    assert project.rows("sources/orders/clean", (DAY, 1)) == []
    project.write(f"orders/{DAY}.csv", "order_id,shop,amount\n20240202-000,s1,5\n")
    project.load({"orders": DAY})
    contract(project, 1000)
    outcomes = project.run("validate", "orders", DAY).partitions
    # it was published without the others, which would be known before the third
    assert [(one.revision, one.status) for one in outcomes] == [(1, "blocked"), (2, "blocked"), (3, "unchanged")]


def test_what_was_published_without_a_missing_delivery_stays_when_its_contract_is_mended(project: Project):
    source = project.settings.config / "sources" / "orders"
    contract(project, 600, rejects=0.05)
    with pytest.raises(ContractError, match="is blocked"):
        project.load({"orders": DAY})
    text = (source / "source.yaml").read_text()
    (source / "source.yaml").write_text(f"{text}missing: ['{DAY}']\n")
    (source / "contract.json").write_text(CONTRACT)
    project.load({"orders": NEXT})  # whose features look back on the day before
    project.run("score", NAME, NEXT)
    before = project.rows(PREDICTIONS, (NEXT,))
    assert again(project, DAY, "orders").came == (Came("orders", DAY, 1, rows=40),)
    project.run("score", NAME, NEXT, force=True)
    assert project.rows(PREDICTIONS, (NEXT,)) == before
    planned = plan(project.settings, NAME, date(2024, 2, 3), date(2024, 2, 3), model="as-of", data="corrected")
    assert planned.partitions[0].due


def test_a_restatement_that_no_contract_held_up_is_not_published_by_a_replay(project: Project):
    scored_with_a_tight_contract(project)
    file = project.incoming / "arrivals" / "2024-02-01.csv"
    file.write_text(file.read_text().replace("true", "false"))
    project.load({"arrivals": "2024-02-01"})
    objects = project.objects()
    assert replay_text(again(project, DAY)) == "late_orders: nothing to replay"
    assert project.objects() == objects


def test_a_version_that_somebody_chose_stays(project: Project):
    aside = scored_with_a_tight_contract(project)
    version = project.entry(PREDICTIONS, DAY).meta["model_version"]
    project.run("score", NAME, DAY, model=version, force=True)
    contract(project, 1000)
    done = again(project, DAY)
    assert done.came[0].back == aside and done.restated == ()
    assert done.left == (f"{DAY}: published, by version {version}, as it was asked for",)
    assert project.entry(PREDICTIONS, DAY).meta["chosen"] == "named"


def test_a_column_that_was_declared_since_and_a_broken_suite_are_no_end_of_a_replay(project: Project):
    aside = scored_with_a_tight_contract(project)
    source = project.settings.config / "sources" / "orders"
    spec = (source / "source.yaml").read_text()
    (source / "source.yaml").write_text(spec.replace("amount: float}", "amount: float, note: string}"))
    contract(project, 1000)
    file = project.incoming / "orders" / f"{DAY}.csv"
    file.unlink()  # it is in raw
    done = again(project, DAY)
    assert (done.came[0].back, done.restated, done.problems) == (aside, (DAY,), ())
    (source / "contract.json").write_text("{")
    broken = again(project, NEXT)
    assert "contract.json" in broken.problems[0] and broken.came == ()


def test_the_commands_tell_and_end_as_the_help_says(project: Project):
    scored_with_a_tight_contract(project)
    told = project.command("quarantine", NAME, DAY, "--rows", "2")
    assert told.code == 0 and told.out.count("expect_column_values_to_be_between") == 3, told.out
    assert json.loads(project.command("quarantine", "orders", "--json").out)["set_aside"][0]["key"] == DAY
    contract(project, 1000)
    done = project.command("replay", NAME, DAY)
    assert done.code == 0 and f"{NAME} {DAY}: published again, from corrected data" in done.out, done.err
    wrong = project.command("replay", "late_order", DAY)
    assert wrong.code == 2 and "did you mean 'late_orders'?" in wrong.err
    contract(project, 400, rejects=0.05)
    refused = project.command("replay", "orders", NEXT)
    assert refused.code == 1 and "still in the way: orders 2024-02-03: the contract would block it now" in refused.out
