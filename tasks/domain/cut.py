"""What a pipeline partition may know: pure functions from declared times and recorded deliveries.

A source delivers its partitions as numbered revisions, each with the moment `known_at` at which it
became known. For pipeline partition K with knowledge cut `as_of(K)`:

- K *awaits* every source partition inside its lookback whose declared moment is at or before as_of(K);
- of each source partition, the newest revision with `known_at <= as_of(K)` is *visible*;
- where an awaited partition had none by then (its file was late), its first revision is visible
  instead: K could not be published before it came (docs/decisions/0003-late-first-delivery.md).

Nothing else is visible, to training and to scoring alike. A delivery that was given up is a revision without rows
(docs/decisions/0029-absence-is-a-delivery.md): it ends the waiting as any other does, and the cut says that it is one.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import lru_cache
from itertools import accumulate

from tasks.domain.partition import Grain, Partition, instant, partitions
from tasks.domain.source import SourceSpec
from tasks.domain.spec import PipelineSpec


@dataclass(frozen=True, order=True)
class Delivery:
    """One revision of a source partition.

    Attributes:
        revision: 1-based.
        known_at: aware UTC moment from which it is known.
        absent: whether it says that none came, and none is waited for any more.
    """

    revision: int
    known_at: datetime
    absent: bool = False


_Moment = tuple[str, datetime, tuple[str, int]]
"""A source partition's key, its declared moment, and the pair that its first revision shows."""

_ALWAYS = datetime.min.replace(tzinfo=UTC)
_NEVER = datetime.max.replace(tzinfo=UTC)

Deliveries = Mapping[str, tuple[Delivery, ...]]
"""Partition key -> its clean revisions in ascending order."""


def deliveries_of(entries: Iterable[tuple[str, int, str, bool]]) -> dict[str, tuple[Delivery, ...]]:
    """Deliveries from (partition key, revision, known_at text, whether it is an absence) of a clean table's commits."""
    found: dict[str, list[Delivery]] = {}
    for key, revision, known_at, absent in entries:
        found.setdefault(key, []).append(Delivery(revision, instant(known_at), absent))
    return {key: tuple(sorted(revisions)) for key, revisions in found.items()}


@dataclass(frozen=True)
class Visible:
    """What one source shows to one knowledge cut.

    Attributes:
        revisions: (partition key, revision) pairs in the order of time.
        missing: awaited partition keys of which no clean revision exists.
        late: keys whose first revision came after the cut but was awaited.
        absent: keys that show an absence: they were waited for, and given up.
    """

    revisions: tuple[tuple[str, int], ...]
    missing: tuple[str, ...]
    late: tuple[str, ...]
    absent: tuple[str, ...] = ()


def visible(spec: PipelineSpec, source: SourceSpec, partition: Partition, deliveries: Deliveries) -> Visible:
    """What `source` shows to the pipeline's partition."""
    as_of = spec.as_of.at(partition)
    return _visible(
        source, _window(spec, source, partition, as_of), as_of, deliveries, lambda declared: declared <= as_of
    )


def visible_sources(
    spec: PipelineSpec, partition: Partition, deliveries: Mapping[str, Deliveries]
) -> dict[str, Visible]:
    """Source name -> what it shows to the partition."""
    return {name: visible(spec, use.source, partition, deliveries.get(name, {})) for name, use in spec.sources.items()}


def read_sources(
    spec: PipelineSpec, partition: Partition, deliveries: Mapping[str, Deliveries], read: frozenset[str]
) -> dict[str, Visible]:
    """What features of a partition follow from: of the sources `read` all that is visible, of the driving one its own rows."""
    found = {
        name: visible(spec, use.source, partition, deliveries.get(name, {}))
        for name, use in spec.sources.items()
        if name in read
    }
    name = spec.driver.name
    return {name: Visible(driving_revisions(spec, partition, deliveries.get(name, {})), (), ()), **found}


def corrected(spec: PipelineSpec, deliveries: Mapping[str, Deliveries]) -> dict[str, Deliveries]:
    """The deliveries as if nothing had to be restated, and nothing had come late.

    Of each source partition its newest revision alone, known when the first one was, or at the declared moment where
    that is earlier. So a cut of them sees today's data of the partitions that it may know, and of no others.
    """
    found = {}
    for name, use in spec.sources.items():
        source = use.source
        found[name] = {
            key: (
                Delivery(
                    known[-1].revision,
                    min(known[0].known_at, source.declared(source.partition(key)))
                    if source.grain != "none"
                    else _ALWAYS,
                    known[-1].absent,
                ),
            )
            for key, known in deliveries.get(name, {}).items()
        }
    return found


def restated(known: Mapping[str, Visible], now: Mapping[str, Visible]) -> tuple[str, ...]:
    """What a cut of corrected deliveries sees and one of the known ones doesn't, as `source/partition@revision`."""
    return tuple(
        f"{name}/{key}@{revision}"
        for name, one in now.items()
        if one.revisions != known[name].revisions
        for key, revision in sorted(set(one.revisions) - set(known[name].revisions))
    )


def absences(
    spec: PipelineSpec, partition: Partition, seen: Mapping[str, Visible]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What a partition leaves out or does without, as `source/partition`: (it is skipped for these, it goes without these).

    Only the first partition that waited for a delivery is skipped for it, and those whose own rows it was to bring;
    later ones that look back to it go without.
    """
    skipped, without = [], []
    for name, one in seen.items():
        source = spec.sources[name].source
        for key in one.absent:
            own = source.late.policy == "skip" and _own(spec, source, partition, key)
            (skipped if own else without).append(f"{name}/{key}")
    return tuple(skipped), tuple(without)


def _own(spec: PipelineSpec, source: SourceSpec, partition: Partition, key: str) -> bool:
    if source.name == spec.driver.name and key in driving_keys(spec, partition):
        return True
    return source.declared(source.partition(key)) > spec.as_of.at(partition.previous())


def digest_of(seen: Mapping[str, Visible]) -> str:
    """SHA-256 of the revisions that a cut sees: what features follow from, beside their view."""
    revisions = {name: one.revisions for name, one in sorted(seen.items())}
    return hashlib.sha256(json.dumps(revisions, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class Gaps:
    """What cuts of a pipeline lack: `missing`, `late` and `absent` of `visible_sources`, without all that they show.

    A year of hours is looked at in a small part of the time: a cut before which all came in time needs one comparison.
    """

    def __init__(self, spec: PipelineSpec, deliveries: Mapping[str, Deliveries]) -> None:
        self._spec = spec
        self._deliveries = deliveries
        self._arrived: dict[tuple[str, int], _Arrived] = {}

    def _of(self, name: str, source: SourceSpec, year: int) -> _Arrived:
        if (name, year) not in self._arrived:
            line = _timeline(source, self._spec.start, year)
            self._arrived[name, year] = _Arrived(line, source, self._deliveries.get(name, {}))
        return self._arrived[name, year]

    def at(self, partition: Partition) -> dict[str, Visible]:
        """Source name -> what it lacks for the partition; `revisions` are left out, and sources that lack nothing."""
        found, as_of = {}, self._spec.as_of.at(partition)
        for name, use in self._spec.sources.items():
            source, known = use.source, self._deliveries.get(name, {})
            if source.grain == "none":
                window = _window(self._spec, source, partition, as_of)
            else:
                arrived = self._of(name, source, _year(_reach(source, partition, as_of)))
                if arrived.whole(as_of):
                    continue
                line, low, high = _bounds(self._spec, source, partition, as_of)
                window = [line.moments[index] for index in arrived.after(as_of, low, high)]
            if window:
                one = _visible(source, window, as_of, known, lambda declared: declared <= as_of)
                if one.missing or one.late or one.absent:
                    found[name] = replace(one, revisions=())
        return found


class _Arrived:
    """When each partition of a timeline was first known, and the latest of each block: most blocks are passed over."""

    _BLOCK = 32

    def __init__(self, line: _Timeline, source: SourceSpec, deliveries: Deliveries) -> None:
        self._declared = line.declared
        self._first = [_first(deliveries.get(key, ())) for key, _, _ in line.moments]
        awaited = (
            _ALWAYS if key in source.missing else first
            for (key, _, _), first in zip(line.moments, self._first, strict=True)
        )
        self._until = [_ALWAYS, *accumulate(awaited, max)]
        self._last = [
            max(self._first[start : start + self._BLOCK]) for start in range(0, len(self._first), self._BLOCK)
        ]

    def whole(self, moment: datetime) -> bool:
        """Whether all that was to be there at a moment, from the first partition on, was known then."""
        return self._until[bisect_right(self._declared, moment)] <= moment

    def after(self, moment: datetime, low: int, high: int) -> list[int]:
        """The places from `low` to before `high` of what was not known at a moment, in order."""
        found, block, first = [], self._BLOCK, self._first
        while low < high:
            end = min(high, low - low % block + block)
            if self._last[low // block] > moment:
                found += [index for index in range(low, end) if first[index] > moment]
            low = end
        return found


def _first(known: Sequence[Delivery]) -> datetime:
    """When a first delivery came; an absence is none, whatever came after it: each cut must look at it."""
    return _NEVER if not known or known[0].absent else min(one.known_at for one in known)


def visible_labels(
    spec: PipelineSpec, first: Partition, last: Partition, as_of: datetime, deliveries: Deliveries
) -> Visible:
    """The matured label deliveries of the pipeline partitions `first` to `last`, as known at a training's cut."""
    source = spec.sources[spec.label.source].source
    line = _timeline(source, spec.start, _year(last.end))
    window = line.moments[line.within(first.start, last.end)]

    def awaited(declared: datetime) -> bool:
        return declared <= as_of and spec.label.matures.after(declared, source.timezone) <= as_of

    return _visible(source, window, as_of, deliveries, awaited)


def matured(spec: PipelineSpec, partition: Partition, as_of: datetime) -> bool:
    """Whether the partition's labels are declared final at a moment."""
    source = spec.sources[spec.label.source].source
    line = _timeline(source, spec.start, _year(partition.end))
    rows = line.between(partition.start, partition.end)
    return bool(rows) and all(
        row[2] in source.missing or spec.label.matures.after(row[3], source.timezone) <= as_of for row in rows
    )


def label_keys(spec: PipelineSpec, partition: Partition) -> tuple[str, ...]:
    """The label source's partitions that hold the labels of a pipeline partition."""
    source = spec.sources[spec.label.source].source
    return tuple(
        row[2] for row in _timeline(source, spec.start, _year(partition.end)).between(partition.start, partition.end)
    )


def driving_keys(spec: PipelineSpec, partition: Partition) -> tuple[str, ...]:
    """The driving source's partitions that hold the rows of a pipeline partition."""
    line = _timeline(spec.driver, spec.start, _year(partition.end))
    return tuple(row[2] for row in line.between(partition.start, partition.end))


def driving_revisions(spec: PipelineSpec, partition: Partition, deliveries: Deliveries) -> tuple[tuple[str, int], ...]:
    """Of what the driving source shows to a pipeline partition, what holds its own rows."""
    as_of = spec.as_of.at(partition)
    line = _timeline(spec.driver, spec.start, _year(partition.end))
    window = line.moments[line.within(partition.start, partition.end)]
    return _visible(spec.driver, window, as_of, deliveries, lambda declared: declared <= as_of).revisions


def thin(spec: PipelineSpec, partition: Partition) -> bool:
    """Whether the lookback reaches back before the first delivery of a source: history is thin."""
    reach = spec.lookback.before(partition.start, spec.timezone)
    declared = (use.source for use in spec.sources.values())
    return any(s.grain != "none" and reach < _beginning(s.grain, s.timezone, s.start or spec.start) for s in declared)


def _visible(
    source: SourceSpec,
    window: Iterable[_Moment],
    as_of: datetime,
    deliveries: Deliveries,
    awaited: Callable[[datetime], bool],
) -> Visible:
    """What of a window is shown; `awaited` tells whether a declared moment was waited for."""
    # A year of hours passes here millions of times: no list is made for a partition, the common one,
    # delivered once and in time, ends with the first comparison, and its pair is shared by all cuts.
    revisions, missing, late, absent = [], [], [], []
    show = revisions.append
    for key, declared, first in window:
        known = deliveries.get(key)
        if known:
            newest = known[-1]
            if newest.known_at > as_of:
                newest = next((one for one in reversed(known) if one.known_at <= as_of), None)
            if newest is not None:
                show(first if newest.revision == 1 else (key, newest.revision))
            elif key not in source.missing and awaited(declared):
                # what was declared missing was not waited for: a delivery after the cut does not show
                newest = known[0]
                show((key, newest.revision))
                if not newest.absent:
                    late.append(key)
            if newest is not None and newest.absent:
                absent.append(key)
        elif key not in source.missing and awaited(declared):
            missing.append(key)
    return Visible(tuple(revisions), tuple(missing), tuple(late), tuple(absent))


def _window(spec: PipelineSpec, source: SourceSpec, partition: Partition, as_of: datetime):
    """The source partitions in reach of a pipeline partition, in order."""
    if source.grain == "none":
        return [("all", as_of, ("all", 1))]  # awaited by every cut
    line, low, high = _bounds(spec, source, partition, as_of)
    return line.moments[low:high]


def _bounds(
    spec: PipelineSpec, source: SourceSpec, partition: Partition, as_of: datetime
) -> tuple[_Timeline, int, int]:
    """The source's timeline, and where on it the partitions in reach begin and end."""
    end = partition.end
    line = _timeline(source, spec.start, _year(_reach(source, partition, as_of)))
    low = bisect_right(line.ends, spec.lookback.before(partition.start, spec.timezone))
    high = max(bisect_left(line.starts, end), bisect_right(line.declared, as_of))
    return line, low, max(low, high)


def _reach(source: SourceSpec, partition: Partition, as_of: datetime) -> datetime:
    """How far a cut's timeline of a source must go: available long before it begins, it shows partitions of the year after."""
    last = max(partition.end, as_of)
    return source.available.span.after(last, source.timezone) if source.available.sign < 0 else last


class _Timeline:
    """A source's partitions in order, with their declared moments: computed once for a year."""

    def __init__(self, rows: list[tuple[datetime, datetime, str, datetime]]) -> None:
        self.rows = rows
        self.moments: list[_Moment] = [(key, declared, (key, 1)) for _, _, key, declared in rows]
        self.starts = [row[0] for row in rows]
        self.ends = [row[1] for row in rows]
        self.declared = [row[3] for row in rows]

    def within(self, start: datetime, end: datetime) -> slice:
        """The places of what shares an instant with `[start, end)`."""
        return slice(bisect_right(self.ends, start), bisect_left(self.starts, end))

    def between(self, start: datetime, end: datetime):
        return self.rows[self.within(start, end)]


def _year(moment: datetime) -> int:
    return moment.year


@lru_cache(maxsize=64)
def _timeline_of(grain, timezone: str, available, first: date, last: date | None, until: int) -> _Timeline:
    every = _every(grain, timezone, first, last, until)
    return _Timeline([(p.start, p.end, p.key, available.at(p)) for p in every])


@lru_cache(maxsize=64)
def _every(grain: Grain, timezone: str, first: date, last: date | None, until: int) -> list[Partition]:
    begin = Partition.on(grain, timezone, first)
    end = Partition.on(grain, timezone, date(until + 1, 1, 8))
    if last is not None:
        end = min(end, Partition.ending(grain, timezone, last))
    return partitions(begin, end) if begin.start <= end.start else []


@lru_cache(maxsize=64)
def _beginning(grain: Grain, timezone: str, day: date) -> datetime:
    return Partition.on(grain, timezone, day).start


def _timeline(source: SourceSpec, first: date, until: int) -> _Timeline:
    if source.end is not None:
        until = min(until, source.end.year)  # one line for all the years after
    return _timeline_of(source.grain, source.timezone, source.available, source.start or first, source.end, until)
