"""A person's answer, where the gate asks for one: pure."""

from __future__ import annotations

from dataclasses import replace

from tasks.domain.evidence import Decision
from tasks.domain.results import ApproveResult, EvaluateResult
from tasks.domain.spec import PipelineSpec
from tasks.errors import ApprovalNeededError


def must_ask(spec: PipelineSpec, decision: Decision) -> bool:
    """Whether a person is asked: only where the challenger would be promoted, and never on a backtest's line."""
    return decision.promoted and spec.gate.approve == "manual" and spec.line == spec.pipeline


def answered(spec: PipelineSpec, evaluated: EvaluateResult, answer: ApproveResult | None) -> Decision:
    """The gate's decision after the person's answer.

    Raises:
        ApprovalNeededError: nobody was asked, or about other evidence than this.
    """
    decision = evaluated.decision
    if not must_ask(spec, decision):
        return decision
    if answer is None or answer.evidence != evaluated.digest:
        about = "nobody approved it yet" if answer is None else f"{answer.by} was asked about other evidence"
        raise ApprovalNeededError(
            f"{spec.pipeline} {evaluated.training}: would be promoted, but gate.approve is manual and {about}: {decision.reason}",
            hint=f'look at evidence/{evaluated.digest}.json in the lake, then `millrace run promote {spec.pipeline} {evaluated.training} --approve "why"`, or answer the task `approve` in Airflow',
        )
    said = f"{answer.by} at {answer.at}" + (f" ({answer.reason})" if answer.reason else "")
    if answer.approved:
        return replace(decision, reason=f"approved by {said}: {decision.reason}")
    return Decision("keep", False, f"refused by {said}: {decision.reason}")
