"""Take a version back: the pointer at once, and which partitions it scored, so that they can be scored again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from tasks.domain.leaks import LeaksResult
from tasks.domain.partition import instant, iso
from tasks.domain.promotion import LedgerEvent, ModelRef, champion_at, newest_champion
from tasks.domain.reigns import barred, rollback_from, rollback_target, successor
from tasks.domain.results import RollbackResult
from tasks.domain.run import RunRef
from tasks.domain.spec import PipelineSpec
from tasks.errors import LedgerConflictError, UsageError
from tasks.lake import Lake
from tasks.lake.versions import load_version
from tasks.line import append, last_published, lead_of, published, put_evidence, read_events, ref_of

ATTEMPTS = 5
"""How often a rollback is decided again when others write to the ledger at the same moment."""


def rollback(
    *,
    spec: PipelineSpec,
    why: str,
    lake: Lake,
    run: RunRef,
    check: Callable[[Mapping[str, Any]], LeaksResult],
    bad: int | None = None,
    to: int | None = None,
    repair: bool = False,
) -> tuple[RollbackResult, list[LedgerEvent]]:
    """Record that a version is taken back; once, however often it is asked for.

    MLflow is not asked: a rollback works without it, and the alias follows.

    Args:
        check: looks for leaks in the features of a version, by its descriptor; raises where it may not be champion.
            Asked of one only that never was champion: who comes back comes back at once.
        why: the reason, which also tells the same request from another one.
        bad: the version; None for the present champion.
        to: who comes back; None for the newest champion from before it, in the order of the ledger, that isn't barred.
        repair: whether it is replaced in the past too; the partitions are then still to be scored again.

    Returns:
        The result, with the partitions that it scored; and the ledger after it.

    Raises:
        UsageError: there is nothing to take back, nobody to come back, or it isn't clear what is meant.
        LeakError: who is to come back was never champion, and its features know what was not known.
        LedgerConflictError: others kept writing to the ledger.
    """
    events = read_events(spec, lake)
    target = rollback_target(events, bad=bad, why=why, repair=repair)
    for attempt in range(1, ATTEMPTS + 1):
        done = target.done
        if done is not None:
            _check_same(done, to)
            break
        event = _event(spec, target.model, events, why, to, repair, lake, run, check)
        try:
            done = append(spec, event, events, lake)
            events = [*events, done]
            break
        except LedgerConflictError:
            if attempt == ATTEMPTS:
                raise
            events = read_events(spec, lake)
            # by its number now: it may be champion no longer
            target = rollback_target(events, bad=target.model.version, why=why, repair=repair)
    now = newest_champion(events)
    return (
        RollbackResult(
            pipeline=spec.pipeline,
            number=done.number,
            version=target.model.version,
            champion=now.version if now else None,
            effective_from=iso(done.effective_from),
            repair=done.repair,
            reason=done.reason,
            scored=scored_by(spec, target.model.version, lake),
            resumed=target.done is not None,
        ),
        events,
    )


def scored_by(spec: PipelineSpec, version: int, lake: Lake) -> tuple[str, ...]:
    """The partitions whose published predictions are a version's, in the order of time."""
    found = [key for key, entry in published(spec, lake).items() if entry.meta["model_version"] == version]
    return tuple(sorted(found, key=lambda key: spec.partition(key).start))


def to_repair(spec: PipelineSpec, version: int, events: Sequence[LedgerEvent], lake: Lake) -> tuple[str, ...]:
    """Those of them of which another version, or none, is champion now."""
    entries = published(spec, lake)
    at = {key: champion_at(events, instant(entries[key].meta["as_of"])) for key in scored_by(spec, version, lake)}
    return tuple(key for key, champion in at.items() if champion is None or champion.version != version)


def _check_same(done: LedgerEvent, to: int | None) -> None:
    put = done.to_model.version if done.to_model else None
    if to is not None and to != put:
        raise UsageError(
            f"event {done.number} rolled back to version {put} already",
            hint="`millrace promote` makes another one champion from now on",
        )


def _event(
    spec: PipelineSpec,
    bad: ModelRef,
    events: Sequence[LedgerEvent],
    why: str,
    to: int | None,
    repair: bool,
    lake: Lake,
    run: RunRef,
    check: Callable[[Mapping[str, Any]], LeaksResult],
) -> LedgerEvent:
    number = successor(events, bad).version if to is None else to
    descriptor = load_version(lake, spec.line, number)
    back = ref_of(descriptor)
    if back == bad:
        raise UsageError(f"version {bad.version} can't come back in its own place", hint="name another one with --to")
    bar = barred(events).get(number)
    if bar is not None:
        raise UsageError(
            f"version {number} is barred: event {bar.number} rolled it back ({bar.reason})",
            hint="name another one with --to",
        )
    new = all(event.to_model != back for event in events)
    checked = check(descriptor) if new else None
    evidence = {
        "pipeline": spec.pipeline,
        "rollback": bad.version,
        "to": number,
        "repair": repair,
        "why": why,
        "scored": scored_by(spec, bad.version, lake),
        "leaks": checked.to_dict() if checked else None,
    }
    return LedgerEvent(
        verdict="rollback",
        from_model=bad,
        to_model=back,
        candidate=back,
        training="",
        evidence=put_evidence(lake, evidence),
        effective_from=rollback_from(
            events,
            bad=bad,
            to=back,
            trained_as_of=instant(descriptor["as_of"]),
            lead=lead_of(spec),
            repair=repair,
            last_published_as_of=last_published(spec, lake),
        ),
        recorded_at=datetime.now(UTC),
        actor=run.actor,
        reason=why,
        run_id=run.run_id,
        repair=repair,
        despite_leaks=checked is not None and not checked.passed,
    )
