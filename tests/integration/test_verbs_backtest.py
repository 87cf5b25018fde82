"""A backtest walks forward on a line of its own, touches nothing else, and its report says no more than it knows."""

from __future__ import annotations

import csv
import json
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import xgboost
from sklearn.metrics import roc_auc_score

from tasks.command.backtest import backtest
from tasks.command.report import report, text
from tasks.command.steps import Steps
from tasks.domain.promotion import LedgerEvent, champion_at
from tasks.domain.results import BacktestResult
from tasks.domain.run import RunRef
from tasks.errors import UsageError
from tasks.settings import load_pipeline
from tests.support.pipelines import deliver
from tests.support.project import Project, ended

FIRST, LAST = date(2024, 1, 20), date(2024, 2, 13)
LINE = "late_orders/backtests/q"
PREDICTIONS = f"{LINE}/predictions"


@dataclass(frozen=True)
class Walked:
    """A project after its backtest; what lay in its lake before, and what was said."""

    project: Project
    before: dict[str, bytes]
    result: BacktestResult
    said: list[str]


@pytest.fixture(scope="module")
def loaded(first_champion: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Trained each week, with January and half of February clean; its main line has a champion. Copy before use."""
    made = first_champion.copy(tmp_path_factory.mktemp("backtest") / "project")
    file = made.settings.config / "pipelines/late_orders/pipeline.yaml"
    file.write_text(file.read_text().replace("every: month", "every: week"))
    deliver(made.incoming, date(2024, 2, 1), date(2024, 2, 14))
    made.load({"orders": "2024-02-01..2024-02-14", "arrivals": "2024-02-01..2024-02-14"})
    return made


@pytest.fixture(scope="module")
def walked(loaded: Project, tmp_path_factory: pytest.TempPathFactory) -> Walked:
    made = loaded.copy(tmp_path_factory.mktemp("walked") / "project")
    before = contents(made)
    said: list[str] = []
    return Walked(made, before, backtest(steps(made, said), "late_orders", FIRST, LAST, name="q"), said)


def steps(project: Project, said: list[str] | None = None, **changes) -> Steps:
    say = [].append if said is None else said.append
    return Steps(project.settings, RunRef("walk", 1, "tester"), say, lambda done, total: None, **changes)


def contents(project: Project) -> dict[str, bytes]:
    """Every object of the lake, without what is shared: features and their views."""
    shared = ("late_orders/features/", "late_orders/views/")
    found = (one.key for one in project.lake.objects.list("") if not one.key.startswith(shared))
    return {key: project.lake.objects.get(key) for key in found}


def events(project: Project, line: str = LINE) -> list[LedgerEvent]:
    return [LedgerEvent.from_dict(event) for event in project.lake.ledger(line).events()]


def test_each_day_is_scored_by_the_champion_of_its_own_moment_and_each_champion_saw_only_the_past(walked: Walked):
    spec = load_pipeline(walked.project.settings.config, "late_orders").on_backtest("q")
    judged = events(walked.project)
    assert [one.training for one in walked.result.trainings] == [f"2024-{day}" for day in ("01-15", "01-22", "01-29", "02-05", "02-12")]  # fmt: skip
    assert [event.training for event in judged] == [one.training for one in walked.result.trainings]
    for event in judged:
        assert event.effective_from == spec.effective_from(spec.training(event.training))
        training = json.loads(walked.project.lake.objects.get(f"{LINE}/versions/{event.candidate.version}.json"))
        assert spec.partition(training["holdout"][1]).end < event.effective_from
    entries = walked.project.table(PREDICTIONS).entries()
    assert len(entries) == walked.result.published == walked.result.partitions == 25
    for (key,), entry in entries.items():
        champion = champion_at(judged, spec.as_of.at(spec.partition(key)))
        assert (entry.meta["model_version"], entry.meta["model_digest"]) == (champion.version, champion.digest)


def test_the_main_line_is_as_it_was(walked: Walked):
    after = contents(walked.project)
    assert {key: after[key] for key in walked.before} == walked.before
    ours = (f"{LINE}/", f"ledger/{LINE}/", "models/", "evidence/")
    assert {key for key in after.keys() - walked.before.keys() if not key.startswith(ours)} == set()


def test_a_backtest_that_was_done_does_nothing_again(walked: Walked):
    before = walked.project.objects()
    again = backtest(steps(walked.project), "late_orders", FIRST, LAST, name="q")
    assert (again.published, again.trainings) == (0, walked.result.trainings)
    assert {one.reason.partition(",")[0] for one in again.skipped} == {"published"}
    assert walked.project.objects() == before


def test_another_range_or_spec_is_another_backtest(walked: Walked):
    with pytest.raises(UsageError, match="backtest q was begun over 2024-01-20 to 2024-02-13"):
        backtest(steps(walked.project), "late_orders", FIRST, date(2024, 2, 12), name="q")
    with pytest.raises(UsageError, match="'Q 1' is no name"):
        backtest(steps(walked.project), "late_orders", FIRST, LAST, name="Q 1")
    with pytest.raises(UsageError, match="the main line of late_orders has a champion"):
        backtest(steps(walked.project), "late_orders", FIRST, LAST, bootstrap=True)


def test_a_backtest_of_days_to_come_is_refused(loaded: Project, tmp_path: Path):
    project = loaded.copy(tmp_path / "project")
    file = project.settings.config / "pipelines/late_orders/pipeline.yaml"
    file.write_text(file.read_text().replace("end: 2024-12-31\n", ""))
    with pytest.raises(UsageError, match="the as_of of 2124-02-12 is still to come"):
        backtest(steps(project), "late_orders", date(2124, 2, 1), date(2124, 2, 12))


def test_a_backtest_that_was_killed_goes_on_to_the_same_tables(walked: Walked, loaded: Project, tmp_path: Path):
    project = loaded.copy(tmp_path / "project")
    words = ("backtest", "late_orders", "--from", str(FIRST), "--to", str(LAST), "--name", "killed")
    line = "late_orders/backtests/killed"
    process = project.start(*words)
    while process.poll() is None and not len(project.lake.ledger(line).events()) >= 2:
        time.sleep(0.02)
    process.kill()
    assert ended(process).code == -9
    assert len(events(project, line)) < 5
    done = project.command(*words)
    assert done.code == 0, done.err
    assert f"`millrace report late_orders --from {FIRST} --to {LAST} --backtest killed`" in done.out
    assert project.rows(f"{line}/predictions") == walked.project.rows(PREDICTIONS)
    assert [plain(one) for one in events(project, line)] == [plain(one) for one in events(walked.project)]


def test_a_backtest_with_a_day_that_waits_is_not_done_and_ends_as_run_score_does(loaded: Project, tmp_path: Path):
    project = loaded.copy(tmp_path / "project")
    # the orders of the 15th never came
    words = ("backtest", "late_orders", "--from", "2024-02-13", "--to", "2024-02-15", "--name", "waits")
    ended_with = project.command(*words)
    scored = project.command("run", "score", "late_orders", "2024-02-13..2024-02-15")
    assert (ended_with.code, scored.code) == (1, 1), ended_with.err
    told = [line for line in scored.err.splitlines() if "waits for" in line]
    assert told and all(line in ended_with.err.splitlines() for line in told)
    assert "not done: 1 of 3 partitions wait; the same command goes on from here" in ended_with.out


def plain(event: LedgerEvent) -> tuple:
    return event.verdict, event.training, event.candidate.digest, event.effective_from, event.to_model.digest


def test_a_bootstrap_fills_an_empty_main_line_and_can_be_finished(walked: Walked, loaded: Project, tmp_path: Path):
    project = loaded.copy(tmp_path / "project")
    for one in list(project.lake.objects.list("ledger/late_orders/")):
        project.lake.objects.delete(one.key)
    last = date(2024, 1, 26)
    first = backtest(steps(project), "late_orders", FIRST, last, bootstrap=True)
    assert (first.backtest, first.published) == (None, 7)
    theirs = [row for row in walked.project.rows(PREDICTIONS) if row["partition_key"] <= str(last)]
    assert scores(project.rows("late_orders/predictions")) == scores(theirs)
    assert backtest(steps(project), "late_orders", FIRST, last, bootstrap=True).published == 0
    assert project.lake.backtests("late_orders") == ()


def scores(rows: list[dict]) -> list[tuple[str, float]]:
    return sorted((row["order_id"], row["score"]) for row in rows)


def truth(project: Project) -> dict[str, bool]:
    files = (project.incoming / "arrivals").glob("*.csv")
    return {
        row["order_id"]: row["late"] == "true"
        for file in files
        for row in csv.DictReader(file.read_text().splitlines())
    }


def test_the_report_is_what_the_published_rows_and_the_truth_say(walked: Walked):
    found = report(steps(walked.project, backtest="q"), "late_orders", FIRST, LAST)
    late, rows = truth(walked.project), walked.project.rows(PREDICTIONS)
    assert [period.name for period in found.months] == ["2024-01", "2024-02"]
    assert (found.total.rows, found.total.partitions, found.unlabelled) == (1000, 25, {})
    for period, mine in (
        (found.total, rows),
        (found.months[1], [row for row in rows if row["partition_key"] >= "2024-02"]),
        *((one, [row for row in rows if row["model_version"] == one.versions[0]]) for one in found.versions),
    ):
        gated = period.policies[0]
        value = roc_auc_score([late[row["order_id"]] for row in mine], [row["score"] for row in mine])
        assert gated.value == pytest.approx(value, abs=1e-9) and period.rows == len(mine)
        assert gated.low <= gated.value <= gated.high and (gated.gain, gated.says) == (0, "")
    refit, frozen, constant = found.total.policies[1:]
    assert constant.value == 0.5 and constant.says == "ahead"
    for other in (refit, frozen, constant):
        assert other.gain == pytest.approx(found.total.policies[0].value - other.value)
        assert other.says == ("ahead" if other.gain_low > 0 else "behind" if other.gain_high < 0 else "")


def test_always_refit_and_the_frozen_first_model_are_those_models_on_the_same_rows(walked: Walked):
    """Predicted here by XGBoost alone, from the features table and the models' own files."""
    project = walked.project
    spec = load_pipeline(project.settings.config, "late_orders")
    judged, late = events(project), truth(project)
    rows = project.rows(f"late_orders/features/{judged[0].candidate.view}")
    wanted = [row for row in rows if str(FIRST) <= row["partition_key"] <= str(LAST)]
    labels = [late[row["order_id"]] for row in wanted]

    def refit(key: str) -> str:
        moment = spec.as_of.at(spec.partition(key))
        return [one for one in judged if spec.effective_from(spec.training(one.training)) <= moment][
            -1
        ].candidate.digest

    digests = {one.candidate.digest for one in judged}
    boosters = {one: xgboost.Booster(model_file=bytearray(project.lake.get_model(one))) for one in digests}
    found = report(steps(project, backtest="q"), "late_orders", FIRST, LAST).total.policies
    for policy, digest in ((found[1], refit), (found[2], lambda key: judged[0].candidate.digest)):
        scores = [predicted(boosters[digest(row["partition_key"])], row) for row in wanted]
        assert policy.value == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)


def predicted(model: xgboost.Booster, row: dict) -> float:
    values = np.array([[row[name] for name in model.feature_names]], dtype=np.float32)
    return float(model.inplace_predict(values)[0])


def test_the_report_says_what_is_not_there(walked: Walked):
    nothing = (date(2024, 3, 1), date(2024, 3, 2))
    with pytest.raises(UsageError, match="none of the 2 partitions"):
        report(steps(walked.project), "late_orders", *nothing)
    with pytest.raises(UsageError, match="no backtest 'w'; there are: q"):
        report(steps(walked.project, backtest="w"), "late_orders", FIRST, LAST)
    with pytest.raises(UsageError, match="no partitions from 2025"):
        report(steps(walked.project), "late_orders", date(2025, 1, 1), date(2025, 1, 2))


def test_a_single_day_has_no_interval_and_nobody_is_ahead(walked: Walked):
    found = report(steps(walked.project, backtest="q"), "late_orders", FIRST, FIRST)
    gated, *others = found.total.policies
    assert gated.low is None and gated.value is not None
    assert {one.says for one in others} == {""}
    assert "None" not in text(found) and "1000000000" not in text(found)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["total"]["rows"] == 40
