"""Partitions and time arithmetic: pure, standard library only.

A partition is one interval of a grain, half-open `[start, end)`, in a time zone, named by a key:
`2013-01-05` (day), `2013-11-03T01-0400` (hour, with its offset because an hour comes twice when
clocks go back), a Monday's date (week), `2013-11` (month), `all` (reference data, grain none).

Hours, minutes and seconds are elapsed time; days and weeks are calendar days in the time zone.
Limitation: hourly grain needs a zone whose clock changes are whole hours (all but Lord Howe).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property, lru_cache
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tasks.errors import PartitionKeyError

Grain = Literal["hour", "day", "week", "month", "none"]
GRAINS: tuple[Grain, ...] = ("hour", "day", "week", "month", "none")
ALL = "all"
_EXAMPLES = {"hour": "2013-11-03T01-0400", "day": "2013-11-03", "week": "2013-11-04", "month": "2013-11", "none": ALL}
_BEGINNING = datetime(1900, 1, 1, tzinfo=UTC)
_END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)
_UNITS = {"w": 7 * 86400, "d": 86400, "h": 3600, "m": 60, "s": 1}


@dataclass(frozen=True, order=True)
class Partition:
    """One interval of a grain in a time zone.

    Attributes:
        start: first instant, aware, UTC.
        grain: hour, day, week, month or none.
        timezone: IANA name.
    """

    start: datetime
    grain: Grain
    timezone: str

    @classmethod
    def containing(cls, grain: Grain, timezone: str, instant: datetime) -> Partition:
        """The partition in which an aware instant lies."""
        if grain == "none":
            return cls(_BEGINNING, grain, timezone)
        zone = zone_of(timezone)
        local = instant.astimezone(zone)
        if grain == "hour":
            floor = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
            return cls(instant.astimezone(UTC) - floor, grain, timezone)
        return cls.on(grain, timezone, local.date())

    @classmethod
    def on(cls, grain: Grain, timezone: str, day: date) -> Partition:
        """The (first) partition of the grain that holds the start of a local calendar day."""
        if grain == "none":
            return cls(_BEGINNING, grain, timezone)
        if grain == "week":
            day -= timedelta(days=day.weekday())
        elif grain == "month":
            day = day.replace(day=1)
        return cls(midnight(day, timezone), grain, timezone)

    @classmethod
    def ending(cls, grain: Grain, timezone: str, day: date) -> Partition:
        """The last partition of the grain that begins on or before a local calendar day's end."""
        return cls.containing(grain, timezone, cls.on("day", timezone, day).end - timedelta(microseconds=1))

    @classmethod
    def parse(cls, grain: Grain, timezone: str, key: str) -> Partition:
        """The partition of a key.

        Raises:
            PartitionKeyError: the text is not a key of this grain in this zone.
        """
        try:
            partition = cls._decode(grain, timezone, key)
        except (ValueError, TypeError, OverflowError):
            partition = None
        if partition is None or partition.key != key:
            what = "partition of reference data" if grain == "none" else f"{grain} partition in {timezone}"
            raise PartitionKeyError(f"{key!r} is no {what}", hint=f"a key looks like {_EXAMPLES[grain]}")
        return partition

    @classmethod
    def _decode(cls, grain: Grain, timezone: str, key: str) -> Partition:
        if grain == "none":
            return cls(_BEGINNING, grain, timezone)
        if grain == "hour":
            return cls.containing(grain, timezone, datetime.strptime(key, "%Y-%m-%dT%H%z"))
        text = f"{key}-01" if grain == "month" else key
        return cls.on(grain, timezone, date.fromisoformat(text))

    @cached_property
    def key(self) -> str:
        if self.grain == "none":
            return ALL
        local = self.local_start
        if self.grain == "hour":
            return local.isoformat(timespec="hours").replace(":", "")
        day = local.date().isoformat()
        return day[: len("2013-11")] if self.grain == "month" else day

    @property
    def local_start(self) -> datetime:
        """The start as wall-clock time in the partition's zone, aware."""
        return self.start.astimezone(zone_of(self.timezone))

    @cached_property
    def end(self) -> datetime:
        """First instant after the partition, aware, UTC."""
        if self.grain == "none":
            return _END_OF_TIME
        if self.grain == "hour":
            return self.start + timedelta(hours=1)
        day = self.local_start.date()
        if self.grain == "month":
            day = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
        else:
            day += timedelta(days=7 if self.grain == "week" else 1)
        return midnight(day, self.timezone)

    def next(self) -> Partition:
        if self.grain == "none":
            raise PartitionKeyError("reference data has a single partition")
        return Partition(self.end, self.grain, self.timezone)

    def previous(self) -> Partition:
        return Partition.containing(self.grain, self.timezone, self.start - timedelta(microseconds=1))

    def __str__(self) -> str:
        return self.key


def partitions(first: Partition, last: Partition) -> list[Partition]:
    """All partitions from `first` to `last`, both included, in order."""
    return list(_walk(first, last))


def span(grain: Grain, timezone: str, text: str) -> list[Partition]:
    """The partitions of `KEY` or `FIRST..LAST`, both included.

    Raises:
        PartitionKeyError: a key is not one of this grain, or the range ends before it starts.
    """
    first, dots, last = text.partition("..")
    begin = Partition.parse(grain, timezone, first)
    end = Partition.parse(grain, timezone, last) if dots else begin
    if end.start < begin.start:
        raise PartitionKeyError(f"{text}: the range ends before it starts", hint="write the earlier partition first")
    return partitions(begin, end)


def _walk(first: Partition, last: Partition) -> Iterator[Partition]:
    current = first
    while current.start <= last.start:
        yield current
        if current.grain == "none":
            return
        current = current.next()


def overlapping(grain: Grain, timezone: str, start: datetime, end: datetime) -> list[Partition]:
    """The partitions of a grain that share an instant with `[start, end)`, in order."""
    first = Partition.containing(grain, timezone, start)
    return [p for p in _walk(first, Partition.containing(grain, timezone, end - timedelta(microseconds=1)))]


@lru_cache(maxsize=256)
def zone_of(name: str) -> ZoneInfo:
    """The zone of an IANA name; ValueError when there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{name!r} is no time zone; expected an IANA name such as America/New_York") from error


@lru_cache(maxsize=65536)
def midnight(day: date, timezone: str) -> datetime:
    """The first instant of a local calendar day, in UTC (also where clocks skip midnight)."""
    return datetime(day.year, day.month, day.day, tzinfo=zone_of(timezone)).astimezone(UTC)


@dataclass(frozen=True)
class Span:
    """A length of time: calendar days plus elapsed seconds; spelled `28d`, `6h`, `1d12h`."""

    days: int = 0
    seconds: int = 0

    @classmethod
    def parse(cls, text: str) -> Span:
        if not isinstance(text, str) or not re.fullmatch(r"(\d+[wdhms])+", text):
            raise ValueError(f"{text!r} is no length of time; expected for instance 28d, 6h or 1d12h")
        days = seconds = 0
        for number, unit in re.findall(r"(\d+)([wdhms])", text):
            amount = int(number) * _UNITS[unit]
            days, seconds = (days + amount // 86400, seconds) if unit in "wd" else (days, seconds + amount)
        return cls(days, seconds)

    def after(self, instant: datetime, timezone: str) -> datetime:
        return _shift(instant, timezone, self.days, self.seconds)

    def before(self, instant: datetime, timezone: str) -> datetime:
        return _shift(instant, timezone, -self.days, -self.seconds)

    def __str__(self) -> str:
        texts = [f"{self.days}d"] if self.days else []
        rest = self.seconds
        for unit in "hms":
            amount, rest = divmod(rest, _UNITS[unit])
            texts += [f"{amount}{unit}"] if amount else []
        return "".join(texts) or "0d"


@dataclass(frozen=True)
class Offset:
    """A moment relative to a partition: `start+4h`, `end+3h`, `start-1d12h`, `end`."""

    anchor: Literal["start", "end"]
    sign: int
    span: Span

    @classmethod
    def parse(cls, text: str) -> Offset:
        match = re.fullmatch(
            r"(start|end)(?:([+-])((?:\d+[wdhms])+))?", text.replace(" ", "") if isinstance(text, str) else ""
        )
        if not match:
            raise ValueError(f"{text!r} is no moment of a partition; expected for instance start+4h or end-30m")
        anchor, sign, span = match.groups()
        return cls(anchor, -1 if sign == "-" else 1, Span.parse(span) if span else Span())

    def at(self, partition: Partition) -> datetime:
        """The moment for one partition, aware, UTC."""
        base = partition.start if self.anchor == "start" else partition.end
        return _shift(base, partition.timezone, self.sign * self.span.days, self.sign * self.span.seconds)

    def __str__(self) -> str:
        return self.anchor if self.span == Span() else f"{self.anchor}{'+' if self.sign > 0 else '-'}{self.span}"


def _shift(instant: datetime, timezone: str, days: int, seconds: int) -> datetime:
    if days:
        local = instant.astimezone(zone_of(timezone))
        instant = (local.replace(tzinfo=None) + timedelta(days=days)).replace(tzinfo=local.tzinfo, fold=local.fold)
    instant = instant.astimezone(UTC)
    return instant + timedelta(seconds=seconds) if seconds else instant


def iso(instant: datetime) -> str:
    """An aware instant as ISO-8601 text in UTC, to the microsecond, sortable as text."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def instant(text: str) -> datetime:
    """The aware UTC instant of a text that `iso` wrote (or any ISO-8601 text with an offset)."""
    value = datetime.fromisoformat(text.replace("Z", "+00:00"))
    if value.tzinfo is None:
        raise ValueError(f"{text!r} has no offset from UTC")
    return value.astimezone(UTC)
