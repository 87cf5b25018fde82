"""A line of champions, as promotions and rollbacks share it: its ledger, its versions, what it published, the alias.

Imports nothing heavy: a pin, which is asked every second, reads versions through it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tasks.domain import tables
from tasks.domain.partition import Partition, instant
from tasks.domain.promotion import LedgerEvent, ModelRef, newest_champion
from tasks.domain.spec import PipelineSpec
from tasks.lake import Entry, Lake

if TYPE_CHECKING:
    from tasks.registry import Registry


IN_ORDER = ("none", "in step")
"""What `look` says where there is nothing to put back."""


def read_events(spec: PipelineSpec, lake: Lake) -> list[LedgerEvent]:
    """The champion ledger, in order."""
    return [LedgerEvent.from_dict(event) for event in lake.ledger(spec.line).events()]


def append(spec: PipelineSpec, event: LedgerEvent, events: Sequence[LedgerEvent], lake: Lake) -> LedgerEvent:
    """Write the event behind those that it was decided on; as written, with its number.

    It is recorded now, and never before the last one, whoever's clock is slow: what was believed at a moment is
    the beginning of the ledger.

    Raises:
        LedgerConflictError: the ledger has gone on since.
    """
    recorded = max([datetime.now(UTC), *(one.recorded_at for one in events)])
    event = replace(event, recorded_at=recorded)
    return LedgerEvent.from_dict(lake.ledger(spec.line).append(event.to_dict(), expected=len(events)))


def lead_of(spec: PipelineSpec) -> timedelta:
    """How long after its knowledge cut a training's model may be champion."""
    return timedelta(days=spec.train.lead.days, seconds=spec.train.lead.seconds)


def published(spec: PipelineSpec, lake: Lake) -> dict[str, Entry]:
    """What the newest commits say of the published partitions, by key."""
    table = lake.table(tables.predictions(spec.line))
    return {key[0]: entry for key, entry in table.entries(version=table.version()).items()}


def last_published(spec: PipelineSpec, lake: Lake) -> datetime | None:
    """The newest as_of among the published partitions."""
    return max((instant(entry.meta["as_of"]) for entry in published(spec, lake).values()), default=None)


def ref_of(descriptor: dict[str, Any]) -> ModelRef:
    """The version that a descriptor describes."""
    return ModelRef(descriptor["version"], descriptor["digest"], descriptor["view"])


def trained_on(spec: PipelineSpec, descriptor: dict[str, Any], partition: Partition) -> bool:
    """Whether a version was fitted to the partition: its training window, with the validation of a search in it.

    The holdout is not part of it: it only judged the version, which never saw its labels.
    """
    first, last = (spec.partition(key) for key in descriptor["train"])
    return first.start <= partition.start <= last.start


def put_evidence(lake: Lake, values: dict[str, Any]) -> str:
    """Store what a decision rests on, at `evidence/<digest>.json`; its digest."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
    digest = hashlib.sha256(text).hexdigest()
    lake.objects.put_if_absent(f"evidence/{digest}.json", text)
    return digest


def look(spec: PipelineSpec, events: Sequence[LedgerEvent], registry: Registry) -> str:
    """Whether MLflow's alias shows the ledger's last champion: `in step`, or what it shows and what puts it back.

    It is only looked at: `project` moves it.

    Raises:
        RegistryError: MLflow did not say it within a few seconds.
    """
    newest = newest_champion(events)
    if newest is None:
        return "none"
    pointed = registry.shown(spec.model)
    if pointed == newest.version:
        return "in step"
    return f"MLflow's alias shows {f'version {pointed}' if pointed else 'no version'}, the champion is version {newest.version}: `millrace ledger {spec.pipeline} --reconcile` puts it back"


def project(spec: PipelineSpec, events: Sequence[LedgerEvent], registry: Registry) -> str:
    """Point MLflow's alias at the ledger's last champion; one that was moved by hand is put back and reported.

    Raises:
        RegistryError: MLflow is down.
    """
    newest = newest_champion(events)
    if newest is None:
        return "none"
    pointed = registry.alias(spec.model)
    if pointed == newest.version:
        return "in step"
    registry.project_alias(spec.model, newest.version)
    last = events[-1]
    behind = last.from_model.version if last.from_model else None
    if last.changes and pointed == behind:
        return "moved"
    return f"put back from {pointed or 'nowhere'}"
