"""The champion ledger's meaning: pure.

Events are numbered from 1; `effective_from` is data time, `recorded_at` is wall-clock time. Among
the events that are effective at a moment, the one with the highest number names the champion. A
rollback with repair names it only where the version that it takes out would be champion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from tasks.domain.evidence import Verdict
from tasks.domain.partition import instant

EventVerdict = Verdict | Literal["manual", "rollback"]

_EVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class ModelRef:
    """One registered model version, enough to score with it.

    Attributes:
        version: MLflow's version number.
        digest: SHA-256 of the model's bytes in the lake.
        view: id of the feature view that it reads.
    """

    version: int
    digest: str
    view: str


@dataclass(frozen=True)
class LedgerEvent:
    """One line of the champion ledger.

    Attributes:
        verdict: what the gate said; `manual` for a promotion by hand, `rollback` for what takes one back.
        from_model: champion before, or None; of a rollback the version that is taken back.
        to_model: champion from `effective_from` on; the same as `from_model` when nothing changed.
        candidate: the challenger that was judged, or the version that a person chose.
        training: key of the training interval; empty where no training was judged.
        evidence: SHA-256 of the evidence, which lies at `evidence/<digest>.json`.
        effective_from: data time, aware UTC.
        recorded_at: wall clock, aware UTC.
        actor, reason, run_id: who, why, in which run.
        recipe: digest of label and parameters that the candidate was trained with.
        repair: of a rollback, whether `from_model` is replaced in the past too.
        despite_leaks: whether a person insisted on a version that did not pass the leak check.
        number: 1-based place in the ledger, 0 before it is written.
    """

    verdict: EventVerdict
    from_model: ModelRef | None
    to_model: ModelRef | None
    candidate: ModelRef
    training: str
    evidence: str
    effective_from: datetime
    recorded_at: datetime
    actor: str
    reason: str
    run_id: str
    recipe: str = ""
    repair: bool = False
    despite_leaks: bool = False
    number: int = field(default=0, compare=False)

    @property
    def changes(self) -> bool:
        """Whether the champion is another one by this event."""
        return self.to_model != self.from_model

    def to_dict(self) -> dict[str, Any]:
        values = asdict(self)
        for name in ("effective_from", "recorded_at"):
            values[name] = getattr(self, name).isoformat()
        del values["number"]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> LedgerEvent:
        models = {
            name: ModelRef(**values[name]) if values.get(name) else None
            for name in ("from_model", "to_model", "candidate")
        }
        times = {name: instant(values[name]) for name in ("effective_from", "recorded_at")}
        plain = {name: values[name] for name in ("verdict", "training", "evidence", "actor", "reason", "run_id")}
        late = {"recipe": "", "repair": False, "despite_leaks": False}  # which events of older releases lack
        rest = {name: values.get(name, default) for name, default in late.items()}
        return cls(**plain, **models, **times, **rest, number=values.get("number", 0))


def champion_at(
    events: Sequence[LedgerEvent], moment: datetime, *, known_at: datetime | None = None
) -> ModelRef | None:
    """The champion that scores at a moment of data time, or None before the first.

    Args:
        events: in the order of the ledger.
        moment: data time, for a partition its as_of.
        known_at: answer as it was believed at this wall-clock moment; default: as known now.
    """
    event = deciding(events, moment, known_at=known_at)
    return event.to_model if event else None


def deciding(
    events: Sequence[LedgerEvent], moment: datetime, *, known_at: datetime | None = None
) -> LedgerEvent | None:
    """The event by which the champion at a moment is champion; None where there is none. See `champion_at`."""
    found, champion = None, None
    for event in events:
        if event.effective_from > moment or (known_at is not None and event.recorded_at > known_at):
            continue
        # a repair leaves the days of other champions as they are: what they published stays
        if (event.repair and event.from_model != champion) or event.to_model == champion:
            continue
        found, champion = event, event.to_model
    return found


def newest_champion(events: Sequence[LedgerEvent]) -> ModelRef | None:
    """The last champion of the line, whatever the day; None before the first."""
    return champion_at(events, _EVER)


def latest_champions(events: Sequence[LedgerEvent], count: int) -> tuple[ModelRef, ...]:
    """The last `count` different versions that the ledger made champion, the present one first."""
    found = dict.fromkeys(event.to_model for event in reversed(events) if event.to_model is not None)
    return tuple(found)[:count]


def effective_from(
    events: Sequence[LedgerEvent], training_as_of: datetime, lead: timedelta, last_published_as_of: datetime | None
) -> datetime:
    """From when a newly promoted champion scores.

    Not before the training's knowledge cut plus its lead, not before any event of the ledger, and
    later than the as_of of every partition already published: so what was published stays what an
    as-of backfill gives back.
    """
    moments = [training_as_of + lead]
    # not of the last one only: a repair reaches back
    moments += [event.effective_from for event in events]
    if last_published_as_of is not None:
        moments.append(last_published_as_of + timedelta(microseconds=1))
    return max(moments)
