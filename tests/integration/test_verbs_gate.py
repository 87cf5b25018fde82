"""The gate in the loop: guards on slices of the driving source, limits, and a person's word from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks.domain.results import ApproveResult
from tasks.errors import ApprovalNeededError
from tests.support.pipelines import write_config
from tests.support.project import Project

GUARD = "guards: [{slice: shop, max_drop: 0.2, min_rows: 10}]"
NAME, FEBRUARY = "asked_by_hand", "2024-02"


def with_gate(project: Project, name: str, gate: str) -> Path:
    """A pipeline beside `late_orders` with a gate of its own."""
    write_config(project.settings.config, name)
    spec = project.settings.config / "pipelines" / name / "pipeline.yaml"
    spec.write_text(spec.read_text().replace("{metric: auc}", f"{{metric: auc, {gate}}}"))
    return spec


@pytest.fixture(scope="module")
def asked(first_champion: Project, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, dict]:
    """A pipeline whose challenger would be promoted and waits for a person; and the results so far."""
    project = first_champion.copy(tmp_path_factory.mktemp("asked") / "project")
    with_gate(project, NAME, f"approve: manual, {GUARD}, limits: {{ms_per_1000_rows: 60000, model_mb: 10}}")
    given: dict = {}
    for verb in ("pin_training", "featurize", "train", "evaluate"):
        given[verb] = project.run(verb, NAME, FEBRUARY, given=given)
    return project, given


def test_evidence_of_a_first_model_holds_all_that_the_gate_looked_at(asked):
    project, given = asked
    seen = json.loads(project.lake.objects.get(f"evidence/{given['evaluate'].digest}.json"))
    evidence = given["evaluate"].evidence
    assert seen["evidence"] == json.loads(json.dumps(evidence.to_dict()))
    assert evidence.delong.low < evidence.gain < evidence.delong.high and evidence.delong.p < 0.01
    assert 0 < evidence.calibration < 0.5 and 0 < evidence.smallest_effect < 0.5
    assert evidence.cost.model_mb == seen["cost"]["challenger"]["model_bytes"] / 1e6 > 0
    assert seen["cost"]["baseline"] is None  # a constant costs nothing
    slices = seen["slices"]["shop"]
    shops = {row["order_id"]: row["shop"] for row in project.rows("sources/orders/clean")}
    days = ("2024-01-29", "2024-01-30", "2024-01-31")
    assert evidence.holdout == (days[0], days[-1])
    rows = [shops[row["order_id"]] for day in days for row in project.rows("sources/arrivals/clean", (day, 1))]
    every = [*slices["judged"], *slices["not_judged"]]
    assert {one["value"]: one["rows"] for one in every} == {shop: rows.count(shop) for shop in set(rows)}
    (guard,) = evidence.guards
    assert (guard.judged, guard.left_out) == (len(slices["judged"]), len(slices["not_judged"]))
    lowest = min(slices["judged"], key=lambda one: one["high"])
    assert guard.worst[0].value == lowest["value"] and guard.worst[0].high == pytest.approx(lowest["high"], abs=1e-6)


def test_results_stay_small_whatever_the_gate_looks_at(asked):
    _, given = asked
    assert len(json.dumps(given["evaluate"].to_dict())) < 3000


def test_without_an_approval_nothing_is_promoted_and_the_message_says_how(asked):
    project, given = asked
    with pytest.raises(ApprovalNeededError, match="would be promoted, but gate.approve is manual") as caught:
        project.run("promote", NAME, FEBRUARY, given=given)
    assert '`millrace run promote asked_by_hand 2024-02 --approve "why"`' in caught.value.hint
    assert project.lake.ledger(NAME).events() == []


def test_a_refusal_is_an_event_that_keeps_and_names_who_refused(asked, tmp_path):
    project, given = asked[0].copy(tmp_path / "refused"), asked[1]
    digest = given["evaluate"].digest
    refusal = ApproveResult(NAME, FEBRUARY, digest, False, "ada", "2024-02-01T12:00:00Z", "too few shops")
    done = project.run("promote", NAME, FEBRUARY, given=given | {"approve": refusal})
    assert (done.verdict, done.promoted, done.champion, done.alias) == ("keep", False, None, "none")
    (event,) = project.lake.ledger(NAME).events()
    assert (event["verdict"], event["actor"], event["to_model"]) == ("keep", "ada", None)
    assert event["reason"].startswith("refused by ada at 2024-02-01T12:00:00Z (too few shops): better than")
    assert project.run("pin_training", NAME, FEBRUARY).done == 1  # nobody is asked a second time


def test_an_approval_from_the_command_line_is_recorded_with_its_user_and_reason(asked, tmp_path):
    project = asked[0].copy(tmp_path / "approved")
    words = ("run", "promote", NAME, FEBRUARY, "--json")
    refused = project.command(*words, MILLRACE_ACTOR="ada")
    assert (refused.code, refused.json["error"]["type"]) == (1, "ApprovalNeededError")
    done = project.command(*words, "--approve", "looked at the slices", MILLRACE_ACTOR="ada")
    assert done.code == 0, done.err
    assert done.json["promoted"] and done.json["alias"] == "moved"
    (event,) = project.lake.ledger(NAME).events()
    assert event["actor"] == "ada" and event["reason"].startswith("approved by ada at ")
    assert "(looked at the slices): better than the best constant" in event["reason"]


def test_a_guard_names_the_slice_that_the_challenger_no_longer_knows(champion: Project):
    """Its features leave out the amounts of one shop, which the champion knows."""
    spec = with_gate(champion, "late_orders", "guards: [{slice: shop, max_drop: 0.0, min_rows: 10}]")
    sql = spec.with_name("features.sql")
    sql.write_text("select o.order_id, case when o.shop <> 's3' then o.amount end as amount from entities o")
    done = champion.run("promote", "late_orders", FEBRUARY)
    assert (done.verdict, done.promoted) == ("keep", False)
    assert "guard shop failed, worse by more than 0 on s3 (" in done.reason


def test_a_model_over_its_limit_is_kept_out_and_the_limit_named(champion: Project):
    with_gate(champion, "heavy", "limits: {model_mb: 0.0001}")
    done = champion.run("promote", "heavy", FEBRUARY)
    assert (done.verdict, done.promoted, done.champion) == ("keep", False, None)
    assert done.reason.startswith("better than the best constant, and kept out since model_mb is ")
