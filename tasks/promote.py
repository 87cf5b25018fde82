"""Apply a decision to the champion ledger, then project it to MLflow's alias."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tasks.domain.approval import answered, must_ask
from tasks.domain.partition import instant, iso
from tasks.domain.promotion import LedgerEvent, effective_from, newest_champion
from tasks.domain.reigns import barred
from tasks.domain.results import ApproveResult, EvaluateResult, PromoteResult, TrainingPin, TrainResult
from tasks.domain.run import RunRef
from tasks.domain.spec import PipelineSpec
from tasks.errors import LedgerConflictError
from tasks.lake import Lake
from tasks.line import append, last_published, lead_of, project, read_events

if TYPE_CHECKING:
    from tasks.registry import Registry


def promote(
    *,
    spec: PipelineSpec,
    pin: TrainingPin,
    trained: TrainResult,
    evaluated: EvaluateResult,
    lake: Lake,
    registry: Registry,
    run: RunRef,
    answer: ApproveResult | None = None,
) -> PromoteResult:
    """Record the verdict on the challenger; where it is promoted, it is champion from `effective_from` on.

    The ledger is the truth: one event per training, one winner per number. The alias follows it. A version
    that was rolled back is judged, and never promoted.

    Args:
        answer: a person's, where the gate asks for one; that person is then the event's actor.

    Raises:
        ApprovalNeededError: the gate asks for a person's approval, and none is given; nothing was recorded.
        LedgerConflictError: the ledger moved since the pin, so that the evidence is about another champion.
        RegistryError: MLflow is down; nothing was recorded.
    """
    registry.ping()
    events = read_events(spec, lake)
    mine = [event for event in events if event.training == pin.training and event.candidate == trained.model]
    if mine:
        event = mine[-1]
    else:
        if len(events) != pin.events:
            raise LedgerConflictError(
                f"{spec.pipeline}: the ledger has {len(events)} events, {pin.events} when training {pin.training} was pinned",
                hint=f"judge it again, against the present champion: `millrace run promote {spec.pipeline} {pin.training}`",
            )
        event = _event(spec, pin, trained, evaluated, answer, events, lake, run)
        event = append(spec, event, events, lake)
        events.append(event)
    return _result(spec, event, project(spec, events, registry))


def repeat(*, spec: PipelineSpec, number: int, lake: Lake, registry: Registry) -> PromoteResult:
    """A decision that is in the ledger already: its result, and MLflow's alias put right.

    Raises:
        RegistryError: MLflow is down.
    """
    events = read_events(spec, lake)
    return _result(spec, events[number - 1], project(spec, events, registry))


def _result(spec: PipelineSpec, event: LedgerEvent, alias: str) -> PromoteResult:
    return PromoteResult(
        pipeline=spec.pipeline,
        number=event.number,
        verdict=event.verdict,
        promoted=event.changes and event.to_model == event.candidate,
        champion=event.to_model.version if event.to_model else None,
        effective_from=iso(event.effective_from),
        reason=event.reason,
        alias=alias,
    )


def _event(
    spec: PipelineSpec,
    pin: TrainingPin,
    trained: TrainResult,
    evaluated: EvaluateResult,
    answer: ApproveResult | None,
    events: list[LedgerEvent],
    lake: Lake,
    run: RunRef,
) -> LedgerEvent:
    before = newest_champion(events)
    back = barred(events).get(trained.model.version)
    if evaluated.decision.promoted and back is not None:  # nobody need be asked either
        reason = f"barred since event {back.number} rolled it back ({back.reason}): {evaluated.decision.reason}"
        decision = replace(evaluated.decision, promoted=False, reason=reason)
    else:
        decision = answered(spec, evaluated, answer)
    return LedgerEvent(
        verdict=decision.verdict,
        from_model=before,
        to_model=trained.model if decision.promoted else before,
        candidate=trained.model,
        training=pin.training,
        evidence=evaluated.digest,
        effective_from=effective_from(events, instant(pin.as_of), lead_of(spec), last_published(spec, lake)),
        recorded_at=datetime.now(UTC),
        actor=answer.by if answer and must_ask(spec, evaluated.decision) else run.actor,
        reason=decision.reason,
        run_id=run.run_id,
        recipe=spec.recipe,
    )
