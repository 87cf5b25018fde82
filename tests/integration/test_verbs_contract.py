"""Contracts: bad rows go to quarantine with their reason, too many of them block, and mending publishes."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from tasks.errors import ContractError, NotReadyError
from tests.support.project import Project

DAY = "2024-01-02"
HEADER = "order_id,shop,amount\n"
GOOD = [f"a-{number},s1,{number}" for number in range(40)]


def orders(*bad: str) -> str:
    return HEADER + "\n".join([*GOOD, *bad]) + "\n"


def suite(project: Project, maximum: float) -> None:
    file = project.settings.config / "sources" / "orders" / "contract.json"
    content = json.loads(file.read_text())
    content["expectations"][1]["kwargs"]["max_value"] = maximum
    file.write_text(json.dumps(content))


def test_a_bad_row_is_quarantined_with_expectation_value_file_and_line(project: Project):
    file = project.write(f"orders/{DAY}.csv", orders("b-1,s1,5000", ",s2,10"))
    project.run("ingest", "orders", DAY)
    outcome = project.run("validate", "orders", DAY).partitions[0]
    assert (outcome.status, outcome.rows_in, outcome.clean, outcome.quarantined) == ("published", 42, 40, 2)
    found = {row["_line"]: row for row in project.rows("sources/orders/quarantine")}
    assert set(found) == {42, 43}
    assert found[42]["_expectation"] == "expect_column_values_to_be_between"
    assert (found[42]["_column"], float(found[42]["_value"]), found[42]["_file"]) == ("amount", 5000, str(file))
    assert (found[42]["order_id"], found[42]["amount"]) == ("b-1", 5000)
    assert (found[43]["_expectation"], found[43]["_value"]) == ("expect_column_values_to_not_be_null", None)
    assert {row["order_id"] for row in project.rows("sources/orders/clean")} == {f"a-{n}" for n in range(40)}
    page = project.lake.objects.get(outcome.docs).decode()
    assert DAY in page and "<script" not in page


def test_clean_names_the_quarantine_that_holds_its_rejected_rows(project: Project):
    project.write(f"orders/{DAY}.csv", orders("b-1,s1,5000"))
    project.run("ingest", "orders", DAY)
    project.run("validate", "orders", DAY)
    inputs = project.entry("sources/orders/clean", DAY, 1).meta["inputs"]
    assert inputs == {
        "sources/orders/raw": project.version("sources/orders/raw"),
        "sources/orders/quarantine": project.version("sources/orders/quarantine"),
    }


def test_above_the_declared_limit_the_partition_is_blocked_and_others_are_published(project: Project):
    project.write(f"orders/{DAY}.csv", orders(*(f"b-{number},s1,5000" for number in range(10))))
    project.write("orders/2024-01-03.csv", orders())
    project.run("ingest", "orders", f"{DAY}..2024-01-03")
    with pytest.raises(ContractError, match="10 of 50 rows rejected .20.0%., more than max_reject_rate 5.0%") as caught:
        project.run("validate", "orders", f"{DAY}..2024-01-03")
    assert f"millrace replay orders {DAY}" in caught.value.hint
    assert {row["partition_key"] for row in project.rows("sources/orders/clean")} == {"2024-01-03"}
    assert len(project.rows("sources/orders/quarantine", (DAY, 1))) == 10

    # Asked again with the same rules, it is told again and nothing is written.
    before = project.objects()
    with pytest.raises(ContractError):
        project.run("validate", "orders", f"{DAY}..2024-01-03")
    assert project.objects() == before


@pytest.mark.parametrize("mend", ["the suite", "the limit", "the file"])
def test_after_mending_the_same_command_publishes(project: Project, mend: str):
    project.write(f"orders/{DAY}.csv", orders(*(f"b-{number},s1,5000" for number in range(10))))
    project.run("ingest", "orders", DAY)
    with pytest.raises(ContractError):
        project.run("validate", "orders", DAY)
    if mend == "the suite":
        suite(project, 10_000)
    elif mend == "the limit":
        source = project.settings.config / "sources" / "orders" / "source.yaml"
        source.write_text(source.read_text() + "max_reject_rate: 0.5\n")
    else:
        project.write(f"orders/{DAY}.csv", orders())
        project.run("ingest", "orders", DAY)
    outcomes = [one for one in project.run("validate", "orders", DAY).partitions if one.status == "published"]
    clean = {"the suite": (1, 50), "the limit": (1, 40), "the file": (2, 40)}[mend]
    assert [(one.revision, one.clean) for one in outcomes] == [clean]
    assert len(project.rows("sources/orders/clean")) == clean[1]


def test_a_blocked_restatement_leaves_the_revision_before_it_and_is_known_when_it_is_published(project: Project):
    project.write(f"orders/{DAY}.csv", orders(), arrived=datetime(2024, 1, 1, 20, tzinfo=UTC))
    project.load({"orders": DAY})
    before = project.rows("sources/orders/clean")
    worse = orders(*(f"b-{number},s1,5000" for number in range(10)))
    project.write(f"orders/{DAY}.csv", worse, arrived=datetime(2024, 1, 2, 20, tzinfo=UTC))
    project.run("ingest", "orders", DAY)
    with pytest.raises(ContractError, match="revision 2 is blocked"):
        project.run("validate", "orders", DAY)
    assert project.rows("sources/orders/clean") == before

    begun = datetime.now(UTC)
    suite(project, 10_000)
    outcome = project.run("validate", "orders", DAY).partitions
    assert [(one.revision, one.status) for one in outcome] == [(1, "unchanged"), (2, "published")]
    assert project.rows("sources/orders/clean", (DAY, 1)) == before
    # Partitions were scored with the first revision until now.
    assert {row["_known_at"] >= begun for row in project.rows("sources/orders/clean", (DAY, 2))} == {True}


def test_a_stricter_contract_does_not_touch_what_is_clean(project: Project):
    project.write(f"orders/{DAY}.csv", orders())
    project.load({"orders": DAY})
    before = project.objects()
    suite(project, 30)
    assert [one.status for one in project.run("validate", "orders", DAY).partitions] == ["unchanged"]
    assert project.objects() == before


def test_an_expectation_about_the_whole_partition_blocks_it(project: Project):
    file = project.settings.config / "sources" / "orders" / "contract.json"
    content = json.loads(file.read_text())
    content["expectations"] = [
        {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 100}},
    ]
    file.write_text(json.dumps(content))
    project.write(f"orders/{DAY}.csv", orders())
    project.run("ingest", "orders", DAY)
    with pytest.raises(ContractError, match="expect_table_row_count_to_be_between: observed 40"):
        project.run("validate", "orders", DAY)
    assert project.version("sources/orders/clean") == -1


def test_rows_whose_time_lies_outside_of_their_delivery_are_quarantined(project: Project):
    source = project.settings.config / "sources" / "arrivals" / "source.yaml"
    text = source.read_text().replace("late: bool", "late: bool, at: timestamp")
    source.write_text(text + "time: at\nmax_reject_rate: 0.6\n")
    lines = ["order_id,late,at", "a,true,2024-01-02T05:00:00Z", "b,true,2024-01-03T05:00:00Z", "c,false,"]
    project.write(
        f"arrivals/{DAY}.csv", "\n".join([*lines, "d,true,2024-01-02T04:59:59Z", "e,true,2024-01-03T04:59:59Z"])
    )
    project.run("ingest", "arrivals", DAY)
    assert project.run("validate", "arrivals", DAY).partitions[0].quarantined == 3
    assert [row["order_id"] for row in project.rows("sources/arrivals/clean")] == ["a", "e"]
    rejected = project.rows("sources/arrivals/quarantine")
    assert {(row["order_id"], row["_expectation"], row["_column"]) for row in rejected} == {
        (name, "time_within_partition", "at") for name in ("b", "c", "d")
    }


def test_a_delivery_without_rows_has_no_row_outside_of_it(project: Project):
    source = project.settings.config / "sources" / "arrivals" / "source.yaml"
    source.write_text(source.read_text().replace("late: bool", "late: bool, at: timestamp") + "time: at\n")
    project.write(f"arrivals/{DAY}.csv", "order_id,late,at\n")
    project.write("arrivals/2024-01-03.csv", "order_id,late,at\na,true,2024-01-03T12:00:00Z\n")
    project.run("ingest", "arrivals", f"{DAY}..2024-01-03")
    outcomes = project.run("validate", "arrivals", f"{DAY}..2024-01-03").partitions
    assert [(one.clean, one.quarantined) for one in outcomes] == [(0, 0), (1, 0)]


def test_what_was_never_ingested_is_not_taken_for_validated(project: Project):
    project.write(f"orders/{DAY}.csv", orders())
    project.run("ingest", "orders", DAY)
    with pytest.raises(NotReadyError) as caught:
        project.run("validate", "orders", f"{DAY}..2024-01-03")
    assert caught.value.missing == ("orders/2024-01-03",)
    assert len(project.rows("sources/orders/clean")) == 40


def test_a_source_without_a_contract_is_published_as_it_came(project: Project):
    project.write(f"arrivals/{DAY}.csv", "order_id,late\na,true\n,false\n")
    project.load({"arrivals": DAY})
    assert len(project.rows("sources/arrivals/clean")) == 2
