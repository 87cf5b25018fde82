"""Guards, limits and a person's answer: what keeps a challenger out, and in which words."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tasks.domain.approval import answered, must_ask
from tasks.domain.evidence import Cost, Decision, DeLong, Evidence, Guarded, SliceGain, decide
from tasks.domain.gate import MOST_GUARDS, GateSpec
from tasks.domain.results import ApproveResult, EvaluateResult
from tasks.errors import ApprovalNeededError
from tests.support.specs import pipeline

GUARD = {"slice": "origin", "max_drop": 0.02}
POLICY = GateSpec(metric="auc", guards=[GUARD])
CHEAP = Cost(ms_per_1000_rows=12.5, model_mb=0.4, memory_mb=30.0)


def evidence(**changes) -> Evidence:
    values = {
        "metric": "auc",
        "challenger": 0.66,
        "baseline": 0.64,
        "baseline_version": 3,
        "gain": 0.02,
        "low": 0.01,
        "high": 0.03,
        "confidence": 0.95,
        "rows": 25000,
        "partitions": 28,
        "holdout": ("2013-10-01", "2013-10-28"),
        "smallest_effect": 0.014,
        "cost": CHEAP,
    }
    return Evidence(**{**values, **changes})


def guarded(*highs: float, judged: int | None = None) -> tuple[Guarded, ...]:
    worst = tuple(SliceGain(f"A{i}", 500, high - 0.02, high - 0.04, high) for i, high in enumerate(highs))
    return (Guarded("origin", len(highs) if judged is None else judged, 2, worst),)


@pytest.mark.parametrize(
    ("high", "verdict"), [(-0.021, "keep"), (-0.02, "promote"), (-0.001, "promote"), (0.05, "promote")]
)
def test_a_guard_fails_when_the_whole_interval_lies_beyond_its_drop(high, verdict):
    assert decide(evidence(guards=guarded(high)), POLICY).verdict == verdict


def test_the_reason_names_the_guard_its_worst_slices_and_their_intervals():
    told = decide(evidence(guards=guarded(-0.05, -0.03, -0.025)), POLICY).reason
    assert told.startswith(
        "better than champion 3, and kept out since guard origin failed, worse by more than 0.02 on "
        "A0 (-0.0700, -0.0900 to -0.0500) and A1 (-0.0500, -0.0700 to -0.0300) and others: auc 0.6600"
    )
    one = decide(evidence(guards=guarded(-0.05, 0.01)), POLICY).reason
    assert "on A0 (-0.0700, -0.0900 to -0.0500): auc" in one


def test_a_policy_that_promotes_the_undecided_still_keeps_a_failed_guard_out():
    undecided = evidence(low=-0.01, guards=guarded(-0.05))
    decision = decide(undecided, POLICY.model_copy(update={"inconclusive": "promote"}))
    assert (decision.verdict, decision.promoted) == ("keep", False)
    assert decision.reason.startswith("undecided, and kept out since guard origin failed")


def test_a_guard_that_found_no_slice_large_enough_says_so_and_blocks_nothing():
    decision = decide(evidence(guards=guarded()), POLICY)
    assert decision.promoted and decision.reason.endswith("; no slice by origin was large enough to judge")


@pytest.mark.parametrize("guards", [(), guarded(float("nan"))])
def test_a_guard_without_a_number_never_promotes(guards):
    decision = decide(evidence(guards=guards), POLICY)
    assert (decision.verdict, decision.promoted) == ("inconclusive", False)
    assert "without a number for guard origin" in decision.reason


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"ms_per_1000_rows": 12}, "kept out since ms_per_1000_rows is 12.5, its limit 12:"),
        ({"model_mb": 0.3}, "model_mb is 0.4, its limit 0.3"),
        ({"memory_mb": 29}, "memory_mb is 30, its limit 29"),
        ({"memory_mb": 29, "model_mb": 0.3}, "model_mb is 0.4, its limit 0.3; memory_mb is 30, its limit 29"),
    ],
)
def test_a_broken_limit_keeps_the_challenger_out_and_is_named(limits, words):
    decision = decide(evidence(), GateSpec(metric="auc", limits=limits))
    assert (decision.verdict, decision.promoted) == ("keep", False) and words in decision.reason


def test_limits_that_hold_let_the_challenger_in():
    limits = {"ms_per_1000_rows": 12.5, "model_mb": 0.4, "memory_mb": 30}
    assert decide(evidence(), GateSpec(metric="auc", limits=limits)).promoted


@pytest.mark.parametrize("cost", [None, replace(CHEAP, memory_mb=None), replace(CHEAP, memory_mb=float("nan"))])
def test_a_limit_that_was_not_measured_never_promotes(cost):
    decision = decide(evidence(cost=cost), GateSpec(metric="auc", limits={"memory_mb": 100}))
    assert (decision.verdict, decision.promoted) == ("inconclusive", False)
    assert "without a number for memory_mb" in decision.reason


def test_an_undecided_comparison_says_what_the_holdout_could_have_shown():
    undecided = evidence(low=-0.01)
    told = decide(undecided, GateSpec(metric="auc")).reason
    assert told.endswith("; a gain of 0.0140 is the smallest that this holdout would have shown with 80% power")
    assert "a gain of 0.0240" in decide(replace(undecided, high=0.05), GateSpec(metric="auc", min_gain=0.01)).reason
    small = replace(undecided, smallest_effect=None)
    assert "too small to say what it could have shown" in decide(small, GateSpec(metric="auc")).reason


def test_the_largest_evidence_stays_small_enough_for_a_task_boundary():
    policy = GateSpec(
        metric="auc",
        guards=[{"slice": f"a_column_of_the_schedule_{i}", "max_drop": 0.02} for i in range(MOST_GUARDS)],
        limits={"ms_per_1000_rows": 1, "model_mb": 0.1, "memory_mb": 1},
    )
    worst = tuple(
        SliceGain("\N{SNOWMAN}\N{SNOWMAN}\N{SNOWMAN}abcde~", 123456789, -0.123456, -0.234567, -0.112345) for _ in "123"
    )
    found = evidence(
        challenger=2 / 3,
        baseline=1 / 3,
        gain=1 / 3,
        low=0.1 / 3,
        high=2 / 3,
        smallest_effect=0.123456,
        delong=DeLong(0.123456, 0.234567, 0.012345),
        calibration=0.123456,
        baseline_calibration=0.123456,
        guards=tuple(Guarded(guard.slice, 100, 1000, worst) for guard in policy.guards),
    )
    result = EvaluateResult("a_pipeline", "2013-11", "f" * 64, found, decide(found, policy))
    assert len(json.dumps(result.to_dict())) < 3000
    assert EvaluateResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result


def test_evidence_of_earlier_ledgers_reads_back():
    new = {"smallest_effect", "delong", "calibration", "baseline_calibration", "guards", "cost"}
    old = {name: value for name, value in evidence().to_dict().items() if name not in new}
    assert Evidence.from_dict(old) == evidence(smallest_effect=None, cost=None)


MANUAL = pipeline(gate={"approve": "manual"})
BETTER = Decision("promote", True, "better")


def judged(decision: Decision) -> EvaluateResult:
    return EvaluateResult("demo", "2013-11", "digest", evidence(), decision)


def answer(**changes) -> ApproveResult:
    values = {"pipeline": "demo", "training": "2013-11", "evidence": "digest", "approved": True, "by": "ada", "at": "t"}
    return ApproveResult(**{**values, "reason": "looks right", **changes})


def test_a_person_is_asked_only_about_what_would_be_promoted_on_the_main_line():
    assert must_ask(MANUAL, BETTER)
    assert not must_ask(MANUAL, Decision("keep", False, "worse"))
    assert not must_ask(pipeline(), BETTER)
    assert not must_ask(MANUAL.on_backtest("b"), BETTER)


def test_an_approval_promotes_and_names_who_when_and_why():
    assert answered(MANUAL, judged(BETTER), answer()) == Decision(
        "promote", True, "approved by ada at t (looks right): better"
    )


def test_a_refusal_keeps_and_names_who():
    decision = answered(MANUAL, judged(BETTER), answer(approved=False, reason=""))
    assert decision == Decision("keep", False, "refused by ada at t: better")


def test_an_undecided_challenger_that_policy_would_promote_is_asked_about_too():
    decision = answered(MANUAL, judged(Decision("inconclusive", True, "undecided")), answer(reason=""))
    assert decision == Decision("inconclusive", True, "approved by ada at t: undecided")


@pytest.mark.parametrize(
    ("given", "words"), [(None, "nobody approved it yet"), (answer(evidence="x"), "ada was asked about other evidence")]
)
def test_without_an_answer_about_this_very_evidence_nothing_is_promoted(given, words):
    with pytest.raises(ApprovalNeededError, match=words) as caught:
        answered(MANUAL, judged(BETTER), given)
    assert 'millrace run promote demo 2013-11 --approve "why"' in caught.value.hint and not caught.value.retry


def test_nobody_can_approve_what_the_gate_keeps():
    worse = Decision("keep", False, "worse")
    assert answered(MANUAL, judged(worse), answer()) == worse
