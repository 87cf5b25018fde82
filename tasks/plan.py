"""What is due and why, computed from the state of the tables and of the landing zone alone.

Events only wake this up: a lost, doubled or merged event changes nothing. It looks at live
partitions; history is worked on when somebody asks (a backfill).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Literal

from tasks.domain import cut, tables
from tasks.domain.estimate import Estimate, Measured, Prices, compared, estimated
from tasks.domain.partition import Grain, Partition, iso, partitions
from tasks.domain.promotion import LedgerEvent, ModelRef, champion_at
from tasks.domain.published import Published, overtaken
from tasks.domain.results import PinResult, Planned, PlanResult, Result
from tasks.domain.source import SourceSpec
from tasks.domain.spec import PipelineSpec
from tasks.errors import FileError
from tasks.lake import Entry, Lake, ObjectInfo, ObjectStore
from tasks.lake.deliveries import deliveries
from tasks.landing import arrived, fetch
from tasks.took import took_of

REACH = timedelta(days=7)
"""How far back what became due while the platform was down is caught up by itself."""


@dataclass(frozen=True)
class Due(Result):
    """One partition that a run should be started for.

    Attributes:
        step: ingest or score.
        name: source or pipeline.
        key: partition key.
        token: digest of the state that makes it due and of the hour; the same starts one run only.
    """

    step: Literal["ingest", "score"]
    name: str
    key: str
    token: str


def due_ingests(*, source: SourceSpec, lake: Lake, landing: ObjectStore, root: str, now: datetime) -> Iterator[Due]:
    """Live partitions whose file is not in the raw table, is given up, has changed since, or was landed but never judged."""
    if source.grain == "none":
        return
    raw, judged = (lake.table(name(source.name)) for name in (tables.raw, tables.quarantine))
    clean = lake.table(tables.clean(source.name)).entries()
    blocked = {key for key, entry in judged.entries().items() if entry.meta["outcome"]["status"] == "blocked"}
    newest: dict[str, tuple[int, Entry]] = {}
    for (key, revision), entry in raw.entries().items():
        if key not in newest or int(revision) > newest[key][0]:
            newest[key] = (int(revision), entry)
    for partition in _live(source, now):
        info = arrived(source, partition, landing, root)
        revision, entry = newest.get(partition.key, (0, None))
        landed = (partition.key, revision)
        if info is None and entry is None and source.is_given_up(partition, now):
            yield Due("ingest", source.name, partition.key, _token(now, "given up"))
        elif info is not None and (
            entry is None or _changed(info, entry, partial(_digest, source, partition, landing, root))
        ):
            yield Due("ingest", source.name, partition.key, _token(now, iso(info.modified), info.size))
        elif revision and landed not in clean and landed not in blocked:
            yield Due("ingest", source.name, partition.key, _token(now, "judge", landed))


def _digest(source: SourceSpec, partition: Partition, landing: ObjectStore, root: str) -> str | None:
    """Of the delivery that lies there; None where it is gone, or can't be read: the ingest that this makes due says why."""
    try:
        delivered = fetch(source, partition, landing, root)
    except FileError:
        return None
    return delivered and delivered.digest


def _changed(info: ObjectInfo, entry: Entry, digest: Callable[[], str | None]) -> bool:
    """Whether a file holds other bytes than its newest revision; read only where its listing leaves that open.

    Limitation: S3 tells whole seconds, so other bytes of the same size in the same second are not noticed.
    """
    seen = entry.meta
    if info.size != seen["size"]:
        return True
    if iso(info.modified) == seen["modified"]:
        return False
    return digest() != seen["digest"]


def due_scores(*, spec: PipelineSpec, lake: Lake, now: datetime) -> Iterator[Due]:
    """Live partitions that are not published by their champion, have one, and whose inputs are all there.

    What was published from corrected data is not among them: the runs started for these use as-known data.
    """
    table = lake.table(tables.predictions(spec.line))
    published = table.entries(version=table.version())
    events = [LedgerEvent.from_dict(event) for event in lake.ledger(spec.line).events()]
    delivered = {name: deliveries(lake, name, lake.table(tables.clean(name)).version()) for name in spec.sources}
    for partition in _due_partitions(spec, now):
        model = champion_at(events, spec.as_of.at(partition))
        entry = published.get((partition.key,))
        if model is None or (entry is not None and not _again(Published.of(entry.meta), model, events)):
            continue
        seen = cut.visible_sources(spec, partition, delivered)
        left_out, _ = cut.absences(spec, partition, seen)
        if not left_out and not any(one.missing for one in seen.values()):
            state = {name: one.revisions for name, one in seen.items()}
            was = [entry.meta["model_version"]] if entry else []
            yield Due("score", spec.pipeline, partition.key, _token(now, model.version, state, *was))


def _again(found: Published, champion: ModelRef, events: Sequence[LedgerEvent]) -> bool:
    other = overtaken(found, champion, events)
    return other is not None and other.due and found.data == "as-known"


def plan(
    *,
    spec: PipelineSpec,
    wanted: Sequence[Partition],
    pinned: PinResult,
    missing: Mapping[str, Sequence[str]],
    model: str,
    lake: Lake,
    now: datetime,
    runs: Callable[[Sequence[str]], int],
    prices: Prices,
) -> PlanResult:
    """What a run over partitions would do, each with its reason.

    Args:
        wanted: the partitions, in order.
        pinned: what a pin of them gives now; so the plan is what the run does.
        missing: the inputs that a waiting partition lacks, as `source/partition`.
        model: how the scoring model was asked for.
        runs: how many runs the partitions of these keys are cut into.
        prices: for the cost of what is due.
    """
    look = _Look(spec, pinned, missing, lake, now)
    found = tuple(look.at(one) for one in wanted)
    due = [one for one in found if one.due]
    done = [one.key for one in found if not one.due]
    estimate = look.estimate(due, runs([one.key for one in due]), prices) if due else None
    return PlanResult(spec.pipeline, model, found, estimate, look.measured(done))


class _Look:
    """The state that reasons are taken from, read once."""

    def __init__(
        self,
        spec: PipelineSpec,
        pinned: PinResult,
        missing: Mapping[str, Sequence[str]],
        lake: Lake,
        now: datetime,
    ) -> None:
        self._spec, self._now, self._missing = spec, now, missing
        self._pinned = {one.key: one for one in pinned.partitions}
        self._skipped = {one.key: one.reason for one in pinned.skipped}
        predictions = lake.table(tables.predictions(spec.line))
        self._published = predictions.entries(version=pinned.snapshots[predictions.name])
        self._lake, self._took = lake, took_of(predictions, pinned.snapshots[predictions.name])
        self._events = [LedgerEvent.from_dict(event) for event in lake.ledger(spec.line).events()]
        driver = lake.table(tables.clean(spec.driver.name))
        version = pinned.snapshots[driver.name]
        self._delivered = deliveries(lake, spec.driver.name, version)
        if pinned.data == "corrected":
            self._delivered = cut.corrected(spec, {spec.driver.name: self._delivered})[spec.driver.name]
        self._rows = {key: entry.rows for key, entry in driver.entries(version=version).items()}
        self._sizes: dict[tuple, int] = {}
        for file in driver.files(version=version):
            self._sizes[file.key] = self._sizes.get(file.key, 0) + file.size
        self._blocked = {name: _blocked(lake, name) for name in spec.sources}

    def at(self, partition: Partition) -> Planned:
        key = partition.key
        pinned = self._pinned.get(key)
        if pinned is not None:
            return Planned(key, True, self._fresh(partition), pinned.model.version, *self._driving(partition))
        reason = self._skipped[key]
        entry = self._published.get((key,))
        if entry is not None:
            return Planned(key, False, reason, Published.of(entry.meta).version, *self._driving(partition))
        blocked = [one for one in self._missing.get(key, ()) if self._is_blocked(one)]
        if blocked:
            reason = f"blocked: {', '.join(blocked[:3])} broke its contract"
        return Planned(key, False, reason)

    def estimate(self, due: Sequence[Planned], runs: int, prices: Prices) -> Estimate | None:
        """What the due partitions take; None where no earlier run tells."""
        views: dict[str, set[str]] = {}
        for one in due:
            if not self._pinned[one.key].restated:
                views.setdefault(self._pinned[one.key].model.view, set()).add(one.key)
        there = 0
        for view, keys in views.items():  # features of corrected data are computed anew
            features = self._lake.table(tables.features(self._spec.pipeline, view)).entries()
            there += sum((key,) in features for key in keys)
        rows = None if any(one.rows is None for one in due) else sum(one.rows or 0 for one in due)
        return estimated(
            list(self._took.values()),
            runs=runs,
            partitions=len(due),
            computed=len(due) - there,
            rows=rows,
            prices=prices,
        )

    def measured(self, keys: Sequence[str]) -> Measured | None:
        """What the runs took that published partitions, each against what was known before the first of them."""
        versions = {self._published[key,].version for key in keys if (key,) in self._published}
        return compared(self._took, versions & self._took.keys())

    def _fresh(self, partition: Partition) -> str:
        """Why a partition is scored now."""
        entry = self._published.get((partition.key,))
        if entry is not None:
            pinned, found = self._pinned[partition.key], Published.of(entry.meta)
            other = overtaken(found, pinned.model, self._events) if pinned.chosen == "as-of" else None
            if other is not None and other.due:
                return other.why
            changed = set(pinned.restated) ^ set(found.restated)
            names = sorted({name.partition("@")[0] for name in changed})
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            return f"restated input: {', '.join(names[:3])}{more}" if names else "published, and forced"
        driver = self._spec.driver
        history = driver.is_history(Partition.containing(driver.grain, driver.timezone, partition.start))
        if history or self._spec.as_of.at(partition) < self._now - REACH:
            return "never scored"
        return "late" if self._spec.deadline.at(partition) < self._now else "new"

    def _driving(self, partition: Partition) -> tuple[int | None, int | None]:
        """Rows and bytes of the driving source, where its deliveries are the partitions."""
        if self._spec.driving_time is not None:
            return None, None
        pairs = [pair for pair in cut.driving_revisions(self._spec, partition, self._delivered) if pair in self._rows]
        if not pairs:
            return None, None
        return sum(self._rows[pair] for pair in pairs), sum(self._sizes.get(pair, 0) for pair in pairs)

    def _is_blocked(self, name: str) -> bool:
        source, _, key = name.partition("/")
        return key in self._blocked[source]


def _blocked(lake: Lake, source: str) -> set[str]:
    """The source partitions whose newest judged revision broke its contract."""
    newest: dict[str, tuple[int, str]] = {}
    for (key, revision), entry in lake.table(tables.quarantine(source)).entries().items():
        if key not in newest or int(revision) > newest[key][0]:
            newest[key] = (int(revision), entry.meta["outcome"]["status"])
    return {key for key, (_, status) in newest.items() if status == "blocked"}


def _live(source: SourceSpec, now: datetime) -> list[Partition]:
    """The live partitions that became known, as declared, within REACH."""
    found = _within_reach(source.grain, source.timezone, source.declared, now)
    first = source.start and Partition.on(source.grain, source.timezone, source.start)
    last = source.end and Partition.ending(source.grain, source.timezone, source.end)
    return [
        p for p in found if not source.is_history(p) and (first is None or p >= first) and (last is None or p <= last)
    ]


def _due_partitions(spec: PipelineSpec, now: datetime) -> list[Partition]:
    """The live partitions whose as_of was within REACH."""
    driver = spec.driver
    return [
        p
        for p in _within_reach(spec.grain, spec.timezone, spec.as_of.at, now)
        if p >= spec.first
        and (spec.last is None or p <= spec.last)
        and not driver.is_history(Partition.containing(driver.grain, driver.timezone, p.start))
    ]


def _within_reach(
    grain: Grain, timezone: str, moment: Callable[[Partition], datetime], now: datetime
) -> list[Partition]:
    """The partitions whose moment, however far from their start, lies in the last days before now."""
    present = Partition.containing(grain, timezone, now)
    offset = moment(present) - present.start
    first = Partition.containing(grain, timezone, now - REACH - offset).previous()
    last = Partition.containing(grain, timezone, now - offset).next()
    return [p for p in partitions(first, last) if now - REACH <= moment(p) <= now]


def _token(now: datetime, *state: object) -> str:
    """Digest of the state and the hour: a run that failed is started again an hour later, not every few minutes."""
    return hashlib.sha256(repr((now.strftime("%Y-%m-%dT%H"), state)).encode()).hexdigest()[:12]
