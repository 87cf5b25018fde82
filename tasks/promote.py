"""Apply a decision to the champion ledger, then project it to MLflow's alias."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from tasks.domain import tables
from tasks.domain.partition import instant, iso
from tasks.domain.promotion import LedgerEvent, champion_at, effective_from
from tasks.domain.results import EvaluateResult, PromoteResult, TrainingPin, TrainResult
from tasks.domain.run import RunRef
from tasks.domain.spec import PipelineSpec
from tasks.errors import LedgerConflictError
from tasks.lake import Lake

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
) -> PromoteResult:
    """Record the verdict on the challenger; where it is promoted, it is champion from `effective_from` on.

    The ledger is the truth: one event per training, one winner per number. The alias follows it.

    Raises:
        LedgerConflictError: the ledger moved since the pin, so that the evidence is about another champion.
        RegistryError: MLflow is down; nothing was recorded.
    """
    registry.ping()
    ledger = lake.ledger(spec.line)
    events = [LedgerEvent.from_dict(event) for event in ledger.events()]
    mine = [event for event in events if event.training == pin.training and event.candidate == trained.model]
    if mine:
        event = mine[-1]
    else:
        if len(events) != pin.events:
            raise LedgerConflictError(
                f"{spec.pipeline}: the ledger has {len(events)} events, {pin.events} when training {pin.training} was pinned",
                hint=f"train again, against the present champion: `millrace run promote {spec.pipeline} {pin.training}`",
            )
        event = _event(spec, pin, trained, evaluated, events, lake, run)
        number = ledger.append(event.to_dict(), expected=len(events))["number"]
        events = [LedgerEvent.from_dict(one) for one in ledger.events()]
        event = events[number - 1]
    return _result(spec, event, _project(spec, events, registry))


def repeat(*, spec: PipelineSpec, number: int, lake: Lake, registry: Registry) -> PromoteResult:
    """A decision that is in the ledger already: its result, and MLflow's alias put right.

    Raises:
        RegistryError: MLflow is down.
    """
    events = [LedgerEvent.from_dict(event) for event in lake.ledger(spec.line).events()]
    return _result(spec, events[number - 1], _project(spec, events, registry))


def _result(spec: PipelineSpec, event: LedgerEvent, alias: str) -> PromoteResult:
    return PromoteResult(
        pipeline=spec.pipeline,
        number=event.number,
        verdict=event.verdict,
        promoted=event.to_model == event.candidate,
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
    events: list[LedgerEvent],
    lake: Lake,
    run: RunRef,
) -> LedgerEvent:
    before = events[-1].to_model if events else None
    table = lake.table(tables.predictions(spec.line))
    published = [instant(entry.meta["as_of"]) for entry in table.entries(version=table.version()).values()]
    lead = timedelta(days=spec.train.lead.days, seconds=spec.train.lead.seconds)
    return LedgerEvent(
        verdict=evaluated.decision.verdict,
        from_model=before,
        to_model=trained.model if evaluated.decision.promoted else before,
        candidate=trained.model,
        training=pin.training,
        evidence=evaluated.digest,
        effective_from=effective_from(events, instant(pin.as_of), lead, max(published, default=None)),
        recorded_at=datetime.now(UTC),
        actor=run.actor,
        reason=evaluated.decision.reason,
        run_id=run.run_id,
        recipe=spec.recipe,
    )


def _project(spec: PipelineSpec, events: list[LedgerEvent], registry: Registry) -> str:
    """Point `champion` at the ledger's last champion; a hand-moved alias is put back and reported."""
    newest = champion_at(events, max(event.effective_from for event in events))
    if newest is None:
        return "none"
    pointed = registry.alias(spec.model)
    if pointed == newest.version:
        return "in step"
    registry.project_alias(spec.model, newest.version)
    last = events[-1]
    behind = last.from_model.version if last.from_model else None
    if last.to_model != last.from_model and pointed == behind:
        return "moved"
    return f"put back from {pointed or 'nowhere'}"
