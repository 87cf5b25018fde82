"""The gate's verdicts, and who is champion when."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from tasks.domain.evidence import Evidence, decide
from tasks.domain.promotion import LedgerEvent, ModelRef, champion_at, effective_from, latest_champions
from tasks.domain.results import EvaluateResult, PinnedPartition, PinResult, Scored, ScoreResult, Skipped, TrainingPin
from tasks.domain.spec import GateSpec

ONE, TWO = ModelRef(1, "d1", "v"), ModelRef(2, "d2", "v")
JANUARY, FEBRUARY, MARCH = (datetime(2013, month, 1, tzinfo=UTC) for month in (1, 2, 3))
NAN = float("nan")


def evidence(low: float, high: float, **changes) -> Evidence:
    values = {
        "metric": "auc",
        "challenger": 0.65,
        "baseline": 0.64,
        "baseline_version": 3,
        "gain": (low + high) / 2,
        "low": low,
        "high": high,
        "confidence": 0.95,
        "rows": 1000,
        "partitions": 28,
        "holdout": ("2013-10-01", "2013-10-28"),
    }
    return Evidence(**{**values, **changes})


@pytest.mark.parametrize(
    ("low", "high", "min_gain", "verdict"),
    [
        (0.01, 0.02, 0.0, "promote"),
        (-0.02, -0.01, 0.0, "keep"),
        (-0.01, 0.01, 0.0, "inconclusive"),
        (0.0, 0.01, 0.0, "inconclusive"),
        (-0.01, 0.0, 0.0, "keep"),
        (0.01, 0.02, 0.015, "inconclusive"),
        (0.01, 0.02, 0.02, "keep"),
        (0.021, 0.03, 0.02, "promote"),
        (0.0, 0.0, 0.0, "keep"),
    ],
)
def test_the_whole_interval_decides(low, high, min_gain, verdict):
    decision = decide(evidence(low, high), GateSpec(metric="auc", min_gain=min_gain))
    assert decision.verdict == verdict
    assert decision.promoted == (verdict == "promote")


@pytest.mark.parametrize(("low", "high"), [(0.01, 0.02), (0.001, 0.5), (1e-9, 2e-9)])
def test_swapping_challenger_and_champion_swaps_the_verdict(low, high):
    policy = GateSpec(metric="auc")
    assert decide(evidence(low, high), policy).verdict == "promote"
    assert decide(evidence(-high, -low), policy).verdict == "keep"
    assert decide(evidence(-high, high), policy).verdict == "inconclusive"


def test_what_an_undecided_comparison_does_is_the_policys_choice():
    undecided = evidence(-0.01, 0.02)
    assert not decide(undecided, GateSpec(metric="auc", inconclusive="keep")).promoted
    decision = decide(undecided, GateSpec(metric="auc", inconclusive="promote"))
    assert (decision.verdict, decision.promoted) == ("inconclusive", True)


@pytest.mark.parametrize(
    "changes", [{"low": NAN, "high": NAN, "gain": NAN}, {"challenger": NAN}, {"high": float("inf")}, {"gain": NAN}]
)
def test_a_comparison_without_a_number_never_promotes(changes):
    broken = dataclasses.replace(evidence(-0.01, 0.02), **changes)
    decision = decide(broken, GateSpec(metric="auc", inconclusive="promote"))
    assert (decision.verdict, decision.promoted) == ("inconclusive", False)


def test_the_reason_names_both_models_the_gain_and_the_size():
    reason = decide(evidence(0.01, 0.02), GateSpec(metric="auc")).reason
    assert reason == (
        "better than champion 3: auc 0.6500 against 0.6400 of champion 3, "
        "gain +0.0150 (+0.0100 to +0.0200 at 95%) on 1000 rows of 28 partitions"
    )
    assert "best constant" in decide(evidence(0.01, 0.02, baseline_version=None), GateSpec(metric="auc")).reason


def event(to, effective, recorded=MARCH, *, before=None, verdict="promote") -> LedgerEvent:
    return LedgerEvent(
        verdict=verdict,
        from_model=before,
        to_model=to,
        candidate=to or TWO,
        training="2013-03",
        evidence="e",
        effective_from=effective,
        recorded_at=recorded,
        actor="test",
        reason="because",
        run_id="run",
    )


def test_there_is_no_champion_before_the_first():
    events = [event(ONE, FEBRUARY)]
    assert champion_at([], FEBRUARY) is None
    assert champion_at(events, FEBRUARY - timedelta(microseconds=1)) is None
    assert champion_at(events, FEBRUARY) == ONE


def test_a_later_event_wins_from_its_moment_on():
    events = [event(ONE, JANUARY), event(TWO, FEBRUARY, before=ONE)]
    assert champion_at(events, FEBRUARY - timedelta(days=1)) == ONE
    assert champion_at(events, FEBRUARY) == champion_at(events, MARCH) == TWO


def test_an_event_that_keeps_changes_nothing():
    events = [event(ONE, JANUARY), event(ONE, FEBRUARY, before=ONE, verdict="keep")]
    assert champion_at(events, MARCH) == ONE
    assert champion_at([event(None, JANUARY, verdict="keep")], MARCH) is None


def test_the_latest_champions_are_told_once_each_the_present_one_first():
    three = ModelRef(3, "d3", "v")
    judged = [event(None, JANUARY, verdict="keep"), event(ONE, JANUARY), event(TWO, FEBRUARY, before=ONE)]
    assert latest_champions(judged[:1], 3) == ()
    assert latest_champions(judged, 3) == (TWO, ONE)
    back = [*judged, event(three, MARCH, before=TWO), event(TWO, MARCH, before=three), event(TWO, MARCH, before=TWO)]
    assert latest_champions(back, 2) == (TWO, three)


def test_of_two_events_at_one_moment_the_later_number_wins():
    assert champion_at([event(ONE, JANUARY), event(TWO, JANUARY, before=ONE)], JANUARY) == TWO


def test_an_event_that_reaches_back_takes_effect_from_its_own_moment():
    # a rollback with repair: recorded last, effective from the bad version's moment
    events = [event(ONE, JANUARY), event(TWO, FEBRUARY, before=ONE), event(ONE, FEBRUARY, before=TWO)]
    assert champion_at(events, MARCH) == ONE


def test_what_was_believed_then_leaves_out_what_was_recorded_later():
    events = [event(ONE, JANUARY, JANUARY), event(TWO, JANUARY, MARCH, before=ONE)]
    assert champion_at(events, FEBRUARY, known_at=FEBRUARY) == ONE
    assert champion_at(events, FEBRUARY, known_at=MARCH) == TWO
    assert champion_at(events, FEBRUARY) == TWO


def test_a_champion_takes_effect_after_its_lead_the_ledger_and_what_is_published():
    lead = timedelta(hours=6)
    assert effective_from([], JANUARY, lead, None) == JANUARY + lead
    assert effective_from([event(ONE, FEBRUARY)], JANUARY, lead, None) == FEBRUARY
    assert effective_from([event(ONE, FEBRUARY)], JANUARY, lead, MARCH) == MARCH + timedelta(microseconds=1)
    assert effective_from([event(ONE, JANUARY)], MARCH, lead, FEBRUARY) == MARCH + lead


def test_events_and_evidence_read_back_from_their_json():
    for one in (event(TWO, FEBRUARY, before=ONE), event(None, FEBRUARY, verdict="keep")):
        assert LedgerEvent.from_dict(one.to_dict()) == one
    assert LedgerEvent.from_dict({**event(TWO, FEBRUARY).to_dict(), "number": 4}).number == 4
    assert Evidence.from_dict(evidence(0.1, 0.2).to_dict()) == evidence(0.1, 0.2)


def test_results_read_back_from_their_json():
    import json

    judged = evidence(0.1, 0.2)
    results = [
        PinResult("p", (PinnedPartition("k", "t", ONE, ("a/b",), True),), (Skipped("k", "why"),), {"t": 3}),
        TrainingPin("p", "2013-03", "t", ("a", "b"), ("c", "d"), "v", None, 2, {"t": 3}),
        TrainingPin("p", "2013-03", "t", ("a", "b"), ("c", "d"), "v", TWO, 2, {}, done=4),
        EvaluateResult("p", "2013-03", "d", judged, decide(judged, GateSpec(metric="auc"))),
        ScoreResult("p", 3, (Scored("k", 10, 7, 1, 2, 5, "published"),)),
    ]
    for result in results:
        assert type(result).from_dict(json.loads(json.dumps(result.to_dict()))) == result
