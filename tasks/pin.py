"""Resolve once, pass by value: which champion scores what, from which snapshots, or why not.

Every later step gets versions from here and never asks for the newest of anything. This module
imports nothing heavy, since it is asked every second while a partition waits for its inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from tasks.domain import cut, tables
from tasks.domain.cut import Deliveries, Visible
from tasks.domain.partition import Offset, Partition, iso
from tasks.domain.promotion import LedgerEvent, ModelRef, champion_at, newest_champion
from tasks.domain.published import Overtaken, Published, overtaken
from tasks.domain.results import Chosen, Data, PinnedPartition, PinResult, Skipped, TrainingPin
from tasks.domain.spec import PipelineSpec
from tasks.domain.training import training_window
from tasks.errors import NotReadyError, UsageError
from tasks.lake import Lake
from tasks.lake.deliveries import deliveries
from tasks.lake.versions import load_version
from tasks.lake.views import load_view
from tasks.line import read_events, ref_of, trained_on
from tasks.view import as_viewed, sources_read

AS_OF, NEWEST = "as-of", "champion"
"""Which model scores: the champion at each partition's as_of, or the newest one whatever the day; else a number."""
AS_KNOWN: Data = "as-known"
CORRECTED: Data = "corrected"
IN_SAMPLE = "in sample: "
"""How the reason of a partition begins that the model was trained on."""
WAITS = "waits for "
"""How the reason of a partition begins whose inputs are still expected."""


@dataclass(frozen=True)
class State:
    """What the lake holds for a pipeline, read once.

    Attributes:
        snapshots: table name -> version.
        deliveries: source name -> its clean deliveries at that version.
        events: the champion ledger.
        published: partition key -> how it was scored, of the predictions table.
    """

    snapshots: dict[str, int]
    deliveries: dict[str, Deliveries]
    events: tuple[LedgerEvent, ...]
    published: dict[str, Published]


def read_state(spec: PipelineSpec, lake: Lake) -> State:
    """The pipeline's state from commit metadata and the ledger alone."""
    snapshots, delivered = {}, {}
    for name in spec.sources:
        table = lake.table(tables.clean(name))
        snapshots[table.name] = version = table.version()
        delivered[name] = deliveries(lake, name, version)
    table = lake.table(tables.predictions(spec.line))
    snapshots[table.name] = version = table.version()
    entries = table.entries(version=version)
    return State(
        snapshots,
        delivered,
        tuple(read_events(spec, lake)),
        {key[0]: Published.of(entry.meta) for key, entry in entries.items()},
    )


def pin(
    *,
    spec: PipelineSpec,
    partitions: Sequence[Partition],
    lake: Lake,
    force: bool = False,
    model: str | int = AS_OF,
    allow_in_sample: bool = False,
    data: Data = AS_KNOWN,
    now: datetime | None = None,
) -> PinResult:
    """Pin the partitions that are due: not published by their champion (unless `force`), nor without one.

    Args:
        force: also what is published already.
        model: `as-of`, `champion` or a version's number.
        allow_in_sample: also partitions that a model so chosen was trained on; they are marked.
        data: `corrected` for today's revisions of what may be known; then also the published partitions are due whose
            inputs were restated, or came late, since.
        now: partitions whose as_of is later are skipped, since more may become known until then;
            default: the clock.

    Raises:
        NotReadyError: inputs are still expected and nothing else is due.
        UsageError: there is no such version, or no champion yet.
    """
    found, missing = look(
        spec=spec,
        partitions=partitions,
        lake=lake,
        force=force,
        model=model,
        allow_in_sample=allow_in_sample,
        data=data,
        now=now,
    )
    if missing and not found.partitions:
        raise not_ready(spec, [name for names in missing.values() for name in names])
    return found


def look(
    *,
    spec: PipelineSpec,
    partitions: Sequence[Partition],
    lake: Lake,
    force: bool = False,
    model: str | int = AS_OF,
    allow_in_sample: bool = False,
    data: Data = AS_KNOWN,
    now: datetime | None = None,
) -> tuple[PinResult, dict[str, tuple[str, ...]]]:
    """What `pin` gives, also where nothing is due; and which inputs each waiting partition lacks, as `source/partition`."""
    state = read_state(spec, lake)
    choice = _Choice(spec, state.events, model, lake)
    now = now or datetime.now(UTC)
    cuts, gaps = _Cuts(spec.pipeline, lake), cut.Gaps(spec, state.deliveries)
    corrections = _Corrections(spec, state.deliveries, lake) if data == CORRECTED else None
    today = cut.Gaps(spec, corrections.now) if corrections else None
    first, last = spec.first, spec.last
    pinned, skipped, missing = [], [], {}
    for partition in partitions:
        key, as_of = partition.key, spec.as_of.at(partition)
        scorer, in_sample = choice.of(partition, as_of)
        restated = corrections.of(scorer.view, partition) if corrections and scorer else ()
        entry = None if force else state.published.get(key)
        other = overtaken(entry, scorer, state.events) if entry and choice.chosen == "as-of" else None
        if entry and (stays := _stays(entry, other, data, restated, choice.chosen)):
            skipped.append(Skipped(key, stays))
        elif partition.start < first.start or (last is not None and partition.start > last.start):
            skipped.append(Skipped(key, f"outside of the pipeline's days {spec.start} to {spec.end or 'now'}"))
        elif as_of > now:
            skipped.append(Skipped(key, f"its as_of {iso(as_of)} is still to come"))
        elif scorer is None:
            skipped.append(Skipped(key, "no champion"))
        elif in_sample and not allow_in_sample:
            skipped.append(Skipped(key, f"{IN_SAMPLE}{choice.trained_on}"))
        elif (knows := cuts.of(scorer.view).at(partition)) > now:
            skipped.append(Skipped(key, f"the as_of {iso(knows)} of version {scorer.version} is still to come"))
        else:
            seen = gaps.at(partition)
            lacking = missing_inputs(seen)
            left_out, without = cut.absences(spec, partition, today.at(partition) if today else seen)
            if lacking:
                missing[key] = lacking
                skipped.append(Skipped(key, f"{WAITS}{_list(lacking)}"))
            elif left_out:
                skipped.append(Skipped(key, f"left out: {_list(left_out)} did not come in time"))
            else:
                late = tuple(f"{name}/{one}" for name, found in seen.items() for one in found.late)
                thin = cut.thin(spec, partition)
                how = (choice.chosen, in_sample, restated, without)
                pinned.append(PinnedPartition(key, iso(as_of), scorer, late, thin, iso(knows), *how))
    return PinResult(spec.pipeline, tuple(pinned), tuple(skipped), state.snapshots, data), missing


def _stays(entry: Published, other: Overtaken | None, data: Data, restated: tuple[str, ...], chosen: Chosen) -> str:
    """Why a published partition is not due; empty where it is.

    One that was published from corrected data is scored again from corrected data only: a run on as-known data
    would throw the corrections away. One whose model a person chose keeps it until a person chooses again.
    """
    asked = entry.chosen != AS_OF
    if not (asked and chosen == AS_OF):
        if data == CORRECTED and restated != entry.restated:
            return ""
        if other is not None and other.due:
            return "" if data == CORRECTED or entry.data != CORRECTED else f"{other.why}, with --data corrected"
    more = ", from corrected data" if entry.restated else ""
    more += ", as it was asked for" if asked else ""
    return other.why if other is not None else f"published, by version {entry.version}{more}"


class _Corrections:
    """In what corrected data differs for partitions, by the cut of the view that a model names and by what its SQL reads."""

    def __init__(self, spec: PipelineSpec, known: Mapping[str, Deliveries], lake: Lake) -> None:
        self._spec, self._known, self._lake = spec, known, lake
        self.now = cut.corrected(spec, known)
        self._viewed: dict[str, tuple[PipelineSpec, frozenset[str]]] = {}

    def of(self, view: str, partition: Partition) -> tuple[str, ...]:
        if view not in self._viewed:
            values = load_view(self._lake, self._spec.pipeline, view)
            self._viewed[view] = as_viewed(self._spec, values), sources_read(values)
        spec, read = self._viewed[view]
        seen, now = (cut.read_sources(spec, partition, one, read) for one in (self._known, self.now))
        return cut.restated(seen, now)


class _Choice:
    """Which model scores a partition.

    A champion at as_of was trained before it, so that only a model that was chosen otherwise can be in sample.
    """

    def __init__(self, spec: PipelineSpec, events: Sequence[LedgerEvent], model: str | int, lake: Lake) -> None:
        self._spec, self._events = spec, events
        self._fixed: dict[str, Any] | None = None
        self.chosen: Chosen = "as-of"
        self.trained_on = ""
        if model == AS_OF:
            return
        number = model
        if model == NEWEST:
            champion = newest_champion(events)
            if champion is None:
                raise UsageError(f"{spec.pipeline} has no champion yet", hint="name a version with --model")
            number = champion.version
        self.chosen = "champion" if model == NEWEST else "named"
        self._fixed = load_version(lake, spec.line, int(number))
        first, last = self._fixed["train"]
        self.trained_on = f"version {number} was trained on {first} to {last}"

    def of(self, partition: Partition, as_of: datetime) -> tuple[ModelRef | None, bool]:
        """The model, and whether it was trained on the partition."""
        if self._fixed is None:
            return champion_at(self._events, as_of), False
        return ref_of(self._fixed), trained_on(self._spec, self._fixed, partition)


class _Cuts:
    """The knowledge cuts of feature views, each read once."""

    def __init__(self, pipeline: str, lake: Lake) -> None:
        self._pipeline, self._lake = pipeline, lake
        self._known: dict[str, Offset] = {}

    def of(self, view: str) -> Offset:
        if view not in self._known:
            self._known[view] = Offset.parse(load_view(self._lake, self._pipeline, view)["as_of"])
        return self._known[view]


def waiting(*, spec: PipelineSpec, partitions: Sequence[Partition], lake: Lake) -> tuple[str, ...]:
    """The inputs that the partitions wait for, as `source/partition`; empty when a pin would go on."""
    try:
        pin(spec=spec, partitions=partitions, lake=lake)
    except NotReadyError as error:
        return error.missing
    return ()


def pin_training(*, spec: PipelineSpec, training: Partition, view: str, lake: Lake) -> TrainingPin:
    """Pin one training: its windows, snapshots, and the champion that it must beat.

    Raises:
        NotReadyError: features' inputs or labels of the windows are still expected.
        TrainingError: too little history.
    """
    state = read_state(spec, lake)
    window = training_window(spec, training)
    every = [*window.train_partitions, *window.holdout_partitions]
    gaps, lacking = cut.Gaps(spec, state.deliveries), {}
    for partition in every:
        lacking.update(dict.fromkeys(missing_inputs(gaps.at(partition))))
    labels = cut.visible_labels(
        spec, window.train[0], window.holdout[1], window.as_of, state.deliveries[spec.label.source]
    )
    lacking.update(dict.fromkeys(f"{spec.label.source}/{key}" for key in labels.missing))
    if lacking:
        raise not_ready(spec, list(lacking))
    done = [
        event
        for event in state.events
        if event.training == training.key and event.candidate.view == view and event.recipe == spec.recipe
    ]
    return TrainingPin(
        pipeline=spec.pipeline,
        training=training.key,
        as_of=iso(window.as_of),
        train=(window.train[0].key, window.train[1].key),
        holdout=(window.holdout[0].key, window.holdout[1].key),
        view=view,
        champion=newest_champion(state.events),
        events=len(state.events),
        snapshots=state.snapshots,
        done=done[-1].number if done else None,
    )


def pin_champion(*, spec: PipelineSpec, pin: TrainingPin, lake: Lake) -> TrainingPin:
    """The same training, to be judged against the champion of now: the ledger has gone on since it was pinned."""
    events = read_events(spec, lake)
    return replace(pin, champion=newest_champion(events), events=len(events))


def training_waiting(*, spec: PipelineSpec, training: Partition, lake: Lake) -> tuple[str, ...]:
    """The inputs that a training waits for, as `source/partition`."""
    try:
        pin_training(spec=spec, training=training, view="", lake=lake)
    except NotReadyError as error:
        return error.missing
    return ()


def missing_inputs(seen: Mapping[str, Visible]) -> tuple[str, ...]:
    """The awaited deliveries that are not there, as `source/partition`."""
    return tuple(f"{name}/{key}" for name, one in seen.items() for key in one.missing)


def not_ready(spec: PipelineSpec, missing: list[str]) -> NotReadyError:
    names = list(dict.fromkeys(missing))
    return NotReadyError(
        f"{spec.pipeline} waits for {_list(names)}",
        missing=tuple(names),
        hint="ingest what is named (`millrace run ingest SOURCE PARTITION`), or declare it under `missing` of its source",
    )


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
