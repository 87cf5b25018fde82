"""A partitioned timetable: one run per partition, at any moment relative to it.

Airflow's own knows only whole cron intervals between partition and run, and its hour keys collide
when clocks go back; here keys and moments come from `tasks.domain.partition` alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

from airflow._shared.timezones.timezone import coerce_datetime, utcnow
from airflow.exceptions import InvalidPartitionKeyError
from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction, Timetable
from airflow.utils.strings import get_random_string

from tasks.domain.partition import Offset, Partition, zone_of
from tasks.errors import PartitionKeyError

_EVERY = {"hour": "hourly", "day": "daily", "week": "weekly", "month": "monthly"}


class PartitionTimetable(Timetable):
    """Runs a DAG for each partition of a grain.

    A run's partition_date is the partition's start, its partition_key the partition's key, and it
    starts at `offset`, which may lie before the start or after the end.

    Without catch-up the latest partition that is due is run, and those after it; older ones are for
    backfills and for what computes due work from the tables. With `end` in the past nothing runs
    by itself.

    Args:
        grain: hour, day, week or month.
        timezone: IANA name.
        offset: the run's moment, for instance `start+4h` or `end+2h`.
        anchor: grain of the partition from which the offset counts, the one that holds the start; left
            out, the partition itself. A monthly training on daily data runs at its first day's as_of.
        start: first local day, or None.
        end: last local day, or None when live.
    """

    partitioned = True
    run_ordering = ("run_after",)

    def __init__(
        self,
        *,
        grain: str,
        timezone: str,
        offset: str,
        anchor: str | None = None,
        start: date | None = None,
        end: date | None = None,
    ) -> None:
        for name in (grain, anchor or grain):
            if name not in _EVERY:
                raise ValueError(f"expected a grain of {', '.join(_EVERY)}, found {name!r}")
        zone_of(timezone)
        self.grain = grain
        self.anchor = anchor or grain
        self.timezone = timezone
        self.offset = Offset.parse(offset)
        self.start = start
        self.end = end
        of = "" if self.anchor == grain else f" of its first {self.anchor}"
        self.description = f"{_EVERY[grain].capitalize()} partitions in {timezone}, each at {self.offset}{of}"

    @property
    def summary(self) -> str:
        return f"{_EVERY[self.grain]}, {self.offset}"

    @property
    def first(self) -> Partition | None:
        """The first partition, or None when unbounded."""
        return None if self.start is None else Partition.on(self.grain, self.timezone, self.start)

    @property
    def last(self) -> Partition | None:
        """The last partition, or None when live."""
        return None if self.end is None else Partition.ending(self.grain, self.timezone, self.end)

    def serialize(self) -> dict[str, Any]:
        return {
            "grain": self.grain,
            "timezone": self.timezone,
            "offset": str(self.offset),
            "anchor": self.anchor,
            "start": self.start and self.start.isoformat(),
            "end": self.end and self.end.isoformat(),
        }

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> PartitionTimetable:
        days = {name: data[name] and date.fromisoformat(data[name]) for name in ("start", "end")}
        return cls(**{name: data[name] for name in ("grain", "timezone", "offset", "anchor")}, **days)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PartitionTimetable) and self.serialize() == other.serialize()

    def __hash__(self) -> int:
        return hash(tuple(self.serialize().items()))

    # -- the schedule --

    def next_dagrun_info_v2(
        self, *, last_dagrun_info: DagRunInfo | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        """The run after `last_dagrun_info` (a scheduled or backfilled one), or None when there is none."""
        candidates = [] if self.first is None else [self.first]
        done = self._of(last_dagrun_info)
        if done is not None:
            candidates.append(done.next())
        if not restriction.catchup or not candidates:
            candidates.append(self._latest_due(plain(utcnow())))
        if restriction.earliest is not None:
            candidates.append(self._at_or_after(restriction.earliest))
        partition = max(candidates)
        if self.last is not None and partition > self.last:
            return None
        if restriction.latest is not None and partition.start > plain(restriction.latest):
            return None
        return self._info(partition)

    def iter_partition_dagrun_infos(self, *, earliest: datetime, latest: datetime) -> Iterator[DagRunInfo]:
        """The runs of a backfill: partitions that start in `[earliest, latest]`, read as local wall-clock time.

        A backfilled partition that is not due yet waits for its moment, since a run starts at `run_after`.
        """
        # An hour that comes twice: the window holds both.
        stop = plain(self.localize_partition_datetime(latest.replace(fold=1)))
        partition = self._at_or_after(self.localize_partition_datetime(earliest.replace(fold=0)))
        if self.first is not None:
            partition = max(partition, self.first)
        while partition.start <= stop and (self.last is None or partition <= self.last):
            yield self._info(partition)
            partition = partition.next()

    def localize_partition_datetime(self, dt: datetime) -> datetime:
        """A wall-clock reading as an instant of this timetable's time zone."""
        local = datetime(
            dt.year,
            dt.month,
            dt.day,
            dt.hour,
            dt.minute,
            dt.second,
            dt.microsecond,
            zone_of(self.timezone),
            fold=dt.fold,
        )
        return coerce_datetime(local.astimezone(UTC))

    def _decode_partition_date(self, partition_key: str) -> datetime:
        try:
            return coerce_datetime(Partition.parse(self.grain, self.timezone, partition_key).start)
        except PartitionKeyError as error:
            raise InvalidPartitionKeyError(str(error)) from error

    def infer_manual_data_interval(self, *, run_after: datetime) -> DataInterval:
        return DataInterval.exact(coerce_datetime(run_after))

    def generate_run_id(
        self, *, run_type: Any, run_after: datetime, data_interval: DataInterval | None, **extra: Any
    ) -> str:
        """Names the partition; a random ending tells apart the runs of one partition."""
        key = extra.get("partition_key") or coerce_datetime(run_after).isoformat()
        return run_type.generate_run_id(suffix=f"{key}__{get_random_string()}")

    # -- partitions --

    def moment(self, partition: Partition) -> datetime:
        """When a partition's run is due, aware, UTC."""
        return self.offset.at(Partition.containing(self.anchor, self.timezone, partition.start))

    def _info(self, partition: Partition) -> DagRunInfo:
        return DagRunInfo(
            run_after=coerce_datetime(self.moment(partition)),
            data_interval=None,
            partition_date=coerce_datetime(partition.start),
            partition_key=partition.key,
        )

    def _of(self, info: DagRunInfo | None) -> Partition | None:
        """The partition of an earlier run; None where there was none, or none of this grain (the spec changed)."""
        if info is None or info.partition_key is None:
            return None
        try:
            return Partition.parse(self.grain, self.timezone, info.partition_key)
        except PartitionKeyError:
            return None

    def _containing(self, instant: datetime) -> Partition:
        return Partition.containing(self.grain, self.timezone, instant)

    def _at_or_after(self, instant: datetime) -> Partition:
        instant = plain(instant)
        partition = self._containing(instant)
        return partition if partition.start >= instant else partition.next()

    def _latest_due(self, now: datetime) -> Partition:
        partition = self._containing(now)
        # Land near the answer first: an offset may be many partitions long.
        partition = self._containing(now - (self.moment(partition) - partition.start))
        while self.moment(partition) > now:
            partition = partition.previous()
        while self.moment(partition.next()) <= now:
            partition = partition.next()
        return partition


def plain(instant: datetime) -> datetime:
    """The same instant without pendulum, whose arithmetic is its own."""
    utc = instant.astimezone(UTC)
    return datetime(utc.year, utc.month, utc.day, utc.hour, utc.minute, utc.second, utc.microsecond, UTC)
