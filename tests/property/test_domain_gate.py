"""Laws of the gate: the interval decides, a guard or a limit only ever keeps out, no number never promotes."""

from __future__ import annotations

import math

from hypothesis import assume, given
from hypothesis import strategies as st

from tasks.domain.evidence import Cost, Evidence, Guarded, SliceGain, decide
from tasks.domain.gate import GateSpec

NUMBERS = st.floats(-1, 1)
NONE = st.sampled_from([math.nan, math.inf, -math.inf])


@st.composite
def evidences(draw) -> Evidence:
    low, gain, high = sorted(draw(st.tuples(NUMBERS, NUMBERS, NUMBERS)))
    worst = draw(st.lists(st.builds(SliceGain, st.just("a"), st.just(300), NUMBERS, NUMBERS, NUMBERS), max_size=3))
    worst.sort(key=lambda one: one.high)
    return Evidence(
        metric="auc",
        challenger=draw(NUMBERS),
        baseline=draw(NUMBERS),
        baseline_version=draw(st.none() | st.integers(1, 9)),
        gain=gain,
        low=low,
        high=high,
        confidence=0.95,
        rows=1000,
        partitions=28,
        holdout=("a", "b"),
        smallest_effect=draw(st.none() | st.floats(0, 1)),
        guards=(Guarded("origin", len(worst), 0, tuple(worst)),),
        cost=Cost(*draw(st.tuples(*[st.floats(0, 100)] * 3))),
    )


POLICIES = st.builds(
    GateSpec,
    metric=st.just("auc"),
    min_gain=st.floats(0, 0.5),
    inconclusive=st.sampled_from(["keep", "promote"]),
    guards=st.lists(st.fixed_dictionaries({"slice": st.just("origin"), "max_drop": st.floats(0, 0.5)}), max_size=1),
    limits=st.fixed_dictionaries({}, optional={"model_mb": st.floats(0.1, 100)}),
)
PLAIN = {"guards": (), "limits": GateSpec(metric="auc").limits}


@given(evidences(), POLICIES)
def test_a_verdict_and_what_is_done_follow_from_the_interval_alone_where_nothing_is_broken(evidence, policy):
    decision = decide(evidence, policy.model_copy(update=PLAIN))
    expected = (
        "promote" if evidence.low > policy.min_gain else "keep" if evidence.high <= policy.min_gain else "inconclusive"
    )
    assert decision.verdict == expected
    undecided = expected == "inconclusive" and policy.inconclusive == "promote"
    assert decision.promoted == (expected == "promote" or undecided)


@given(evidences(), POLICIES)
def test_guards_and_limits_only_ever_keep_out(evidence, policy):
    with_them, without = decide(evidence, policy), decide(evidence, policy.model_copy(update=PLAIN))
    assert without.promoted or not with_them.promoted
    if with_them.promoted:
        assert with_them.verdict == without.verdict


@given(evidences(), POLICIES)
def test_a_failed_guard_or_a_broken_limit_never_promotes_and_is_named(evidence, policy):
    drop = policy.guards[0].max_drop if policy.guards else math.inf
    failed = any(one.high < -drop for one in evidence.guards[0].worst)
    limit = policy.limits.model_mb
    broken = limit is not None and evidence.cost.model_mb > limit
    assume(failed or broken)
    decision = decide(evidence, policy)
    assert (decision.verdict, decision.promoted) == ("keep", False)
    assert ("guard origin failed" in decision.reason) == failed and ("model_mb is" in decision.reason) == broken


@given(evidences(), POLICIES, st.sampled_from(["challenger", "baseline", "gain", "low", "high"]), NONE)
def test_a_comparison_without_a_number_never_promotes(evidence, policy, name, value):
    broken = Evidence(**{**vars(evidence), name: value})
    assert not decide(broken, policy).promoted


@given(evidences(), POLICIES.filter(lambda policy: policy.guards), st.sampled_from(["gain", "low", "high"]), NONE)
def test_a_guards_slice_without_a_number_never_promotes(evidence, policy, name, value):
    slice = SliceGain(**{"value": "a", "rows": 300, "gain": 0.1, "low": 0.1, "high": 0.1, name: value})
    worst = (*evidence.guards[0].worst[:2], slice)
    broken = Evidence(**{**vars(evidence), "guards": (Guarded("origin", 3, 0, worst),)})
    assert not decide(broken, policy).promoted


@given(evidences(), POLICIES, st.floats(0, 0.5))
def test_a_wider_interval_around_the_same_gain_never_turns_a_verdict_into_another_certain_one(evidence, policy, more):
    wider = Evidence(**{**vars(evidence), "low": evidence.low - more, "high": evidence.high + more})
    plain = policy.model_copy(update=PLAIN)
    assert decide(wider, plain).verdict in (decide(evidence, plain).verdict, "inconclusive")
