"""`millrace check`: what is wrong in config/ is told with file, key, what was expected and the nearest name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.command.check import check
from tasks.settings import REPOSITORY, Settings
from tests.support.pipelines import write_config

PIPELINE = "pipelines/late_orders/pipeline.yaml"
SQL = "pipelines/late_orders/features.sql"
CONTRACT = "sources/orders/contract.json"

BREAKS = {
    "an unknown key": (
        PIPELINE,
        "lookback:",
        "lookbak:",
        ["pipeline.yaml: lookbak: unknown key; did you mean 'lookback'?"],
    ),
    "a nested unknown key": (
        PIPELINE,
        "holdout: 3d",
        "holdot: 3d",
        ["train.holdot: unknown key; did you mean 'holdout'?"],
    ),
    "a day that no calendar has": (
        PIPELINE,
        "start: 2024-01-01",
        "start: 2024-13-01",
        ["pipeline.yaml: a value can't"],
    ),
    "a day that no calendar has, in a source": (
        "sources/orders/source.yaml",
        "end: 2024-12-31",
        "end: 2024-06-31",
        ["source.yaml: a value can't be read", "calendar"],
    ),
    "a list as a key": (PIPELINE, "grain: day", "[grain]: day", ["pipeline.yaml: "]),
    "a moment after the end of time": (PIPELINE, "start+4h", "start+99999999d", ["pipeline.yaml: ", "out of reach"]),
    "a misspelled use of a source": (
        PIPELINE,
        "drives: true",
        "drive: true",
        ["pipeline.yaml: sources.orders.drive: unknown key; did you mean 'drives'?"],
    ),
    "a wrong moment": (PIPELINE, "start+4h", "noon", ["as_of: 'noon' is no moment of a partition", "start+4h"]),
    "an unknown source": (PIPELINE, "arrivals: ,", "arivals: ,", ["sources.arivals", "did you mean 'arrivals'?"]),
    "a wrong metric": (
        PIPELINE,
        "metric: auc",
        "metric: rmse",
        ["gate.metric: expected one of auc, logloss, accuracy"],
    ),
    "a wrong parameter": (
        PIPELINE,
        "max_depth: 2",
        "max_dept: 2",
        ["pipeline.yaml: train.params", "max_dept", "max_depth"],
    ),
    "a wrong parameter in a search": (
        PIPELINE,
        "params: {max_depth: 2}",
        "search: {trials: 5, space: {max_dept: [2, 4]}}",
        ["train.search.space: XGBoost's 'max_dept' is not known here", "max_depth"],
    ),
    "a label that is no condition": (PIPELINE, "sql: late", "sql: order_id", ["label.sql: expected a condition"]),
    "an unknown column in SQL": (SQL, "o.amount", "o.amout", ["features.sql", "amout", "amount"]),
    "a clock in SQL": (SQL, "o.amount", "now() as n", ["features.sql", "now"]),
    "chance in SQL": (SQL, "o.amount", "random() as n", ["features.sql", "random"]),
    "a file in SQL": (SQL, "from entities o", "from 'x.csv' o", ["features.sql"]),
    "an unknown expectation": (CONTRACT, "_be_between", "_be_betwen", ["contract.json: expectation 2", "did you mean"]),
    "an expectation on no column": (CONTRACT, '"amount"', '"amout"', ["has no column 'amout'", "did you mean amount?"]),
    "a source's wrong type": (
        "sources/orders/source.yaml",
        "amount: float",
        "amount: double",
        ["columns.amount", "float"],
    ),
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", config=write_config(tmp_path / "config", "late_orders", "second"))


@pytest.mark.parametrize("kind", BREAKS)
def test_a_broken_file_is_told_and_breaks_only_what_uses_it(settings: Settings, kind: str):
    file, old, new, told = BREAKS[kind]
    path = settings.config / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    problems = {name: problem for _, name, problem in check(settings, [])}
    broken = "orders" if file.startswith("sources/") else "late_orders"
    assert problems["arrivals"] == ""
    if broken == "late_orders":
        assert problems["second"] == ""
    for text in told:
        assert text in problems[broken], problems[broken]
    assert "\n" not in problems[broken].strip()


def test_two_things_of_one_name_are_refused(settings: Settings):
    part = settings.config / "pipelines" / "orders"
    part.mkdir()
    for name in ("pipeline.yaml", "features.sql"):
        text = (settings.config / "pipelines" / "second" / name).read_text()
        (part / name).write_text(text.replace("pipeline: second", "pipeline: orders"))
    problems = [problem for kind, name, problem in check(settings, ["orders"])]
    assert any("has the name of a shared source" in problem for problem in problems)


def test_what_comes_with_the_project_is_in_order(tmp_path: Path):
    found = check(Settings(home=tmp_path, config=REPOSITORY / "config"), [])
    assert {(kind, name): problem for kind, name, problem in found if problem} == {}
    assert ("pipeline", "flight_delays", "") in found
