"""Who was champion when and by which event, who is barred, and what a rollback may do: pure.

A rollback always bars the version that it takes back: no gate promotes it again, only a person does.
Without repair the version keeps the days that it has scored, and its replacement scores from after
the last published partition, as a promotion does. With repair it is champion nowhere any longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tasks.domain.promotion import LedgerEvent, ModelRef, deciding, effective_from, newest_champion
from tasks.errors import UsageError


@dataclass(frozen=True)
class Reign:
    """One unbroken time as champion.

    Attributes:
        model: the champion, or None between two.
        start: first moment of data time.
        end: first moment after it; None for the last one.
        event: by which it is champion.
    """

    model: ModelRef | None
    start: datetime
    end: datetime | None
    event: LedgerEvent


def reigns(events: Sequence[LedgerEvent], *, known_at: datetime | None = None) -> list[Reign]:
    """The champions of all data time, in order; as it was believed at `known_at`."""
    found: list[Reign] = []
    for start in sorted({event.effective_from for event in events}):
        event = deciding(events, start, known_at=known_at)
        if event is None or (found and found[-1].model == event.to_model):
            continue
        if found:
            found[-1] = Reign(found[-1].model, found[-1].start, start, found[-1].event)
        found.append(Reign(event.to_model, start, None, event))
    return found


def barred(events: Sequence[LedgerEvent]) -> dict[int, LedgerEvent]:
    """The versions that no gate may promote, each with the rollback that says so; a later promotion by hand lifts it."""
    found: dict[int, LedgerEvent] = {}
    for event in events:
        if event.verdict == "rollback" and event.from_model is not None:
            found[event.from_model.version] = event
        elif event.verdict == "manual":
            found.pop(event.candidate.version, None)
    return found


@dataclass(frozen=True)
class Target:
    """What a rollback is about.

    Attributes:
        model: the version that is taken back.
        done: the rollback that did so already, so that only what it left is to be finished; or None.
    """

    model: ModelRef
    done: LedgerEvent | None = None


def rollback_target(events: Sequence[LedgerEvent], *, bad: int | None, why: str, repair: bool) -> Target:
    """Which version a rollback takes back.

    The same command twice is the same as once: it never takes back the version that the first one put in.

    Args:
        bad: the version that was named; None for the present champion.
        why: the reason given.
        repair: whether it is to be replaced in the past too.

    Raises:
        UsageError: there is nothing to take back, or it isn't clear what.
    """
    model = newest_champion(events)
    back = barred(events)
    if bad is not None:
        named = [one.to_model for one in events if one.to_model is not None and one.to_model.version == bad]
        if not named:
            raise UsageError(f"version {bad} was never champion", hint="`millrace ledger` shows who was")
        model = named[-1]
    elif model is None:
        raise UsageError("there is no champion to roll back")
    else:
        changes = [event for event in events if event.changes]
        same = [event for event in changes if event.verdict == "rollback" and event.reason == why]
        if changes[-1].verdict == "rollback" or same:
            before = same[-1] if same else changes[-1]
            if before is not changes[-1] or not same:
                gone = before.from_model.version if before.from_model else "?"
                raise UsageError(
                    f"event {before.number} rolled version {gone} back already ({before.reason}), and version {model.version} is champion",
                    hint=f"name the version that is bad: --from {gone} goes on with that one, --from {model.version} rolls the present champion back",
                )
            model = before.from_model or model
    done = back.get(model.version)
    if done is not None and (done.repair or not repair):
        return Target(model, done)
    if done is None and not repair and model != newest_champion(events):
        raise UsageError(
            f"version {model.version} is champion no longer",
            hint="with --repair it is replaced in the days for which it was",
        )
    return Target(model)


def successor(events: Sequence[LedgerEvent], bad: ModelRef) -> ModelRef:
    """Who comes back when nobody is named: the newest champion from before `bad` first was one, and isn't barred.

    Asked in the order of the ledger: of two promotions that take effect at the same moment the first one reigns over
    no moment, and was champion all the same. Who was made champion for later days than `bad` reigned first, which
    a repair that named `bad` can have done, can't stand in for these and is passed over.

    Raises:
        UsageError: there is none.
    """
    back = barred(events)
    start = next((reign.start for reign in reigns(events) if reign.model == bad), None)
    known = {event.to_model for event in events if start is None or event.effective_from <= start}
    first = next((place for place, event in enumerate(events) if event.to_model == bad), len(events))
    for count in range(first, 0, -1):
        model = newest_champion(events[:count])
        if model is not None and model in known and model.version not in back:
            return model
    raise UsageError(
        f"before version {bad.version} there was no champion that could come back",
        hint="name another version with --to",
    )


def rollback_from(
    events: Sequence[LedgerEvent],
    *,
    bad: ModelRef,
    to: ModelRef,
    trained_as_of: datetime,
    lead: timedelta,
    repair: bool,
    last_published_as_of: datetime | None,
) -> datetime:
    """From when the rollback takes effect.

    With repair from the first moment at which `bad` is champion: a backfill afterwards finds it nowhere. What
    replaces it there must have been known by then, as every champion is.

    Args:
        trained_as_of, lead: of `to`.

    Raises:
        UsageError: `to` was not known by then.
    """
    if not repair:
        return effective_from(events, trained_as_of, lead, last_published_as_of)
    line = reigns(events)
    start = next((reign.start for reign in line if reign.model == bad), None)
    if start is None:  # taken back without repair before its first day: it is nowhere, and only barred
        return effective_from(events, trained_as_of, lead, last_published_as_of)
    before = any(reign.model == to and reign.start < start for reign in line)
    if not before and trained_as_of + lead > start:
        raise UsageError(
            f"version {to.version} was trained with what was known at {trained_as_of:%Y-%m-%d %H:%M} UTC, after version {bad.version} became champion for {start:%Y-%m-%d %H:%M} UTC: it can't stand in for it there",
            hint=f"name an older version with --to; or roll back without --repair, and score days again with `millrace run score … --model {to.version} --force`",
        )
    return start
