"""A person makes a version champion: recorded with who and why, from after what is published."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from tasks.domain.leaks import LeaksResult
from tasks.domain.partition import instant, iso
from tasks.domain.promotion import LedgerEvent, effective_from, newest_champion
from tasks.domain.reigns import barred, reigns
from tasks.domain.results import PromoteResult
from tasks.domain.run import RunRef
from tasks.domain.spec import PipelineSpec
from tasks.errors import UsageError
from tasks.lake import Lake
from tasks.lake.versions import load_version
from tasks.line import append, last_published, lead_of, put_evidence, read_events, ref_of


def appoint(
    *,
    spec: PipelineSpec,
    version: int,
    why: str,
    lake: Lake,
    run: RunRef,
    check: Callable[[Mapping[str, Any]], LeaksResult],
    unbar: bool = False,
) -> tuple[PromoteResult, list[LedgerEvent]]:
    """Make a version champion, whatever a gate said of it; nothing happens where it is champion already.

    Args:
        check: looks for leaks in the features of a version, by its descriptor; raises where it may not be champion.
        unbar: also a version that was rolled back; its bar ends with that.

    Returns:
        The result, its alias still to be projected, and the ledger after it.

    Raises:
        UsageError: the lake has no such version, or it is barred.
        LeakError: its features know what was not known, and nobody insists.
        LedgerConflictError: somebody else decided at the same moment; look at the ledger first.
    """
    descriptor = load_version(lake, spec.line, version)
    model = ref_of(descriptor)
    events = read_events(spec, lake)
    before = newest_champion(events)
    if before == model:
        return _result(spec, reigns(events)[-1].event, f"version {version} is champion already"), events
    back = barred(events).get(version)
    if back is not None and not unbar:
        raise UsageError(
            f"version {version} is barred: event {back.number} rolled it back ({back.reason})",
            hint="--unbar promotes it all the same",
        )
    checked = check(descriptor)
    judged = [event for event in events if event.candidate == model and event.training]
    evidence = {
        "pipeline": spec.pipeline,
        "manual": version,
        "instead_of": before.version if before else None,
        "why": why,
        "unbarred": back.number if back else None,
        # what a gate said of it, where one did
        "judged": [{"event": one.number, "verdict": one.verdict, "evidence": one.evidence} for one in judged],
        "leaks": checked.to_dict(),
    }
    event = LedgerEvent(
        verdict="manual",
        from_model=before,
        to_model=model,
        candidate=model,
        training="",
        evidence=put_evidence(lake, evidence),
        effective_from=effective_from(events, instant(descriptor["as_of"]), lead_of(spec), last_published(spec, lake)),
        recorded_at=datetime.now(UTC),
        actor=run.actor,
        reason=why,
        run_id=run.run_id,
        despite_leaks=not checked.passed,
    )
    event = append(spec, event, events, lake)
    return _result(spec, event, event.reason), [*events, event]


def _result(spec: PipelineSpec, event: LedgerEvent, reason: str) -> PromoteResult:
    return PromoteResult(
        pipeline=spec.pipeline,
        number=event.number,
        verdict=event.verdict,
        promoted=True,
        champion=event.to_model.version if event.to_model else None,
        effective_from=iso(event.effective_from),
        reason=reason,
        alias="",
    )
